"""Check and seed skorch nets, read their parts, and copy them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from threading import RLock
from typing import Any

import numpy as np
import torch
from sklearn.base import clone, is_classifier
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from skorch import NeuralNet, NeuralNetBinaryClassifier
from skorch.callbacks import Callback, LRScheduler
from torch import nn
from torch.utils.data import DataLoader

from tsynd_sk._utils._tensors import detached_copy

# Initialisation, dropout and data loaders use no generators but the global ones.
_generators = RLock()

_BINARY_CRITERIA = (nn.BCELoss, nn.BCEWithLogitsLoss)


class ComparedNet(FrozenEstimator):
    """Frozen net that `check_own_way` has checked already."""


def unfreeze(estimator) -> NeuralNet:
    """Return the net itself."""
    return estimator.estimator if isinstance(estimator, FrozenEstimator) else estimator


def check_net(estimator, role: str, *, classifies: bool = True) -> NeuralNet:
    """Return the net itself; raise if it is no net, frozen but not fitted, or no classifier."""
    net = estimator.estimator if isinstance(estimator, FrozenEstimator) else estimator
    if not isinstance(net, NeuralNet):
        example = "NeuralNetClassifier" if classifies else "NeuralNet"
        raise TypeError(
            f"{role} must be a skorch net, such as skorch.{example}, or "
            f"sklearn.frozen.FrozenEstimator around a fitted one; got {net!r}"
        )
    if net is not estimator and not getattr(net, "initialized_", False):
        raise NotFittedError(
            f"{role} is in a FrozenEstimator, but not fitted: call its fit first, or pass it "
            "without FrozenEstimator"
        )
    if classifies and not is_classifier(net):
        raise TypeError(
            f"{role} must be a classifier, such as skorch.NeuralNetClassifier; got "
            f"{type(net).__name__}"
        )
    return net


def check_autoencoder(estimator) -> None:
    """Raise if an estimator is not a skorch net whose module has ``encode`` and ``decode``."""
    net = check_net(estimator, "autoencoder", classifies=False)
    module = bare_module(net) if isinstance(estimator, FrozenEstimator) else net.module
    for method in ("encode", "decode"):
        # The module of a function is not known before it is called.
        if isinstance(module, type | nn.Module) and not hasattr(module, method):
            raise TypeError(
                f"the module of autoencoder, {module!r}, has no method {method}; "
                "expected encode(x) -> z and decode(z) -> x"
            )


def device_of(net: NeuralNet) -> torch.device:
    """Return the device on which a fitted net computes."""
    parameter = next(net.module_.parameters(), None)
    return torch.device(net.device or "cpu") if parameter is None else parameter.device


def bare_module(net: NeuralNet, name: str = "module_") -> nn.Module:
    """Return a part of a net without wrappers of ``torch.compile`` or of several devices."""
    module: Any = getattr(net, name)
    while True:
        if isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
            module = module.module
        elif hasattr(module, "_orig_mod"):
            module = module._orig_mod
        else:
            return module


def parts_of(net: NeuralNet) -> dict[str, nn.Module]:
    """Return bare modules and criteria of an initialised net."""
    return {name: bare_module(net, f"{name}_") for name in [*net._modules, *net._criteria]}


def encode_labels(net: NeuralNet, y: np.ndarray) -> np.ndarray:
    """Convert class indices to the dtype that the criterion of a net expects."""
    criterion = net.criterion if isinstance(net.criterion, type) else type(net.criterion)
    binary = isinstance(net, NeuralNetBinaryClassifier) or issubclass(criterion, _BINARY_CRITERIA)
    return y.astype(np.float32 if binary else np.int64)


def let_schedules_resume(net: NeuralNet) -> None:
    """Let learning-rate schedules continue from a net's history with new optimizers."""
    for name in net._optimizers:
        for group in getattr(net, f"{name}_").param_groups:
            group.setdefault("initial_lr", group["lr"])


@lru_cache(maxsize=8)
def check_device(device: str | torch.device) -> torch.device:
    """Return a device, or raise ValueError if it is not available."""
    try:
        torch.empty(1, device=device).tolist()
        return torch.device(device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ValueError(
            f"device={device!r} is not available: {error}. Leave it at None, or use 'cpu'."
        ) from None


def variant(thing: Any, **changes: Any) -> Any:
    """Return an object of the same class that shares all attributes but some."""
    other = object.__new__(type(thing))
    vars(other).update(vars(thing), **changes)
    return other


def clone_net(net: NeuralNet, device: str | None = None) -> NeuralNet:
    """Clone a net, unfitted, and share what its callbacks hold, such as the writer of a log."""
    other, callbacks = clone(variant(net, callbacks=None)), net.callbacks
    if isinstance(callbacks, list | tuple):
        callbacks = [_fresh(callback) for callback in callbacks]
    other.callbacks = callbacks
    if device is not None:
        check_device(device)
        other.set_params(device=device)
    return other


def _fresh(callback: Any) -> Any:
    """Return an unused callback that holds the same objects."""
    if isinstance(callback, tuple):
        return callback[0], _fresh(callback[1])
    if isinstance(callback, Callback):
        # Not by its constructor: optuna's stores its arguments under other names.
        other = variant(callback)
        for name in [name for name in vars(other) if name[-1] == "_"]:
            del vars(other)[name]
        return other
    return clone(callback, safe=False)


def copy_net(net: NeuralNet) -> NeuralNet:
    """Copy a fitted net; `copy.deepcopy` would pickle it, which modules of functions cannot be."""
    other = object.__new__(type(net))
    memo: dict[int, Any] = {id(net): other}
    # A split may hold validation data; callbacks may hold the net, or what cannot be copied.
    memo.update({id(kept): kept for kept in (net.train_split, net.callbacks)})
    for _, callback in getattr(net, "callbacks_", ()):
        if callback is not None:
            held = [value for name, value in vars(callback).items() if name[-1] != "_"]
            memo.update({id(v): v for v in held if not isinstance(v, nn.Module)})
    other.__dict__.update(detached_copy(vars(net), memo))
    return other


def copy_for_prediction(net: NeuralNet) -> NeuralNet:
    """Copy a net during its training, to predict with it as it is now."""
    bare = variant(net, callbacks_=[])
    vars(bare).pop("_data", None)
    return copy_net(bare)


@contextmanager
def scoped_seed(seed: int | None) -> Iterator[None]:
    """Seed the global generators of torch and numpy, unless by None, and restore them afterwards.

    The whole process shares them, so threads take turns.
    """
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    with _generators, torch.random.fork_rng(devices=devices):
        state = np.random.get_state()  # noqa: NPY002
        if seed is not None:
            torch.manual_seed(seed)
            np.random.seed(seed % 2**32)  # noqa: NPY002
        try:
            yield
        finally:
            np.random.set_state(state)  # noqa: NPY002


def without_global_rng(net: NeuralNet) -> NeuralNet:
    """Return the same net, whose loader draws no unused seeds from the global generators."""
    if net.iterator_valid is DataLoader and "generator" not in net.get_params_for("iterator_valid"):
        return variant(net, iterator_valid__generator=torch.Generator())
    return variant(net)


class Schedule(LRScheduler):
    """Learning-rate schedule over all epochs of its net, such as CosineAnnealingLR."""

    def on_train_begin(self, net, **kwargs):
        """Start anew, for the net's number of epochs."""
        self.T_max = net.max_epochs
        super().on_train_begin(net, **kwargs)

    def __getstate__(self):
        state = dict(vars(self))
        # It holds an optimizer, which skorch would not move when it loads it without accelerator.
        if "lr_scheduler_" in state:
            state["lr_scheduler_"] = None
        return state
