"""Small helpers for tensors."""

from __future__ import annotations

import copy
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

# Standard deviations below this share of the largest value are nothing but float32 rounding.
FLOAT32_ROUNDING = 1e-6


def safe_scale(X: Tensor, dim: tuple[int, ...] = ()) -> Tensor:
    """Compute standard deviations over axes, by default all; one where nothing varies."""
    scale = X.std(dim, correction=0)
    return torch.where(scale > FLOAT32_ROUNDING * X.abs().amax(dim), scale, torch.ones_like(scale))


def same_values(one: Tensor, other: Tensor, rounding: float) -> bool:
    """Return whether tensors have the same shape and, but for rounding, the same values."""
    return one.shape == other.shape and torch.allclose(
        one, other, rtol=rounding, atol=rounding, equal_nan=True
    )


def are_probabilities(proba: Tensor) -> bool:
    """Return whether rows are of 0 or more, and sum to 1."""
    sums = proba.sum(-1)
    return bool(proba.min() >= 0) and torch.allclose(sums, torch.ones_like(sums), atol=1e-3)


def check_training_data(X: Any, ndim: int, expected: str) -> Tensor:
    """Return data as floats; raise if a module cannot learn from them."""
    x = torch.as_tensor(X).float()
    if x.ndim != ndim or 0 in x.shape:
        raise ValueError(f"X has shape {tuple(x.shape)}; {expected}")
    if not x.isfinite().all():
        raise ValueError(
            "X contains NaN or infinity: replace these values, or leave their rows out"
        )
    return x


class _Detached(TorchFunctionMode):
    """Copies tensors that hang on a graph without it."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func is Tensor.__deepcopy__ and not args[0].is_leaf:
            tensor, memo = args
            memo[id(tensor)] = duplicate = tensor.detach().clone()
            return duplicate
        return func(*args, **(kwargs or {}))


def detached_copy(thing: Any, memo: dict[int, Any] | None = None) -> Any:
    """Copy modules, or what holds them, in the middle of their training.

    Tensors that a training step leaves in them (kept activations, weights under spectral_norm)
    belong to its graph, and cannot be copied with it. `memo` is that of `copy.deepcopy`.
    """
    if memo is None:
        # Torch refuses such tensors. A memo would keep what an attempt has left half copied.
        with suppress(RuntimeError):
            return copy.deepcopy(thing)
    with _Detached():
        return copy.deepcopy(thing, memo)


class PickledAsArrays:
    """Base of classes whose pickles hold arrays, all that skops knows, in place of tensors."""

    def __getstate__(self) -> dict[str, Any]:
        # numpy has no bfloat16.
        tensors = {
            name: value.numpy()
            for name, value in vars(self).items()
            if isinstance(value, Tensor) and value.dtype != torch.bfloat16
        }
        return {**vars(self), **tensors, "tensors": sorted(tensors)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = dict(state)
        names = state.pop("tensors", ())
        vars(self).update(state)
        vars(self).update({name: torch.from_numpy(np.array(state[name])) for name in names})
