"""Principal components in closed form, for the linear start of autoencoders."""

from __future__ import annotations

import math
from numbers import Integral

import torch
from torch import Tensor

# Rows beyond this number change principal components by less than training does afterwards.
_MAX_ROWS = 50_000

# Standard deviations below this share of the largest value are nothing but float32 rounding.
_ROUNDING = 1e-6


def safe_scale(X: Tensor, dim: tuple[int, ...] = ()) -> Tensor:
    """Compute standard deviations over axes, by default all; one where nothing varies."""
    scale = X.std(dim, correction=0)
    return torch.where(scale > _ROUNDING * X.abs().amax(dim), scale, torch.ones_like(scale))


def principal_components(rows: Tensor, n_components: int | float) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, principal axes (n_components, n_features) and their standard deviations."""
    if len(rows) > _MAX_ROWS:
        rows = rows[:: math.ceil(len(rows) / _MAX_ROWS)]
    rows = rows.double()
    mean = rows.mean(0)
    centred = rows - mean
    variance, axes = torch.linalg.eigh(centred.T @ centred / max(len(rows) - 1, 1))
    variance, axes = variance.flip(0), axes.flip(1).T
    rounding = (_ROUNDING * rows.abs().max()).square()
    variance = torch.where(variance > rounding, variance, torch.zeros_like(variance))
    rank = max(int((variance > variance[0] * 1e-7).sum()), 1)
    if isinstance(n_components, Integral):
        kept = int(n_components)
    else:
        explained = variance.cumsum(0) / variance.sum().clamp_min(torch.finfo(variance.dtype).tiny)
        kept = int((explained < n_components).sum()) + 1
    kept = min(kept, rank)
    # Eigenvectors are determined up to sign; the largest entry is made positive.
    axes = axes[:kept]
    signs = axes.gather(1, axes.abs().argmax(1, keepdim=True)).sign()
    scale = variance[:kept].sqrt()
    scale = torch.where(scale > 0, scale, torch.ones_like(scale))
    return mean.float(), (axes * signs).float(), scale.float()


def check_n_components(n_components: int | float) -> None:
    whole = isinstance(n_components, Integral) and not isinstance(n_components, bool)
    if not (whole and n_components >= 1) and not (
        isinstance(n_components, float) and 0 < n_components < 1
    ):
        raise ValueError(
            f"n_components={n_components!r} is not valid: expected a positive integer, or a "
            "float between 0 and 1 for the fraction of variance to be explained"
        )
