"""Further nets that form an ensemble with the one that trains."""

import pickle

import numpy as np
import pytest
import torch
from helpers.saved_files import answers, assert_same
from helpers.tiny_nets import IMAGES as ALL
from helpers.tiny_nets import LABELS, Dense, X, augmented, dense_net, net, own_net, synthesizer, y
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import cross_val_score
from skorch import NeuralNetBinaryClassifier
from skorch.callbacks import Callback, Checkpoint, LoadInitState

from tsynd_sk import TargetedSynthesis
from tsynd_sk.inspection._uncertainty_display import UncertaintyDisplay
from tsynd_sk.uncertainty import mutual_information

IMAGES = X[:, None]


class Epochs(Callback):
    """Counts the epochs of all nets that have it."""

    seen = 0

    def on_epoch_begin(self, net, **kwargs):
        Epochs.seen += 1


def fitted_net(seed=0, n_out=10):
    torch.manual_seed(seed)
    return own_net(max_epochs=3, train_split=None, module__n_out=n_out).fit(IMAGES, y % n_out)


def members_of(classifier, x=IMAGES):
    with torch.no_grad():
        return classifier.synthesizer_._members(0)(torch.from_numpy(x)).exp().numpy()


@pytest.fixture(scope="module")
def classifier():
    return augmented(n_peers=2).fit(X, y)


class TestOfTheClassifier:
    def test_are_members_beside_the_net_each_as_it_predicts(self, classifier):
        members = members_of(classifier)
        assert len(members) == 3
        np.testing.assert_allclose(members[0], classifier.predict_proba(X), atol=1e-6)
        for one, other in ((0, 1), (0, 2), (1, 2)):
            assert np.abs(members[one] - members[other]).max() > 1e-3

    def test_uncertainty_is_that_of_the_ensemble(self, classifier):
        log_probs = torch.from_numpy(members_of(classifier)).log()
        expected = mutual_information(log_probs)
        np.testing.assert_allclose(classifier.uncertainty(X), expected, atol=1e-5)

    def test_synthesis_looks_for_what_they_disagree_about(self, classifier):
        info = classifier.synthesizer_.sample(40, return_info=True)[2]
        assert info.uncertainty.mean() > info.uncertainty_source.mean()
        alone = augmented().fit(X, y)
        first = [row["synthesis_uncertainty"] for row in alone.history_ if "synthesis_dur" in row]
        ours = [
            row["synthesis_uncertainty"] for row in classifier.history_ if "synthesis_dur" in row
        ]
        assert len(first) == len(ours)
        assert first != ours

    def test_leave_the_net_as_it_is_where_nothing_is_synthesised(self):
        with_two, alone = (augmented(synthetic_ratio=0, n_peers=n).fit(X, y) for n in (2, 0))
        assert (with_two.predict_proba(X) == alone.predict_proba(X)).all()
        assert len(members_of(with_two)) == 3

    def test_have_seen_real_images_alone_and_weights_of_their_own(self, classifier):
        nets = classifier.synthesizer_._nets
        assert nets[0] is classifier.estimator_
        for peer in nets[1:]:
            assert len(peer.history) == classifier.estimator_.max_epochs
            assert not any("synthesis_dur" in epoch for epoch in peer.history)
        weights = {id(p) for one in nets for p in one.module_.parameters()}
        assert len(weights) == 3 * len(list(nets[0].module_.parameters()))

    def test_equal_seeds_give_equal_bits(self, classifier):
        again = clone(classifier).fit(X, y)
        assert (again.predict_proba(X) == classifier.predict_proba(X)).all()
        assert (again.uncertainty(X) == classifier.uncertainty(X)).all()
        other = clone(classifier).set_params(random_state=1).fit(X, y)
        assert (other.uncertainty(X) != classifier.uncertainty(X)).any()

    def test_members_of_each_of_them(self):
        masks = augmented(given=synthesizer(members="dropout"), n_peers=1).fit(X, y)
        assert len(members_of(masks)) == 8
        ensemble = augmented(given=synthesizer(members="ensemble"), n_peers=1).fit(X, y)
        assert len(members_of(ensemble)) == 2

    def test_snapshots_are_those_of_the_net(self):
        both = augmented(n_peers=2, n_snapshots=2, refresh_every=1).fit(X, y)
        assert len(members_of(both)) == 5
        assert both.synthesizer_.sample(5)[0].shape == (5, 8, 8)

    @pytest.mark.parametrize("n_snapshots", [0, 1])
    def test_are_saved(self, tmp_path, n_snapshots):
        learned = augmented(n_peers=1, n_snapshots=n_snapshots, refresh_every=1).fit(X, y)
        learned.save_params(tmp_path / "file.safetensors", with_images=True)
        loaded = clone(learned).load_params(tmp_path / "file.safetensors")
        assert_same(answers(loaded, X[:6], y[:6]), answers(learned, X[:6], y[:6]))
        assert_same(
            answers(pickle.loads(pickle.dumps(learned)), X[:6], y[:6]),
            answers(loaded, X[:6], y[:6]),
        )
        with pytest.raises(ValueError, match="holds 2 classifiers, but the estimator has 1"):
            clone(learned).set_params(n_peers=0).load_params(tmp_path / "file.safetensors")

    @pytest.mark.parametrize("members", ["dropout", "laplace"])
    def test_are_saved_with_members_of_each(self, tmp_path, members):
        learned = augmented(given=synthesizer(members=members), n_peers=1, n_snapshots=1).fit(X, y)
        for _ in range(2):
            learned.save_params(tmp_path / "file.safetensors", with_images=True)
            loaded = clone(learned).load_params(tmp_path / "file.safetensors")
            assert_same(answers(loaded, X[:6], y[:6]), answers(learned, X[:6], y[:6]))
            learned = loaded

    def test_are_saved_as_they_were_trained_whatever_is_set_since(self, tmp_path):
        learned = augmented(synthetic_ratio=0, n_peers=1).fit(X, y)
        learned.set_params(n_peers=3).save_params(tmp_path / "file.safetensors")
        loaded = clone(learned).set_params(n_peers=1).load_params(tmp_path / "file.safetensors")
        assert (loaded.uncertainty(X) == learned.uncertainty(X)).all()

    def test_of_binary_nets(self, tmp_path):
        few = y < 2
        binary = own_net(NeuralNetBinaryClassifier, module__n_out=1, train_split=None)
        learned = augmented(binary, n_peers=1).fit(X[few], y[few])
        assert members_of(learned).shape == (2, 80, 2)
        assert learned.synthesizer_.sample(4)[0].shape == (4, 8, 8)

    def test_displays_judge_the_net_that_predicts(self):
        learned = augmented(net(max_epochs=3), synthetic_ratio=0, n_peers=2).fit(X, y)
        display = UncertaintyDisplay.from_estimator(learned, ALL[80:300], LABELS[80:300])
        (correct,) = display.correct.values()
        assert (correct == (learned.predict(ALL[80:300]) == LABELS[80:300])).all()
        assert 0 < correct.mean() < 1

    def test_have_bars_of_their_own(self, capsys):
        augmented(net(max_epochs=2), synthetic_ratio=0, n_peers=2, verbose=1).fit(X, y)
        shown = capsys.readouterr().err
        assert "peer 1 of 2" in shown
        assert "peer 2 of 2" in shown
        assert "classifier" in shown

    def test_warnings_about_the_net_come_once(self):
        with pytest.warns(UserWarning, match="is an instance of") as caught:
            augmented(own_net(module=Dense()), synthetic_ratio=0, n_peers=2).fit(X, y)
        assert [str(w.message).startswith("the module of estimator") for w in caught] == [True]

    @pytest.mark.parametrize(
        ("params", "message"),
        [
            ({"given": synthesizer(plan="fold")}, "fold"),
            (
                {
                    "estimator": own_net(module__dropout=0, callbacks=[Epochs()]),
                    "given": synthesizer(members="dropout"),
                },
                "nothing random",
            ),
            ({"given": synthesizer(members="dropout", restrict=["nope"])}, "restrict names 'nope'"),
            (
                {"estimator": net(callbacks=[Epochs(), TargetedSynthesis()])},
                "two callbacks TargetedSynthesis",
            ),
            (
                {"estimator": net(callbacks=[Epochs(), LoadInitState(Checkpoint())])},
                "LoadInitState, by which each of its n_peers",
            ),
            (
                {"estimator": net(callbacks=[Epochs()], iterator_train__batch_sampler=[[0]])},
                "batch_sampler",
            ),
        ],
        ids=["plan", "dropout", "restrict", "second callback", "common start", "batches"],
    )
    def test_what_the_net_is_refused_for_is_said_before_any_training(self, params, message):
        Epochs.seen = 0
        params = {"estimator": net(callbacks=[Epochs()]), **params}
        with pytest.raises(ValueError, match=message):
            augmented(n_peers=2, **params).fit(X, y)
        assert Epochs.seen == 0

    def test_are_trained_anew_in_every_fold(self):
        scores = cross_val_score(augmented(n_peers=1), X, LABELS[:80], cv=2, error_score="raise")
        assert len(scores) == 2

    def test_are_refused_below_none(self):
        with pytest.raises(ValueError, match="'n_peers' parameter of AugmentedClassifier"):
            augmented(n_peers=-1).fit(X, y)


class TestOfTheCallback:
    def train(self, peers, **params):
        callback = TargetedSynthesis(synthesizer(**params), peers=peers, random_state=0)
        learner = own_net(max_epochs=4, train_split=None, callbacks=[Epochs(), callback])
        return learner.fit(IMAGES, y), dict(learner.callbacks_)["TargetedSynthesis"]

    def test_are_used_as_they_are(self):
        peers = [FrozenEstimator(fitted_net(seed)) for seed in (1, 2)]
        before = [peer.estimator.predict_proba(IMAGES) for peer in peers]
        learner, callback = self.train(peers)
        members = members_of(callback)
        np.testing.assert_allclose(members[0], learner.predict_proba(IMAGES), atol=1e-6)
        np.testing.assert_allclose(members[1:], before, atol=1e-6)
        for peer, proba in zip(peers, before, strict=True):
            assert (peer.estimator.predict_proba(IMAGES) == proba).all()

    def test_survive_a_clone_of_the_net(self):
        callback = TargetedSynthesis(synthesizer(), peers=[FrozenEstimator(fitted_net())])
        learner = clone(own_net(max_epochs=3, train_split=None, callbacks=[callback]))
        learner.fit(IMAGES, y)
        assert len(members_of(dict(learner.callbacks_)["TargetedSynthesis"])) == 2

    @pytest.mark.parametrize(
        ("peers", "error", "message"),
        [
            (
                lambda: [fitted_net()],
                TypeError,
                r"peers\[0\] must be .*FrozenEstimator.*got Neural",
            ),
            (lambda: fitted_net(), ValueError, "'peers' parameter of TargetedSynthesis"),
            (
                lambda: [FrozenEstimator(fitted_net()), FrozenEstimator(fitted_net(n_out=5))],
                ValueError,
                r"peers\[1\] cannot be one of an ensemble .* shape \(8, 5\) for 8 rows; expected "
                r"\(8, 10\)",
            ),
            (
                lambda: [FrozenEstimator(dense_net(max_epochs=1).fit(IMAGES[:, 0, 0], y))],
                ValueError,
                r"peers\[0\] cannot be one of an ensemble",
            ),
            (lambda: [FrozenEstimator(own_net())], ValueError, "is not fitted"),
        ],
        ids=["not frozen", "no list", "other classes", "other rows", "not fitted"],
    )
    def test_are_refused_before_it_trains(self, peers, error, message):
        Epochs.seen = 0
        with pytest.raises(error, match=message):
            self.train(peers())
        assert Epochs.seen == 0

    def test_one_without_what_members_need_is_refused_before_it_trains(self):
        calm = own_net(max_epochs=1, train_split=None, module__dropout=0).fit(IMAGES, y)
        Epochs.seen = 0
        with pytest.raises(ValueError, match=r"peers\[0\] cannot .* nothing random"):
            self.train([FrozenEstimator(calm)], members="dropout")
        assert Epochs.seen == 0

    def test_ensemble_without_them_is_refused(self):
        with pytest.raises(ValueError, match="but one net trains: let it have peers"):
            self.train([], members="ensemble")


def test_labels_of_any_kind():
    words = np.array(["nought", "one", "two"])
    few = LABELS < 3
    learned = augmented(net(max_epochs=4), n_peers=1).fit(ALL[few][:40], words[LABELS[few][:40]])
    assert set(learned.synthesizer_.sample(6)[1]) <= set(words)
