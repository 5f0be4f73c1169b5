"""The one place that knows skorch from the inside."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import lru_cache, partial
from threading import RLock
from typing import Any

import numpy as np
import torch
from sklearn.base import clone, is_classifier
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from skorch import NeuralNet, NeuralNetBinaryClassifier
from skorch.callbacks import LRScheduler
from torch import Tensor, nn
from torch.utils.data import DataLoader

from tsynd_sk.images import spread
from tsynd_sk.uncertainty import safe_log

_BINARY_CRITERIA = (nn.BCELoss, nn.BCEWithLogitsLoss)

# What a module is sized and initialised by, of more data than that.
_BYTES_TO_LOOK_AT = 2**25


_generators = RLock()


@contextmanager
def scoped_seed(seed: int | None) -> Iterator[None]:
    """Seed the global generators of torch and numpy for a while, then put them back.

    Weight initialisation, dropout and data loaders know no other source of randomness. With
    ``None`` they are put back only. They are those of the whole process: threads take turns.
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


def is_frozen(estimator) -> bool:
    """Tell whether an estimator is to be used as it is."""
    return isinstance(estimator, FrozenEstimator)


def check_net(estimator, role: str, example: str = "NeuralNet") -> None:
    """Refuse what is not a skorch net, or a frozen one that was never fitted."""
    net = unfreeze(estimator)
    if not isinstance(net, NeuralNet):
        raise TypeError(
            f"{role} must be a skorch net, for instance skorch.{example}, or "
            f"sklearn.frozen.FrozenEstimator around a fitted one; got {net!r}"
        )
    if is_frozen(estimator) and not getattr(net, "initialized_", False):
        raise NotFittedError(
            f"{role} is wrapped in FrozenEstimator, to be used as it is, but it is not fitted: "
            "call its fit first, or give it without FrozenEstimator"
        )


def check_classifier(estimator, role: str = "classifier") -> None:
    """Refuse what is not a skorch classifier."""
    check_net(estimator, role, "NeuralNetClassifier")
    if not is_classifier(unfreeze(estimator)):
        raise TypeError(
            f"{role} must be a classifier, for instance skorch.NeuralNetClassifier; got "
            f"{type(unfreeze(estimator)).__name__}, which scikit-learn does not take for one"
        )


def unfreeze(estimator) -> NeuralNet:
    """Give the net itself."""
    return estimator.estimator if is_frozen(estimator) else estimator


def cloned_net(net: NeuralNet, device: str | None) -> NeuralNet:
    """Clone an unfitted net, onto a device if one is given."""
    if device is None:
        return clone(net)
    available(device)
    return clone(net).set_params(device=device)


@lru_cache(maxsize=8)
def available(device: str | torch.device) -> torch.device:
    """Give a device, and refuse one that is not there."""
    try:
        torch.empty(1, device=device).tolist()
        return torch.device(device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ValueError(
            f"device={device!r} is not to be had here: {error}. Leave it at None, or give 'cpu'."
        ) from None


def bare_module(net: NeuralNet) -> nn.Module:
    """Give the module of a net without what ``torch.compile`` or many devices wrap it in."""
    module = net.module_
    while True:
        if isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
            module = module.module
        elif hasattr(module, "_orig_mod"):
            module = module._orig_mod
        else:
            return module


def without_global_rng(net: NeuralNet) -> NeuralNet:
    """Give the same net, predictions of which leave the global generators alone.

    The loader draws a seed from them for each pass over the data, though nothing uses it.
    """
    same: Any = object.__new__(type(net))
    vars(same).update(vars(net))
    if net.iterator_valid is DataLoader and "generator" not in net.get_params_for("iterator_valid"):
        vars(same)["iterator_valid__generator"] = torch.Generator()
    return same


def device_of(net: NeuralNet) -> torch.device:
    """Device on which a fitted net computes."""
    parameter = next(net.module_.parameters(), None)
    return torch.device(net.device or "cpu") if parameter is None else parameter.device


def encode_labels(net: NeuralNet, y: np.ndarray) -> np.ndarray:
    """Give class indices the dtype that the criterion of a net expects."""
    criterion = net.criterion
    binary = isinstance(net, NeuralNetBinaryClassifier) or (
        issubclass(criterion, _BINARY_CRITERIA)
        if isinstance(criterion, type)
        else isinstance(criterion, _BINARY_CRITERIA)
    )
    return y.astype(np.float32 if binary else np.int64)


def log_proba_head(net: NeuralNet) -> Callable[[Tensor], Tensor]:
    """Make the function from a module's output to log-probabilities that matches ``predict_proba``.

    Where skorch would infer a softmax or a sigmoid, their logarithm is computed directly, which
    keeps the digits of confident predictions.
    """
    binary_net = isinstance(net, NeuralNetBinaryClassifier)
    criterion = getattr(net.criterion_, "_orig_mod", net.criterion_)
    kind = "other"
    if net.predict_nonlinearity == "auto":
        if isinstance(criterion, nn.CrossEntropyLoss):
            kind = "softmax"
        elif isinstance(criterion, nn.BCEWithLogitsLoss):
            kind = "sigmoid"
    # No reference to the net: members are pickled to other processes and must stay small.
    nonlinearity = None if kind != "other" else net._get_predict_nonlinearity()
    return partial(_to_log_proba, kind=kind, nonlinearity=nonlinearity, flat=binary_net)


def scores_head(net: NeuralNet) -> Callable[[Tensor], Tensor] | None:
    """Give what turns a module's output into class scores; None where it is logits already.

    Gradients of logits do not vanish where a net is sure, unlike those of probabilities.
    """
    head: Any = log_proba_head(net)
    return head if head.keywords["kind"] == "other" else None


def _to_log_proba(output, *, kind: str, nonlinearity, flat: bool) -> Tensor:
    logits = output[0] if isinstance(output, tuple) else output
    if flat or (kind == "sigmoid" and logits.ndim == 2 and logits.shape[1] == 1):
        logits = logits.reshape(-1)
    if kind == "softmax":
        return logits.log_softmax(-1)
    if kind == "sigmoid":
        log_sigmoid = torch.nn.functional.logsigmoid
        return torch.stack([log_sigmoid(-logits), log_sigmoid(logits)], -1)
    return safe_log(nonlinearity(logits))


def check_autoencoder(estimator) -> None:
    """Refuse what is not a skorch net around a module with ``encode`` and ``decode``."""
    check_net(estimator, "autoencoder")
    module = bare_module(estimator.estimator) if is_frozen(estimator) else estimator.module
    missing = [name for name in ("encode", "decode") if not hasattr(module, name)]
    # A function that makes modules shows its methods only when it is called.
    if missing and isinstance(module, type | nn.Module):
        raise TypeError(
            f"the module of autoencoder, {module!r}, has no method {' and no '.join(missing)}; "
            "expected encode(x) -> z and decode(z) -> x"
        )


def sized_by(net: NeuralNet, X, y):
    return net._sized_by(X, y) if isinstance(net, SizedFromData) else nullcontext()


def _representatives(X, y) -> tuple[Tensor, Any]:
    """Rows evenly spread over the data, at least one of each class, that surely fit in memory."""
    X = X if hasattr(X, "shape") else np.asarray(X)
    if X.ndim == 0:
        raise TypeError("X must be an array of float32, got a scalar")
    bytes_a_row = max(4 * int(np.prod(X.shape[1:])), 1)
    n_rows = max(_BYTES_TO_LOOK_AT // bytes_a_row, 1000)
    if len(X) <= n_rows:
        # The data may be a torch or numpy array, or one that is not in memory.
        return torch.as_tensor(X if isinstance(X, Tensor) else np.asarray(X[:])), y
    rows = spread(len(X), n_rows)
    if y is not None and np.ndim(y) == 1:
        rows = np.union1d(rows, np.unique(np.asarray(y), return_index=True)[1])
    if np.ndim(y) == 1:
        y = np.asarray(y)
    return torch.as_tensor(X[rows]), y if y is None else y[rows]


def is_sized_from_data(net: NeuralNet) -> bool:
    """Tell whether the module of a net is built from the data that it is fitted on."""
    return (
        isinstance(net, SizedFromData)
        and isinstance(net.module, type)
        and hasattr(net.module, "from_data")
    )


@contextmanager
def with_sizes(net: NeuralNet, sizes: dict[str, Any] | None) -> Iterator[None]:
    """Let a net build its module by what was once read off data, without any data."""
    if sizes is None:
        yield
        return
    net._sizes = sizes
    try:
        yield
    finally:
        del net._sizes


def parts_of(net: NeuralNet) -> dict[str, nn.Module]:
    """Modules and criteria of an initialised net by name, without wrappers of ``torch.compile``."""
    parts = {name: getattr(net, f"{name}_") for name in [*net._modules, *net._criteria]}
    return {name: getattr(part, "_orig_mod", part) for name, part in parts.items()}


def let_schedules_resume(net: NeuralNet) -> None:
    """Let learning-rate schedules go on from a net's history with optimizers that are new."""
    for name in net._optimizers:
        for group in getattr(net, f"{name}_").param_groups:
            group.setdefault("initial_lr", group["lr"])


def copy_net(net: NeuralNet) -> NeuralNet:
    """Copy a fitted net with all that it has learnt.

    `copy.deepcopy` would pickle it, which modules defined inside functions do not survive.
    """
    other = object.__new__(type(net))
    # Tensors that a training step has left behind cannot be copied with their graph.
    kept = (v for part in parts_of(net).values() for m in part.modules() for v in vars(m).values())
    memo: dict[int, Any] = {
        id(v): v.detach().clone() for v in kept if isinstance(v, Tensor) and not v.is_leaf
    }
    # Callbacks may know the net.
    memo[id(net)] = other
    other.__dict__.update(copy.deepcopy(vars(net), memo))
    return other


def copy_for_prediction(net: NeuralNet) -> NeuralNet:
    """Copy a net in the middle of its training, to predict as it would now."""
    attributes = dict(vars(net))
    for name in ("_data", "get_iterator"):
        attributes.pop(name, None)
    bare: Any = object.__new__(type(net))
    vars(bare).update(attributes, callbacks_=[])
    return copy_net(bare)


class Schedule(LRScheduler):
    """Learning-rate schedule that leaves its optimizer out of pickles.

    A training begins with a new schedule anyway, and skorch moves to a machine without accelerator
    what it knows of, which is the net's own optimizer.
    """

    def __getstate__(self):
        state = dict(vars(self))
        if "lr_scheduler_" in state:
            state["lr_scheduler_"] = None
        return state


class SizedFromData(NeuralNet):
    """Base of nets whose module is sized from, or initialised by, the first training data.

    The module class has a classmethod ``from_data(X, y, **params)``; what it needs to know beyond
    ``module__`` parameters, it reads off the data.
    """

    def fit(self, X, y=None, **fit_params):
        """Initialise the module from the data and fit it; see ``skorch.NeuralNet.fit``."""
        with self._sized_by(X, y):
            return super().fit(X, y, **fit_params)

    def partial_fit(self, X, y=None, classes=None, **fit_params):
        """Go on fitting; see ``skorch.NeuralNet.partial_fit``."""
        with self._sized_by(X, y):
            return super().partial_fit(X, y, classes=classes, **fit_params)

    @contextmanager
    def _sized_by(self, X, y):
        outermost = "_data" not in vars(self)
        if outermost:
            self._data = (X, y)
        try:
            yield
        finally:
            if outermost:
                del self._data

    def initialize_module(self):
        """Build the module from the data at hand, or from its parameters alone."""
        kwargs = self.get_params_for("module")
        if "_sizes" in vars(self):
            self.module_ = self.module(**{**kwargs, **self._sizes})
            return self
        data = vars(self).get("_data")
        if data is None or not is_sized_from_data(self):
            return super().initialize_module()
        X, y = _representatives(*data)
        if X.dtype != torch.get_default_dtype():
            raise ValueError(
                f"X has dtype {X.dtype}, but the {type(self).__name__} computes in "
                f"{torch.get_default_dtype()}, torch's default dtype: convert X to it. The "
                "estimators of tsynd_sk need torch.float32 there (torch.set_default_dtype)."
            )
        self.module_ = self.module.from_data(X, y, **kwargs)
        return self
