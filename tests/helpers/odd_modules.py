"""Modules whose weights are not easily saved, or that differ a little from `Dense`."""

import numpy as np
from helpers.tiny_nets import Dense
from skorch import NeuralNetClassifier
from torch import nn


class Tied(nn.Module):
    """With one weight in two layers, and one whose shape is found in the first pass."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(64, 64), nn.Linear(64, 64)
        self.two.weight = self.one.weight
        self.last = nn.Sequential(nn.Dropout(), nn.LazyLinear(10))

    def forward(self, x):
        return self.last(self.two(self.one(x.flatten(1)).relu()))


class WithJudge(NeuralNetClassifier):
    """Net of two modules."""

    def initialize_module(self):
        super().initialize_module()
        self.judge_ = nn.Linear(3, 2)
        return self


class WithoutLinear(nn.Conv2d):
    """Can have no members."""

    def __init__(self):
        super().__init__(1, 10, 3)

    def forward(self, x):
        return super().forward(x).mean((2, 3))


class SizedFromData(nn.Sequential):
    """Does not tell what it has read off the data."""

    def __init__(self, n_out=2, rate=0.5):
        super().__init__(nn.Flatten(), nn.Dropout(rate), nn.Linear(64, n_out))

    @classmethod
    def from_data(cls, X, y, **params):
        return cls(len(np.unique(y)), **params)


class TellsSizes(SizedFromData):
    def __init__(self, n_out=2, rate=0.5):
        super().__init__(n_out, rate)
        self.sizes = {"n_out": n_out}


class Odd(Dense):
    """With a state that is no tensor."""

    def get_extra_state(self):
        return {"anything": object()}

    def set_extra_state(self, state):
        pass


class Deeper(Dense):
    def __init__(self, **params):
        super().__init__(**params)
        self.more = nn.Linear(2, 2)


class Wider(Dense):
    def __init__(self, **params):
        super().__init__(**params)
        self.layers[1] = nn.Linear(64, 17)


class Double(Dense):
    def __init__(self, **params):
        super().__init__(**params)
        self.double()


# Told apart by their weights alone.
Deeper.__name__ = Wider.__name__ = Double.__name__ = "Dense"


def local_class(base):
    """Return a class that cannot be imported by its name, which a pickle would need."""

    class Local(base):
        pass

    return Local
