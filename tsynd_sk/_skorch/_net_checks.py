"""Check before a net trains that its module and criterion fit together."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from skorch import NeuralNet
from skorch.callbacks import Callback
from skorch.utils import to_device
from torch import Tensor, nn

from tsynd_sk._skorch._nets import bare_module, device_of
from tsynd_sk._skorch._own_way import check_own_way
from tsynd_sk._skorch._prediction import collated, unreadable
from tsynd_sk._utils._inference import modes_kept

# Rows to check a net by.
_N_ROWS = 8

# Names of autograd's nodes whose values are those of another.
_VIEWS = ("View", "Reshape", "Unsafe", "Alias", "Squeeze", "Unsqueeze", "Select", "Slice", "ToCopy")


class NetCheck(Callback):
    """Raise if a net could not learn, and warn if it would learn badly, by some rows.

    It checks when training begins, because other callbacks may size the module by the data before.
    The net must be initialised, but not trained. Its lazy layers learn their shapes.

    `x` is the net's input. With `n_classes` of None any number of columns is fine. `own_way`:
    whether the net is also to pass `check_own_way`.
    """

    def __init__(self, x: Any, n_classes: int | None, own_way: bool = False):
        self.x = x[:_N_ROWS]
        self.n_classes = n_classes
        self.own_way = own_way

    def on_train_begin(self, net, **kwargs):
        """Check what the net predicts."""
        with torch.enable_grad():
            output, _ = _predict(net, self.x, self.n_classes)
        readable, squashed, remedy = isinstance(output, Tensor), False, "torch.nn.NLLLoss"
        # Without the wrapper of torch.compile.
        criterion = getattr(net.criterion_, "_orig_mod", net.criterion_)
        if readable and isinstance(criterion, nn.CrossEntropyLoss):
            squashed = output.ndim == 2 and _are_probabilities(output)
        elif readable and isinstance(criterion, nn.BCEWithLogitsLoss):
            squashed, remedy = _last_operation(output).startswith("Sigmoid"), "torch.nn.BCELoss"
        if squashed:
            warnings.warn(
                f"the module of the {type(net).__name__} returns probabilities, but its criterion "
                f"{type(criterion).__name__} expects logits and squashes them again, so no "
                f"prediction can be certain: return logits, or use criterion={remedy}",
                UserWarning,
                stacklevel=2,
            )
        if self.own_way:
            check_own_way(net, self.x)


def classes_of_frozen(net: NeuralNet, x: Any, y: np.ndarray) -> np.ndarray:
    """Return the labels of the columns that a fitted net predicts, given labels of some images.

    skorch uses integer labels as column numbers, unless its ``classes`` says otherwise.
    """
    present, named = np.unique(y), getattr(net, "classes", None)
    with torch.no_grad():
        n_columns = _predict(net, x[:_N_ROWS], None)[1].shape[1]
    if named is not None and len(named) == n_columns and set(present) <= set(named):
        return np.asarray(named)
    if present.dtype.kind in "iu" and present[0] >= 0 and present[-1] < n_columns:
        return np.arange(n_columns, dtype=present.dtype)
    if len(present) == n_columns:
        return present
    raise ValueError(
        f"y has the {len(present)} classes {present.tolist()[:20]}, but the frozen classifier "
        f"predicts {n_columns} columns: use labels between 0 and {n_columns - 1} that number "
        "its columns, or name them by its parameter classes"
    )


def _predict(net: NeuralNet, x: Any, n_classes: int | None) -> tuple[Any, Tensor]:
    """Return output and probabilities for rows; raise if a row does not have `n_classes` of them.

    The bare module is evaluated, because compiled or distributed ones are for training. Afterwards
    the net is as before, unlike after ``predict_proba``.
    """
    wrapped, own_batches = net.module_, hasattr(net, "iterator_valid__collate_fn")
    x = to_device(collated(net, x) if own_batches else torch.from_numpy(x), device_of(net))
    with modes_kept(wrapped):
        vars(net)["module_"] = bare_module(net).eval()
        try:
            output = net.infer(x)
        except RuntimeError as error:
            if "channels, but got" in str(error) and isinstance(x, Tensor):
                raise _misfit_of_channels(x, error) from error
            raise
        finally:
            vars(net)["module_"] = wrapped
    nonlinearity = net._get_predict_nonlinearity()
    try:
        # As skorch does before it reads predictions.
        read = output.detach() if isinstance(output, Tensor) else to_device(output, "cpu")
        proba = nonlinearity(read[0] if isinstance(read, tuple) else read)
    except Exception as error:
        if isinstance(output, Tensor):
            raise
        # skorch's own cannot read it, and a user's may fail in any way.
        reason = str(error).partition("\n")[0]
        raise unreadable(output, f" ({type(error).__name__}: {reason})") from error
    if not isinstance(proba, Tensor):
        raise unreadable(output)
    if proba.dtype == torch.bfloat16:
        raise TypeError(
            f"the {type(net).__name__} predicts bfloat16, which numpy does not know, so that "
            "its predict_proba fails: let forward return output.float()"
        )
    proba = proba.detach().float()
    fits = proba.ndim == 2 and n_classes in (None, proba.shape[1])
    if not fits or not _are_probabilities(proba):
        raise _misfit(net, proba, n_classes)
    output = output[0] if isinstance(output, tuple) else output
    return output.float() if isinstance(output, Tensor) else output, proba


def _misfit_of_channels(x: Tensor, error: RuntimeError) -> ValueError:
    hint = (
        "NetClassifier(Pretrained, module__net=function) of tsynd_sk.classifiers repeats "
        "grey images, where function(n_channels, n_classes) makes the network"
        if "got 1 channels" in str(error)
        else "build it for the channels of the images"
    )
    return ValueError(
        f"the module does not take images of shape {tuple(x.shape[1:])}: {hint} ({error})"
    )


def _misfit(net: NeuralNet, proba: Tensor, n_classes: int | None) -> ValueError:
    """Return the error for predictions that are no probabilities of so many classes."""
    if proba.ndim != 2 or n_classes not in (None, proba.shape[1]):
        expected = "two dimensions"
        if n_classes is not None:
            expected = f"({len(proba)}, {n_classes}), one column for each of the classes in y"
        return ValueError(
            f"the module of the {type(net).__name__} predicts an array of shape "
            f"{tuple(proba.shape)} for {len(proba)} rows; expected {expected}"
        )
    if proba.isnan().any():
        return ValueError(
            f"the {type(net).__name__} predicts NaN for training images: its training has "
            "diverged, or its module cannot take their values. Scale the images, for instance to "
            "values between 0 and 1, or lower its lr."
        )
    sums, criterion = proba.sum(1), getattr(net.criterion_, "_orig_mod", net.criterion_)
    return ValueError(
        f"the predictions of the {type(net).__name__} with criterion "
        f"{type(criterion).__name__} are not probabilities: they lie between "
        f"{proba.min():.3g} and {proba.max():.3g}, and rows sum to between {sums.min():.3g} "
        f"and {sums.max():.3g}. If its module returns logits, use "
        "criterion=torch.nn.CrossEntropyLoss (torch.nn.BCEWithLogitsLoss for a "
        "NeuralNetBinaryClassifier); for torch.nn.NLLLoss the module must end in a softmax, "
        "not in its logarithm, which skorch computes; for other criteria set "
        "predict_nonlinearity."
    )


def _are_probabilities(proba: Tensor) -> bool:
    sums = proba.sum(-1)
    return bool(proba.min() >= 0) and torch.allclose(sums, torch.ones_like(sums), atol=1e-3)


def _last_operation(output: Tensor) -> str:
    """Name the operation that computed a tensor, apart from views and copies; "" if unknown."""
    node = output.grad_fn
    while node is not None and type(node).__name__.startswith(_VIEWS) and node.next_functions:
        node = node.next_functions[0][0]
    return "" if node is None else type(node).__name__
