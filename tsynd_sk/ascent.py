"""Gradient ascent in latent space: move codes, within a trust region, to where a goal is high.

The ascent works in units of latent standard deviations: ``u = (z - z_0) / scale``. Each step
goes along a running sum of normalised gradients, after which ``u`` is projected back into the ball
around the code of the source image; steps become shorter from the first to the last. Of all points
on the way, the best admissible one is kept.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from tsynd_sk._utils._validation import at_least, check_number, type_name
from tsynd_sk.uncertainty import mean_log_proba, mutual_information, predictive_entropy

__all__ = ["OBJECTIVES", "AscentResult", "Objective", "ascend", "displacement_norm", "normalise"]

#: An objective maps member log-probabilities (n_members, n, n_classes) and labels (n,) to (n,).
Objective = Callable[[Tensor, Tensor], Tensor]

#: Is told, step by step, of the points that have been reached.
StepCallback = Callable[[int, Tensor, "AscentResult"], Any]

#: Objectives by name.
OBJECTIVES: dict[str, Objective] = {
    "mutual_info": lambda log_probs, y: mutual_information(log_probs),
    "entropy": lambda log_probs, y: predictive_entropy(log_probs),
}

# The first step is this multiple of the radius, divided by the number of steps, and the last one
# this share of it: the surface of the ball is reached soon, and then searched ever more closely.
# Momentum as in Dong et al. (2018). Steps of one length zigzag along the decision boundary.
_FIRST_STEP, _LAST_STEP, _MOMENTUM = 4.0, 0.25, 0.6

# Relative rise below which a value is taken to stand still.
_TOLERANCE = 1e-3


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
        Mutual information of `images`, in nats, whatever the objective was.
    agreement : Tensor of shape (n,), bool
        Whether the members' mean prediction at `images` is the label.

    Examples
    --------
    >>> import torch
    >>> from tsynd_sk.ascent import AscentResult
    >>> uncertainty = torch.tensor([0.1, 0.3, 0.2])
    >>> result = AscentResult(
    ...     images=torch.zeros(3, 1, 8, 8),
    ...     latents=torch.zeros(3, 4),
    ...     displacement=torch.full((3,), 0.5),
    ...     uncertainty=uncertainty,
    ...     agreement=torch.tensor([True, False, True]),
    ... )
    >>> agreeing = result.rows(result.agreement)
    >>> agreeing.images.shape, agreeing.uncertainty
    (torch.Size([2, 1, 8, 8]), tensor([0.1000, 0.2000]))
    """

    images: Tensor
    latents: Tensor
    displacement: Tensor
    uncertainty: Tensor
    agreement: Tensor

    def rows(self, chosen: Tensor) -> AscentResult:
        """Give the result of some rows alone.

        Parameters
        ----------
        chosen : Tensor of shape (n_rows,) or (n,)
            Indices of rows, or a mask.

        Returns
        -------
        AscentResult
            Of these rows.
        """
        return AscentResult(*(getattr(self, field.name)[chosen] for field in fields(self)))

    def with_rows(self, rows: Tensor, new: AscentResult) -> AscentResult:
        """Give the result with new values of some rows.

        Parameters
        ----------
        rows : Tensor of shape (n_rows,)
            Indices of the rows.
        new : AscentResult
            Their values, in this order.

        Returns
        -------
        AscentResult
            Of all rows; this one stays as it is.
        """
        return AscentResult(
            *(
                getattr(self, field.name).index_copy(0, rows, getattr(new, field.name))
                for field in fields(self)
            )
        )


def displacement_norm(u: Tensor) -> Tensor:
    """Root mean square of each row of a displacement.

    Parameters
    ----------
    u : Tensor of shape (n, ...), floating
        Displacements of codes.

    Returns
    -------
    Tensor of shape (n,), of the dtype of `u`
        In the unit of `u`, which is a latent standard deviation in this module.

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
        Finite values, however small.

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
    direction: Tensor | None = None,
    start: Tensor | None = None,
    scale: Tensor | float = 1.0,
    radius: float = 0.25,
    max_iter: int = 10,
    constrain: bool = False,
    n_iter_no_change: int | None = 5,
    callback: StepCallback | None = None,
) -> AscentResult:
    """Maximise an objective of the decoded image inside a latent trust region.

    Parameters
    ----------
    members : callable
        Maps images (n, ...) to log-probabilities (n_members, n, n_classes); see
        `tsynd_sk.uncertainty`.
    decode : callable
        Maps codes to images. Its weights should not require gradients.
    z_0 : Tensor of shape (n, ...), floating, of the dtype that `decode` takes
        Codes of the source images: the centres of the trust regions.
    y : Tensor of shape (n,), int64
        Labels of the source images, as columns of the log-probabilities.
    objective : callable or None, default=mutual information
        Maps log-probabilities (n_members, n, n_classes) and ``y`` to values (n,). With ``None``
        nothing is maximised: the codes go along `direction`, or stay where they start.
    direction : Tensor of the shape and dtype of `z_0` or None, default=None
        With ``objective=None``, the way to go, in latent standard deviations of any length; the
        surface of the trust region is reached at the last step.
    start : Tensor of the shape and dtype of `z_0` or None, default=None
        First displacement, in latent standard deviations; none by default.
    scale : Tensor broadcastable to `z_0` or float, default=1.0
        Standard deviation of each latent coordinate.
    radius : float, default=0.25
        Largest root-mean-square displacement, in latent standard deviations.
    max_iter : int, default=10
        Number of steps. With 0 the result is the start.
    constrain : bool, default=False
        Whether to keep the best iterate at which the members' mean prediction is `y`, and not the
        best one whatever it is taken for. Rows that stray over the decision boundary then climb
        back by the gradient of ``log p(y)`` before they go on. Rows that never agree keep their
        start.
    n_iter_no_change : int or None, default=5
        A row is finished when its best value has not risen, by more than a thousandth, for so many
        steps; the ascent goes on with the others alone. ``None``: never before `max_iter` steps.
        Ignored with ``objective=None``.
    callback : callable or None, default=None
        Called with ``(step, rows, points)`` at every point of the way, the start (step 0)
        included: the rows still going, a Tensor of shape (n_going,), and an `AscentResult` of
        theirs. It sees the tensors that the ascent goes on with, and must not change them.

    Returns
    -------
    AscentResult
        Row by row; nothing in it requires gradients.

    Raises
    ------
    TypeError
        If codes or labels are no tensors, a function is not callable, or a number is none.
    ValueError
        If shapes or dtypes do not fit, a number is out of its range, `y` holds no columns of the
        log-probabilities, or `members`, `decode` or `objective` cannot be differentiated or give
        tensors of another shape.

    Examples
    --------
    >>> import torch
    >>> from tsynd_sk.ascent import ascend
    >>> def members(images):
    ...     logits = torch.stack([images, torch.zeros_like(images)], dim=-1)
    ...     return torch.stack([logits, 2 * logits]).log_softmax(-1)
    >>> way = []
    >>> z_0, y = torch.tensor([0.1, 0.2]), torch.tensor([0, 0])
    >>> result = ascend(
    ...     members,
    ...     lambda z: z[:, 0],
    ...     z_0[:, None],
    ...     y,
    ...     max_iter=4,
    ...     callback=lambda step, rows, points: way.append(points.uncertainty),
    ... )
    >>> len(way), bool((result.uncertainty >= way[0]).all())
    (5, True)
    """
    check_codes(z_0, y, start=start, direction=direction)
    check_ways(members=members, decode=decode, objective=objective, callback=callback)
    check_number("radius", radius, 0.0)
    max_iter = at_least("max_iter", max_iter, 0)
    if n_iter_no_change is not None:
        n_iter_no_change = at_least("n_iter_no_change", n_iter_no_change, 1)
    walk = objective is None
    origin = torch.zeros_like(z_0) if start is None else _project(start, radius)
    reach = origin if direction is None else radius * normalise(direction)
    if walk and direction is None:
        max_iter = 0
    patience = max_iter + 1 if n_iter_no_change is None else n_iter_no_change
    first_step = _FIRST_STEP * radius / max(max_iter, 1)
    scale = checked_scale(scale, z_0)
    u, way, row = origin, torch.zeros_like(z_0), torch.arange(len(z_0), device=z_0.device)
    record: _Record | None = None

    for iteration in range(max_iter + 1):
        last = iteration == max_iter
        climbing = not walk and not last
        labels, codes = y[row], z_0[row]
        with torch.set_grad_enabled(climbing):
            u = u.detach().requires_grad_(climbing)
            images = decode(codes + _rows(scale, row, u.ndim) * u)
            log_probs = members(images)
            log_mean = mean_log_proba(log_probs)
            if iteration == 0:
                check_classes(y, log_mean.shape[1])
            agreement = log_mean.argmax(-1) == labels
            value = displacement_norm(u) if objective is None else objective(log_probs, labels)
            if climbing and not (images.requires_grad and log_probs.requires_grad):
                raise ValueError(
                    "decode and members must be differentiable: their output does not depend, by "
                    "torch operations, on the codes; is there a torch.no_grad or detach in them?"
                )
            check_value(value, len(row), must_differentiate=climbing)
            if climbing:
                towards_label = log_mean.gather(1, labels[:, None])[:, 0]
                goal = torch.where(agreement, value, towards_label) if constrain else value
                (gradient,) = torch.autograd.grad(goal.sum(), u)

        with torch.no_grad():
            u = u.detach()
            candidate = AscentResult(
                images=images.detach(),
                latents=codes + _rows(scale, row, u.ndim) * u,
                displacement=displacement_norm(u),
                uncertainty=mutual_information(log_probs.detach()),
                agreement=agreement,
            )
            admissible = agreement if constrain else torch.ones_like(agreement)
            record = record or _Record(candidate)
            record.update(row, candidate, value.detach(), admissible)
            if callback is not None:
                callback(iteration, row, candidate)
            if climbing:
                going = record.idle[row] < patience
                way = _MOMENTUM * way + normalise(gradient)
                step = first_step * _LAST_STEP ** (iteration / max(max_iter - 1, 1))
                u = _project(u + step * normalise(way), radius)
                row, u, way = row[going], u[going], way[going]
                if len(row) == 0:
                    break
            elif not last:
                u = torch.lerp(origin, reach, (iteration + 1) / max_iter)
    assert record is not None
    return record.best


class _Record:
    """Best admissible point of each row so far, and for how many steps it has stood.

    Rows without an admissible point hold their start, and are not idle: they are on their way.
    """

    def __init__(self, start: AscentResult):
        self.best = start
        n_rows = len(start.uncertainty)
        self.value = start.uncertainty.new_full((n_rows,), -torch.inf)
        self.idle = torch.zeros(n_rows, dtype=torch.int64, device=self.value.device)

    def update(self, row: Tensor, new: AscentResult, value: Tensor, admissible: Tensor) -> None:
        """Compare the points of some rows with the best ones."""
        old = self.value[row]
        better = (value >= old) & admissible
        # What a first admissible point gains on none is infinite.
        gain = torch.where(better, value - old, 0.0)
        improved = gain > _TOLERANCE * old.abs().nan_to_num(posinf=0.0)
        waiting = old.isneginf() & ~better
        self.idle[row] = torch.where(improved | waiting, 0, self.idle[row] + 1)
        chosen = row[better]
        self.value[chosen] = value[better]
        if len(chosen) == len(self.value):
            self.best = new
        elif len(chosen):
            self.best = self.best.with_rows(chosen, new.rows(better))


def _rows(scale: Tensor, row: Tensor, n_dims: int) -> Tensor:
    """Rows of a scale that may differ between them."""
    return scale[row] if scale.ndim == n_dims and len(scale) > 1 else scale


def check_codes(z_0, y, **displacements: Any) -> None:
    for name, value in {"z_0": z_0, "y": y, **displacements}.items():
        if not isinstance(value, Tensor) and not (name in displacements and value is None):
            raise TypeError(f"{name} must be a Tensor, got {type_name(value)}")
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
            raise TypeError(f"{name} must be callable, got {type_name(function)}")
    if objective is not None and not callable(objective):
        raise TypeError(
            f"objective must be callable or None, got {objective!r}; OBJECTIVES has those with "
            "names"
        )
    if callback is not None and not callable(callback):
        raise TypeError(f"callback must be callable or None, got {type_name(callback)}")


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
