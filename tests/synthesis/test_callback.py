import copy
import pickle

import numpy as np
import pytest
import torch
from helpers.tiny_nets import (
    Recorder,
    dense_synthesizer,
    own_net,
    recorder_of,
    refreshed,
    row_set,
    synthesizer,
    unfitted,
)
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from skorch import NeuralNetBinaryClassifier
from skorch.callbacks import Callback, Checkpoint, EpochScoring
from skorch.dataset import Dataset, ValidSplit
from skorch.helper import predefined_split
from torch.utils.data import TensorDataset

from tsynd_sk import TargetedSynthesis, TargetedSynthesizer
from tsynd_sk._skorch import scoped_seed
from tsynd_sk.autoencoders._net import AutoencoderNet
from tsynd_sk.classifiers._default import NetClassifier
from tsynd_sk.datasets._loaders import load_digits_images


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
    @pytest.mark.parametrize("kind", ["numpy", "torch", "dataset", "own dataset"])
    def test_synthetic_rows_follow_the_real_ones_of_any_kind_of_data(self, digits, kind):
        X, y = digits
        data = {
            "numpy": (X, y),
            "torch": (torch.from_numpy(X), torch.from_numpy(y)),
            "dataset": (TensorDataset(torch.from_numpy(X), torch.from_numpy(y)), None),
            "own dataset": (Pairs(X, y), None),
        }[kind]
        net = train(net_with(synthesis(synthetic_ratio=0.5), Recorder()), *data)
        recorder = recorder_of(net)
        assert recorder.n_rows() == [80, 120, 120, 120]
        assert refreshed(net.history) == [1]
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

    def test_kind_of_data_does_not_matter(self, digits):
        X, y = digits
        dataset = TensorDataset(torch.from_numpy(X), torch.from_numpy(y))
        first, second = (
            train(net_with(synthesis()), *data).predict_proba(X) for data in [(X, y), (dataset,)]
        )
        assert (first == second).all()

    def test_order_of_callbacks_does_not_matter(self, digits):
        X, y = digits
        first = train(net_with(synthesis(), Recorder()), X, y)
        second = train(net_with(Recorder(), synthesis()), X, y)
        assert (first.predict_proba(X) == second.predict_proba(X)).all()

    @pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
    def test_targets_of_binary_nets_keep_their_type(self, digits, kind):
        X, y = kind(digits[0]), kind((digits[1] > 4).astype(np.float32))
        callbacks = [synthesis(), Recorder()]
        net = net_with(*callbacks, cls=NeuralNetBinaryClassifier, module__n_out=1)
        train(net, X, y)
        recorder = recorder_of(net)
        assert recorder.targets(1).dtype == np.float32
        assert set(recorder.targets(1)) == {0, 1}
        assert recorder.n_rows() == [80, 160, 160, 160]

    def test_tables(self, digits):
        X, y = digits[0].reshape(80, -1), digits[1]
        net = train(net_with(synthesis(dense_synthesizer()), Recorder()), X, y)
        assert recorder_of(net).rows(1).shape == (160, 64)

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

    def test_history_tells_what_the_synthetic_rows_are(self, digits):
        X, y = digits
        net = train(net_with(synthesis(warm_up=0.5), max_epochs=8), X, y)
        row = net.history[4]
        assert refreshed(net.history) == [4]
        assert 0 < row["synthesis_uncertainty_source"] < row["synthesis_uncertainty"] < np.log(4)
        assert 0 < row["synthesis_label_agreement"] <= 1
        assert row["synthesis_dur"] > 0

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
    def test_schedule(self, digits, warm_up, refresh_every, max_epochs, expected):
        X, y = digits[0][:40], digits[1][:40]
        callback = synthesis(warm_up=warm_up, refresh_every=refresh_every)
        net = train(net_with(callback, max_epochs=max_epochs), X, y)
        assert refreshed(net.history) == expected
        assert len(net.history) == max_epochs

    @pytest.mark.parametrize("use_caching", [True, False])
    def test_scores_on_the_training_part(self, digits, use_caching):
        X, y = digits
        scoring = EpochScoring("accuracy", on_train=True, use_caching=use_caching, name="train_acc")
        net = net_with(synthesis(), scoring, train_split=ValidSplit(4, stratified=True))
        train(net, X, y)
        assert all(0 <= accuracy <= 1 for accuracy in net.history[:, "train_acc"])
        if not use_caching:
            # Synthetic rows do not count where skorch asks for the data themselves.
            train_rows, _ = ValidSplit(4, stratified=True)(Dataset(X, y), y)
            correct = net.predict(X)[train_rows.indices] == y[train_rows.indices]
            assert net.history[-1, "train_acc"] == pytest.approx(correct.mean())


class TestLeavesNoTrace:
    @pytest.mark.parametrize("split", [None, ValidSplit(5, stratified=True)])
    def test_split_is_the_users_own_afterwards(self, digits, split):
        net = train(net_with(synthesis(), train_split=split), *digits)
        assert net.train_split is split
        assert type(clone(net).train_split) is type(split)

    def test_net_can_be_fitted_again_after_an_error(self, digits):
        X, y = digits
        split = ValidSplit(5, stratified=True)
        net = net_with(synthesis(), FailsAt(3), train_split=split)
        for _ in range(2):
            with pytest.raises(RuntimeError, match="on purpose"):
                train(net, X, y)
        net.set_params(callbacks__FailsAt=None)
        train(net, X, y)
        assert net.train_split is split
        untroubled = train(net_with(synthesis(), train_split=split), X, y)
        assert (net.predict_proba(X) == untroubled.predict_proba(X)).all()

    def test_pickle_and_clone(self, digits):
        X, y = digits
        net = train(net_with(synthesis()), X, y)
        copied = pickle.loads(pickle.dumps(net))
        assert (copied.predict_proba(X) == net.predict_proba(X)).all()
        again = train(clone(net), X, y)
        assert (again.predict_proba(X) == net.predict_proba(X)).all()

    def test_given_synthesizer_stays_unfitted(self, digits):
        given = synthesizer()
        train(net_with(synthesis(given)), *digits)
        assert unfitted(given)
        assert not given.autoencoder.initialized_


class TestSecondRound:
    @pytest.mark.parametrize("how", ["partial_fit", "warm_start"])
    def test_schedule_counts_from_the_new_start(self, digits, how):
        net = net_with(synthesis(refresh_every=2), Recorder(), warm_start=how == "warm_start")
        train(net, *digits)
        train(net, *digits, how="partial_fit" if how == "partial_fit" else "fit")
        assert refreshed(net.history) == [1, 3, 5, 7]
        assert recorder_of(net).n_rows() == [80, 160, 160, 160] * 2
        assert net.train_split is None

    def test_a_fresh_fit_forgets_the_first(self, digits):
        X, y = digits
        net = net_with(synthesis())
        first = train(net, X, y).predict_proba(X)
        train(net, X[:50], y[:50])
        assert (train(net, X, y).predict_proba(X) == first).all()

    def test_synthesises_from_the_rows_of_the_present_round(self, digits):
        X, y = digits
        callback = synthesis(synthesizer(label_policy="keep", objective="reconstruction"))
        net = train(net_with(callback, Recorder()), X[:40], y[:40])
        train(net, X[40:], y[40:], how="partial_fit")
        synthetic = row_set(recorder_of(net).rows(5)) - row_set(X[40:])
        assert len(synthetic) == 40
        X_new, _ = callback.synthesizer_.sample(40)
        distances = np.abs(X_new[:, None] - X).mean((2, 3, 4))
        assert (distances.argmin(1) >= 40).all()


class Witness(TargetedSynthesizer):
    """Tells, whenever it is sampled from, what its members are and what its net is."""

    seen = []

    def sample(self, *args, **kwargs):
        net = self.classifier_
        fresh = clone(self).set_params(classifier=FrozenEstimator(copy.deepcopy(net)))
        weights = {name: w.clone() for name, w in net.module_.state_dict().items()}
        x = self.format_.to_tensor(self._X)
        self.seen.append((self._members(0)(x), fresh, weights, self.uncertainty(self._X)))
        return super().sample(*args, **kwargs)


@pytest.fixture
def witness():
    Witness.seen.clear()
    params = {"n_members": 4, "max_iter": 2, "random_state": 3}
    return Witness(autoencoder=AutoencoderNet(max_epochs=1, epoch_size=64), **params)


class TestNetsWithoutDropout:
    """Their last layer tells how uncertain they are, as they are at the moment."""

    def test_posterior_is_that_of_the_present_state_at_each_refresh_and_at_the_end(
        self, digits, witness
    ):
        X, y = digits
        callback = synthesis(witness, refresh_every=1)
        net = train(net_with(callback, module__dropout=0), X, y)
        assert refreshed(net.history) == [1, 2, 3]
        states = [fresh.fit(X, y).uncertainty(X) for _, fresh, _, _ in Witness.seen]
        for expected, (_, _, _, uncertainty) in zip(states, Witness.seen, strict=True):
            np.testing.assert_array_equal(uncertainty, expected)
            assert (uncertainty > 0).any()
        for one, other in [(0, 1), (1, 2)]:
            assert not np.allclose(states[one], states[other], rtol=0.01)
        at_the_end = callback.synthesizer_.uncertainty(X)
        final = clone(witness).set_params(classifier=FrozenEstimator(net)).fit(X, y)
        np.testing.assert_array_equal(at_the_end, final.uncertainty(X))
        assert not np.allclose(at_the_end, states[2], rtol=0.01)

    def test_posterior_is_that_of_the_state_that_another_callback_loads(
        self, digits, witness, tmp_path
    ):
        X, y = digits
        checkpoint = Checkpoint(monitor=first_epoch, dirname=tmp_path, load_best=True)
        callback = synthesis(witness, warm_up=0)
        net = train(net_with(callback, checkpoint, module__dropout=0), X, y)
        loaded = clone(witness).set_params(classifier=FrozenEstimator(net)).fit(X, y)
        np.testing.assert_array_equal(callback.synthesizer_.uncertainty(X), loaded.uncertainty(X))


def first_epoch(net):
    return len(net.history) == 1


class TestSnapshots:
    """Earlier states of the net that are members beside the present one."""

    @pytest.mark.parametrize("dropout", [0.5, 0])
    def test_are_the_states_at_the_latest_refreshes(self, digits, witness, dropout):
        X, y = digits
        callback = synthesis(witness, refresh_every=1, n_snapshots=2, warm_up=0.2)
        net = train(net_with(callback, max_epochs=6, module__dropout=dropout), X, y)
        assert refreshed(net.history) == [2, 3, 4, 5]
        assert len(net.history) == 6
        assert [len(members) for members, _, _, _ in Witness.seen] == [4, 5, 6, 6]
        state = copy.deepcopy(net)
        predictions = []
        for _, _, weights, _ in Witness.seen:
            state.module_.load_state_dict(weights)
            predictions.append(state.predict_proba(X))
        expected = [[], [0], [0, 1], [1, 2]]
        for earlier, (members, _, _, _) in zip(expected, Witness.seen, strict=True):
            for member, state in zip(members[4:].exp(), earlier, strict=True):
                np.testing.assert_allclose(member, predictions[state], atol=1e-6)
        # At the end the latest ones stand beside the trained net.
        members = callback.synthesizer_._members(0)(torch.from_numpy(X)).exp()
        assert len(members) == 6
        for member, state in zip(members[4:], (2, 3), strict=True):
            np.testing.assert_allclose(member, predictions[state], atol=1e-6)
        X_new, _, info = callback.synthesizer_.sample(20, return_info=True)
        assert X_new.shape == (20, 1, 8, 8)
        assert (info.uncertainty > 0).all()

    def test_count_in_the_uncertainty(self, digits):
        X, y = digits
        # With hardly any dropout the members of one state are one.
        without, with_two = (synthesis(refresh_every=1, n_snapshots=n, warm_up=0.2) for n in (0, 2))
        for callback in (without, with_two):
            train(net_with(callback, max_epochs=6, module__dropout=1e-6), X, y)
        assert without.synthesizer_.uncertainty(X).max() < 1e-6
        assert with_two.synthesizer_.uncertainty(X).mean() > 1e-4

    def test_none_leave_all_as_it_is(self, digits):
        X, y = digits
        assert synthesis().n_snapshots == 0
        plain, none, one = (
            train(net_with(synthesis(refresh_every=1, **params)), X, y)
            for params in ({}, {"n_snapshots": 0}, {"n_snapshots": 1})
        )
        assert (plain.predict_proba(X) == none.predict_proba(X)).all()
        assert (plain.predict_proba(X) != one.predict_proba(X)).any()
        # There is no earlier state at the first refresh.
        for name in ("synthesis_uncertainty", "train_loss"):
            assert plain.history[1, name] == one.history[1, name]
        assert plain.history[2, "synthesis_uncertainty"] != one.history[2, "synthesis_uncertainty"]

    def test_are_those_of_one_training(self, digits, witness):
        X, y = digits
        net = net_with(synthesis(witness, refresh_every=1, n_snapshots=3))
        train(net, X, y)
        train(net, X, y, how="partial_fit")
        assert [len(members) for members, _, _, _ in Witness.seen] == [4, 5, 6] * 2

    def test_leave_the_net_and_its_gradients_alone(self, digits):
        callback = synthesis(refresh_every=1, n_snapshots=2)
        net = train(net_with(callback), *digits)
        states = {id(p) for m in callback.synthesizer_._snapshots for p in m.parameters()}
        assert len(states) == 8
        assert not states & {id(p) for p in net.module_.parameters()}
        assert all(p.requires_grad for p in net.module_.parameters())


class TestRefuses:
    def test_net_without_the_dropout_that_its_members_need_before_it_trains(self, digits):
        net = net_with(synthesis(synthesizer(members="dropout")), module__dropout=0)
        with pytest.raises(ValueError, match=r"nothing random .* members='laplace'"):
            train(net, *digits)
        assert len(net.history) == 0
        assert net.train_split is None

    def test_input_that_is_no_single_array(self, digits):
        X, y = digits
        net = net_with(synthesis(warm_up=0.5))
        with pytest.raises(TypeError, match="yields dict as its input"):
            train(net, {"x": X}, y)
        assert len(net.history) == 0
        assert net.train_split is None

    def test_targets_that_are_no_labels(self, digits):
        X, y = digits
        net = net_with(synthesis(warm_up=0.5))
        with pytest.raises(TypeError, match=r"targets of shape \(10,\).*one integer label a row"):
            train(net, TensorDataset(torch.from_numpy(X), torch.eye(10)[y]))
        assert len(net.history) == 0

    @pytest.mark.parametrize(
        ("params", "error", "message"),
        [
            ({"synthetic_ratio": -1}, ValueError, "'synthetic_ratio' parameter of TargetedSynth"),
            ({"warm_up": 1.5}, ValueError, "'warm_up' parameter"),
            ({"warm_up": np.nan}, ValueError, "'warm_up' parameter"),
            ({"refresh_every": 0}, ValueError, "'refresh_every' parameter"),
            ({"refresh_every": 2.0}, ValueError, "'refresh_every' parameter"),
            ({"n_snapshots": -1}, ValueError, "'n_snapshots' parameter"),
            ({"n_snapshots": 1.0}, ValueError, "'n_snapshots' parameter"),
            ({"given": synthesizer(members="ensemble")}, ValueError, "but one net trains"),
            ({"given": synthesizer(restrict=["body"])}, ValueError, "restrict names 'body'"),
            ({"given": synthesizer(restrict=True)}, ValueError, "restrict must be"),
            ({"random_state": "0"}, ValueError, "'random_state' parameter"),
            ({"given": NetClassifier()}, TypeError, "must be a TargetedSynthesizer or None"),
            ({"given": synthesizer(classifier=NetClassifier())}, ValueError, "of its own"),
            ({"given": synthesizer(radius=-1)}, ValueError, "'radius' parameter"),
            ({"given": synthesizer(autoencoder=NetClassifier())}, TypeError, "no method encode"),
            (
                {"given": synthesizer(autoencoder=FrozenEstimator(AutoencoderNet()))},
                ValueError,
                "is not fitted",
            ),
        ],
    )
    def test_bad_parameters_before_it_trains(self, digits, params, error, message):
        net = net_with(synthesis(**params))
        with pytest.raises(error, match=message):
            train(net, *digits)
        assert len(net.history) == 0
        assert net.train_split is None
