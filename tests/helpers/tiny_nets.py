"""Tiny nets, data and recorders that several test files share."""

import numpy as np
from skorch import NeuralNetBinaryClassifier, NeuralNetClassifier
from skorch.callbacks import Callback
from torch import nn

from tsynd_sk import AugmentedClassifier, TargetedSynthesizer
from tsynd_sk.autoencoders import AutoencoderNet, DenseAutoencoder
from tsynd_sk.classifiers import DenseNet, NetClassifier
from tsynd_sk.datasets import load_digits_images

IMAGES, LABELS, _ = load_digits_images()
X, y = IMAGES[:80], LABELS[:80]


class Dense(nn.Module):
    """For images of 8 x 8 pixels; `softmax` gives probabilities, `extra` a tuple."""

    def __init__(self, n_out=10, dropout=0.5, softmax=False, extra=False):
        super().__init__()
        self.extra = extra
        last = [nn.Softmax(-1)] if softmax else []
        drop = [nn.Dropout(dropout)] if dropout else []
        self.layers = nn.Sequential(
            nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), *drop, nn.Linear(16, n_out), *last
        )

    def forward(self, x):
        output = self.layers(x)
        return (output, x) if self.extra else output


class FirstOutput(nn.CrossEntropyLoss):
    """For nets that return a tuple."""

    def forward(self, output, target):
        return super().forward(output[0] if isinstance(output, tuple) else output, target)


class Recorder(Callback):
    """Keeps every batch, epoch by epoch, and the weights at the start."""

    def initialize(self):
        self.train_, self.valid_, self.weights_ = [], [], None
        return self

    def on_epoch_begin(self, net, **kwargs):
        self.train_.append([])
        self.valid_.append([])
        if self.weights_ is None:
            self.weights_ = [p.detach().clone() for p in net.module_.parameters()]

    def on_batch_begin(self, net, batch=None, training=False, **kwargs):
        (self.train_ if training else self.valid_)[-1].append(batch)

    def rows(self, epoch, part="train"):
        return np.concatenate([X.numpy() for X, _ in getattr(self, f"{part}_")[epoch]])

    def targets(self, epoch):
        return np.concatenate([y.numpy() for _, y in self.train_[epoch]])

    def n_rows(self):
        return [len(self.rows(epoch)) for epoch in range(len(self.train_))]


def recorder_of(net):
    return dict(net.callbacks_)["Recorder"]


def net(**params):
    """Small version of the library's default net."""
    return NetClassifier(**{"max_epochs": 8, "module__width": 4, **params})


def dense_net(**params):
    return net(**{"module": DenseNet, "module__width": 16, **params})


def own_net(cls=NeuralNetClassifier, module=Dense, **params):
    """Net of plain skorch."""
    binary = cls is NeuralNetBinaryClassifier
    defaults = {
        "criterion": nn.BCEWithLogitsLoss if binary else nn.CrossEntropyLoss,
        "max_epochs": 8,
        "lr": 0.1,
        "batch_size": 16,
        "verbose": 0,
    }
    return cls(module, **{**defaults, **params})


def synthesizer(**params):
    autoencoder = AutoencoderNet(max_epochs=1, epoch_size=64)
    return TargetedSynthesizer(
        **{"autoencoder": autoencoder, "n_members": 4, "max_iter": 2, **params}
    )


def dense_synthesizer(**params):
    autoencoder = AutoencoderNet(DenseAutoencoder, max_epochs=1, epoch_size=64)
    return synthesizer(autoencoder=autoencoder, **params)


def augmented(estimator=None, given=None, **params):
    return AugmentedClassifier(
        net() if estimator is None else estimator,
        synthesizer() if given is None else given,
        **{"random_state": 0, "synthetic_ratio": 1.0, **params},
    )


def refreshed(history):
    """Epochs of which the history tells of synthesis."""
    return [i for i, row in enumerate(history) if any(key.startswith("synthesis_") for key in row)]


def row_set(rows):
    return {np.ascontiguousarray(row, dtype=np.float32).tobytes() for row in rows}


def unfitted(estimator):
    return not [name for name in vars(estimator) if name.endswith("_") and name != "initialized_"]
