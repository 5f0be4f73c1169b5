"""Evidence in images for a class, and the smallest change that takes it away."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from tsynd_sk._utils._inference import InferenceCopy

# Variation over positions below this share of the values is rounding.
_ROUNDING = 1e-6
# Halvings of the way back, after which nothing is left to see.
_HALVINGS = 12


def eigen_grad_cam(
    module: nn.Module,
    x: Tensor,
    targets: int | Sequence[int] | Tensor | None = None,
    *,
    layer: str | nn.Module | None = None,
    to_scores: Callable[[Any], Tensor] | None = None,
    size: Sequence[int] | None = None,
    batch_size: int = 256,
) -> Tensor:
    r"""Map where in images a network finds evidence for a class.

    A private copy of the network computes, in evaluation mode.

    Parameters
    ----------
    module : Module
        Classifier. It returns scores (n, n_classes), best of all logits, or a tuple of which they
        are the first; (n,) or (n, 1) are the logit of the second of two classes.
    x : Tensor of shape (n, ...)
        Images as the network sees them.
    targets : int, sequence of int, Tensor of shape (n,) or None, default=None
        Index of the class that is asked about, for all images or for each. ``None``: the class with
        the highest score.
    layer : str, Module or None, default=None
        Layer whose activations are mapped, or its dotted name: one that returns tensors (n,
        channels, height, width) of more than one position. Its last call counts. ``None``: the
        layer that returns the last of such tensors.
    to_scores : callable or None, default=None
        Turns another output of the network into scores (n, n_classes).
    size : (int, int) or None, default=None
        Height and width of the maps. ``None``: the last two sides of `x`.
    batch_size : int, default=256
        Images at a time.

    Returns
    -------
    Tensor of shape (n, height, width), float32
        A map for each image, from 0 to 1; all 0 where no position differs from another.

    Raises
    ------
    ValueError
        If the network has no such layer, or its scores do not depend on it or are not finite.

    See Also
    --------
    AttributionDisplay : Draws the maps over images.

    Notes
    -----
    Eigen-CAM [1]_ is the first principal component of a layer's activations, over positions as
    samples and channels as features. EigenGradCAM, which goes back to the package pytorch-grad-cam
    [2]_, weights the activations :math:`A` by the gradients of the class score :math:`s` first:

    .. math:: B = A \odot \frac{\partial s}{\partial A}, \qquad m = (B - \bar B)\, v_1,

    where rows are positions, :math:`\bar B` is their mean and :math:`v_1` the first right singular
    vector of :math:`B - \bar B`, with the sign by which the map correlates positively with the mean
    of :math:`B` over channels, to first order what a position adds to the score. Values below 0 are
    set to 0, and maps enlarged bilinearly and divided by their maxima, so that values cannot be
    compared between images.

    References
    ----------
    .. [1] M. B. Muhammad, M. Yeasin, "Eigen-CAM: Class Activation Map using Principal Components",
       IJCNN 2020.
    .. [2] J. Gildenblat and contributors, "PyTorch library for CAM methods",
       https://github.com/jacobgil/pytorch-grad-cam, 2021.

    Examples
    --------
    >>> import torch
    >>> from tsynd_sk.inspection import eigen_grad_cam
    >>> from tsynd_sk.classifiers import ConvNet
    >>> net = ConvNet((1, 28, 28), n_classes=2)
    >>> eigen_grad_cam(net, torch.rand(5, 1, 28, 28), targets=1).shape
    torch.Size([5, 28, 28])
    """
    # torch.compile wraps what has the layers, and knows no hooks that come later.
    module = getattr(module, "_orig_mod", module)
    # The user may have switched gradients off.
    with torch.inference_mode(False), torch.enable_grad():
        x = x.detach()
        device = next(module.parameters(), x).device
        network = InferenceCopy(module, to_scores or _scores)
        example = x[:2].to(device)
        network.prepare(example)
        name = _layer_name(module, layer, _spatial_layers(network, example))
        codes = None if targets is None else torch.as_tensor(targets).expand(len(x))
        parts = []
        for rows in torch.arange(len(x)).split(batch_size):
            own = None if codes is None else codes[rows]
            # A copy, for gradients cannot be taken of images that were made in inference mode.
            part = x[rows].to(device)
            parts.append(_projection(*_activations(network, name, part, own)))
        # Scaled before it is narrowed, too: gradients may be too small for float32.
        maps = _to_maximum_of_one(torch.cat(parts).clamp(min=0)).float()[:, None]
        size = list(size or x.shape[-2:])
        maps = functional.interpolate(maps, size, mode="bilinear", align_corners=False)[:, 0]
        return _to_maximum_of_one(maps).to(x.device)


def _scores(output: Any) -> Tensor:
    """Return scores of classes from what a network returns."""
    scores = output[0] if isinstance(output, tuple) else output
    if isinstance(scores, Tensor) and (scores.ndim == 1 or scores.shape[1:] == (1,)):
        logit = scores.reshape(-1)
        return torch.stack([-logit, logit], 1)
    return scores


def _is_spatial(output: Any, n: int) -> bool:
    is_batch = isinstance(output, Tensor) and output.ndim == 4 and len(output) == n
    return is_batch and output.shape[-1] * output.shape[-2] > 1


def _spatial_layers(network: InferenceCopy, x: Tensor) -> list[str]:
    """Return names of the layers with spatial output, in the order of their last calls."""
    found: dict[str, None] = {}

    def note(name: str, layer: nn.Module, inputs: Any, output: Any) -> None:
        if _is_spatial(output, len(x)):
            found.pop(name, None)
            found[name] = None

    layers = network.module.named_modules()
    hooks = [part.register_forward_hook(partial(note, name)) for name, part in layers if name]
    with torch.no_grad():
        network.module(x)
    for hook in hooks:
        hook.remove()
    return list(found)


def _layer_name(module: nn.Module, layer: Any, spatial: list[str]) -> str:
    """Return the name of the layer that is asked for; raise if it cannot be mapped."""
    kind, wanted = module._get_name(), "that returns tensors (n, channels, height, width) of more"
    if not spatial:
        raise ValueError(
            f"{kind} must have a layer {wanted} than one position, for instance a convolution"
        )
    if isinstance(layer, nn.Module):
        names = (name for name, part in module.named_modules() if part is layer)
        layer = next(names, layer)
    if layer is None:
        return spatial[-1]
    if layer not in spatial:
        raise ValueError(
            f"layer must be one of {kind} {wanted} than one position, or its name, "
            f"{', '.join(spatial)}; got {layer!r:.100}"
        )
    return layer


def _activations(
    network: InferenceCopy, name: str, x: Tensor, targets: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Return activations of a layer, and gradients of class scores by them."""
    kept: list[Tensor] = []

    def keep(layer, inputs, output) -> Tensor | None:
        if not _is_spatial(output, len(x)):
            return None
        kept[:] = [output.detach().requires_grad_()]
        # The next layer may write on what it gets.
        return kept[0].clone()

    hook = dict(network.module.named_modules())[name].register_forward_hook(keep)
    scores = network(x)
    hook.remove()
    if not isinstance(scores, Tensor) or scores.ndim != 2 or len(scores) != len(x):
        raise ValueError(
            f"{network.name} must return scores of shape (n, n_classes); got "
            f"{getattr(scores, 'shape', type(scores))}. Convert what it returns by to_scores"
        )
    codes = scores.argmax(1) if targets is None else targets.to(scores.device)
    own = scores.gather(1, codes[:, None]).sum()
    grads = torch.autograd.grad(own, kept[0], allow_unused=True)[0] if own.requires_grad else None
    if grads is None:
        raise ValueError(
            f"the scores of {network.name} must be differentiable with respect to layer {name!r}"
        )
    if not (scores.isfinite().all() and grads.isfinite().all()):
        raise ValueError(
            f"the scores of {network.name}, or their gradients, are NaN or infinite: train it "
            "again with a lower lr, or on images scaled to values between 0 and 1"
        )
    return kept[0].detach(), grads


def _projection(activations: Tensor, grads: Tensor) -> Tensor:
    """Return the first principal component over positions, signed: (n, height, width), float64."""
    # In double precision, which not all accelerators have.
    product = activations.cpu().double() * grads.cpu().double()
    by_position = product.flatten(2).transpose(1, 2)
    centred = by_position - by_position.mean(1, keepdim=True)
    first = torch.linalg.svd(centred, full_matrices=False)[2][:, 0]
    projection = torch.einsum("npc,nc->np", centred, first)
    agreement = (projection * centred.mean(2)).sum(1, keepdim=True)
    projection = torch.where(agreement < 0, -projection, projection)
    level = by_position.abs().amax((1, 2))[:, None]
    projection = torch.where(projection.abs() > _ROUNDING * level, projection, 0)
    return projection.unflatten(1, product.shape[2:])


def _to_maximum_of_one(maps: Tensor) -> Tensor:
    peak = maps.amax((1, 2), keepdim=True)
    return maps / torch.where(peak > 0, peak, 1)


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
    """Change images within limits as `PerturbationDisplay.from_estimator` says.

    The gradient of log-odds does not vanish where the network is sure.
    """
    budget = eps * (limits[1] - limits[0])
    # In all, beyond the budget: paths are not straight.
    step = 2.5 * budget / max_iter

    def odds_and_proba(z: Tensor) -> tuple[Tensor, Tensor]:
        log_p = log_proba(z)
        own = functional.one_hot(targets, log_p.shape[1]).bool()
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
    """Move ends towards their start by bisection, as long as they stay across."""
    with torch.no_grad():
        across = crossed(end)
        far, near = x.new_ones(len(x)), x.new_zeros(len(x))
        for _ in range(_HALVINGS):
            middle = (near + far) / 2
            stays = crossed(torch.lerp(x, end, _wide(middle, x)))
            far = torch.where(stays & across, middle, far)
            near = torch.where(stays, near, middle)
        return torch.lerp(x, end, _wide(far, x))


def _wide(values: Tensor, x: Tensor) -> Tensor:
    return values.view(-1, *[1] * (x.ndim - 1))


def _unit(gradient: Tensor) -> Tensor:
    """Scale every gradient to a root mean square of 1, or leave it at 0."""
    # First by its largest value, for the square of a small one may be nothing.
    largest = _wide(gradient.flatten(1).abs().amax(1), gradient)
    gradient = gradient / torch.where(largest > 0, largest, 1)
    length = _rms(gradient)
    return gradient / torch.where(length > 0, length, 1)


def _rms(x: Tensor) -> Tensor:
    """Root mean square of every image, ready to be multiplied with it."""
    return _wide(x.flatten(1).square().mean(1).sqrt(), x)
