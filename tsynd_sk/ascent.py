"""Gradient ascent in latent space: move codes, within a trust region, to where a goal is high.

The ascent works in units of latent standard deviations: ``u = (z - z_0) / scale``. Each step has
a fixed length along the normalised gradient, after which ``u`` is projected back into the ball
around the code of the source image. Of all points on the way, the best admissible one is kept.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from tsynd_sk.uncertainty import mean_log_proba, mutual_information, predictive_entropy

__all__ = ["OBJECTIVES", "AscentResult", "Objective", "ascend", "displacement_norm", "normalise"]

#: An objective maps member log-probabilities (n_members, n, n_classes) and labels (n,) to (n,).
Objective = Callable[[Tensor, Tensor], Tensor]

OBJECTIVES: dict[str, Objective] = {
    "mutual_info": lambda log_probs, y: mutual_information(log_probs),
    "entropy": lambda log_probs, y: predictive_entropy(log_probs),
}

# The length of the way is this multiple of the radius, as is usual for projected gradient methods
# (Madry et al., 2018), so that the surface of the ball can be reached and then searched.
_WAY_PER_RADIUS = 2.5


@dataclass(frozen=True)
class AscentResult:
    """Where an ascent ended, row by row.

    Attributes
    ----------
    images : Tensor of shape (n, ...)
        Decoded images of the points kept.
    latents : Tensor of shape (n, ...)
        Their codes.
    displacement : Tensor of shape (n,)
        Root-mean-square displacement from the source's code, in latent standard deviations.
    uncertainty : Tensor of shape (n,)
        Mutual information of `images`, in nats, whatever the objective was.
    agreement : Tensor of shape (n,), bool
        Whether the members' mean prediction at `images` is the label.
    """

    images: Tensor
    latents: Tensor
    displacement: Tensor
    uncertainty: Tensor
    agreement: Tensor


def displacement_norm(u: Tensor) -> Tensor:
    """Root mean square of each row of a displacement in latent standard deviations."""
    return u.flatten(1).square().mean(1).sqrt()


def _per_row(values: Tensor, like: Tensor) -> Tensor:
    return values.reshape(-1, *[1] * (like.ndim - 1))


def _project(u: Tensor, radius: float) -> Tensor:
    shrink = (radius / displacement_norm(u).clamp_min(torch.finfo(u.dtype).tiny)).clamp_max(1.0)
    return u * _per_row(shrink, u)


def normalise(gradient: Tensor) -> Tensor:
    """Scale each row to a root mean square of one; rows of zeros stay zero."""
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
    direction: Tensor | None = None,
    start: Tensor | None = None,
    scale: Tensor | float = 1.0,
    radius: float = 0.5,
    max_iter: int = 10,
    constrain: bool = True,
) -> AscentResult:
    """Maximise an objective of the decoded image inside a latent trust region.

    Parameters
    ----------
    members : callable
        Maps images (n, ...) to log-probabilities (n_members, n, n_classes); see
        `tsynd_sk.uncertainty`.
    decode : callable
        Maps codes to images. Its weights should not require gradients.
    z_0 : Tensor of shape (n, ...)
        Codes of the source images: the centres of the trust regions.
    y : Tensor of shape (n,), int64
        Labels of the source images, as columns of the log-probabilities.
    objective : callable or None, default=mutual information
        Maps log-probabilities (n_members, n, n_classes) and ``y`` to values (n,). With ``None``
        nothing is maximised: the codes go along `direction`, or stay where they start.
    direction : Tensor of the shape of `z_0` or None, default=None
        With ``objective=None``, the way to go, in latent standard deviations of any length; the
        surface of the trust region is reached at the last step.
    start : Tensor of the shape of `z_0` or None, default=None
        First displacement, in latent standard deviations; none by default.
    scale : Tensor broadcastable to `z_0` or float, default=1.0
        Standard deviation of each latent coordinate.
    radius : float, default=0.5
        Largest root-mean-square displacement, in latent standard deviations.
    max_iter : int, default=10
        Number of steps.
    constrain : bool, default=True
        Keep the best iterate at which the members' mean prediction is `y`. Rows that stray over
        the decision boundary climb back by the gradient of ``log p(y)`` before they go on. Rows
        that never agree keep their start. With ``False`` the best iterate is kept, whatever it is
        taken for.

    Returns
    -------
    AscentResult
        Row by row; nothing in it requires gradients.
    """
    walk = objective is None
    origin = torch.zeros_like(z_0) if start is None else _project(start, radius)
    reach = origin if direction is None else radius * normalise(direction)
    if walk and direction is None:
        max_iter = 0
    step = _WAY_PER_RADIUS * radius / max(max_iter, 1)
    u = origin
    best: AscentResult | None = None
    best_value = torch.full((len(z_0),), -torch.inf, device=z_0.device, dtype=z_0.dtype)

    for iteration in range(max_iter + 1):
        last = iteration == max_iter
        climbing = not walk and not last
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
                towards_label = log_mean.gather(1, y[:, None])[:, 0]
                goal = torch.where(agreement, value, towards_label) if constrain else value
                (gradient,) = torch.autograd.grad(goal.sum(), u)

        with torch.no_grad():
            value = value.detach()
            candidate = AscentResult(
                images=images.detach(),
                latents=(z_0 + scale * u).detach(),
                displacement=displacement_norm(u.detach()),
                uncertainty=mutual_information(log_probs.detach()).clamp_min(0),
                agreement=agreement,
            )
            better = value >= best_value
            if constrain:
                better = better & agreement
            best = candidate if best is None else _choose(better, candidate, best)
            best_value = torch.where(better, value, best_value)
            if climbing:
                u = _project(u + step * normalise(gradient), radius)
            elif not last:
                u = torch.lerp(origin, reach, (iteration + 1) / max_iter)
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


def _choose(condition: Tensor, one: AscentResult, other: AscentResult) -> AscentResult:
    """Take each row from one result where the condition holds, else from the other."""

    def pick(a: Tensor, b: Tensor) -> Tensor:
        return torch.where(_per_row(condition, a), a, b)

    return AscentResult(*(pick(getattr(one, f), getattr(other, f)) for f in one.__annotations__))
