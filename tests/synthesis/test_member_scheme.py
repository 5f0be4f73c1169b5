"""What the members of a synthesizer are made of, as its parameters say."""

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers.small import (
    assert_same_answer,
    correct_sources,
    digits,
    distinct,
    mean_prediction,
    members_used,
    quick,
    textbook_information,
    tiny,
)
from sklearn.frozen import FrozenEstimator
from skorch import NeuralNetClassifier
from torch import nn

from tsynd_sk._skorch import bare_module, log_proba_head
from tsynd_sk.classifiers import NetClassifier
from tsynd_sk.members import LaplaceMembers, last_layer_posterior
from tsynd_sk.synthesis._member_scheme import fit_posterior, make_members


class FunctionalNet(nn.Module):
    """Its dropout is called as a function, off in evaluation mode."""

    def __init__(self, p=0.3):
        super().__init__()
        self.p = p
        self.hidden, self.head = nn.Linear(64, 24), nn.Linear(24, 4)

    def forward(self, x):
        x = F.relu(self.hidden(x.flatten(1)))
        return self.head(F.dropout(x, self.p, training=self.training))


def functional_net(**params):
    return NeuralNetClassifier(
        FunctionalNet,
        criterion=nn.CrossEntropyLoss,
        max_epochs=8,
        lr=0.5,
        batch_size=16,
        verbose=0,
        train_split=None,
        **params,
    )


@pytest.fixture(scope="module")
def without_dropout():
    """Fitted synthesizer around a net without dropout."""
    classifier = NetClassifier(max_epochs=15, module__width=8, module__dropout=0.0)
    return tiny(classifier).fit(*digits())


@pytest.fixture(scope="module")
def ensemble():
    """Fitted synthesizer around three nets with dropout."""
    nets = [NetClassifier(max_epochs=6, module__width=8) for _ in range(3)]
    return quick().set_params(classifier=nets).fit(*digits())


def refitted(synthesizer, **params):
    """The same nets under other parameters."""
    nets = synthesizer.classifier_
    nets = [FrozenEstimator(n) for n in nets] if isinstance(nets, list) else FrozenEstimator(nets)
    params = {**synthesizer.get_params(deep=False), **params}
    params |= {"classifier": nets, "autoencoder": FrozenEstimator(synthesizer.autoencoder_)}
    return type(synthesizer)(**params).fit(*digits())


def agreement(synthesizer, seed=0):
    """Share of the members' predictions for training images that are the net's own."""
    x = synthesizer.format_.to_tensor(digits()[0])
    own = synthesizer.classifier_.predict(x.numpy())
    return np.mean(synthesizer.engine_.members(synthesizer, seed)(x).argmax(-1).numpy() == own)


class TestLaplace:
    def test_net_without_dropout_is_uncertain_by_its_last_layer(self, without_dropout):
        synthesizer = without_dropout
        X, y = digits()
        uncertainty = synthesizer.uncertainty(X)
        assert (uncertainty > 0).all()
        assert uncertainty.max() > 0.05
        np.testing.assert_array_equal(
            uncertainty, refitted(synthesizer, members="laplace").uncertainty(X)
        )
        (X_new, y_new, info), (members,) = members_used(synthesizer, n_samples=160)
        assert distinct(X_new) == 160
        assert info.uncertainty.mean() > 1.3 * info.uncertainty_source.mean()
        new = members(synthesizer.format_.to_tensor(X_new))
        assert new.shape == (8, 160, 4)
        np.testing.assert_allclose(info.uncertainty, textbook_information(new), atol=2e-6)
        agreed = mean_prediction(new) == y_new
        np.testing.assert_array_equal(info.label_agreement, agreed)
        constrained = refitted(synthesizer, label_policy="constrain")
        (_, _, info), (members,) = members_used(constrained, n_samples=160)
        assert info.label_agreement[correct_sources(constrained, members, X, y, info)].all()

    def test_members_repeat_what_the_net_says_of_its_training_images(self, without_dropout):
        assert agreement(refitted(without_dropout, n_members=16)) >= 0.99
        for seed in (1, 2):
            assert agreement(without_dropout, seed) > 0.97

    @pytest.mark.slow
    def test_members_of_a_net_that_has_learnt_its_images_by_heart_repeat_it_too(self):
        X, y = digits()
        classifier = NetClassifier(
            max_epochs=80, module__width=8, module__dropout=0.0, optimizer__weight_decay=0
        )
        synthesizer = quick(n_members=16).set_params(classifier=classifier).fit(X, y)
        x, net = synthesizer.format_.to_tensor(X), synthesizer.classifier_
        assert (net.predict(x.numpy()) == y).all()
        module, head = bare_module(net), log_proba_head(net)
        # The prior of the highest marginal likelihood alone is too weak for it.
        posterior = last_layer_posterior(module, head, [x])
        members = LaplaceMembers(module, head, posterior, n_members=16)
        assert np.mean(members(x).argmax(-1).numpy() == y) < 0.99
        assert agreement(synthesizer) >= 0.99
        assert synthesizer.uncertainty(X).mean() > 1e-4

    def test_dropout_of_the_net_rests(self, digits_synthesizer):
        X, _ = digits()
        with_dropout = refitted(digits_synthesizer, members="laplace")
        assert agreement(with_dropout) > 0.97
        net = copy.deepcopy(digits_synthesizer.classifier_)
        for part in net.module_.modules():
            if isinstance(part, nn.Dropout):
                part.p = 0.0
        autoencoder = FrozenEstimator(digits_synthesizer.autoencoder_)
        without = tiny(FrozenEstimator(net), autoencoder).fit(*digits())
        np.testing.assert_array_equal(with_dropout.uncertainty(X), without.uncertainty(X))

    def test_images_that_the_net_was_not_trained_on_are_uncertain(self, without_dropout):
        X, _ = digits()
        strange = 1 - X
        known, unknown = map(without_dropout.uncertainty, (X, strange))
        assert unknown.mean() > 2 * known.mean()


class TestEnsembles:
    def test_list_alone_is_the_networks_as_they_predict(self, ensemble):
        x = ensemble.format_.to_tensor(digits()[0])
        expected = [net.predict_proba(x.numpy()) for net in ensemble.classifier_]
        for synthesizer in (ensemble, refitted(ensemble, members="ensemble")):
            members = synthesizer.engine_.members(synthesizer, 0)(x)
            np.testing.assert_allclose(members.exp(), expected, atol=1e-6)
        np.testing.assert_array_equal(
            ensemble.engine_.members(ensemble, 0)(x), ensemble.engine_.members(ensemble, 1)(x)
        )

    @pytest.mark.parametrize("members", ["dropout", "laplace"])
    def test_every_network_has_members_of_its_own(self, ensemble, members):
        X, _ = digits()
        x = ensemble.format_.to_tensor(X)
        synthesizer = refitted(ensemble, members=members, n_members=5)
        log_probs = synthesizer.engine_.members(synthesizer, 0)(x)
        assert log_probs.shape == (15, len(X), 4)
        own = torch.stack(
            [torch.tensor(net.predict_proba(x.numpy())) for net in ensemble.classifier_]
        )
        groups = log_probs.exp().unflatten(0, (3, 5)).mean(1)
        distance = (groups[:, None] - own).abs().mean((2, 3))
        assert distance.argmin(1).tolist() == [0, 1, 2]
        # They differ within a network, and are drawn apart for each of them.
        assert len({member.numpy().tobytes() for member in log_probs}) == 15
        assert not torch.equal(log_probs, synthesizer.engine_.members(synthesizer, 1)(x))
        info = synthesizer.sample(60, return_info=True)[2]
        assert (info.uncertainty > info.uncertainty_source).mean() > 0.8

    def test_networks_have_noise_of_their_own(self, digits_synthesizer):
        net = FrozenEstimator(digits_synthesizer.classifier_)
        autoencoder = FrozenEstimator(digits_synthesizer.autoencoder_)
        twins = tiny([net, net], autoencoder, members="dropout", n_members=4).fit(*digits())
        for seed in (0, 1):
            log_probs = twins.engine_.members(twins, seed)(twins.format_.to_tensor(digits()[0]))
            assert len({member.numpy().tobytes() for member in log_probs}) == 8


class TestRestriction:
    def test_names_numbers_and_last_mean_the_same_layers(self, digits_synthesizer):
        answers = {
            name: refitted(digits_synthesizer, restrict=restrict).sample(30, return_info=True)
            for name, restrict in {
                "last": "last",
                "one": 1,
                "name": ["head.3"],
                "all": None,
                "two": 2,
                "both": ("head.0", "head.3"),
                "parent": ["head"],
                "first": ["head.0"],
            }.items()
        }
        for one, others in [("last", ["one", "name"]), ("all", ["two", "both", "parent"])]:
            for other in others:
                assert_same_answer(answers[one], answers[other])
        uncertainty = {name: answer[2].uncertainty_source for name, answer in answers.items()}
        for one, other in [("all", "last"), ("all", "first"), ("last", "first")]:
            assert not np.isclose(uncertainty[one], uncertainty[other], rtol=0.01).all()

    def test_layers_that_are_not_chosen_rest(self, digits_synthesizer):
        X, _ = digits()
        net = copy.deepcopy(digits_synthesizer.classifier_)
        net.module_.head[0].p = 0.0
        alone = tiny(FrozenEstimator(net), FrozenEstimator(digits_synthesizer.autoencoder_))
        np.testing.assert_allclose(
            refitted(digits_synthesizer, restrict="last").uncertainty(X),
            alone.fit(*digits()).uncertainty(X),
            atol=1e-6,
        )


SCHEMES = {
    "dropout": ("digits_synthesizer", {}),
    "laplace": ("without_dropout", {}),
    "ensemble": ("ensemble", {}),
    "ensemble with dropout": ("ensemble", {"members": "dropout", "n_members": 3}),
    "ensemble by laplace": ("ensemble", {"members": "laplace", "n_members": 3}),
}


@pytest.fixture(params=SCHEMES)
def scheme(request):
    name, params = SCHEMES[request.param]
    synthesizer = request.getfixturevalue(name)
    return refitted(synthesizer, **params) if params else synthesizer


class TestAllKinds:
    def test_two_threads_sample_as_each_would_alone(self, scheme):
        def sample(seed):
            return scheme.sample(40, random_state=seed, return_info=True)

        alone = [sample(seed) for seed in range(4)]
        with ThreadPoolExecutor(2) as pool:
            for one, other in zip(alone, pool.map(sample, range(4)), strict=True):
                assert_same_answer(one, other)

    def test_pickled_twin_gives_equal_bits(self, scheme):
        twin = pickle.loads(pickle.dumps(scheme))
        assert_same_answer(twin.sample(40, return_info=True), scheme.sample(40, return_info=True))
        X, _ = digits()
        np.testing.assert_array_equal(twin.uncertainty(X), scheme.uncertainty(X))

    def test_other_fit_with_the_same_seed_gives_equal_bits(self, scheme):
        one, two = (refitted(scheme, random_state=5) for _ in range(2))
        assert_same_answer(one.sample(40, return_info=True), two.sample(40, return_info=True))
        assert_same_answer(
            one.set_params(n_jobs=2, batch_size=16).sample(40, return_info=True),
            two.set_params(n_jobs=1, batch_size=16).sample(40, return_info=True),
        )


class Skipping(nn.Module):
    """Counts in `epochs` how often it is trained on."""

    epochs = 0

    def __init__(self):
        super().__init__()
        self.hidden, self.drop, self.head = nn.Linear(64, 8), nn.Dropout(0.5), nn.Linear(8, 4)

    def forward(self, x):
        type(self).epochs += self.training and torch.is_grad_enabled()
        hidden = self.drop(self.hidden(x.flatten(1)))
        return self.head(hidden - hidden.mean() if hidden.mean() > 100 else hidden)


class TestDecisions:
    """What the members of a net need not decide twice is handed on."""

    @pytest.mark.parametrize("kind", ["dropout", "laplace"])
    def test_are_written_for_each_net_and_used(self, ensemble, kind):
        x = ensemble.format_.to_tensor(digits()[0])
        nets, params = ensemble.classifier_, tiny(n_members=2)
        posteriors = [None if kind == "dropout" else fit_posterior(n, [x], [x]) for n in nets]
        decisions = [{} for _ in nets]

        def members(decisions):
            device = torch.device("cpu")
            made = make_members(params, kind, nets, posteriors, device, decisions)
            return made.redrawn(0)(x)

        first = members(decisions)
        way = f"{kind}, restrict=None"
        assert decisions == [{way: {(1, 8, 8): "fold"}}] * 3
        assert torch.equal(members(decisions), first)
        looped = members([{way: {(1, 8, 8): "loop"}} for _ in nets])
        torch.testing.assert_close(looped, first)


class TestRefusedBeforeTraining:
    """What cannot have members is said before hours of training, not after them."""

    @pytest.mark.parametrize("objective", ["mutual_info", "random"])
    def test_last_net_of_a_list(self, objective):
        nets = [functional_net().set_params(module=Skipping), functional_net(module__p=0.0)]
        made = quick(members="dropout", objective=objective).set_params(classifier=nets)
        Skipping.epochs = 0
        with pytest.raises(ValueError, match="nothing random"):
            made.fit(*digits())
        assert Skipping.epochs == 0

    @pytest.mark.parametrize("restrict", [[], ["no such layer"], [1], True, 0, 1.5, "head"])
    def test_restriction_that_chooses_nothing(self, restrict):
        with pytest.raises(ValueError, match="restrict"):
            quick(restrict=restrict).set_params(classifier=functional_net()).fit(*digits())


def test_numpy_integers_restrict_as_integers_do(digits_synthesizer):
    one, other = (refitted(digits_synthesizer, restrict=m) for m in (1, np.int64(1)))
    np.testing.assert_array_equal(one.uncertainty(digits()[0]), other.uncertainty(digits()[0]))


def test_posterior_follows_a_frozen_net_that_is_trained_on():
    X, y = digits()
    net = NetClassifier(max_epochs=3, module__width=8, module__dropout=0.0)
    net.fit(np.float32(X[:, None]), y)
    synthesizer = quick().set_params(classifier=FrozenEstimator(net)).fit(X, y)
    before = synthesizer.uncertainty(X)
    net.partial_fit(np.float32(X[:, None]), y)
    after = synthesizer.uncertainty(X)
    anew = quick().set_params(classifier=FrozenEstimator(net)).fit(X, y)
    assert (after != before).any()
    np.testing.assert_array_equal(after, anew.uncertainty(X))


def test_functions_for_dropout_are_as_good_as_layers():
    X, y = digits(120)
    synthesizer = quick(label_policy="keep").set_params(classifier=functional_net()).fit(X, y)
    assert (synthesizer.uncertainty(X) > 0).all()
    X_new, _, info = synthesizer.sample(120, return_info=True)
    assert distinct(X_new) == 120
    assert (info.uncertainty > info.uncertainty_source).mean() > 0.8
    # What is off has no members, and says so.
    with pytest.raises(ValueError, match="nothing random"):
        quick(members="dropout").set_params(classifier=functional_net(module__p=0.0)).fit(X, y)
