"""Checks of nets before they train: module and criterion that do not fit, weights that leak."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from skorch import NeuralNet
from skorch.callbacks import Callback
from skorch.utils import to_device
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from tsynd_sk._skorch._nets import bare_module, criterion_of, device_of

# Rows by which a net is judged.
_N_ROWS = 8

# Names of autograd's nodes whose values are those of another.
_VIEWS = ("View", "Reshape", "Unsafe", "Alias", "Squeeze", "Unsqueeze", "Select", "Slice", "ToCopy")


class NetCheck(Callback):
    """Raise if a net cannot learn the classes, when it is about to train.

    Not earlier, for other callbacks may size its module by the data. `x` is what the net is to see.
    """

    def __init__(self, x: Any, n_classes: int):
        self.x = x[:_N_ROWS]
        self.n_classes = n_classes

    def on_train_begin(self, net, **kwargs):
        """Check what the net predicts."""
        check_predictions(net, self.x, self.n_classes)


def warn_if_instance(net: NeuralNet, role: str) -> None:
    """Warn that the weights of a module that is no class come along, whatever they have seen."""
    params = net.get_params_for("module")
    given = {"module": net.module, **{f"module__{name}": v for name, v in params.items()}}
    for name, module in given.items():
        if isinstance(module, nn.Module) and not all(map(is_lazy, module.parameters())):
            warnings.warn(
                f"the {name} of {role} is an instance of {type(module).__name__}, not the class: "
                "every training starts from its weights, and what they have learnt comes along, "
                "into each fold of a cross-validation too. Right for weights that were pretrained "
                "on other images; otherwise pass the class, and its arguments as "
                f"{role}__module__... parameters.",
                UserWarning,
                stacklevel=2,
            )


def check_predictions(net: NeuralNet, x: Any, n_classes: int | None) -> None:
    """Raise if a net would train to nothing, and warn if it would train badly, judged by some rows.

    The net is initialised, and need not be trained. Its lazy layers learn their shapes.
    """
    with torch.enable_grad():
        output, proba = _output_and_proba(net, x)
    _check_probabilities(net, proba, n_classes)
    criterion, squashed, remedy = criterion_of(net), False, "torch.nn.NLLLoss"
    if isinstance(criterion, nn.CrossEntropyLoss) and output.ndim == 2:
        squashed = _are_probabilities(output)
    elif isinstance(criterion, nn.BCEWithLogitsLoss):
        squashed, remedy = _last_operation(output).startswith("Sigmoid"), "torch.nn.BCELoss"
    if squashed:
        warnings.warn(
            f"the module of the {type(net).__name__} returns probabilities, but its criterion "
            f"{type(criterion).__name__} expects logits and squashes them again, so that no "
            f"prediction can be sure: let the module return logits, or use criterion={remedy}",
            UserWarning,
            stacklevel=2,
        )


def classes_of_frozen(net: NeuralNet, x: Any, y: np.ndarray) -> np.ndarray:
    """Return labels of the columns that a fitted net predicts, given labels of some images.

    skorch takes integer labels for column numbers, unless its ``classes`` says otherwise.
    """
    present, named = np.unique(y), getattr(net, "classes", None)
    with torch.no_grad():
        _, proba = _output_and_proba(net, x[:_N_ROWS])
    n_columns = proba.shape[1] if proba.ndim == 2 else len(present)
    _check_probabilities(net, proba, n_columns)
    if named is not None and len(named) == n_columns and set(present) <= set(named):
        return np.asarray(named)
    if present.dtype.kind in "iu" and present[0] >= 0 and present[-1] < n_columns:
        return np.arange(n_columns)
    if len(present) == n_columns:
        return present
    raise ValueError(
        f"y has the {len(present)} classes {present.tolist()[:20]}, but the frozen classifier "
        f"predicts {n_columns} columns: use labels between 0 and {n_columns - 1} that number "
        "its columns, or name them by its parameter classes"
    )


def _output_and_proba(net: NeuralNet, x: np.ndarray) -> tuple[Tensor, Tensor]:
    """Do what ``predict_proba`` does, which would leave the net in evaluation mode."""
    with _evaluating(net):
        output = net.infer(to_device(torch.from_numpy(x), device_of(net)))
        output = output[0] if isinstance(output, tuple) else output
        return output.float(), net._get_predict_nonlinearity()(output.detach()).float()


@contextmanager
def _evaluating(net: NeuralNet) -> Iterator[None]:
    """Let a net evaluate its bare module for a while, then leave all as it was before.

    What it is compiled or distributed by is for training.
    """
    wrapped, module = net.module_, bare_module(net)
    modes = [(part, part.training) for part in wrapped.modules()]
    vars(net)["module_"] = module.eval()
    try:
        yield
    finally:
        vars(net)["module_"] = wrapped
        for part, training in modes:
            part.training = training


def _check_probabilities(net: NeuralNet, proba: Tensor, n_classes: int | None) -> None:
    """Raise if predictions are not `n_classes` probabilities a row.

    Criteria and modules that do not fit together would end in nan.
    """
    if proba.ndim != 2 or n_classes not in (None, proba.shape[1]):
        expected = "two dimensions"
        if n_classes is not None:
            expected = f"({len(proba)}, {n_classes}), one column for each of the classes in y"
        raise ValueError(
            f"the module of the {type(net).__name__} predicts an array of shape "
            f"{tuple(proba.shape)} for {len(proba)} rows; expected {expected}"
        )
    if not _are_probabilities(proba):
        sums = proba.sum(1)
        raise ValueError(
            f"the predictions of the {type(net).__name__} with criterion "
            f"{type(criterion_of(net)).__name__} are not probabilities: they lie between "
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
    """Name what a tensor was computed by, views and copies of it apart; "" if that is not known."""
    node = output.grad_fn
    while node is not None and type(node).__name__.startswith(_VIEWS) and node.next_functions:
        node = node.next_functions[0][0]
    return "" if node is None else type(node).__name__
