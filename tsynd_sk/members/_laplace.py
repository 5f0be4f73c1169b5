"""Members of one network by draws of its last layer, and a prior that keeps them faithful."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tsynd_sk._utils._inference import private_copy
from tsynd_sk._utils._tensors import same_values
from tsynd_sk.members._fixed_noise import Decisions, FixedNoiseMembers, Head
from tsynd_sk.members._laplace_posterior import STRONGEST_PRIOR, LastLayerPosterior
from tsynd_sk.members._last_layer import recorded
from tsynd_sk.members._noises import Noise

# The precision of the prior rises by this factor until members are this faithful to their network.
_FIDELITY, _STRONGER = 0.99, 10**0.5

# Number of members to judge by.
_N_JUDGES = 16


class LaplaceMembers(FixedNoiseMembers):
    """Members of one network by draws of its last linear layer; its dropout is off.

    Parameters
    ----------
    module : Module
        Network, with or without dropout.
    to_log_proba : callable
        As in `DropoutMembers`.
    posterior : LastLayerPosterior
        Result of `tsynd_sk.members.last_layer_posterior` for this network.
    n_members : int, default=16
        Number of draws.
    seed : int, default=0
        As in `DropoutMembers`.
    device : torch.device or None, default=None
        Device to predict on; by default that of the network.
    decisions : dict or None, default=None
        As in `DropoutMembers`.

    Raises
    ------
    TypeError, ValueError
        As in `DropoutMembers`, and if `posterior` was not fitted for this network as it is now.

    See Also
    --------
    DropoutMembers : For a network with random layers.
    last_layer_posterior : Fit the Gaussian that members are drawn from.

    Examples
    --------
    >>> import torch
    >>> from tsynd_sk.members import LaplaceMembers, last_layer_posterior
    >>> net, x = torch.nn.Linear(8, 3), torch.ones(5, 8)
    >>> def to_log_proba(logits):
    ...     return logits.log_softmax(-1)
    >>> posterior = last_layer_posterior(net, to_log_proba, [x])
    >>> LaplaceMembers(net, to_log_proba, posterior, n_members=4)(x).shape
    torch.Size([4, 5, 3])
    """

    def __init__(
        self,
        module: nn.Module,
        to_log_proba: Head,
        posterior: LastLayerPosterior,
        *,
        n_members: int = 16,
        seed: int = 0,
        device: torch.device | None = None,
        decisions: Decisions | None = None,
    ):
        if not posterior.is_of(module):
            raise ValueError(
                f"posterior does not belong to this {module._get_name()} as it is now: it is for a "
                f"linear layer {posterior.layer!r} with other weights. Fit it for this network, "
                "after its training"
            )
        # Nothing else is random, in particular not what functions drop.
        restrict = [posterior.layer or module._get_name()]
        noise = Noise(partial(_draw_weights, posterior), _linear, callable)
        self._only = posterior.layer, noise
        super().__init__(
            module,
            to_log_proba,
            n_members=n_members,
            seed=seed,
            device=device,
            restrict=restrict,
            decisions=decisions,
        )


def _draw_weights(posterior: LastLayerPosterior, layer: Any, generator, x: Tensor) -> tuple:
    return tuple(part.to(layer.weight) for part in posterior.sample(generator) if part is not None)


def _linear(layer: nn.Module, weights: tuple, x: Tensor) -> Tensor:
    return F.linear(x, *weights)


# Also in a caller's inference mode, whose tensors cannot be recorded.
@torch.inference_mode(False)
@torch.no_grad()
def strengthen_prior(
    posterior: LastLayerPosterior,
    module: nn.Module,
    to_log_proba: Callable[[Tensor], Tensor],
    batches: Sequence[Tensor],
) -> LastLayerPosterior:
    """Raise the precision of the prior until members agree with their network on training images.

    If it has memorised them, there is hardly any curvature, and the prior of the highest marginal
    likelihood gives members that misclassify them.
    """
    network, batches = private_copy(module), [x for x in batches if len(x)]
    layer = cast(nn.Linear, dict(network.named_modules())[posterior.layer])
    with recorded({posterior.layer: layer}) as calls:
        proba = torch.cat([to_log_proba(network(x)) for x in batches]).exp()
    features = torch.cat([call.features for call in calls])

    def outputs(weight: Tensor, bias: Tensor | None) -> Tensor:
        return F.linear(features, weight.to(features), None if bias is None else bias.to(features))

    def replay(outputs: Tensor) -> Tensor:
        hook = layer.register_forward_hook(lambda *_: outputs.clone(), prepend=True)
        try:
            return to_log_proba(network(batches[0][:1]))
        finally:
            hook.remove()

    # What follows the layer treats rows separately, so one pass serves all images and members; but
    # not with a connection around the layer.
    try:
        at_once = same_values(replay(outputs(posterior.weight, posterior.bias)).exp(), proba, 1e-3)
    except RuntimeError:
        at_once = False
    while posterior.prior_precision < STRONGEST_PRIOR:
        if at_once:
            generator = torch.Generator().manual_seed(0)
            drawn = [outputs(*posterior.sample(generator)) for _ in range(_N_JUDGES)]
            log_probs = replay(torch.cat(drawn)).unflatten(0, (_N_JUDGES, -1))
        else:
            members = LaplaceMembers(module, to_log_proba, posterior, n_members=_N_JUDGES)
            log_probs = torch.cat([members(x) for x in batches], 1)
        # How probable the network finds what its members predict, over what it predicts itself:
        # where it is undecided, members may predict either class.
        chosen = log_probs.argmax(-1, keepdim=True)
        agreed = proba.expand_as(log_probs).gather(-1, chosen).mean(0).sum()
        if float(agreed / proba.amax(-1).sum()) >= _FIDELITY:
            break
        stronger = min(_STRONGER * posterior.prior_precision, STRONGEST_PRIOR)
        posterior = replace(posterior, prior_precision=stronger)
    return posterior
