"""A prior strong enough for members of a last layer to agree with their network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tsynd_sk._utils._inference import private_copy
from tsynd_sk.members._laplace_posterior import STRONGEST_PRIOR, LastLayerPosterior
from tsynd_sk.members._last_layer import only_call, recorded

# The precision of the prior rises by this factor until members are this faithful to their network
# (see `_fidelity`).
_FIDELITY, _STRONGER = 0.99, 10**0.5

# Number of members to judge by.
_N_JUDGES = 16


class _Judged:
    """A network on some images, computed once up to its last layer.

    The rest of the network treats rows separately, so the layer's outputs for all images and
    members replace that of one row in a single pass. If this gives other values (a connection
    around the layer), every member needs its own forward passes.
    """

    def __init__(
        self,
        module: nn.Module,
        to_log_proba: Callable[[Tensor], Tensor],
        posterior: LastLayerPosterior,
        batches: Sequence[Tensor],
    ):
        self._network, self._to_log_proba = private_copy(module), to_log_proba
        layers = dict(self._network.named_modules())
        self._layer = cast(nn.Linear, layers[posterior.layer])
        self._batches = [x for x in batches if len(x)]
        features, log_probs = [], []
        for x in self._batches:
            with recorded({posterior.layer: self._layer}) as calls:
                log_probs.append(to_log_proba(self._network(x)))
            features.append(only_call(calls, posterior.layer, log_probs[-1]).features)
        self._features, self.proba = torch.cat(features), torch.cat(log_probs).exp()
        outputs = self._outputs(posterior.weight, posterior.bias)
        try:
            replayed = self._replay(self._batches[0][:1], outputs).exp()
            self._at_once = replayed.shape == self.proba.shape and torch.allclose(
                replayed, self.proba, rtol=1e-3, atol=1e-3
            )
        except RuntimeError:
            self._at_once = False

    def _outputs(self, weight: Tensor, bias: Tensor | None) -> Tensor:
        like = self._features
        return F.linear(like, weight.to(like), None if bias is None else bias.to(like))

    def _replay(self, x: Tensor, outputs: Tensor) -> Tensor:
        """Predict with other outputs of the last layer."""
        hook = self._layer.register_forward_hook(lambda *_: outputs.clone(), prepend=True)
        try:
            return self._to_log_proba(self._network(x))
        finally:
            hook.remove()

    def members(self, posterior: LastLayerPosterior) -> Tensor:
        """Return log-probabilities of the members for all images."""
        generator = torch.Generator().manual_seed(0)
        outputs = [self._outputs(*posterior.sample(generator)) for _ in range(_N_JUDGES)]
        if self._at_once:
            log_probs = self._replay(self._batches[0][:1], torch.cat(outputs))
            return log_probs.unflatten(0, (_N_JUDGES, -1))
        sizes = [len(x) for x in self._batches]
        parts = [zip(self._batches, each.split(sizes), strict=True) for each in outputs]
        return torch.stack([torch.cat([self._replay(*pair) for pair in part]) for part in parts])


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

    Parameters
    ----------
    posterior : LastLayerPosterior
        Of this network.
    module, to_log_proba
        See `last_layer_posterior`.
    batches : sequence of Tensor
        Some of the images that the network was trained on.
    """
    judged = _Judged(module, to_log_proba, posterior, batches)
    while posterior.prior_precision < STRONGEST_PRIOR:
        if _fidelity(judged.members(posterior), judged.proba) >= _FIDELITY:
            break
        stronger = min(_STRONGER * posterior.prior_precision, STRONGEST_PRIOR)
        posterior = replace(posterior, prior_precision=stronger)
    return posterior


def _fidelity(log_probs: Tensor, proba: Tensor) -> float:
    """Return the network's mean probability of its members' predictions, over that of its own.

    If a network is undecided, members may predict either class.
    """
    chosen = log_probs.argmax(-1, keepdim=True)
    theirs = proba.expand_as(log_probs).gather(-1, chosen).mean(0)
    return float(theirs.sum() / proba.amax(-1).sum())
