"""The same code on a cluster: only the backend changes, and lost workers cost nothing."""

import os
import signal
from functools import partial

import joblib
import numpy as np
import pytest
from helpers.small import assert_same_answer
from helpers.tiny_nets import X, augmented, net, synthesizer, y
from joblib.externals.loky.process_executor import TerminatedWorkerError
from sklearn.model_selection import GridSearchCV

distributed = pytest.importorskip("distributed")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def client():
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def fitted():
    targeted = synthesizer(classifier=net(max_epochs=2), batch_size=8, random_state=0)
    return targeted.fit(X, y)


def search(estimator=None, **params):
    """Grid over a parameter of each of the nested estimators."""
    grid = {"synthesizer__radius": [0.2, 0.8], "estimator__lr": [1e-3]}
    estimator = augmented(net(max_epochs=3)) if estimator is None else estimator
    return GridSearchCV(estimator, grid, cv=2, **params)


def assert_same_search(one, other):
    np.testing.assert_array_equal(
        one.cv_results_["mean_test_score"], other.cv_results_["mean_test_score"]
    )
    assert one.best_params_ == other.best_params_
    np.testing.assert_array_equal(one.predict_proba(X), other.predict_proba(X))


class TestDask:
    def test_a_grid_search_on_a_cluster_finds_what_it_finds_here(self, client):
        here = search().fit(X, y)
        with joblib.parallel_config("dask"):
            assert_same_search(search().fit(X, y), here)

    def test_a_sample_of_a_cluster_is_the_one_drawn_here(self, client, fitted):
        here = fitted.sample(60, return_info=True)
        with joblib.parallel_config("dask"):
            assert_same_answer(fitted.sample(60, return_info=True), here)
            assert_same_answer(fitted.set_params(n_jobs=2).sample(60, return_info=True), here)
        fitted.set_params(n_jobs=None)


def die_once(folder, log_probs, y):
    """Objective that kills the process of the first who asks."""
    try:
        (folder / "killed").touch(exist_ok=False)
    except FileExistsError:
        return log_probs.exp().mean(0).amax(-1)
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture
def deadly(fitted, tmp_path):
    """Fitted synthesizer whose objective ends a process."""
    yield fitted.set_params(objective=partial(die_once, tmp_path))
    fitted.set_params(objective="mutual_info", n_jobs=None)


class TestLoss:
    def test_a_sample_on_a_cluster_outlives_a_worker(self, client, deadly, tmp_path):
        with joblib.parallel_config("dask"):
            answer = deadly.sample(60, return_info=True)
        assert (tmp_path / "killed").exists()
        assert_same_answer(answer, deadly.sample(60, return_info=True))

    def test_a_grid_search_on_a_cluster_outlives_a_worker(self, client, tmp_path):
        estimator = augmented(net(max_epochs=3))
        estimator.set_params(synthesizer__objective=partial(die_once, tmp_path))
        client.wait_for_workers(2)
        with joblib.parallel_config("dask", scatter=[X, y]):
            there = search(estimator).fit(X, y)
        assert (tmp_path / "killed").exists()
        assert_same_search(there, search(estimator).fit(X, y))

    def test_a_lost_process_of_joblib_is_an_error_after_which_one_can_go_on(self, deadly):
        with joblib.parallel_config("loky", n_jobs=2):
            with pytest.raises(TerminatedWorkerError, match="SIGKILL"):
                deadly.sample(60)
            answer = deadly.sample(60, return_info=True)
        assert_same_answer(answer, deadly.sample(60, return_info=True))
