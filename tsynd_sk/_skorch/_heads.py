"""Functions from what a net's module returns to log-probabilities and scores."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from skorch import NeuralNet, NeuralNetBinaryClassifier
from torch import Tensor, nn

from tsynd_sk._skorch._nets import criterion_of
from tsynd_sk._utils._validation import type_name
from tsynd_sk.uncertainty import safe_log


def log_proba_head(net: NeuralNet) -> Callable[[Tensor], Tensor]:
    """Make the function from a module's output to log-probabilities that matches ``predict_proba``.

    Where skorch would infer a softmax or a sigmoid, their logarithm is computed directly, which
    keeps the digits of confident predictions.
    """
    criterion, nonlinearity = criterion_of(net), None
    if net.predict_nonlinearity == "auto" and isinstance(criterion, nn.CrossEntropyLoss):
        nonlinearity = "softmax"
    elif net.predict_nonlinearity == "auto" and isinstance(criterion, nn.BCEWithLogitsLoss):
        nonlinearity = "sigmoid"
    # No reference to the net: members are pickled to other processes and must stay small.
    nonlinearity = nonlinearity or net._get_predict_nonlinearity()
    flat = isinstance(net, NeuralNetBinaryClassifier)
    return partial(_to_log_proba, nonlinearity=nonlinearity, flat=flat)


def scores_head(net: NeuralNet) -> Callable[[Tensor], Tensor] | None:
    """Make the function from a module's output to class scores; None where it is logits already.

    Gradients of logits do not vanish where a net is sure, unlike those of probabilities.
    """
    head: Any = log_proba_head(net)
    return None if isinstance(head.keywords["nonlinearity"], str) else head


def first_output(output: Any) -> Any:
    """Return what predictions are computed from: of a tuple its first entry, as skorch has it."""
    return output[0] if isinstance(output, tuple) else output


def check_readable(proba: Any, output: Any, reason: str = "") -> Tensor:
    """Return probabilities; raise if what a module returned could not be read as such."""
    if not isinstance(proba, Tensor):
        kind = type_name(output)
        keys = f" with {', '.join(map(repr, list(output)[:5]))}" if isinstance(output, dict) else ""
        raise TypeError(
            f"the module returns {kind}{keys}, in which no prediction is found{reason}. Its "
            "forward may return a tensor; a tuple of tensors that begins with it; or a list or "
            "dict of tensors, or an object with a method to(device), if predict_nonlinearity of "
            "the net is a function from that to probabilities of shape (n, n_classes), such as "
            "lambda output: output['logits'].softmax(-1), and its criterion takes it, too"
        )
    return proba


def _to_log_proba(output, *, nonlinearity: Any, flat: bool) -> Tensor:
    logits = first_output(output)
    if not isinstance(logits, Tensor):
        if isinstance(nonlinearity, str):
            check_readable(None, output)
        return safe_log(check_readable(nonlinearity(logits), output))
    if flat or (nonlinearity == "sigmoid" and logits.ndim == 2 and logits.shape[1] == 1):
        logits = logits.reshape(-1)
    if nonlinearity == "softmax":
        return logits.log_softmax(-1)
    if nonlinearity == "sigmoid":
        log_sigmoid = torch.nn.functional.logsigmoid
        return torch.stack([log_sigmoid(-logits), log_sigmoid(logits)], -1)
    return safe_log(nonlinearity(logits))
