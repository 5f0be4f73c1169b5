"""`AugmentedClassifier`: data, schedule, reproducibility, and users' own nets."""

import pickle

import numpy as np
import pytest
import torch
from helpers.tiny_nets import (
    IMAGES,
    LABELS,
    Dense,
    FirstOutput,
    Recorder,
    X,
    augmented,
    dense_net,
    dense_synthesizer,
    net,
    own_net,
    recorder_of,
    refreshed,
    row_set,
    synthesizer,
    unfitted,
    y,
)
from sklearn.base import is_classifier
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from skorch import NeuralNetBinaryClassifier
from skorch.callbacks import EarlyStopping
from skorch.dataset import ValidSplit
from torch import nn
from torch.utils.data import DataLoader

from tsynd_sk import AugmentedClassifier, TargetedSynthesis
from tsynd_sk.autoencoders import AutoencoderNet, DensePCA
from tsynd_sk.classifiers import ConvNet, DenseNet


class RecordingAutoencoder(AutoencoderNet):
    """Keeps what it is fitted on."""

    def fit(self, X, y=None, **fit_params):
        self.seen_ = np.array(X)
        return super().fit(X, y, **fit_params)


@pytest.fixture(scope="module")
def classifier():
    return augmented().fit(X, y)


class TestFitPredict:
    def test_learns_digits(self):
        train, test = slice(0, 200), slice(300, 800)
        estimator = net(max_epochs=15, module__width=8)
        learned = augmented(estimator).fit(IMAGES[train], LABELS[train])
        assert is_classifier(learned)
        assert learned.score(IMAGES[test], LABELS[test]) > 0.6
        proba = learned.predict_proba(IMAGES[test])
        assert proba.shape == (500, 10)
        assert proba.dtype == np.float32
        np.testing.assert_allclose(proba.sum(1), 1, atol=1e-5)
        predicted = learned.predict(IMAGES[test])
        assert (predicted == learned.classes_[proba.argmax(1)]).all()

    @pytest.mark.parametrize(
        "names",
        [np.array(list("jihgfedcba"), dtype=object), np.arange(10) * 7 - 20, np.arange(10) > 4],
        ids=["object", "int", "bool"],
    )
    def test_labels_of_any_type(self, names):
        learned = augmented(net(max_epochs=4)).fit(X, names[y])
        np.testing.assert_array_equal(learned.classes_, np.unique(names))
        predicted = learned.predict(X)
        assert predicted.dtype == names.dtype
        assert set(predicted) <= set(names)
        assert learned.score(X, names[y]) == np.mean(predicted == names[y])
        _, y_new, info = learned.synthesizer_.sample(20, return_info=True)
        assert y_new.dtype == names.dtype
        np.testing.assert_array_equal(y_new, names[y][info.source_index])

    def test_uncertainty(self, classifier):
        mi = classifier.uncertainty(X)
        assert mi.shape == (80,)
        assert mi.dtype == np.float32
        assert (mi >= 0).all()
        assert (mi <= np.log(4) + 1e-5).all()
        assert mi.max() > 0.001
        assert (mi == classifier.uncertainty(X)).all()

    def test_synthesizer_is_fitted_against_the_trained_net(self, classifier):
        assert classifier.synthesizer_.classifier_ is classifier.estimator_
        assert (classifier.synthesizer_.uncertainty(X) == classifier.uncertainty(X)).all()
        X_new, y_new, info = classifier.synthesizer_.sample(200, return_info=True)
        assert X_new.min() >= X.min()
        assert X_new.max() <= X.max()
        # Every training row is a source, also of those that skorch's split would hold out.
        assert set(info.source_index) == set(range(80))
        assert info.uncertainty.mean() > info.uncertainty_source.mean()
        agreement = classifier.predict(X_new) == y_new
        assert abs(agreement.mean() - info.label_agreement.mean()) < 0.3

    def test_defaults(self, monkeypatch):
        rows = X[:30].reshape(30, -1)
        table = AugmentedClassifier(random_state=0, refresh_every=20).fit(rows, y[:30])
        assert isinstance(table.estimator_.module_, DenseNet)
        assert isinstance(table.synthesizer_.autoencoder_.module_, DensePCA)
        # 600 steps, two of them in an epoch.
        assert len(table.history_) == 300
        assert refreshed(table.history_) == list(range(75, 300, 20))
        assert table.score(rows, y[:30]) > 0.95
        monkeypatch.setattr("tsynd_sk.classifiers._default._N_STEPS", 20)
        images = AugmentedClassifier(None, synthesizer(), synthetic_ratio=0, random_state=0)
        assert isinstance(images.fit(X[:12], y[:12]).estimator_.module_, ConvNet)

    @pytest.mark.parametrize("verbose", [1, 2])
    def test_lines_of_the_default_net_come_with_verbose_2(self, verbose, capsys):
        AugmentedClassifier(
            None, dense_synthesizer(), warm_up=1, verbose=verbose, random_state=0
        ).fit(X[:20].reshape(20, -1), y[:20])
        assert ("train_loss" in capsys.readouterr().out) == (verbose == 2)


class TestSchedule:
    @pytest.mark.parametrize(
        ("ratio", "warm_up", "refresh_every", "epochs"),
        [
            (0.5, 0, 3, [0, 3, 6]),
            (2, 0.5, 1, [4, 5, 6, 7]),
            (0.001, 0.75, 1, [6, 7]),
            (1, 1, 1, []),
        ],
    )
    def test_epochs_and_rows(self, ratio, warm_up, refresh_every, epochs):
        schedule = {"warm_up": warm_up, "refresh_every": refresh_every}
        learned = augmented(net(callbacks=[Recorder()]), synthetic_ratio=ratio, **schedule)
        learned.fit(X, y)
        assert learned.history_ is learned.estimator_.history
        assert len(learned.history_) == 8
        assert refreshed(learned.history_) == epochs
        first = min(epochs, default=8)
        n_rows = [80] * first + [80 + max(round(80 * ratio), 1)] * (8 - first)
        assert recorder_of(learned.estimator_).n_rows() == n_rows
        for i in epochs:
            row = learned.history_[i]
            assert 0 <= row["synthesis_uncertainty_source"] < row["synthesis_uncertainty"]
            assert 0 <= row["synthesis_label_agreement"] <= 1
            assert row["synthesis_dur"] > 0

    def test_ratio_zero_needs_no_members_and_trains_no_autoencoder(self):
        failing = synthesizer(
            autoencoder=AutoencoderNet(module__patch_size="no size"), members="dropout"
        )
        learned = augmented(own_net(module__dropout=0), failing, synthetic_ratio=0).fit(X, y)
        assert not hasattr(learned.synthesizer_, "autoencoder_")
        assert learned.predict(X).shape == (80,)
        with pytest.raises(ValueError, match="nothing random"):
            learned.uncertainty(X)

    def test_ratio_zero_trains_nets_that_can_have_no_members(self):
        class WithoutLinear(nn.Module):
            def __init__(self):
                super().__init__()
                self.filters = nn.Conv2d(1, 10, 3)

            def forward(self, x):
                return self.filters(x).mean((2, 3))

        learned = augmented(own_net(module=WithoutLinear), synthetic_ratio=0).fit(X, y)
        assert learned.predict(X).shape == (80,)
        with pytest.raises(ValueError, match=r"calls no torch\.nn\.Linear"):
            learned.uncertainty(X)

    def test_ratio_zero_tells_uncertainty_but_cannot_sample(self):
        learned = augmented(own_net(module__dropout=0), synthetic_ratio=0).fit(X, y)
        copied = pickle.loads(pickle.dumps(learned))
        with torch.inference_mode():
            uncertainty = learned.uncertainty(X)
        assert uncertainty.max() > 0
        assert (copied.uncertainty(X) == uncertainty).all()
        for call in (
            lambda: learned.synthesizer_.sample(2),
            lambda: learned.synthesizer_.synthesize(X, y),
            lambda: learned.synthesizer_.reconstruct(X),
        ):
            with pytest.raises(NotFittedError, match=r"no autoencoder.*synthetic_ratio=0"):
                call()

    def test_validation_part_is_real_and_the_same_as_without_synthesis(self):
        autoencoder = RecordingAutoencoder(max_epochs=1, epoch_size=64)
        plain, learned = (
            augmented(
                own_net(train_split=ValidSplit(5), callbacks=[Recorder()]),
                synthesizer(autoencoder=autoencoder),
                synthetic_ratio=ratio,
            ).fit(X, y)
            for ratio in (0, 1)
        )
        # The arms are paired: the same weights at the start, the same batches in the warm-up.
        first, second = (recorder_of(arm.estimator_) for arm in (plain, learned))
        assert all(map(torch.equal, first.weights_, second.weights_))
        np.testing.assert_array_equal(first.rows(1), second.rows(1))
        for epoch in range(8):
            rows = recorder_of(learned.estimator_).rows(epoch, "valid")
            np.testing.assert_array_equal(rows, recorder_of(plain.estimator_).rows(epoch, "valid"))
            assert len(rows) == 16
            assert row_set(rows) <= row_set(X)
            assert not row_set(rows) & row_set(recorder_of(learned.estimator_).rows(epoch))
        assert recorder_of(learned.estimator_).n_rows() == [64] * 2 + [128] * 6
        # What is held out is kept from the autoencoder too.
        real = recorder_of(learned.estimator_).rows(0)
        assert row_set(learned.synthesizer_.autoencoder_.seen_) == row_set(real)
        assert len(learned.synthesizer_.autoencoder_.seen_) == 64

    def test_frozen_autoencoder_is_used_as_it_is(self):
        autoencoder = AutoencoderNet(max_epochs=1, epoch_size=64).fit(IMAGES[500:600, None])
        before = pickle.dumps(autoencoder.module_.state_dict())
        learned = augmented(given=synthesizer(autoencoder=FrozenEstimator(autoencoder))).fit(X, y)
        assert learned.synthesizer_.autoencoder_ is autoencoder
        assert pickle.dumps(autoencoder.module_.state_dict()) == before
        assert len(autoencoder.history) == 1


class TestFits:
    def test_equal_seeds_give_equal_bits(self, classifier):
        again = augmented(random_state=np.random.RandomState(0)).fit(X, y)
        assert (again.predict_proba(X) == classifier.predict_proba(X)).all()

    def test_parameters_stay(self):
        module = Dense()
        estimator, given = own_net(module=module, callbacks=[Recorder()]), synthesizer()
        weights = {name: value.clone() for name, value in module.state_dict().items()}
        before = {*vars(estimator)}, {*vars(given)}
        learned = augmented(estimator, given)
        with pytest.warns(UserWarning, match="module of estimator is an instance of Dense"):
            assert learned.fit(X, y) is learned
        assert learned.estimator is estimator
        assert learned.synthesizer is given
        assert ({*vars(estimator)}, {*vars(given)}) == before
        assert unfitted(given)
        assert not estimator.initialized_
        assert not given.autoencoder.initialized_
        assert given.classifier is given.image_shape is given.random_state is None
        assert all((weights[name] == value).all() for name, value in module.state_dict().items())

    def test_failing_refit_leaves_all_as_it_was(self):
        learned = augmented().fit(X, y)
        before, proba = {**vars(learned)}, learned.predict_proba(X)
        learned.set_params(synthesizer__objective=lambda log_probs, y: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            learned.fit(X[:50], np.array(list("abcdefghij"))[y[:50]])
        assert vars(learned).keys() == before.keys()
        assert all(vars(learned)[name] is value for name, value in before.items())
        assert (learned.predict_proba(X) == proba).all()

    def test_refit_forgets_the_names_of_columns(self):
        pandas = pytest.importorskip("pandas")
        rows = X.reshape(80, -1)[:, 20:30]
        frame = pandas.DataFrame(rows, columns=list("abcdefghij"))
        learned = augmented(dense_net(), dense_synthesizer(), synthetic_ratio=0).fit(frame, y)
        assert learned.feature_names_in_.tolist() == list("abcdefghij")
        learned.predict(frame)
        learned.uncertainty(frame)
        learned.fit(rows, y)
        assert not hasattr(learned, "feature_names_in_")


class FunctionalDropout(nn.Module):
    """Its dropout is a function, not a layer."""

    def __init__(self):
        super().__init__()
        self.hidden, self.head = nn.Linear(64, 16), nn.Linear(16, 10)

    def forward(self, x):
        x = nn.functional.relu(self.hidden(x.flatten(1)))
        return self.head(nn.functional.dropout(x, 0.5, self.training))


def assert_no_trace(learned):
    callbacks = [callback for _, callback in learned.estimator_.callbacks_]
    assert not any(isinstance(callback, TargetedSynthesis) for callback in callbacks)
    assert learned.estimator_.iterator_train is DataLoader
    # A plain skorch net from here on.
    n_epochs = len(learned.history_)
    plain = pickle.loads(pickle.dumps(learned.estimator_)).set_params(max_epochs=1)
    plain.partial_fit(X[:, None], y)
    assert len(plain.history) == n_epochs + 1
    assert not [key for key in plain.history[-1] if key.startswith("synthesis_")]
    assert plain.predict_proba(X[:, None]).shape == (80, len(learned.classes_))


class TestUsersNets:
    @pytest.mark.parametrize(
        "params",
        [
            {"callbacks": "disable", "train_split": None},
            {"callbacks": [("mine", Recorder())], "train_split": ValidSplit(4)},
            {"criterion": nn.NLLLoss, "module__softmax": True},
            {"criterion": FirstOutput, "module__extra": True},
            {"iterator_train__drop_last": True},
            {"optimizer": torch.optim.Adam, "lr": 0.01, "warm_start": True},
        ],
        ids=lambda params: "-".join(params),
    )
    def test_settings(self, params):
        estimator = own_net(**params)
        learned = augmented(estimator, warm_up=0.5).fit(X, y)
        assert refreshed(learned.history_) == [4]
        assert len(learned.history_) == 8
        assert learned.predict_proba(X).shape == (80, 10)
        assert learned.uncertainty(X).max() > 0
        assert_no_trace(learned)

    def test_binary_net(self):
        names = np.array(["benign", "malignant"])[(y > 4).astype(int)]
        estimator = own_net(NeuralNetBinaryClassifier, module__n_out=1)
        learned = augmented(estimator).fit(X, names)
        assert refreshed(learned.history_) == [2, 7]
        assert set(learned.predict(X)) <= {"benign", "malignant"}
        proba = learned.predict_proba(X)
        assert proba.shape == (80, 2)
        np.testing.assert_array_equal(learned.classes_[proba.argmax(1)], learned.predict(X))
        assert learned.synthesizer_.sample(4)[1].dtype == names.dtype

    @pytest.mark.parametrize(
        ("module", "params"),
        [
            (Dense, {"module__dropout": 0}),
            (FunctionalDropout, {}),
        ],
        ids=["no dropout", "dropout function"],
    )
    def test_members_of_any_kind(self, module, params):
        learned = augmented(own_net(module=module, **params), refresh_every=2).fit(X, y)
        assert refreshed(learned.history_) == [2, 4, 6]
        assert len(learned.history_) == 8
        for i in (2, 4, 6):
            row = learned.history_[i]
            assert 0 < row["synthesis_uncertainty_source"] < row["synthesis_uncertainty"]
        uncertainty = learned.uncertainty(X)
        assert uncertainty.max() > 0
        X_new, _, info = learned.synthesizer_.sample(30, return_info=True)
        assert info.uncertainty.mean() > info.uncertainty_source.mean()
        copied = pickle.loads(pickle.dumps(learned))
        assert (copied.uncertainty(X) == uncertainty).all()
        assert (copied.synthesizer_.sample(30)[0] == X_new).all()
        assert_no_trace(learned)

    def test_early_stopping_ends_training_but_not_the_fit(self):
        stop = EarlyStopping("train_loss", patience=2, threshold=10)
        learned = augmented(own_net(callbacks=[stop], max_epochs=12), warm_up=0.5).fit(X, y)
        assert len(learned.history_) < 6
        assert refreshed(learned.history_) == []
        # It has an autoencoder all the same.
        assert learned.synthesizer_.sample(3)[0].shape == (3, 8, 8)

    def test_printed_table_keeps_its_columns(self, capsys):
        augmented(net(verbose=1)).fit(X, y)
        lines = capsys.readouterr().out.strip("\n").split("\n")
        assert lines[0].split() == ["epoch", "train_loss", "lr", "dur"]
        assert len(lines) == 2 + 8
        assert {len(line.split()) for line in lines} == {4}
