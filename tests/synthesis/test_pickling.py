"""Pickles of the estimators and of the callback: whole, small, and readable everywhere."""

import io
import os
import pickle
import subprocess
import sys
from pathlib import Path

import cloudpickle
import joblib
import numpy as np
import pytest
import torch
from helpers.saved_files import (
    ESTIMATORS,
    TABLE,
    answers,
    assert_same,
    digits,
    image_classifier,
)
from helpers.tiny_nets import Dense, X, augmented, net, own_net, synthesizer, y
from sklearn.base import clone
from skorch.callbacks import LRScheduler

from tsynd_sk import AugmentedClassifier, TargetedSynthesis, TargetedSynthesizer

HERE = Path(__file__).parent
# For processes that import what stands here.
SEARCH = os.pathsep.join(
    [str(HERE), str(HERE.parent), str(HERE.parents[1]), os.environ.get("PYTHONPATH", "")]
)

UNFITTED = {
    "classifier": lambda: AugmentedClassifier(random_state=3),
    "synthesizer": lambda: TargetedSynthesizer(radius=0.1, random_state=np.random.RandomState(3)),
    "callback": lambda: TargetedSynthesis(synthesizer(), warm_up=0.5, random_state=3),
    "nested": image_classifier,
}


def by_joblib(estimator, tmp_path):
    joblib.dump(estimator, tmp_path / "file", compress=3)
    return joblib.load(tmp_path / "file")


WAYS = {
    "pickle": lambda estimator, _: pickle.loads(pickle.dumps(estimator)),
    "joblib": by_joblib,
    "cloudpickle": lambda estimator, _: cloudpickle.loads(cloudpickle.dumps(estimator)),
}


@pytest.fixture(
    params=["pickle", *(pytest.param(way, marks=pytest.mark.slow) for way in list(WAYS)[1:])]
)
def round_trip(request, tmp_path):
    return lambda estimator: WAYS[request.param](estimator, tmp_path)


@pytest.fixture(scope="module")
def fitted(estimators):
    """Estimators and what they say, all of them asked before they are pickled."""
    return {name: (estimator, said(name, estimator)) for name, estimator in estimators.items()}


@pytest.fixture(scope="module")
def trained():
    """Net that was trained with the callback."""
    callback = TargetedSynthesis(synthesizer(), random_state=0)
    return net(max_epochs=4, callbacks=[callback]).fit(X[:, None], y)


def said(name, estimator):
    rows, labels = ESTIMATORS[name][1]()
    return answers(estimator, rows[:7], labels[:7])


def plain(params):
    return {
        name: value if isinstance(value, int | float | str | bool | tuple | None) else type(value)
        for name, value in params.items()
    }


@pytest.mark.parametrize("name", UNFITTED)
def test_unfitted_estimators_keep_their_parameters(name, round_trip):
    estimator = UNFITTED[name]()
    other = round_trip(estimator)
    assert type(other) is type(estimator)
    if name == "callback":
        assert plain(vars(other)) == plain(vars(estimator))
    else:
        assert plain(other.get_params()) == plain(estimator.get_params())
        assert not [attribute for attribute in vars(other) if attribute.endswith("_")]


@pytest.mark.parametrize("name", ESTIMATORS)
def test_fitted_estimators_give_the_same_answers(name, fitted, round_trip):
    estimator, known = fitted[name]
    other = round_trip(estimator)
    assert_same(said(name, other), known)
    assert vars(other).keys() == vars(estimator).keys()
    assert_same(said(name, estimator), known)


def test_a_copy_can_be_cloned_and_fitted_again(fitted, round_trip):
    other = clone(round_trip(fitted["table"][0]))
    assert_same(said("table", other.fit(TABLE[:80], y)), fitted["table"][1])


@pytest.mark.slow
def test_all_answers_are_the_same_in_another_process(fitted, tmp_path):
    (tmp_path / "images").write_bytes(pickle.dumps(fitted["images"][0]))
    joblib.dump(fitted["table"][0], tmp_path / "table")
    (tmp_path / "ensemble").write_bytes(cloudpickle.dumps(fitted["ensemble"][0]))
    script = (
        "import joblib, numpy as np, pickle, test_pickling\n"
        "for name in test_pickling.ESTIMATORS:\n"
        "    read = joblib.load if name == 'table' else lambda f: pickle.load(open(f, 'rb'))\n"
        "    np.savez(f'{name}.npz', **test_pickling.said(name, read(name)))\n"
    )
    environment = {**os.environ, "PYTHONPATH": SEARCH, "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=environment, check=True)
    for name, (_, known) in fitted.items():
        assert_same(dict(np.load(tmp_path / f"{name}.npz")), known)


def test_a_net_keeps_its_callback_and_the_callback_its_net(trained, round_trip):
    other = round_trip(trained)
    [mine], [copied] = (
        [c for _, c in part.callbacks_ if isinstance(c, TargetedSynthesis)]
        for part in (trained, other)
    )
    assert copied.synthesizer_.classifier_ is other
    x = X[:9, None]
    assert (other.predict_proba(x) == trained.predict_proba(x)).all()
    assert (copied.synthesizer_.uncertainty(x) == mine.synthesizer_.uncertainty(x)).all()
    assert (copied.synthesizer_.sample(3)[0] == mine.synthesizer_.sample(3)[0]).all()


def test_a_copy_of_a_net_can_be_trained_on(trained, round_trip):
    one, two = round_trip(trained), round_trip(trained)
    before = trained.predict_proba(X[:, None])
    for other in (one, two):
        torch.manual_seed(0)
        other.partial_fit(X[:, None], y)
        assert len(other.history) == 8
    assert (one.predict_proba(X[:, None]) == two.predict_proba(X[:, None])).all()
    assert (trained.predict_proba(X[:, None]) == before).all()
    assert (one.predict_proba(X[:, None]) != before).any()


def test_nets_of_classes_made_in_functions_go_by_cloudpickle(tmp_path):
    class Local(Dense):
        pass

    # skorch pickles what may be on an accelerator by itself, for which a class needs a name.
    unfitted = augmented(own_net(module=Local, max_epochs=1), synthetic_ratio=0)
    other = WAYS["cloudpickle"](unfitted, tmp_path)
    assert (other.fit(X, y).predict_proba(X) == unfitted.fit(X, y).predict_proba(X)).all()


class Finding(pickle.Pickler):
    """Notes the tensors that skorch leaves to the outer pickle, and how often an array comes."""

    def __init__(self):
        super().__init__(io.BytesIO())
        self.tensors, self.arrays, self.functions = [], [], []

    def reducer_override(self, value):
        if isinstance(value, torch.Tensor):
            self.tensors.append(value)
        elif isinstance(value, np.ndarray):
            self.arrays.append(value)
        elif callable(value) and getattr(value, "__qualname__", "").count("<"):
            self.functions.append(value)
        return NotImplemented


def nets_of(estimator):
    inner = getattr(estimator, "synthesizer_", estimator)
    return [*inner.engine_.nets, inner.autoencoder_]


@pytest.mark.parametrize("name", ESTIMATORS)
def test_what_may_be_on_an_accelerator_is_left_to_skorch(name, fitted):
    """Which brings it to where it is loaded; all other tensors are arrays in a pickle."""
    estimator, _ = fitted[name]
    found = Finding()
    found.dump(estimator)
    assert found.tensors == []
    images = getattr(estimator, "synthesizer_", estimator).engine_.images
    assert sum(array.nbytes == images.nbytes for array in found.arrays) == 1
    assert not found.functions


def test_schedules_leave_their_optimizers_to_the_net(trained):
    other = pickle.loads(pickle.dumps(trained))
    [(_, mine)] = [item for item in trained.callbacks_ if isinstance(item[1], LRScheduler)]
    [(_, copied)] = [item for item in other.callbacks_ if isinstance(item[1], LRScheduler)]
    assert mine.lr_scheduler_.optimizer is trained.optimizer_
    assert copied.lr_scheduler_ is None
    other.partial_fit(X[:, None], y)
    assert copied.lr_scheduler_.optimizer is other.optimizer_


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_pickled_on_an_accelerator_and_loaded_where_there_is_none(tmp_path):
    rows, labels = digits()
    estimator = image_classifier().set_params(synthesizer__device="cuda").fit(rows, labels)
    known = estimator.predict_proba(rows)
    (tmp_path / "file").write_bytes(pickle.dumps(estimator))
    script = (
        "import pickle, numpy as np\n"
        "from helpers import saved_files\n"
        "rows, _ = saved_files.digits()\n"
        "estimator = pickle.load(open('file', 'rb'))\n"
        "estimator.synthesizer_.set_params(device=None)\n"
        "estimator.synthesizer_.sample(3)\n"
        "estimator.uncertainty(rows)\n"
        "np.save('found.npy', estimator.predict_proba(rows))\n"
    )
    environment = {**os.environ, "PYTHONPATH": SEARCH, "CUDA_VISIBLE_DEVICES": ""}
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=environment, check=True)
    np.testing.assert_allclose(np.load(tmp_path / "found.npy"), known, atol=1e-3)
