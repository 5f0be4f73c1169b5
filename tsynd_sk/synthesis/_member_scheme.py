"""What the members of a synthesizer are made of, as its parameters say."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from tsynd_sk import _skorch
from tsynd_sk.members import (
    DropoutMembers,
    EnsembleMembers,
    JoinedMembers,
    LaplaceMembers,
    LastLayerPosterior,
    is_random,
    last_layer_posterior,
    strengthen_prior,
)

#: What members may be made of.
KINDS = ("auto", "dropout", "laplace", "ensemble")


def resolve_kind(
    params: Any, net: Any, n_nets: int, x: Tensor
) -> tuple[str, LastLayerPosterior | None]:
    """Return what the members of a net, one of `n_nets`, are made of; it need not be trained.

    With "laplace", the second is a posterior from the images `x`.
    """
    kind = params.members
    if kind == "ensemble" and n_nets == 1:
        raise ValueError("members='ensemble' needs a list of classifiers; got one classifier")
    if kind == "auto" and n_nets > 1:
        kind = "ensemble"
    if kind in ("dropout", "ensemble"):
        return kind, None
    module = _skorch.network_of(net)
    if kind == "auto" and is_random(module, x):
        return "dropout", None
    return "laplace", last_layer_posterior(module, _skorch.log_proba_head(net), [x])


def fit_posterior(
    net: Any, batches: Iterable[Tensor], judged: Sequence[Tensor]
) -> LastLayerPosterior:
    """Fit the posterior of a net's last layer to all training images, of which some are `judged`.

    It is made so narrow that members classify these.
    """
    module, head = _skorch.network_of(net), _skorch.log_proba_head(net)
    device = _skorch.device_of(net)
    posterior = last_layer_posterior(module, head, (batch.to(device) for batch in batches))
    return strengthen_prior(posterior, module, head, [batch.to(device) for batch in judged])


def make_members(
    params: Any,
    kind: str,
    nets: Sequence[Any],
    posteriors: Sequence[LastLayerPosterior | None],
    device: torch.device,
    decisions: Sequence[dict],
) -> Any:
    """Make the members of nets; for the kind "laplace" each net has a posterior.

    `decisions` are those of `DropoutMembers`, of each net and each way to make its members.
    """
    modules = list(map(_skorch.network_of, nets))
    heads = list(map(_skorch.log_proba_head, nets))
    if kind == "ensemble":
        return EnsembleMembers(modules, heads, device=device)
    groups: list[Any] = []
    way = f"{kind}, restrict={params.restrict}"
    for module, head, posterior, decided in zip(modules, heads, posteriors, decisions, strict=True):
        found = decided.setdefault(way, {})
        given = {"n_members": params.n_members, "device": device, "decisions": found}
        if posterior is not None and kind == "laplace":
            groups.append(LaplaceMembers(module, head, posterior, **given))
        else:
            groups.append(DropoutMembers(module, head, restrict=params.restrict, **given))
    return groups[0] if len(groups) == 1 else JoinedMembers(groups)
