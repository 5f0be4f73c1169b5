"""Functions from what a net's module returns to log-probabilities and scores."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from skorch import NeuralNet, NeuralNetBinaryClassifier
from torch import Tensor, nn

from tsynd_sk._skorch._nets import criterion_of
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


def _to_log_proba(output, *, nonlinearity: Any, flat: bool) -> Tensor:
    logits = output[0] if isinstance(output, tuple) else output
    if flat or (nonlinearity == "sigmoid" and logits.ndim == 2 and logits.shape[1] == 1):
        logits = logits.reshape(-1)
    if nonlinearity == "softmax":
        return logits.log_softmax(-1)
    if nonlinearity == "sigmoid":
        log_sigmoid = torch.nn.functional.logsigmoid
        return torch.stack([log_sigmoid(-logits), log_sigmoid(logits)], -1)
    return safe_log(nonlinearity(logits))
