"""`TargetedSynthesis` inside users' own nets."""

import copy
import pickle

import numpy as np
import pytest
import torch
from helpers.tiny_nets import (
    Recorder,
    own_net,
    recorder_of,
    refreshed,
    row_set,
    synthesizer,
)
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from skorch import NeuralNetBinaryClassifier, NeuralNetClassifier
from skorch.callbacks import Callback, Checkpoint, EpochScoring
from skorch.dataset import Dataset, ValidSplit
from skorch.helper import predefined_split
from torch.utils.data import DataLoader, TensorDataset

from tsynd_sk import TargetedSynthesis
from tsynd_sk._skorch import scoped_seed
from tsynd_sk.autoencoders import AutoencoderNet
from tsynd_sk.classifiers import NetClassifier
from tsynd_sk.datasets import load_digits_images
from tsynd_sk.synthesis._callback import image_passes
from tsynd_sk.synthesis._engine import Engine
from tsynd_sk.synthesis._fitting import default_net


class Pairs(torch.utils.data.Dataset):
    """Rows that are arrays, with targets that are Python integers."""

    def __init__(self, X, y):
        self.pairs = list(zip(X, y.tolist(), strict=True))

    def __len__(self):
        return len(self.pairs)

    def __getitem__(self, i):
        return self.pairs[i]


class FailsAt(Callback):
    """Fails at the beginning of an epoch."""

    def __init__(self, epoch):
        self.epoch = epoch

    def on_epoch_begin(self, net, **kwargs):
        if len(net.history) == self.epoch:
            raise RuntimeError("on purpose")


@pytest.fixture(scope="module")
def digits():
    X, y, _ = load_digits_images()
    return X[:80, None], y[:80]


def synthesis(given=None, **params):
    params = {"random_state": 0, "synthetic_ratio": 1.0, **params}
    return TargetedSynthesis(given or synthesizer(), **params)


def net_with(*callbacks, **params):
    return own_net(**{"max_epochs": 4, "train_split": None, "callbacks": list(callbacks), **params})


def train(net, X, y=None, how="fit"):
    with scoped_seed(0):
        return getattr(net, how)(X, y)


class TestInUsersNets:
    @pytest.mark.parametrize("kind", ["numpy", "torch", "own dataset"])
    def test_synthetic_rows_follow_the_real_ones_of_any_kind_of_data(self, digits, kind):
        X, y = digits
        data = {
            "numpy": (X, y),
            "torch": (torch.from_numpy(X), torch.from_numpy(y)),
            "own dataset": (Pairs(X, y), None),
        }[kind]
        net = train(net_with(synthesis(synthetic_ratio=0.5), Recorder()), *data)
        recorder = recorder_of(net)
        assert recorder.n_rows() == [80, 120, 120, 120]
        assert refreshed(net.history) == [1]
        row = net.history[1]
        assert 0 < row["synthesis_uncertainty_source"] < row["synthesis_uncertainty"] < np.log(4)
        assert 0 < row["synthesis_label_agreement"] <= 1
        assert set(net.history[1]) - set(net.history[0]) == {
            "synthesis_uncertainty_source",
            "synthesis_uncertainty",
            "synthesis_label_agreement",
            "synthesis_dur",
        }
        assert row_set(recorder.rows(1)) > row_set(X)
        assert recorder.targets(3).dtype == np.int64
        # Half a synthetic row for each real one, in the proportions of the classes.
        surplus = np.bincount(recorder.targets(3)) - np.bincount(y)
        assert np.abs(surplus - np.bincount(y) / 2).max() < 1

    def test_order_of_callbacks_does_not_matter(self, digits):
        X, y = digits
        first = train(net_with(synthesis(), Recorder()), X, y)
        second = train(net_with(Recorder(), synthesis()), X, y)
        assert (first.predict_proba(X) == second.predict_proba(X)).all()

    def test_targets_of_binary_nets_keep_their_type(self, digits):
        X, y = digits[0], (digits[1] > 4).astype(np.float32)
        callbacks = [synthesis(), Recorder()]
        net = net_with(*callbacks, cls=NeuralNetBinaryClassifier, module__n_out=1)
        train(net, X, y)
        recorder = recorder_of(net)
        assert recorder.targets(1).dtype == np.float32
        assert set(recorder.targets(1)) == {0, 1}
        assert recorder.n_rows() == [80, 160, 160, 160]

    def test_fitted_synthesizer_samples_from_the_training_rows(self, digits):
        X, y = digits
        split = ValidSplit(4, stratified=True)
        callback = synthesis()
        net = train(net_with(callback, Recorder(), train_split=split), X, y)
        recorder = recorder_of(net)
        assert callback.synthesizer_.classifier_ is net
        X_new, y_new, info = callback.synthesizer_.sample(20, return_info=True)
        assert X_new.shape == (20, 1, 8, 8)
        assert info.source_index.max() < 60
        valid = recorder.rows(3, "valid")
        assert not row_set(valid) & row_set(recorder.rows(3))
        np.testing.assert_array_equal(callback.synthesizer_.classes_[y_new], y_new)

    def test_no_validation_row_is_synthetic(self, digits):
        X, y = digits
        valid = Dataset(X[60:], y[60:])
        net = net_with(synthesis(), Recorder(), train_split=predefined_split(valid))
        train(net, X[:60], y[:60])
        recorder = recorder_of(net)
        np.testing.assert_array_equal(recorder.rows(3, "valid"), X[60:])
        assert recorder.n_rows() == [60, 120, 120, 120]

    def test_synthetic_rows_are_exchanged(self, digits):
        X, y = digits
        # With "constrain" an image may be its source.
        callback = synthesis(synthesizer(label_policy="keep"), warm_up=0, refresh_every=2)
        net = train(net_with(callback, Recorder()), X, y)
        recorder = recorder_of(net)
        first, same, other = (row_set(recorder.rows(i)) - row_set(X) for i in (0, 1, 2))
        assert first == same
        assert len(first) == len(other) == 80
        assert not first & other

    def test_ratio_zero_does_nothing(self, digits):
        X, y = digits
        plain = train(net_with(module__dropout=0), X, y)
        callback = synthesis(synthetic_ratio=0)
        net = train(net_with(callback, module__dropout=0), X, y)
        assert (plain.predict_proba(X) == net.predict_proba(X)).all()
        assert not refreshed(net.history)
        assert not hasattr(callback, "synthesizer_")

    def test_scores_on_the_training_part_are_those_of_real_rows(self, digits):
        X, y = digits
        scoring = EpochScoring("accuracy", on_train=True, use_caching=False, name="train_acc")
        net = net_with(synthesis(), scoring, train_split=ValidSplit(4, stratified=True))
        train(net, X, y)
        train_rows, _ = ValidSplit(4, stratified=True)(Dataset(X, y), y)
        correct = net.predict(X)[train_rows.indices] == y[train_rows.indices]
        assert net.history[-1, "train_acc"] == pytest.approx(correct.mean())


@pytest.mark.parametrize(
    ("warm_up", "refresh_every", "max_epochs", "expected"),
    [
        (0, 3, 7, [0, 3, 6]),
        (0.25, 5, 8, [2, 7]),
        (0.3, 1, 5, [2, 3, 4]),
        # In floating point 0.28 * 25 is above 7.
        (0.28, 6, 25, [7, 13, 19]),
        (1, 1, 4, []),
    ],
)
def test_schedule(warm_up, refresh_every, max_epochs, expected):
    synthesis = TargetedSynthesis(warm_up=warm_up, refresh_every=refresh_every)
    rows = [(np.zeros((1, 8, 8)), 0)]
    passes = image_passes(synthesis, own_net(max_epochs=max_epochs), rows)
    assert passes["synthesis"].nonzero()[0].tolist() == expected


def test_a_training_that_goes_on_beyond_max_epochs_is_refreshed(digits):
    net = net_with(synthesis(refresh_every=2), max_epochs=4).fit(*digits, epochs=8)
    assert refreshed(net.history) == [1, 3, 5, 7]


class TestImagePasses:
    def counted(self, synthesizer=None, shape=(1, 8, 8), **params):
        dataset = [(np.zeros(shape), 0)] * 80
        synthesis = TargetedSynthesis(synthesizer, **params)
        return image_passes(synthesis, own_net(max_epochs=4), dataset)

    def test_are_counted_by_part_and_epoch(self):
        passes = self.counted(synthesizer(max_iter=3), refresh_every=2)
        expected = {
            "classifier": [80, 120, 120, 120],
            "synthesis": [0, 120, 0, 120],
            "autoencoder": [0, 64, 0, 0],
        }
        assert {name: part.tolist() for name, part in passes.items()} == expected

    def test_of_what_does_not_move_are_one_an_image(self):
        passes = self.counted(synthesizer(objective="reconstruction"), refresh_every=2)
        assert passes["synthesis"].tolist() == [0, 40, 0, 40]

    def test_of_a_frozen_autoencoder_are_none(self):
        frozen = FrozenEstimator(AutoencoderNet())
        assert not self.counted(synthesizer(autoencoder=frozen))["autoencoder"].any()

    def test_of_the_default_autoencoder_are_those_of_its_training(self):
        for shape in ((1, 8, 8), (64,)):
            default = default_net("autoencoder", shape if len(shape) > 1 else None)
            passes = self.counted(shape=shape)["autoencoder"]
            assert passes.sum() == default.max_epochs * getattr(default, "epoch_size", 80)

    @pytest.mark.parametrize("params", [{"synthetic_ratio": 0}, {"warm_up": 1}])
    def test_without_synthesis_are_those_of_the_real_rows(self, params):
        passes = self.counted(**params)
        assert passes.pop("classifier").tolist() == [80] * 4
        assert not any(part.any() for part in passes.values())


class TestLeavesNoTrace:
    def test_iterator_is_the_users_own_afterwards(self, digits):
        net = train(net_with(synthesis()), *digits)
        assert net.iterator_train is DataLoader
        assert clone(net).iterator_train is DataLoader

    def test_net_can_be_fitted_again_after_an_error(self, digits):
        X, y = digits
        split = ValidSplit(5, stratified=True)
        net = net_with(synthesis(), FailsAt(3), train_split=split)
        for _ in range(2):
            with pytest.raises(RuntimeError, match="on purpose"):
                train(net, X, y)
        net.set_params(callbacks__FailsAt=None)
        train(net, X, y)
        assert net.iterator_train is DataLoader
        untroubled = train(net_with(synthesis(), train_split=split), X, y)
        assert (net.predict_proba(X) == untroubled.predict_proba(X)).all()

    def test_pickle_and_clone(self, digits):
        X, y = digits
        net = train(net_with(synthesis()), X, y)
        copied = pickle.loads(pickle.dumps(net))
        assert (copied.predict_proba(X) == net.predict_proba(X)).all()
        again = train(clone(net), X, y)
        assert (again.predict_proba(X) == net.predict_proba(X)).all()


class TestSecondRound:
    @pytest.mark.parametrize("how", ["partial_fit", "warm_start"])
    def test_schedule_counts_from_the_new_start(self, digits, how):
        net = net_with(synthesis(refresh_every=2), Recorder(), warm_start=how == "warm_start")
        train(net, *digits)
        train(net, *digits, how="partial_fit" if how == "partial_fit" else "fit")
        assert refreshed(net.history) == [1, 3, 5, 7]
        assert recorder_of(net).n_rows() == [80, 160, 160, 160] * 2
        assert net.iterator_train is DataLoader

    def test_a_fresh_fit_forgets_the_first(self, digits):
        X, y = digits
        net = net_with(synthesis())
        first = train(net, X, y).predict_proba(X)
        train(net, X[:50], y[:50])
        assert (train(net, X, y).predict_proba(X) == first).all()

    def test_synthesises_from_the_rows_of_the_present_round(self, digits):
        X, y = digits
        callback = synthesis(synthesizer(objective="reconstruction", keep_detail=False))
        net = train(net_with(callback, Recorder()), X[:40], y[:40])
        train(net, X[40:], y[40:], how="partial_fit")
        synthetic = row_set(recorder_of(net).rows(5)) - row_set(X[40:])
        assert len(synthetic) == 40
        X_new, _ = callback.synthesizer_.sample(40)
        distances = np.abs(X_new[:, None] - X).mean((2, 3, 4))
        assert (distances.argmin(1) >= 40).all()


class Witness:
    """Notes, whenever rows are sampled, the state of the net and what its members tell."""

    def __init__(self, monkeypatch):
        self.seen, synthesize = [], Engine.synthesize

        def note_and_synthesize(engine, params, *args, **kwargs):
            net = FrozenEstimator(copy.deepcopy(engine.nets[0]))
            uncertainty = engine.uncertainty(params, engine.images)
            self.seen.append((clone(params).set_params(classifier=net), uncertainty))
            return synthesize(engine, params, *args, **kwargs)

        monkeypatch.setattr(Engine, "synthesize", note_and_synthesize)


class TestNetsWithoutDropout:
    """Their last layer tells how uncertain they are, as they are at the moment."""

    def test_posterior_is_that_of_the_present_state_at_each_refresh_and_at_the_end(
        self, digits, monkeypatch
    ):
        X, y = digits
        witness, callback = Witness(monkeypatch), synthesis(seeded(), refresh_every=1)
        net = train(net_with(callback, module__dropout=0), X, y)
        assert refreshed(net.history) == [1, 2, 3]
        states = [fresh.fit(X, y).uncertainty(X) for fresh, _ in witness.seen]
        for expected, (_, uncertainty) in zip(states, witness.seen, strict=True):
            np.testing.assert_array_equal(uncertainty, expected)
            assert (uncertainty > 0).any()
        for one, other in [(0, 1), (1, 2)]:
            assert not np.allclose(states[one], states[other], rtol=0.01)
        at_the_end = callback.synthesizer_.uncertainty(X)
        final = clone(seeded()).set_params(classifier=FrozenEstimator(net)).fit(X, y)
        np.testing.assert_array_equal(at_the_end, final.uncertainty(X))
        assert not np.allclose(at_the_end, states[2], rtol=0.01)

    def test_posterior_is_that_of_the_state_that_another_callback_loads(self, digits, tmp_path):
        X, y = digits
        checkpoint = Checkpoint(monitor=first_epoch, dirname=tmp_path, load_best=True)
        callback = synthesis(seeded(), warm_up=0)
        net = train(net_with(callback, checkpoint, module__dropout=0), X, y)
        loaded = clone(seeded()).set_params(classifier=FrozenEstimator(net)).fit(X, y)
        np.testing.assert_array_equal(callback.synthesizer_.uncertainty(X), loaded.uncertainty(X))


def seeded():
    return synthesizer(random_state=3)


def first_epoch(net):
    return len(net.history) == 1


class TestRefuses:
    def test_net_without_the_dropout_that_its_members_need_before_it_trains(self, digits):
        net = net_with(synthesis(synthesizer(members="dropout")), module__dropout=0)
        with pytest.raises(ValueError, match=r"nothing random .* members='laplace'"):
            train(net, *digits)
        assert len(net.history) == 0
        assert net.iterator_train is DataLoader

    def test_input_that_is_no_single_array(self, digits):
        X, y = digits
        net = net_with(synthesis(warm_up=0.5))
        with pytest.raises(TypeError, match=r"must yield one array .*; got dict"):
            train(net, {"x": X}, y)
        assert len(net.history) == 0
        assert net.iterator_train is DataLoader

    def test_targets_that_are_no_labels(self, digits):
        X, y = digits
        net = net_with(synthesis(warm_up=0.5))
        message = r"one integer label for each row; got targets of shape \(10,\)"
        with pytest.raises(TypeError, match=message):
            train(net, TensorDataset(torch.from_numpy(X), torch.eye(10)[y]))
        assert len(net.history) == 0

    def test_targets_that_are_words(self, digits):
        X, y = digits
        net = net_with(synthesis(warm_up=0.5))
        with pytest.raises(TypeError, match=r"one integer label .*got targets such as '\w'\. "):
            train(net, X, np.array(list("abcdefghij"))[y])
        assert len(net.history) == 0

    @pytest.mark.parametrize(
        ("params", "error", "message"),
        [
            ({"warm_up": 1.5}, ValueError, "'warm_up' parameter"),
            ({"given": synthesizer(restrict=["body"])}, ValueError, "restrict names 'body'"),
            ({"given": synthesizer(classifier=NetClassifier())}, ValueError, "of its own"),
            (
                {"given": synthesizer(autoencoder=FrozenEstimator(AutoencoderNet()))},
                ValueError,
                "but not fitted",
            ),
        ],
    )
    def test_bad_parameters_before_it_trains(self, digits, params, error, message):
        net = net_with(synthesis(**params))
        with pytest.raises(error, match=message):
            train(net, *digits)
        assert len(net.history) == 0
        assert net.iterator_train is DataLoader

    def test_nets_that_make_their_iterator_by_themselves(self, digits):
        class Own(NeuralNetClassifier):
            def get_iterator(self, dataset, training=False):
                return DataLoader(dataset, 16)

        net = net_with(synthesis(), cls=Own)
        with pytest.raises(TypeError, match=r"Own\.get_iterator does not .* let it call super"):
            train(net, *digits)

    def test_a_second_synthesis(self, digits):
        net = net_with(("first", synthesis()), ("second", synthesis()))
        with pytest.raises(ValueError, match="two callbacks TargetedSynthesis"):
            train(net, *digits)
        assert len(net.history) == 0
