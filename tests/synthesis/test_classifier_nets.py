"""`AugmentedClassifier` around users' own nets."""

import pickle

import numpy as np
import pytest
import torch
from helpers.tiny_nets import (
    Dense,
    FirstOutput,
    Recorder,
    X,
    augmented,
    net,
    own_net,
    refreshed,
    y,
)
from skorch import NeuralNetBinaryClassifier
from skorch.callbacks import Checkpoint, EarlyStopping, EpochScoring, LRScheduler
from skorch.dataset import ValidSplit
from torch import nn

from tsynd_sk import TargetedSynthesis


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
    given = learned.estimator.train_split
    assert type(learned.estimator_.train_split) is type(given)
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
            {"train_split": None},
            {"train_split": ValidSplit(4, stratified=True)},
            {"callbacks": "disable"},
            {"callbacks": "disable", "train_split": None},
            {"callbacks": [LRScheduler("StepLR", step_size=2)]},
            {"callbacks": [EpochScoring("accuracy", on_train=True, use_caching=False)]},
            {"callbacks": [("mine", Recorder())]},
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

    @pytest.mark.parametrize("n_snapshots", [0, 2])
    @pytest.mark.parametrize(
        ("module", "params"),
        [
            (Dense, {"module__dropout": 0}),
            (Dense, {"module__dropout": 0.5}),
            (FunctionalDropout, {}),
        ],
        ids=["no dropout", "dropout layer", "dropout function"],
    )
    def test_members_of_any_kind(self, module, params, n_snapshots):
        learned = augmented(
            own_net(module=module, **params), refresh_every=2, n_snapshots=n_snapshots
        ).fit(X, y)
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

    def test_checkpoint_loads_the_best_epoch(self, tmp_path):
        checkpoint = Checkpoint(monitor="train_loss_best", dirname=tmp_path, load_best=True)
        learned = augmented(own_net(callbacks=[checkpoint])).fit(X, y)
        stored = torch.load(tmp_path / "params.pt", weights_only=True)
        for name, value in learned.estimator_.module_.state_dict().items():
            assert (stored[name] == value).all()

    def test_learning_rates_go_on_undisturbed(self):
        plain, learned = (augmented(synthetic_ratio=ratio).fit(X, y) for ratio in (0, 1))
        rates = learned.history_[:, "event_lr"]
        assert rates == plain.history_[:, "event_lr"]
        assert len(set(rates)) == 8

    def test_printed_table_keeps_its_columns(self, capsys):
        augmented(net(verbose=1)).fit(X, y)
        lines = capsys.readouterr().out.strip("\n").split("\n")
        assert lines[0].split() == ["epoch", "train_loss", "lr", "dur"]
        assert len(lines) == 2 + 8
        assert {len(line.split()) for line in lines} == {4}
