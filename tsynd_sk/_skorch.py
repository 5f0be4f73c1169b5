"""The one place that knows skorch from the inside."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial

import numpy as np
import torch
from sklearn.base import clone, is_classifier
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from skorch import NeuralNet, NeuralNetBinaryClassifier
from skorch.utils import to_device
from torch import Tensor, nn

from tsynd_sk.uncertainty import safe_log

_BINARY_CRITERIA = (nn.BCELoss, nn.BCEWithLogitsLoss)


@contextmanager
def scoped_seed(seed: int) -> Iterator[None]:
    """Seed the global generators of torch and numpy for a while, then put them back.

    Weight initialisation, dropout and data loaders know no other source of randomness.
    """
    state = np.random.get_state()  # noqa: NPY002
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    with torch.random.fork_rng(devices=devices):
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
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(
            f"device={device!r} is not to be had here: {error}. Leave it at None, or give 'cpu'."
        ) from None
    return clone(net).set_params(device=device)


def bare_module(net: NeuralNet) -> nn.Module:
    """Give the module of a fitted net without the wrapper of ``torch.compile``."""
    return getattr(net.module_, "_orig_mod", net.module_)


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


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    """Put a module in evaluation mode for a while, then each of its parts in its mode of before."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training


def _predict_proba(net: NeuralNet, x: Tensor) -> Tensor:
    """Do what ``predict_proba`` does, which would leave the net in evaluation mode."""
    with _evaluating(net.module_), torch.no_grad():
        output = net.infer(to_device(x, device_of(net)))
        output = output[0] if isinstance(output, tuple) else output
        return net._get_predict_nonlinearity()(output).float()


def check_probabilities(net: NeuralNet, x: Tensor, n_classes: int) -> None:
    """Refuse a net whose predictions for a few rows are not `n_classes` probabilities.

    Catches, before training, the misfit of criterion and module that would end in nan.
    """
    proba = _predict_proba(net, x[:8])
    name, criterion = type(net).__name__, type(net.criterion_).__name__
    if proba.ndim != 2 or proba.shape[1] != n_classes:
        raise ValueError(
            f"the module of the {name} predicts an array of shape {tuple(proba.shape)} for "
            f"{len(x[:8])} rows; expected ({len(x[:8])}, {n_classes}), one column for each of the "
            f"{n_classes} classes in y"
        )
    sums = proba.sum(1)
    if proba.min() < 0 or not torch.allclose(sums, torch.ones_like(sums), atol=1e-3):
        raise ValueError(
            f"the predictions of the {name} with criterion {criterion} are not probabilities: "
            f"rows sum to between {sums.min():.3g} and {sums.max():.3g}. If its module returns "
            "logits, use criterion=torch.nn.CrossEntropyLoss; for torch.nn.NLLLoss the module "
            "must end in a softmax; for other criteria give predict_nonlinearity."
        )


def fit_classifier(
    classifier,
    x: Tensor,
    y: np.ndarray,
    *,
    seed: int,
    device=None,
    callback=None,
    check: Callable[[NeuralNet], object] | None = None,
) -> NeuralNet:
    """Clone and fit a classifier on class indices, after a look at what it predicts untrained.

    `check` is called with an untrained net, to refuse it. The callback takes part in this one
    training and leaves no trace in the net.
    """
    net, X = cloned_net(classifier, device), x.numpy()
    targets = encode_labels(net, y)
    rehearse(classifier, x, y, seed=seed, device=device, check=check)
    with scoped_seed(seed):
        if callback is None:
            return net.fit(X, targets)
        with _seeing(net, X, targets):
            net.initialize()
            net.callbacks_.append(("guest", callback.initialize()))
            net.partial_fit(X, targets)
        net.callbacks_ = [named for named in net.callbacks_ if named[1] is not callback]
        return net


def rehearse(
    classifier,
    x: Tensor,
    y: np.ndarray,
    *,
    seed: int,
    device=None,
    check: Callable[[NeuralNet], object] | None = None,
) -> None:
    """Initialise a throw-away clone of a classifier and refuse it if it cannot be what it should.

    Parameters are those of `fit_classifier`.
    """
    probe, X = cloned_net(classifier, device).set_params(verbose=0), x.numpy()
    with scoped_seed(seed), _seeing(probe, X, encode_labels(probe, y)):
        probe.initialize()
        check_probabilities(probe, x, int(y.max()) + 1)
        if check is not None:
            check(probe)


def classes_of_frozen(net: NeuralNet, x: Tensor, y: np.ndarray) -> np.ndarray:
    """Labels of the columns that a fitted net predicts, given labels for the images at hand.

    skorch takes integer labels for column numbers, unless its ``classes`` says otherwise.
    """
    present, named = np.unique(y), getattr(net, "classes", None)
    proba = _predict_proba(net, x[:1])
    n_columns = proba.shape[1] if proba.ndim == 2 else len(present)
    if named is not None and len(named) == n_columns and set(present) <= set(named):
        classes = np.asarray(named)
    elif present.dtype.kind in "iu" and present[0] >= 0 and present[-1] < n_columns:
        classes = np.arange(n_columns)
    elif len(present) == n_columns:
        classes = present
    else:
        raise ValueError(
            f"y has the {len(present)} classes {present.tolist()[:20]}, but the frozen classifier "
            f"predicts {n_columns} columns: use labels between 0 and {n_columns - 1} that number "
            "its columns, or name them by its parameter classes"
        )
    check_probabilities(net, x, n_columns)
    return classes


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


def _seeing(net: NeuralNet, X, y):
    return net._seeing(X, y) if isinstance(net, SizedFromData) else nullcontext()


class SizedFromData(NeuralNet):
    """Base of nets whose module is sized from, or initialised by, the first training data.

    The module class has a classmethod ``from_data(X, y, **params)``; what it needs to know beyond
    ``module__`` parameters, it reads off the data.
    """

    def fit(self, X, y=None, **fit_params):
        """Initialise the module from the data and fit it; see ``skorch.NeuralNet.fit``."""
        with self._seeing(X, y):
            return super().fit(X, y, **fit_params)

    def partial_fit(self, X, y=None, classes=None, **fit_params):
        """Go on fitting; see ``skorch.NeuralNet.partial_fit``."""
        with self._seeing(X, y):
            return super().partial_fit(X, y, classes=classes, **fit_params)

    @contextmanager
    def _seeing(self, X, y):
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
        data = vars(self).get("_data")
        if data is None or not (
            isinstance(self.module, type) and hasattr(self.module, "from_data")
        ):
            return super().initialize_module()
        X, y = data
        # The data may be a torch or numpy array; sizes and means need no more than a CPU tensor.
        self.module_ = self.module.from_data(torch.as_tensor(X), y, **kwargs)
        return self
