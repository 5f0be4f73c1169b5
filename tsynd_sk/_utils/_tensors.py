"""Arithmetic on tensors."""

from __future__ import annotations

import torch
from torch import Tensor

# Standard deviations below this share of the largest value are nothing but float32 rounding.
FLOAT32_ROUNDING = 1e-6


def safe_scale(X: Tensor, dim: tuple[int, ...] = ()) -> Tensor:
    """Compute standard deviations over axes, by default all; one where nothing varies."""
    scale = X.std(dim, correction=0)
    return torch.where(scale > FLOAT32_ROUNDING * X.abs().amax(dim), scale, torch.ones_like(scale))
