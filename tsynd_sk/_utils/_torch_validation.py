"""Checks of networks and tensors."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


def check_not_scripted(module: nn.Module) -> None:
    """Raise if a network is a ``torch.jit.ScriptModule``."""
    if isinstance(module, torch.jit.ScriptModule):
        raise TypeError(
            f"the network is a {type(module).__name__}, in which layers such as dropout cannot be "
            "found; pass the module that was scripted or traced"
        )


def check_member_predictions(log_probs: Tensor) -> None:
    """Raise if a tensor is no prediction of members."""
    shape = log_probs.shape
    if len(shape) != 3 or not log_probs.is_floating_point() or 0 in (shape[0], shape[2]):
        raise ValueError(
            "log_probs must be log-probabilities of shape (n_members, n_samples, n_classes); got "
            f"shape {tuple(shape)} and dtype {log_probs.dtype}"
        )


def check_training_data(X: Any, ndim: int, expected: str) -> Tensor:
    """Return the data that a module is sized by as floats; raise if it cannot learn from them."""
    x = torch.as_tensor(X).float()
    if x.ndim != ndim or 0 in x.shape:
        raise ValueError(f"X has shape {tuple(x.shape)}; {expected}")
    if not x.isfinite().all():
        raise ValueError(
            "X contains NaN or infinity: replace these values, or leave their rows out"
        )
    return x
