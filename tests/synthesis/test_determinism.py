"""Equal seeds, equal bits: in another process, with any number of jobs, after anything else."""

import copy
import os
import pickle
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.seeded import RECIPES, answers, augmented, data, digest, made, members_of, synthesizer
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from sklearn.base import clone

from tsynd_sk import AugmentedClassifier

HERE = Path(__file__).resolve().parents[1]


def examples(n):
    """So many examples, the same ones in every run; failures are not shrunk, which takes long."""
    return settings(
        max_examples=n,
        phases=(Phase.explicit, Phase.generate),
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=[HealthCheck.too_slow],
    )


@pytest.fixture(scope="module")
def elsewhere():
    """What another process makes of each recipe."""
    environment = {
        **os.environ,
        "PYTHONHASHSEED": "12345",
        "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parent)]),
    }
    run = subprocess.run(
        [sys.executable, HERE / "seeded.py"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return dict(line.split() for line in run.stdout.splitlines())


@pytest.mark.parametrize("name", RECIPES)
def test_another_process_gives_equal_bits(elsewhere, fitted, name):
    assert digest(answers(fitted(name), n=60)) == elsewhere[name.replace(" ", "_")]


RECIPE = st.sampled_from(sorted(RECIPES))
SEED = st.integers(0, 2**32 - 1)


@pytest.fixture(scope="module")
def fitted():
    """Fit each recipe once."""
    learnt = {}
    return lambda name: learnt.setdefault(name, made(name))


def same(one, other):
    """Compare to the bit, by which nan would be equal to nan, and 0.0 not to -0.0."""
    return digest(one) == digest(other)


@given(name=RECIPE, seed=SEED, batch_size=st.integers(3, 30))
@examples(8)
def test_number_of_jobs_gives_equal_bits(fitted, name, seed, batch_size):
    one = copy.copy(synthesizer(fitted(name)))
    expected = one.set_params(batch_size=batch_size, n_jobs=1).sample(24, random_state=seed)
    assert same(one.set_params(n_jobs=2).sample(24, random_state=seed), expected)


@given(name=RECIPE, seed=SEED)
@examples(6)
def test_pickled_estimators_give_equal_bits(fitted, name, seed):
    one = fitted(name)
    other = pickle.loads(pickle.dumps(one))
    assert same(answers(other, seed), answers(one, seed))


@pytest.mark.parametrize("name", ["dropout", "ensemble", "classifier"])
def test_clones_learn_equal_bits_whatever_was_asked_between(fitted, name):
    one = fitted(name)
    expected = answers(one)
    answers(one, 99)
    X, y = data(name)
    assert same(answers(one), expected)
    assert same(answers(clone(one).fit(X, y)), expected)
    # A second fit begins where the first did.
    assert same(answers(pickle.loads(pickle.dumps(one)).fit(X, y)), expected)


@given(name=RECIPE, seed=SEED)
@examples(4)
def test_seeds_of_calls_are_ints_or_generators_of_numpy(fitted, name, seed):
    one = synthesizer(fitted(name))
    expected = one.sample(7, random_state=seed)
    rng = np.random.RandomState(seed)
    assert same(one.sample(7, random_state=np.uint32(seed)), expected)
    assert same(one.sample(7, random_state=rng), expected)
    # A generator goes on.
    assert not same(one.sample(7, random_state=rng), expected)
    # None is that of the estimator: an int gives the same every time.
    assert same(one.sample(7), one.sample(7, random_state=one.random_state))


def test_seeds_of_estimators_are_ints_generators_or_none():
    def learnt(random_state):
        X, y = data("dropout")
        return clone(members_of("dropout")).set_params(random_state=random_state).fit(X, y)

    expected = learnt(3).reconstruct(data("dropout")[0])
    by_generator = learnt(np.random.RandomState(3))
    assert same(by_generator.reconstruct(data("dropout")[0]), expected)
    assert not same(by_generator.sample(5), by_generator.sample(5))
    unseeded = learnt(None)
    assert not same(unseeded.sample(5), unseeded.sample(5))
    assert same(unseeded.sample(5, random_state=1), unseeded.sample(5, random_state=1))
    assert not same(learnt(None).reconstruct(data("dropout")[0]), expected)


@given(
    name=RECIPE.filter(lambda name: RECIPES[name].get("precision") != "bfloat16"),
    seed=SEED,
    sizes=st.tuples(st.integers(3, 30), st.integers(31, 99)),
)
@examples(8)
def test_batch_size_changes_rounding_only(fitted, name, seed, sizes):
    one = copy.copy(synthesizer(fitted(name)))
    X, _ = data(name)
    small, large = (
        one.set_params(batch_size=size).sample(60, random_state=seed, return_info=True)
        for size in sizes
    )
    np.testing.assert_array_equal(small[1], large[1])
    np.testing.assert_array_equal(small[2].source_index, large[2].source_index)
    spread = float(np.ptp(X.astype(np.float64)))
    difference = np.abs(small[0].astype(np.float64) - large[0]).reshape(60, -1).max(1) / spread
    # Beside a decision boundary, the ascent magnifies rounding.
    step = 1 / spread if X.dtype.kind in "iu" else 0
    assert np.mean(difference <= 1e-3 + step) >= 0.99
    assert difference.max() < 0.05


def global_state():
    """Everything random, and all settings, that a library must leave to its user."""
    return pickle.dumps(
        (
            random.getstate(),
            np.random.get_state(),  # noqa: NPY002
            torch.get_rng_state().numpy(),
            torch.get_num_threads(),
            torch.get_default_dtype(),
            torch.is_grad_enabled(),
            torch.is_inference_mode_enabled(),
            torch.are_deterministic_algorithms_enabled(),
            torch.backends.cudnn.benchmark,
            np.geterr(),
            sorted(os.environ.items()),
        )
    )


def failing(log_probs, y):
    raise ZeroDivisionError("on purpose")


CALLS = {
    "fit": lambda one, X, y: clone(one).fit(X, y),
    "fit, failing at once": lambda one, X, y: clone(one).fit(X, y[:3]),
    "fit, failing late": lambda one, X, y: (
        clone(one).set_params(**{name: "nowhere" for name in one.get_params() if "device" in name})
    ).fit(X, y),
    "sample": lambda one, X, y: synthesizer(one).sample(5),
    "sample, failing at once": lambda one, X, y: synthesizer(one).sample(0),
    "sample, failing late": lambda one, X, y: (
        synthesizer(one).set_params(objective=failing).sample(5)
    ),
    "synthesize": lambda one, X, y: synthesizer(one).synthesize(X, y),
    "reconstruct": lambda one, X, y: synthesizer(one).reconstruct(X),
    "uncertainty": lambda one, X, y: one.uncertainty(X),
    "uncertainty, failing": lambda one, X, y: one.uncertainty(X[:0]),
    "fit_resample": lambda one, X, y: clone(members_of("dropout")).fit_resample(X, y),
    "predict_proba": lambda one, X, y: one.predict_proba(X) if augmented(one) else None,
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("name", ["dropout", "classifier"])
def test_nothing_global_is_left_changed(fitted, name, call):
    one = pickle.loads(pickle.dumps(fitted(name)))
    X, y = data(name)
    before = global_state()
    if "failing" in call:
        with pytest.raises((ValueError, ZeroDivisionError)):
            CALLS[call](one, X, y)
    else:
        CALLS[call](one, X, y)
    assert global_state() == before


CALLERS = {
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "enable_grad": torch.enable_grad,
    "deterministic": lambda: _set(torch.use_deterministic_algorithms, True, False),
    "other seeds": lambda: _set(seed_everything, 77, 78),
    "two threads": lambda: _set(torch.set_num_threads, 2, 1),
}


class _set:
    def __init__(self, setter, value, after):
        self.setter, self.value, self.after = setter, value, after

    def __enter__(self):
        self.setter(self.value)

    def __exit__(self, *exception):
        self.setter(self.after)


def seed_everything(seed):
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    torch.manual_seed(seed)


@pytest.mark.parametrize("caller", CALLERS)
@pytest.mark.parametrize("name", ["laplace", "classifier"])
def test_what_the_caller_has_set_changes_no_bit(fitted, caller, name):
    expected = answers(fitted(name))
    one = pickle.loads(pickle.dumps(fitted(name)))
    with CALLERS[caller]():
        assert same(answers(one), expected)


@pytest.mark.parametrize("caller", ["no_grad", "other seeds", "deterministic"])
@pytest.mark.parametrize("name", ["dropout", "classifier"])
def test_what_the_caller_has_set_changes_nothing_that_is_learnt(fitted, caller, name):
    with CALLERS[caller]():
        assert same(answers(made(name)), answers(fitted(name)))


def test_estimators_of_different_seeds_differ(fitted):
    X, y = data("dropout")
    other = clone(fitted("dropout")).set_params(random_state=8).fit(X, y)
    assert not same(other.reconstruct(X), fitted("dropout").reconstruct(X))
    assert not same(other.uncertainty(X), fitted("dropout").uncertainty(X))
    X, y = data("classifier")
    other = clone(fitted("classifier")).set_params(random_state=8).fit(X, y)
    assert isinstance(other, AugmentedClassifier)
    assert not same(other.predict_proba(X), fitted("classifier").predict_proba(X))
