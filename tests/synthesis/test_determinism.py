"""Equal seeds, equal bits: in another process, with any number of jobs, after anything else."""

import copy
import os
import pickle
import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.seeded import RECIPES, answers, data, digest, made, members_of, synthesizer
from helpers.small import assert_same_answer
from sklearn.base import clone

TESTS = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def fitted():
    """Fit each recipe once."""
    learned = {}
    return lambda name: learned.setdefault(name, made(name))


def same(one, other):
    """Compare to the bit, by which nan would be equal to nan, and 0.0 not to -0.0."""
    return digest(one) == digest(other)


@pytest.fixture(scope="module")
def elsewhere():
    """What another process makes of each recipe."""
    environment = {
        **os.environ,
        "PYTHONHASHSEED": "12345",
        "PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS.parent)]),
    }
    run = subprocess.run(
        [sys.executable, "-m", "helpers.seeded"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return dict(line.split() for line in run.stdout.splitlines())


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_another_process_gives_equal_bits(elsewhere, fitted, name):
    assert digest(answers(fitted(name), n=60)) == elsewhere[name.replace(" ", "_")]


@pytest.mark.parametrize("name", ["dropout", "classifier"])
def test_fits_repeat_themselves_whatever_was_asked_between(fitted, name):
    one = fitted(name)
    expected = answers(one)
    answers(one, 99)
    X, y = data(name)
    assert same(answers(one), expected)
    assert same(answers(clone(one).fit(X, y)), expected)
    # A second fit begins where the first did.
    assert same(answers(pickle.loads(pickle.dumps(one)).fit(X, y)), expected)


@pytest.mark.parametrize("name", ["dropout", "classifier"])
def test_other_seeds_give_other_nets(fitted, name):
    X, y = data(name)
    other = clone(fitted(name)).set_params(random_state=8).fit(X, y)
    assert not same(other.uncertainty(X), fitted(name).uncertainty(X))
    assert not same(synthesizer(other).reconstruct(X), synthesizer(fitted(name)).reconstruct(X))


def test_seeds_of_calls_go_before_those_of_the_estimator(fitted):
    one = synthesizer(fitted("laplace"))
    expected = one.sample(7, random_state=5)
    rng = np.random.RandomState(5)
    assert same(one.sample(7, random_state=np.uint32(5)), expected)
    assert same(one.sample(7, random_state=rng), expected)
    # A generator goes on.
    assert not same(one.sample(7, random_state=rng), expected)
    assert not same(one.sample(7, random_state=6), expected)
    # None is that of the estimator: an int gives the same every time.
    assert same(one.sample(7), one.sample(7, random_state=one.random_state))
    assert not same(one.sample(7), expected)


def test_seeds_of_estimators_are_ints_generators_or_none():
    X, y = data("dropout")

    def fit(random_state):
        return clone(members_of("dropout")).set_params(random_state=random_state).fit(X, y)

    expected = fit(3).reconstruct(X)
    by_generator = fit(np.random.RandomState(3))
    assert same(by_generator.reconstruct(X), expected)
    assert not same(by_generator.sample(5), by_generator.sample(5))
    unseeded = fit(None)
    assert not same(unseeded.reconstruct(X), expected)
    assert not same(unseeded.sample(5), unseeded.sample(5))
    assert same(unseeded.sample(5, random_state=1), unseeded.sample(5, random_state=1))


FAST = ("dropout", "laplace", "ensemble", "table")


@pytest.mark.parametrize(
    "name",
    [*FAST, *(pytest.param(name, marks=pytest.mark.slow) for name in RECIPES if name not in FAST)],
)
def test_number_of_jobs_gives_equal_bits(fitted, name):
    one = copy.copy(synthesizer(fitted(name)))
    one, two = (
        one.set_params(batch_size=7, n_jobs=n_jobs).sample(60, return_info=True)
        for n_jobs in (1, 2)
    )
    assert_same_answer(one, two)


@pytest.mark.parametrize("label_policy", ["constrain", "keep"])
def test_batch_size_changes_rounding_only(fitted, label_policy):
    one = copy.copy(fitted("dropout")).set_params(label_policy=label_policy)
    small, large = (
        one.set_params(batch_size=size).sample(60, return_info=True) for size in (13, 256)
    )
    np.testing.assert_array_equal(small[1], large[1])
    np.testing.assert_array_equal(small[2].source_index, large[2].source_index)
    # Beside a decision boundary, the ascent magnifies rounding.
    difference = np.abs(small[0] - large[0]).max((1, 2))
    assert np.mean(difference <= 1e-3) >= 0.98
    assert difference.max() < 0.05


def test_two_threads_sample_from_one_estimator_as_each_would_alone(fitted):
    def sample(seed):
        return fitted("dropout").sample(30, random_state=seed, return_info=True)

    alone = [sample(seed) for seed in range(6)]
    with ThreadPoolExecutor(2) as pool:
        for one, other in zip(alone, pool.map(sample, range(6)), strict=True):
            assert_same_answer(one, other)


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


def fit_somewhere_else(one, X, y):
    devices = {name: "nowhere" for name in one.get_params() if "device" in name}
    clone(one).set_params(**devices).fit(X, y)


CALLS = {
    "fit": lambda one, X, y: clone(one).fit(X, y),
    "fit, failing at once": lambda one, X, y: clone(one).fit(X, y[:3]),
    "fit, failing late": fit_somewhere_else,
    "sample": lambda one, X, y: synthesizer(one).sample(5),
    "sample, failing at once": lambda one, X, y: synthesizer(one).sample(0),
    "sample, failing late": lambda one, X, y: (
        synthesizer(one).set_params(objective=failing).sample(5)
    ),
    "synthesize": lambda one, X, y: synthesizer(one).synthesize(X, y),
    "reconstruct": lambda one, X, y: synthesizer(one).reconstruct(X),
    "uncertainty": lambda one, X, y: one.uncertainty(X),
    "predict_proba": lambda one, X, y: getattr(one, "predict_proba", len)(X),
}


@pytest.mark.parametrize("name", ["table", "classifier"])
def test_nothing_global_is_left_changed(fitted, name):
    X, y = data(name)
    for call in CALLS:
        one = pickle.loads(pickle.dumps(fitted(name)))
        before = global_state()
        if "failing" in call:
            with pytest.raises((ValueError, ZeroDivisionError)):
                CALLS[call](one, X, y)
        else:
            CALLS[call](one, X, y)
        assert global_state() == before, call


class setting:
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


CALLERS = {
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "deterministic": lambda: setting(torch.use_deterministic_algorithms, True, False),
    "other seeds": lambda: setting(seed_everything, 77, 78),
    "two threads": lambda: setting(torch.set_num_threads, 2, 1),
}


@pytest.mark.parametrize("caller", CALLERS)
@pytest.mark.parametrize("name", ["table of integers", "classifier"])
def test_what_the_caller_has_set_changes_no_bit(fitted, caller, name):
    expected = answers(fitted(name))
    one = pickle.loads(pickle.dumps(fitted(name)))
    with CALLERS[caller]():
        assert same(answers(one), expected)


@pytest.mark.parametrize("caller", ["no_grad", "other seeds"])
@pytest.mark.parametrize("name", ["dropout", "classifier"])
def test_what_the_caller_has_set_changes_nothing_that_is_learned(fitted, caller, name):
    with CALLERS[caller]():
        assert same(answers(made(name)), answers(fitted(name)))
