"""Members of one network by draws of its last layer."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tsynd_sk.members._fixed_noise import Decisions, FixedNoiseMembers, Head
from tsynd_sk.members._laplace_posterior import LastLayerPosterior
from tsynd_sk.members._noises import Noise


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
