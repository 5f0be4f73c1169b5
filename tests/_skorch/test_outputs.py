"""What modules return is read as skorch reads it, and refused where it cannot be."""

from collections import namedtuple
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from helpers.tiny_nets import Dense, X, augmented, own_net, synthesizer, y
from sklearn.frozen import FrozenEstimator
from torch import nn

from tsynd_sk import TargetedSynthesizer

X = X.astype(np.float32) / 16


@dataclass
class Output:
    logits: Any
    hidden: Any = None

    def to(self, device):
        return Output(self.logits.to(device))


@dataclass
class Still:
    """Not moved between devices, which skorch would have to do."""

    logits: Any


Pair = namedtuple("Pair", ["logits", "hidden"])
WRAPPERS = {
    "dict": lambda logits: {"hidden": logits + 1, "logits": logits},
    "list": lambda logits: [logits, logits + 1],
    "dataclass": Output,
}
OTHERS = {"still": Still, "pair": lambda logits: Pair(logits, logits), "text": repr}


class Wrapped(Dense):
    """Returns its logits in something else, in evaluation mode too."""

    def __init__(self, kind="dict", **params):
        super().__init__(**params)
        self.kind = kind

    def forward(self, x):
        return {**WRAPPERS, **OTHERS}[self.kind](super().forward(x))


class NamedInTraining(Dense):
    """As GoogLeNet does."""

    def forward(self, x):
        logits = super().forward(x)
        return Pair(logits, x) if self.training else logits


def logits_of(output):
    if isinstance(output, tuple | list):
        return output[0]
    if isinstance(output, dict):
        return output["logits"]
    return getattr(output, "logits", output)


def to_proba(output):
    return logits_of(output).softmax(-1)


class Loss(nn.CrossEntropyLoss):
    def forward(self, output, target):
        return super().forward(logits_of(output), target)


def wrapped(kind, **params):
    return own_net(
        module=Wrapped,
        **{"module__kind": kind, "criterion": Loss, "predict_nonlinearity": to_proba, **params},
    )


@pytest.mark.parametrize("dropout", [0.0, 0.5])
@pytest.mark.parametrize("kind", WRAPPERS)
def test_predict_nonlinearity_reads_them(kind, dropout):
    """To the answers of the same network that returns a tensor."""
    answers = []
    for net in (
        wrapped(kind, module__dropout=dropout),
        own_net(module__dropout=dropout, criterion=Loss, predict_nonlinearity=to_proba),
    ):
        fitted = augmented(net).fit(X, y)
        images, _, info = fitted.synthesizer_.sample(5, return_info=True)
        answers.append((fitted.predict_proba(X), fitted.uncertainty(X), images, info.uncertainty))
    for one, other in zip(*answers, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_named_tuples_in_training_alone_are_fine():
    fitted = augmented(
        own_net(module=NamedInTraining, criterion=Loss, predict_nonlinearity=to_proba)
    )
    assert fitted.fit(X, y).predict_proba(X).shape == (80, 10)


@pytest.mark.parametrize("kind", WRAPPERS)
def test_without_it_they_are_refused_before_training(kind):
    told = "the module returns .*Let forward return a tensor, or a tuple .*predict_nonlinearity"
    for nonlinearity in ("auto", None):
        net = wrapped(kind, predict_nonlinearity=nonlinearity, criterion=nn.CrossEntropyLoss)
        with pytest.raises(TypeError, match=told):
            augmented(net).fit(X, y)
    fitted = wrapped(kind).fit(X[:, None], y).set_params(predict_nonlinearity=None)
    with pytest.raises(TypeError, match=told):
        TargetedSynthesizer(FrozenEstimator(fitted)).fit(X, y)


@pytest.mark.parametrize("kind", OTHERS)
def test_what_skorch_cannot_read_is_refused_before_training(kind):
    with pytest.raises(TypeError, match=r"the module returns .*an object with a method to\(dev"):
        augmented(wrapped(kind)).fit(X, y)


def test_keys_of_a_dict_are_named():
    net = wrapped("dict", predict_nonlinearity="auto", criterion=nn.CrossEntropyLoss)
    with pytest.raises(TypeError, match="returns a dict with 'hidden', 'logits', in which"):
        augmented(net).fit(X, y)


class ForColours(nn.Sequential):
    def __init__(self):
        super().__init__(
            nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 10)
        )


class ForFour(nn.Sequential):
    def __init__(self):
        super().__init__(
            nn.Conv2d(4, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 10)
        )


def test_other_channels_are_said_before_training():
    net = own_net(module=ForColours)
    told = r"shape \(1, 8, 8\): NetClassifier\(Pretrained.*to have 3 channels, but got 1"
    for fit in (
        lambda: augmented(net).fit(X, y),
        lambda: synthesizer(classifier=net).fit(X, y),
        lambda: synthesizer(classifier=[net, net]).fit(X, y),
    ):
        with pytest.raises(ValueError, match=told):
            fit()
    with pytest.raises(ValueError, match=r"build it for the channels .* to have 4 channels"):
        augmented(own_net(module=ForFour)).fit(np.stack([X] * 3, -1), y)
