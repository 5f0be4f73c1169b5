"""Copies of nets: to train, to keep, and to predict."""

from __future__ import annotations

import copy
from typing import Any

from sklearn.base import clone
from skorch import NeuralNet

from tsynd_sk._skorch._nets import parts_of
from tsynd_sk._utils._tensors import detached_memo


def clone_net(net: NeuralNet, device: str | None) -> NeuralNet:
    """Clone a net without what it has learnt, onto a device if one is given."""
    return clone(net) if device is None else clone(net).set_params(device=device)


def copy_net(net: NeuralNet) -> NeuralNet:
    """Copy a fitted net with all that it has learnt.

    `copy.deepcopy` alone would pickle it, which modules defined inside functions do not survive.
    """
    other = object.__new__(type(net))
    memo = detached_memo(m for part in parts_of(net).values() for m in part.modules())
    # Callbacks may refer to the net.
    memo[id(net)] = other
    other.__dict__.update(copy.deepcopy(vars(net), memo))
    return other


def copy_for_prediction(net: NeuralNet) -> NeuralNet:
    """Copy a net in the middle of its training, to predict as it would now."""
    bare: Any = object.__new__(type(net))
    vars(bare).update(vars(net), callbacks_=[])
    for name in ("_data", "get_iterator"):
        vars(bare).pop(name, None)
    return copy_net(bare)
