"""What `tsynd_sk.ascent.ascend` refuses."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tsynd_sk._checks import kind_of


def check_codes(z_0, y, **displacements: Any) -> None:
    for name, value in {"z_0": z_0, "y": y, **displacements}.items():
        if not isinstance(value, Tensor) and not (name in displacements and value is None):
            raise TypeError(f"{name} must be a Tensor, got {kind_of(value)}")
    if not z_0.is_floating_point():
        raise ValueError(f"z_0 must hold floats, got dtype {z_0.dtype}")
    if y.shape != z_0.shape[:1] or y.is_floating_point() or y.dtype == torch.bool:
        raise ValueError(
            f"y must hold one integer for each of the {len(z_0)} rows of z_0; got shape "
            f"{tuple(y.shape)} and dtype {y.dtype}"
        )
    for name, value in displacements.items():
        if value is not None and value.shape != z_0.shape:
            raise ValueError(
                f"{name} must have the shape of z_0, {tuple(z_0.shape)}; got {tuple(value.shape)}"
            )


def checked_scale(scale: Any, z_0: Tensor) -> Tensor:
    try:
        tensor = torch.as_tensor(scale, dtype=z_0.dtype, device=z_0.device)
        tensor.expand_as(z_0)
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(
            "scale must be a number, or a Tensor that can be broadcast to the codes, of shape "
            f"{tuple(z_0.shape)}; got {getattr(scale, 'shape', scale)!r}"
        ) from None
    return tensor


def check_ways(*, objective, callback, **functions: Any) -> None:
    for name, function in functions.items():
        if not callable(function):
            raise TypeError(f"{name} must be callable, got {kind_of(function)}")
    if objective is not None and not callable(objective):
        raise TypeError(
            f"objective must be callable or None, got {objective!r}; OBJECTIVES has those with "
            "names"
        )
    if callback is not None and not callable(callback):
        raise TypeError(f"callback must be callable or None, got {kind_of(callback)}")


def check_classes(y: Tensor, n_classes: int) -> None:
    if len(y) and not 0 <= int(y.min()) <= int(y.max()) < n_classes:
        raise ValueError(
            f"y must hold columns of the log-probabilities, 0 to {n_classes - 1}; got values from "
            f"{int(y.min())} to {int(y.max())}"
        )


def check_value(value: Tensor, n_rows: int, *, must_differentiate: bool) -> None:
    if not isinstance(value, Tensor) or value.shape != (n_rows,):
        came = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise ValueError(
            f"objective must return a tensor of shape (n_samples,), here ({n_rows},); it returned "
            f"{came}"
        )
    if must_differentiate and not value.requires_grad:
        raise ValueError(
            "objective must be differentiable: its value does not depend, by torch operations, on "
            "the log-probabilities that it was given"
        )
