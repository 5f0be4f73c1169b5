"""Gradient ascent in latent space: move codes, within a trust region, to where a goal is high.

The ascent works in latent standard deviations: ``u = (z - z_0) / scale``. Each step goes along a
velocity, the running sum of normalised gradients, after which ``u`` is projected back into the ball
around the source's code; steps become ever shorter. The best point visited is kept.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import torch
from torch import Tensor

from tsynd_sk.uncertainty import mean_log_proba, mutual_information, predictive_entropy

__all__ = ["OBJECTIVES", "AscentResult", "Objective", "ascend", "displacement_norm", "normalise"]

#: An objective maps member log-probabilities (n_members, n, n_classes) and labels (n,) to (n,).
#:
#: Examples
#: --------
#: >>> import torch
#: >>> from tsynd_sk.ascent import Objective
#: >>> unlikely: Objective = lambda log_probs, y: -log_probs.exp().mean(0).amax(1)
#: >>> unlikely(torch.tensor([[[0.5, 0.5], [0.9, 0.1]]]).log(), torch.tensor([0, 0]))
#: tensor([-0.5000, -0.9000])
Objective = Callable[[Tensor, Tensor], Tensor]

StepCallback = Callable[[int, "AscentResult"], Any]

#: Objectives by name, in nats.
#:
#: Examples
#: --------
#: >>> import torch
#: >>> from tsynd_sk.ascent import OBJECTIVES
#: >>> log_probs = torch.tensor([[[0.9, 0.1]], [[0.1, 0.9]]]).log()
#: >>> OBJECTIVES["mutual_info"](log_probs, torch.tensor([0]))
#: tensor([0.3681])
OBJECTIVES: dict[str, Objective] = {
    "mutual_info": lambda log_probs, y: mutual_information(log_probs),
    "entropy": lambda log_probs, y: predictive_entropy(log_probs),
}

# The first step is this multiple of the radius, divided by the number of steps, and the last one
# this share of it: steps of one length zigzag along the decision boundary. Momentum as in Dong et
# al. (2018).
_FIRST_STEP, _LAST_STEP, _MOMENTUM = 4.0, 0.25, 0.6


@dataclass(frozen=True)
class AscentResult:
    """Where an ascent ended, row by row.

    Attributes
    ----------
    images : Tensor of shape (n, ...), of the dtype that was decoded
        Decoded images of the points kept.
    latents : Tensor of shape (n, ...), of the dtype of the sources' codes
        Their codes.
    displacement : Tensor of shape (n,), of the dtype of `latents`
        Root-mean-square displacement from the source's code, in latent standard deviations.
    uncertainty : Tensor of shape (n,), of the dtype of the log-probabilities
        Mutual information, in nats, whatever the objective was.
    agreement : Tensor of shape (n,), bool
        Whether the members' mean prediction is the label.

    See Also
    --------
    ascend : Makes it.

    Examples
    --------
    >>> import torch
    >>> from tsynd_sk.ascent import AscentResult
    >>> images, latents, displacement = torch.zeros(3, 1, 8, 8), torch.zeros(3, 4), torch.zeros(3)
    >>> uncertainty, agreement = torch.tensor([0.1, 0.3, 0.2]), torch.tensor([True, False, True])
    >>> result = AscentResult(images, latents, displacement, uncertainty, agreement)
    >>> result.rows(result.agreement).uncertainty
    tensor([0.1000, 0.2000])
    """

    images: Tensor
    latents: Tensor
    displacement: Tensor
    uncertainty: Tensor
    agreement: Tensor

    def rows(self, chosen: Tensor) -> AscentResult:
        """Return the result of some rows.

        Parameters
        ----------
        chosen : Tensor of shape (n_rows,) or (n,)
            Indices of rows, or a mask.

        Returns
        -------
        AscentResult
            Of these rows.
        """
        return AscentResult(*map(itemgetter(chosen), vars(self).values()))

    def with_rows(self, rows: Tensor, new: AscentResult) -> AscentResult:
        """Return the result with new values of some rows.

        Parameters
        ----------
        rows : Tensor of shape (n_rows,)
            Indices of the rows.
        new : AscentResult
            Their values.

        Returns
        -------
        AscentResult
            Of all rows; this one stays as it is.
        """
        both = zip(vars(self).values(), vars(new).values(), strict=True)
        return AscentResult(*(old.index_copy(0, rows, values) for old, values in both))


def displacement_norm(u: Tensor) -> Tensor:
    """Root mean square of each row of a displacement.

    Parameters
    ----------
    u : Tensor of shape (n, ...), floating
        Displacements of codes.

    Returns
    -------
    Tensor of shape (n,), of the dtype of `u`
        In the unit of `u`, here latent standard deviations.

    See Also
    --------
    ascend : Keeps it within the radius.

    Examples
    --------
    >>> import torch
    >>> from tsynd_sk.ascent import displacement_norm
    >>> displacement_norm(torch.tensor([[1.0, 7.0], [0.0, 0.0]]))
    tensor([5., 0.])
    """
    return u.flatten(1).square().mean(1).sqrt()


def _per_row(values: Tensor, like: Tensor) -> Tensor:
    return values.reshape(-1, *[1] * (like.ndim - 1))


def _project(u: Tensor, radius: float) -> Tensor:
    shrink = (radius / displacement_norm(u).clamp_min(torch.finfo(u.dtype).tiny)).clamp_max(1.0)
    return u * _per_row(shrink, u)


def normalise(gradient: Tensor) -> Tensor:
    """Scale each row to a root mean square of one; rows of zeros stay zero.

    Parameters
    ----------
    gradient : Tensor of shape (n, ...), floating
        Finite values.

    Returns
    -------
    Tensor of the shape and dtype of `gradient`
        The rows, scaled.

    Examples
    --------
    >>> import torch
    >>> from tsynd_sk.ascent import normalise
    >>> normalise(torch.tensor([[3.0, -3.0], [0.0, 0.0]]))
    tensor([[ 1., -1.],
            [ 0.,  0.]])
    """
    # In two stages, so that the square of a tiny gradient does not underflow to zero.
    tiny = torch.finfo(gradient.dtype).tiny
    largest = gradient.flatten(1).abs().amax(1).clamp_min(tiny)
    gradient = gradient / _per_row(largest, gradient)
    return gradient / _per_row(displacement_norm(gradient).clamp_min(tiny), gradient)


def ascend(
    members: Callable[[Tensor], Tensor],
    decode: Callable[[Tensor], Tensor],
    z_0: Tensor,
    y: Tensor,
    *,
    objective: Objective | None = OBJECTIVES["mutual_info"],
    start: Tensor | None = None,
    scale: Tensor | float = 1.0,
    radius: float = 0.25,
    max_iter: int = 10,
    callback: StepCallback | None = None,
) -> AscentResult:
    """Maximise an objective of the decoded image inside a latent trust region.

    Parameters
    ----------
    members : callable
        Maps images (n, ...) to log-probabilities (n_members, n, n_classes).
    decode : callable
        Maps codes to images. Its weights should not require gradients.
    z_0 : Tensor of shape (n, ...), floating, of the dtype that `decode` takes
        Codes of the source images: the centres of the trust regions.
    y : Tensor of shape (n,), int64
        Labels of the source images, as columns of the log-probabilities.
    objective : callable or None, default=mutual information
        See `Objective`. None leaves codes where they start.
    start : Tensor of the shape and dtype of `z_0` or None, default=None
        First displacement, in latent standard deviations.
    scale : Tensor broadcastable to `z_0` or float, default=1.0
        Standard deviation of each latent coordinate.
    radius : float, default=0.25
        Largest root-mean-square displacement, in latent standard deviations.
    max_iter : int, default=10
        Number of steps. With 0 the result is the start.
    callback : callable or None, default=None
        Called with ``(step, points)`` at the start (step 0) and after every step; `points` is an
        `AscentResult` of all rows, which it must not change.

    Returns
    -------
    AscentResult
        Without gradients.

    Raises
    ------
    ValueError
        If shapes do not fit, `radius` or `max_iter` is negative, or `members`, `decode` or
        `objective` cannot be differentiated.

    See Also
    --------
    AscentResult : What it returns.
    displacement_norm : Size of a displacement, as the trust region measures it.
    tsynd_sk.inspection.AscentDisplay : Draws ascents, step by step.

    Examples
    --------
    >>> import torch
    >>> from tsynd_sk.ascent import ascend
    >>> def members(images):
    ...     logits = torch.stack([images, torch.zeros_like(images)], dim=-1)
    ...     return torch.stack([logits, 2 * logits]).log_softmax(-1)
    >>> z_0, y = torch.tensor([[0.1], [0.2]]), torch.tensor([0, 0])
    >>> result = ascend(members, lambda z: z[:, 0], z_0, y, radius=0.5)
    >>> result.displacement
    tensor([0.5000, 0.5000])
    """
    if y.shape != z_0.shape[:1]:
        raise ValueError(
            f"y must have one label for each of the {len(z_0)} rows of z_0; got {tuple(y.shape)}"
        )
    if start is not None and start.shape != z_0.shape:
        raise ValueError(
            f"start must have the shape of z_0, {tuple(z_0.shape)}; got {tuple(start.shape)}"
        )
    if not (radius >= 0 and max_iter >= 0):
        raise ValueError(
            f"radius and max_iter must not be negative; got radius={radius}, max_iter={max_iter}"
        )
    scale = torch.as_tensor(scale, dtype=z_0.dtype, device=z_0.device).expand_as(z_0)
    origin = torch.zeros_like(z_0) if start is None else _project(start, radius)
    max_iter = 0 if objective is None else int(max_iter)
    u, velocity = origin, torch.zeros_like(z_0)
    best: AscentResult | None = None
    best_value = torch.empty(0)

    for iteration in range(max_iter + 1):
        # At the last point there is nothing left to climb to.
        climbing = iteration < max_iter
        with torch.set_grad_enabled(climbing):
            u = u.detach().requires_grad_(climbing)
            images = decode(z_0 + scale * u)
            log_probs = members(images)
            log_mean = mean_log_proba(log_probs)
            agreement = log_mean.argmax(-1) == y
            value = displacement_norm(u) if objective is None else objective(log_probs, y)
            if climbing and not (images.requires_grad and log_probs.requires_grad):
                raise ValueError(
                    "decode and members must be differentiable: their output does not depend, by "
                    "torch operations, on the codes; is there a torch.no_grad or detach in them?"
                )
            _check_value(value, len(z_0), must_differentiate=climbing)
            if climbing:
                (gradient,) = torch.autograd.grad(value.sum(), u)

        with torch.no_grad():
            u, value = u.detach(), value.detach()
            points = AscentResult(
                images=images.detach(),
                latents=z_0 + scale * u,
                displacement=displacement_norm(u),
                uncertainty=mutual_information(log_probs.detach()),
                agreement=agreement,
            )
            if best is None:
                best, best_value = points, value
            else:
                better = value >= best_value
                best_value = torch.where(better, value, best_value)
                rows = better.nonzero()[:, 0]
                best = best.with_rows(rows, points.rows(rows))
            if callback is not None:
                callback(iteration, points)
            if climbing:
                velocity = _MOMENTUM * velocity + normalise(gradient)
                decay = _LAST_STEP ** (iteration / max(max_iter - 1, 1))
                step = _FIRST_STEP * radius / max_iter * decay
                u = _project(u + step * normalise(velocity), radius)
    assert best is not None
    return best


def _check_value(value: Tensor, n_rows: int, *, must_differentiate: bool) -> None:
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
