"""How the members of fitted nets are made: the scheme that a synthesizer's parameters describe."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
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
    last_layer_posterior,
    random_layers,
    strengthen_prior,
)

#: What members may be made of.
KINDS = ("auto", "dropout", "laplace", "ensemble")

#: Training images that serve to judge the members of a last layer.
N_JUDGED = 256


@dataclass(frozen=True)
class MemberScheme:
    """How members are made of one net or of an ensemble; see `TargetedSynthesizer`.

    `resolve_kind` makes "dropout" or "laplace" of the kind "auto".
    """

    kind: str
    n_members: int
    restrict: Any

    def resolve_kind(self, nets: Sequence[Any], x: Tensor) -> str:
        """Return what members of nets are made of; raise if one of them can have none.

        The nets are initialised, but need not be trained; `x` are some images.
        """
        if self.kind == "ensemble" and len(nets) < 2:
            raise ValueError("members='ensemble' needs a list of classifiers; got one classifier")
        for net in nets:
            kind, _ = self._resolve(net, x)
        return kind

    def untrained_members(self, net: Any, x: Tensor) -> Any:
        """Make members of one net as it is, with a posterior from `x`; raise if it has none."""
        kind, posterior = self._resolve(net, x)
        scheme, device = replace(self, kind=kind), _skorch.device_of(net)
        return scheme.members([net], [posterior], seed=0, device=device)

    def _resolve(self, net: Any, x: Tensor) -> tuple[str, LastLayerPosterior | None]:
        module, head = _skorch.network_of(net), _skorch.log_proba_head(net)
        if self.kind == "ensemble":
            EnsembleMembers([module], [head])
            return "ensemble", None
        x = x[:2].to(_skorch.device_of(net))
        if self.kind != "laplace":
            required = self.kind == "dropout"
            if random_layers(module, x, restrict=self.restrict, required=required):
                return "dropout", None
        return "laplace", last_layer_posterior(module, head, [x])

    def posterior(
        self, net: Any, batches: Iterable[Tensor], judged: Sequence[Tensor]
    ) -> LastLayerPosterior:
        """Fit the last layer's posterior of a fitted net to batches of all training images.

        By some of them, `judged`, it is made so narrow that members are classifiers.
        """
        module, head = _skorch.network_of(net), _skorch.log_proba_head(net)
        device = _skorch.device_of(net)
        posterior = last_layer_posterior(module, head, (batch.to(device) for batch in batches))
        return strengthen_prior(posterior, module, head, [batch.to(device) for batch in judged])

    def members(
        self,
        nets: Sequence[Any],
        posteriors: Sequence[LastLayerPosterior | None],
        *,
        seed: int,
        device: torch.device,
        decisions: Sequence[dict] | None = None,
    ) -> Any:
        """Make the members of fitted nets from a seed.

        For the kind "laplace" each net has a posterior. `decisions` are of each net, on how its
        members are computed, see `DropoutMembers`; what is not in them yet is written into them.
        """
        modules = list(map(_skorch.network_of, nets))
        heads = list(map(_skorch.log_proba_head, nets))
        if self.kind == "ensemble":
            return EnsembleMembers(modules, heads, device=device)
        groups: list[Any] = []
        for k, (module, head) in enumerate(zip(modules, heads, strict=True)):
            params: dict[str, Any] = {
                "n_members": self.n_members,
                "device": device,
                "decisions": None if decisions is None else decisions[k],
            }
            if self.kind == "laplace":
                posterior = posteriors[k]
                assert posterior is not None
                groups.append(LaplaceMembers(module, head, posterior, **params))
            else:
                groups.append(DropoutMembers(module, head, restrict=self.restrict, **params))
        return (groups[0] if len(groups) == 1 else JoinedMembers(groups)).redrawn(seed)
