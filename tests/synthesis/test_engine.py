"""What the estimators share: prepared once, and made anew when a net has been trained on."""

import copy
import pickle

import numpy as np
import pytest
import torch
from helpers.small import assert_same_answer, digits, tiny
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from torch import nn

from tsynd_sk import TargetedSynthesizer
from tsynd_sk.autoencoders import AutoencoderNet
from tsynd_sk.classifiers import NetClassifier
from tsynd_sk.synthesis import _engine
from tsynd_sk.synthesis._codec import Codec
from tsynd_sk.synthesis._member_scheme import resolve_kind
from tsynd_sk.synthesis._sampling import draw_sources

X, y = digits(24)


@pytest.fixture
def fitted(digits_synthesizer):
    """Make a synthesizer around nets that a test may train on."""

    def make(**params):
        nets = digits_synthesizer.classifier_, digits_synthesizer.autoencoder_
        classifier, autoencoder = (FrozenEstimator(copy.deepcopy(net)) for net in nets)
        return tiny(classifier, autoencoder, **params).fit(X, y)

    return make


def halve_weights(net):
    with torch.no_grad():
        for parameter in net.module_.parameters():
            parameter.mul_(0.5)


def halve_first_weight(net):
    """Leave the last layer, by which a posterior is known, as it is."""
    with torch.no_grad():
        next(net.module_.parameters()).mul_(0.5)


def replace_module(net):
    net.module_ = copy.deepcopy(net.module_)
    halve_weights(net)


class TestNetsThatAreTrainedOn:
    @pytest.mark.parametrize(
        ("members", "train_on"),
        [
            ("laplace", halve_weights),
            ("laplace", halve_first_weight),
            ("dropout", replace_module),
        ],
    )
    def test_have_posteriors_and_members_of_the_present_state(self, fitted, members, train_on):
        synthesizer = fitted(members=members)
        net, before = synthesizer.classifier_, synthesizer.uncertainty(X)
        train_on(net)
        after = synthesizer.uncertainty(X)
        assert not np.allclose(after, before, rtol=0.01)
        fresh = fitted(members=members).set_params(classifier=FrozenEstimator(net)).fit(X, y)
        np.testing.assert_array_equal(after, fresh.uncertainty(X))
        assert_same_answer(
            *(s.sample(20, return_info=True) for s in (synthesizer, fresh)),
        )

    def test_count_as_they_were_in_members_that_are_held(self, fitted):
        synthesizer = fitted()
        members, x = synthesizer.engine_.members(synthesizer, seed=1), torch.from_numpy(X[:, None])
        before = members(x)
        halve_weights(synthesizer.classifier_)
        assert torch.equal(members(x), before)


class Counter:
    """Counts what an engine prepares."""

    def __init__(self, monkeypatch):
        self.counts = {}
        for where, name in [
            (Codec, "__init__"),
            (_engine, "make_members"),
            (_engine, "fit_posterior"),
            (_engine, "resolve_kind"),
        ]:
            monkeypatch.setattr(where, name, self.counting(name, getattr(where, name)))

    def counting(self, name, method):
        def counted(*args, **kwargs):
            self.counts[name] = self.counts.get(name, 0) + 1
            return method(*args, **kwargs)

        return counted

    def of(self, call):
        self.counts.clear()
        call()
        return self.counts


@pytest.mark.parametrize("members", ["laplace", "dropout"])
def test_nothing_is_prepared_twice(fitted, monkeypatch, members):
    synthesizer = fitted(members=members)
    counter = Counter(monkeypatch)

    def work():
        synthesizer.sample(30)
        synthesizer.synthesize(X[:5], y[:5])
        synthesizer.uncertainty(X)
        synthesizer.reconstruct(X)

    assert counter.of(work) == {}
    # Other members, of the same posterior and autoencoder.
    synthesizer.set_params(n_members=5)
    assert counter.of(work) == {"make_members": 1}
    halve_weights(synthesizer.classifier_)
    refit = {"make_members": 1, **({"fit_posterior": 1} if members == "laplace" else {})}
    assert counter.of(work) == refit
    halve_weights(synthesizer.autoencoder_)
    assert counter.of(lambda: synthesizer.reconstruct(X)) == {"__init__": 1}


def test_prepared_copies_are_not_pickled_but_posteriors_and_decisions_are(fitted, monkeypatch):
    synthesizer = fitted(members="laplace")
    expected = synthesizer.sample(20, return_info=True)
    decisions = [{"a way": {(1, 8, 8): "one by one"}}]
    synthesizer.engine_.decisions = decisions
    twin = pickle.loads(pickle.dumps(synthesizer))
    assert twin.engine_.decisions == decisions
    assert all(value is None for name, value in vars(twin.engine_).items() if name[0] == "_")
    twin.engine_.decisions = [{}]
    counter = Counter(monkeypatch)
    assert counter.of(lambda: twin.sample(2)) == {"__init__": 1, "make_members": 1}
    assert_same_answer(twin.sample(20, return_info=True), expected)


def test_it_starts_from_other_images_by_the_same_nets(digits_synthesizer):
    engine, rng = digits_synthesizer.engine_, np.random.RandomState
    other = copy.copy(engine)
    other.start_from(engine.image_format, engine.value_range, X[:6], engine.codes[:6])
    assert other.nets is engine.nets
    wanted = np.repeat(engine.codes[:6], 2)
    sources, occurrence = draw_sources(wanted, other.codes, rng(0))
    assert sorted(sources) == sorted([*range(6)] * 2)
    X_new, _ = other.synthesize(
        digits_synthesizer, other.images[sources], wanted, occurrence, rng(0)
    )
    assert X_new.shape == (12, 8, 8)
    assert len(engine.images) > 6


def test_without_its_images_it_says_what_to_do(digits_synthesizer):
    synthesizer = copy.copy(digits_synthesizer)
    synthesizer.engine_ = copy.copy(synthesizer.engine_)
    synthesizer.engine_.images = None
    with pytest.raises(NotFittedError, match=r"left out of the file.*with_images=True"):
        synthesizer.sample(2)
    assert synthesizer.synthesize(X[:3], y[:3])[0].shape == (3, 8, 8)


def test_several_nets_are_an_ensemble_unless_their_members_are_named(digits_synthesizer):
    net, x = digits_synthesizer.classifier_, torch.from_numpy(X[:1, None])
    assert resolve_kind(digits_synthesizer, net, 2, x) == ("ensemble", None)
    assert resolve_kind(digits_synthesizer, net, 1, x) == ("dropout", None)
    named = clone(digits_synthesizer).set_params(members="laplace")
    assert resolve_kind(named, net, 2, x)[0] == "laplace"


def test_members_are_made_as_the_parameters_say_now(fitted):
    synthesizer, laplace = fitted(), fitted(members="laplace")
    dropout = synthesizer.uncertainty(X)
    synthesizer.set_params(members="laplace")
    np.testing.assert_allclose(synthesizer.uncertainty(X), laplace.uncertainty(X), atol=1e-6)
    synthesizer.set_params(members="auto")
    np.testing.assert_array_equal(synthesizer.uncertainty(X), dropout)


def test_one_net_is_no_ensemble_after_fit_either(fitted):
    synthesizer = fitted()
    before = synthesizer.uncertainty(X)
    synthesizer.set_params(members="ensemble")
    for call in (synthesizer.sample, lambda: synthesizer.uncertainty(X)):
        with pytest.raises(ValueError, match="needs a list of classifiers; got one classifier"):
            call()
    synthesizer.set_params(members="auto")
    np.testing.assert_array_equal(synthesizer.uncertainty(X), before)


def test_other_random_layers_are_decided_on_their_own():
    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Dropout(0.5), nn.Dropout(0.5)
            self.head = nn.Linear(64, len(np.unique(y)))

        def forward(self, x):
            x = x.flatten(1)
            return self.head(self.last(x + self.first(x))).softmax(-1)

    net = NetClassifier(Residual, max_epochs=1)
    autoencoder = AutoencoderNet(max_epochs=1, epoch_size=32)
    synthesizer = TargetedSynthesizer(net, autoencoder, restrict="last", random_state=0).fit(X, y)
    last = synthesizer.uncertainty(X)
    every = synthesizer.set_params(restrict=None).uncertainty(X)
    assert not np.allclose(every, last)
    np.testing.assert_array_equal(synthesizer.set_params(restrict="last").uncertainty(X), last)


def test_columns_of_a_frozen_net_keep_their_labels(digits_synthesizer):
    classes = digits_synthesizer.classes_
    # In falling order, other than that of the labels' own.
    names = np.array([f"digit {9 - k}" for k in range(len(classes))])
    labels = names[np.searchsorted(classes, y)]
    net = copy.copy(digits_synthesizer.classifier_)
    net.classes = names.tolist()
    autoencoder = FrozenEstimator(digits_synthesizer.autoencoder_)
    synthesizer = clone(digits_synthesizer)
    synthesizer.set_params(classifier=FrozenEstimator(net), autoencoder=autoencoder)
    synthesizer.fit(X, labels)
    assert synthesizer.classes_.tolist() == names.tolist()
    _, _, info = synthesizer.synthesize(X, labels, random_state=0, return_info=True)
    _, _, expected = digits_synthesizer.synthesize(X, y, random_state=0, return_info=True)
    np.testing.assert_array_equal(info.label_agreement, expected.label_agreement)
