"""A prior strong enough for members of a last layer to agree with their network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tsynd_sk._utils._inference import private_copy
from tsynd_sk._utils._tensors import same_values
from tsynd_sk.members._laplace import LaplaceMembers
from tsynd_sk.members._laplace_posterior import STRONGEST_PRIOR, LastLayerPosterior
from tsynd_sk.members._last_layer import recorded

# The precision of the prior rises by this factor until members are this faithful to their network.
_FIDELITY, _STRONGER = 0.99, 10**0.5

# Number of members to judge by.
_N_JUDGES = 16


# Also in a caller's inference mode, whose tensors cannot be recorded.
@torch.inference_mode(False)
@torch.no_grad()
def strengthen_prior(
    posterior: LastLayerPosterior,
    module: nn.Module,
    to_log_proba: Callable[[Tensor], Tensor],
    batches: Sequence[Tensor],
) -> LastLayerPosterior:
    """Raise the precision of the prior until members agree with their network on some images.

    If a network has memorised few images, there is hardly any curvature, and the prior of the
    highest marginal likelihood gives members that misclassify these images.

    `batches` are some of the images that the network was trained on; for the others see
    `last_layer_posterior`.
    """
    network, batches = private_copy(module), [x for x in batches if len(x)]
    layer = cast(nn.Linear, dict(network.named_modules())[posterior.layer])
    with recorded({posterior.layer: layer}) as calls:
        proba = torch.cat([to_log_proba(network(x)) for x in batches]).exp()
    features = torch.cat([call.features for call in calls])

    def outputs(weight: Tensor, bias: Tensor | None) -> Tensor:
        return F.linear(features, weight.to(features), None if bias is None else bias.to(features))

    def replay(outputs: Tensor) -> Tensor:
        """Predict as if the layer returned these outputs."""
        hook = layer.register_forward_hook(lambda *_: outputs.clone(), prepend=True)
        try:
            return to_log_proba(network(batches[0][:1]))
        finally:
            hook.remove()

    # What follows the layer treats rows separately, so one pass serves all images and members. If
    # this gives other values (a connection around the layer), members make their own passes.
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
        # How probable the network finds what its members predict, over what it predicts itself. If
        # it is undecided, members may predict either class.
        chosen = log_probs.argmax(-1, keepdim=True)
        agreed = proba.expand_as(log_probs).gather(-1, chosen).mean(0).sum()
        if float(agreed / proba.amax(-1).sum()) >= _FIDELITY:
            break
        stronger = min(_STRONGER * posterior.prior_precision, STRONGEST_PRIOR)
        posterior = replace(posterior, prior_precision=stronger)
    return posterior
