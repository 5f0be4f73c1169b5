"""Checks of networks and of tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tsynd_sk._utils._validation import type_name


def check_network(
    module: Any, to_log_proba: Any, names: tuple[str, str] = ("module", "to_log_proba")
) -> None:
    """Raise if a module is no network, or its head no function."""
    if not isinstance(module, nn.Module):
        raise TypeError(f"{names[0]} must be a torch.nn.Module, got {type_name(module)}")
    if isinstance(module, torch.jit.ScriptModule):
        raise TypeError(
            f"{names[0]} is a {type(module).__name__}, in which layers such as dropout cannot be "
            "found; pass the module that was scripted or traced"
        )
    if not callable(to_log_proba):
        raise TypeError(
            f"{names[1]} must be callable and turn the output of the network into "
            f"log-probabilities, such as lambda logits: logits.log_softmax(-1); "
            f"got {type_name(to_log_proba)}"
        )


def check_tensor(name: str, value: Any) -> None:
    """Raise if a value is no tensor."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} must be a Tensor, got {type_name(value)}")


def check_member_predictions(log_probs: Any) -> None:
    """Raise if a tensor is no prediction of members."""
    check_tensor("log_probs", log_probs)
    shape = log_probs.shape
    if len(shape) != 3 or not log_probs.is_floating_point() or 0 in (shape[0], shape[2]):
        raise ValueError(
            "log_probs must be log-probabilities of shape (n_members, n_samples, n_classes); got "
            f"shape {tuple(shape)} and dtype {log_probs.dtype}"
        )


def check_log_probs(log_probs: Tensor, x: Tensor) -> Tensor:
    """Return what a head computed for all members; raise if its shape is wrong."""
    if log_probs.ndim != 3 or log_probs.shape[1] != len(x):
        raise ValueError(
            f"to_log_proba must return log-probabilities of shape (n_samples, n_classes), here "
            f"({len(x)}, n_classes), got {tuple(log_probs.shape[1:])}"
        )
    return log_probs


def check_agreement(parts: Sequence[Tensor], whose: str) -> None:
    """Raise if predictions are of different classes."""
    shapes = [tuple(part.shape[-2:]) for part in parts]
    if len(set(shapes)) > 1:
        raise ValueError(
            f"{whose} must return log-probabilities of the same classes, but their shapes "
            f"(n_samples, n_classes) are {shapes}"
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
