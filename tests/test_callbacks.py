import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from skorch import NeuralNetBinaryClassifier, NeuralNetClassifier
from skorch.callbacks import Callback, EpochScoring
from skorch.dataset import Dataset, ValidSplit
from skorch.helper import predefined_split
from torch import nn
from torch.utils.data import TensorDataset

from tsynd_sk import TargetedSynthesis, TargetedSynthesizer
from tsynd_sk._skorch import scoped_seed
from tsynd_sk.autoencoders import AutoencoderNet
from tsynd_sk.classifiers import NetClassifier
from tsynd_sk.datasets import load_digits_images

KEYS = {
    "synthesis_uncertainty_source",
    "synthesis_uncertainty",
    "synthesis_label_agreement",
    "synthesis_dur",
}


class Dense(nn.Module):
    def __init__(self, n_out=10, dropout=0.5):
        super().__init__()
        layers = [nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Dropout(dropout)]
        self.layers = nn.Sequential(*layers[: None if dropout else 3], nn.Linear(16, n_out))

    def forward(self, x):
        return self.layers(x)


class Recorder(Callback):
    """Keeps the rows and targets of every training batch, epoch by epoch."""

    def initialize(self):
        self.epochs_ = []
        return self

    def on_epoch_begin(self, net, dataset_valid=None, **kwargs):
        self.epochs_.append([])
        self.valid_ = dataset_valid

    def on_batch_begin(self, net, batch=None, training=False, **kwargs):
        if training:
            self.epochs_[-1].append(batch)

    def rows(self, epoch):
        return np.concatenate([np.asarray(X) for X, _ in self.epochs_[epoch]])

    def targets(self, epoch):
        return np.concatenate([np.asarray(y) for _, y in self.epochs_[epoch]])

    @property
    def n_rows(self):
        return [len(self.rows(epoch)) for epoch in range(len(self.epochs_))]


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


def synthesizer(**params):
    autoencoder = AutoencoderNet(max_epochs=2, epoch_size=64)
    return TargetedSynthesizer(autoencoder, **params) if False else TargetedSynthesizer(
        **{"autoencoder": autoencoder, "n_members": 4, "max_iter": 2, **params}
    )


def synthesis(given=None, **params):
    return TargetedSynthesis(given or synthesizer(), **{"random_state": 0, **params})


def net_with(*callbacks, module=Dense, **params):
    defaults = {"criterion": nn.CrossEntropyLoss, "max_epochs": 4, "batch_size": 16, "verbose": 0}
    return NeuralNetClassifier(
        module, **{**defaults, "train_split": None, "callbacks": list(callbacks), **params}
    )


def train(net, X, y=None, how="fit"):
    with scoped_seed(0):
        return getattr(net, how)(X, y)


def refreshed(net):
    return [i for i, epoch in enumerate(net.history) if set(epoch) >= KEYS]


def row_set(X):
    return {row.tobytes() for row in np.ascontiguousarray(X, dtype=np.float32)}
