"""The smallest change of an image that makes a network doubt its class."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import one_hot

# Halvings of the way to what was found, after which nothing is left to see.
_HALVINGS = 12


def minimal_perturbation(
    log_proba: Callable[[Tensor], Tensor],
    x: Tensor,
    targets: Tensor,
    *,
    limits: tuple[float, float],
    threshold: float,
    eps: float,
    max_iter: int,
) -> Tensor:
    """Lower the probability of a class below a threshold, changing images as little as possible.

    Steps go down the gradient of the log-odds, which does not vanish where the network is sure.
    `eps` bounds the root mean square of the change, as a fraction of the range `limits` of values;
    for the rest see `PerturbationDisplay.from_estimator`.
    """
    budget = eps * (limits[1] - limits[0])
    # Beyond the budget in all, as is usual for projected gradient descent: paths are not straight.
    step = 2.5 * budget / max_iter

    def odds_and_proba(z: Tensor) -> tuple[Tensor, Tensor]:
        log_p = log_proba(z)
        own = one_hot(targets, log_p.shape[1]).bool()
        others = log_p.masked_fill(own, -torch.inf).logsumexp(1)
        return log_p[own] - others, log_p[own].exp()

    z, best = x, x
    lowest = torch.full((len(x),), torch.inf, device=x.device)
    for k in range(max_iter + 1):
        z = z.detach().requires_grad_()
        with torch.enable_grad():
            odds, proba = odds_and_proba(z)
            [gradient] = torch.autograd.grad(odds.sum(), z)
        below = odds.detach() < lowest
        best = torch.where(_wide(below, x), z.detach(), best)
        lowest = torch.where(below, odds.detach(), lowest)
        found = proba.detach() < threshold
        if k == max_iter or found.all():
            break
        change = z.detach() - step * _unit(gradient) - x
        change = change * (budget / _rms(change).clamp(min=budget))
        # Images lie within the limits, so that this takes none further from its start.
        z = torch.where(_wide(found, x), z.detach(), (x + change).clamp(*limits))
    nearest = _halve_back(lambda y: odds_and_proba(y)[1] < threshold, x, best)
    # Rounding may lift what lies on the border.
    return nearest.clamp(*limits)


def _halve_back(crossed: Callable[[Tensor], Tensor], x: Tensor, end: Tensor) -> Tensor:
    """Move ends towards their start by bisection, for as long as they stay across."""
    with torch.no_grad():
        across = crossed(end)
        far, near = x.new_ones(len(x)), x.new_zeros(len(x))
        for _ in range(_HALVINGS):
            middle = (near + far) / 2
            stays = crossed(torch.lerp(x, end, _wide(middle, x)))
            far = torch.where(stays & across, middle, far)
            near = torch.where(~stays & across, middle, near)
        already = across & crossed(x)
        return torch.where(_wide(already, x), x, torch.lerp(x, end, _wide(far, x)))


def _wide(values: Tensor, x: Tensor) -> Tensor:
    return values.view(-1, *[1] * (x.ndim - 1))


def _unit(gradient: Tensor) -> Tensor:
    """Scale every gradient to a root mean square of 1, or leave it at 0."""
    # In two steps, for the square of a small one may be nothing.
    for size in (lambda g: _wide(g.flatten(1).abs().amax(1), g), _rms):
        length = size(gradient)
        gradient = gradient / torch.where(length > 0, length, 1)
    return gradient


def _rms(x: Tensor) -> Tensor:
    """Root mean square of every image, ready to be multiplied with it."""
    return _wide(x.flatten(1).square().mean(1).sqrt(), x)
