"""Small helpers for tensors."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

# Standard deviations below this share of the largest value are nothing but float32 rounding.
FLOAT32_ROUNDING = 1e-6


def safe_scale(X: Tensor, dim: tuple[int, ...] = ()) -> Tensor:
    """Compute standard deviations over axes, by default all; one where nothing varies."""
    scale = X.std(dim, correction=0)
    return torch.where(scale > FLOAT32_ROUNDING * X.abs().amax(dim), scale, torch.ones_like(scale))


def detached_memo(modules: Iterable[nn.Module]) -> dict[int, Any]:
    """Return a memo by which `copy.deepcopy` copies modules in the middle of their training.

    Tensors that a training step leaves in them (kept activations, weights under spectral_norm)
    belong to its graph, and cannot be copied with it.
    """
    kept = (value for module in modules for value in vars(module).values())
    return {id(v): v.detach().clone() for v in kept if isinstance(v, Tensor) and not v.is_leaf}


class PickledAsArrays:
    """Base of classes whose pickles hold arrays in place of tensors.

    Libraries that save estimators without pickle, such as skops, know arrays alone.
    """

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
