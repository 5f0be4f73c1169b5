"""Refusals of what members cannot be made of, or cannot answer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from numbers import Integral
from typing import Any

import torch
from torch import Tensor, nn


def check_network(
    module: Any, to_log_proba: Any, names: tuple[str, str] = ("module", "to_log_proba")
) -> None:
    """Refuse what is no network, or no head for one."""
    if not isinstance(module, nn.Module):
        raise TypeError(f"{names[0]} must be a torch.nn.Module, got {kind_of(module)}")
    if isinstance(module, torch.jit.ScriptModule):
        raise TypeError(
            f"{names[0]} is a {type(module).__name__}, in which layers such as dropout cannot be "
            "found; give the module that was scripted or traced"
        )
    if not callable(to_log_proba):
        raise TypeError(
            f"{names[1]} must be callable and turn the output of the network into "
            f"log-probabilities, such as lambda logits: logits.log_softmax(-1); "
            f"got {kind_of(to_log_proba)}"
        )


def kind_of(value: Any) -> str:
    """Say what came in place of what was expected."""
    return f"the type {value.__name__}" if isinstance(value, type) else f"a {type(value).__name__}"


def whole(name: str, value: Any) -> int:
    """Give an int, whatever integer came."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name} must be an int, got {value!r}")
    return int(value)


def listed(name: str, values: Any, what: str) -> list[Any]:
    """Give a list that is not empty."""
    # A network may be iterable: torch.nn.Sequential gives its layers.
    if isinstance(values, nn.Module) or not isinstance(values, Iterable):
        raise TypeError(f"{name} must be a list of {what}, got {kind_of(values)}; give a list")
    values = list(values)
    if not values:
        raise ValueError(f"{name} is empty; give at least one of {what}")
    return values


def check_images(x: Any) -> None:
    """Refuse images that are no tensor."""
    if not isinstance(x, Tensor):
        raise TypeError(
            f"x must be a Tensor, got {kind_of(x)}; torch.from_numpy makes one of arrays"
        )


def check_log_probs(log_probs: Tensor, x: Tensor) -> Tensor:
    """Refuse what a head should not have given."""
    if log_probs.ndim != 3 or log_probs.shape[1] != len(x):
        raise ValueError(
            f"to_log_proba must give log-probabilities of shape (n_samples, n_classes), here "
            f"({len(x)}, n_classes), got {tuple(log_probs.shape[1:])}"
        )
    return log_probs


def check_agreement(parts: Sequence[Tensor], whose: str) -> None:
    """Refuse predictions of different classes."""
    shapes = [tuple(part.shape[-2:]) for part in parts]
    if len(set(shapes)) > 1:
        raise ValueError(
            f"{whose} must give log-probabilities of the same classes, but their shapes "
            f"(n_samples, n_classes) are {shapes}"
        )
