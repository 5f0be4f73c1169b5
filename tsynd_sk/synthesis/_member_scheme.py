"""How the members of fitted nets are made: the scheme that a synthesizer's parameters describe."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from tsynd_sk import _skorch
from tsynd_sk._utils._inference import InferenceCopy, private_copy, without_fast_paths
from tsynd_sk.members import (
    DropoutMembers,
    EnsembleMembers,
    JoinedMembers,
    LaplaceMembers,
    LastLayerPosterior,
    Plan,
    Precision,
    Restriction,
    check_restriction,
    frozen,
    last_layer_posterior,
    nothing_random,
    restricted,
    trace,
    warn_of_resting,
)

#: What members may be made of.
KINDS = ("auto", "dropout", "laplace", "ensemble")


# Members of a last layer are to be this faithful to their net (see `_fidelity`) on its training
# images; until they are, the precision of their prior rises by this factor.
_FIDELITY, _STRONGER, _STRONGEST_PRIOR = 0.99, 10**0.5, 1e4

# Members, and images, that are asked for it.
_JUDGES, N_JUDGED = 16, 256


@dataclass(frozen=True)
class MemberScheme:
    """How members are made of one net or of an ensemble.

    Attributes
    ----------
    kind : {"auto", "dropout", "laplace", "ensemble"}
        "auto" is settled by `resolve_kind`.
    n_members, restrict, plan, precision
        See `TargetedSynthesizer`.
    """

    kind: str
    n_members: int
    restrict: Restriction
    plan: Plan = "auto"
    precision: Precision = "float32"

    def resolve_kind(self, net: Any, x: Tensor) -> str:
        """Say what members of a net are made of, and refuse a net that can have none.

        Parameters
        ----------
        net : skorch classifier
            Initialised; it need not be trained.
        x : Tensor of shape (n, ...)
            Some images.
        """
        if self.kind == "ensemble":
            self.members([net], [None], seed=0, device=_skorch.device_of(net))
            return self.kind
        restrict = check_restriction(self.restrict)
        if self.kind != "laplace":
            module, rows = _skorch.bare_module(net), x[:2].to(_skorch.device_of(net))
            found = trace(frozen(without_fast_paths(private_copy(module))), rows[:1])
            if found.sites:
                restricted(found.sites, restrict)
                if self.plan != "auto":
                    settled = replace(self, kind="dropout")
                    settled.members([net], [None], seed=0, device=rows.device).plan(rows)
                return "dropout"
            if self.kind == "dropout":
                raise ValueError(nothing_random(type(module).__name__, found.resting))
            if found.resting:
                warn_of_resting(type(module).__name__, found.resting)
        batches = [x[:2].to(_skorch.device_of(net))]
        last_layer_posterior(_skorch.bare_module(net), _skorch.log_proba_head(net), batches)
        return "laplace"

    def posterior(
        self, net: Any, batches: Iterable[Tensor], judged: Sequence[Tensor]
    ) -> LastLayerPosterior:
        """Fit the last layer's posterior of a net, narrow enough for its members to be classifiers.

        Parameters
        ----------
        net : skorch classifier
            Fitted.
        batches : iterable of Tensor
            All training images.
        judged : sequence of Tensor
            Some of them, in batches too.
        """
        module, head = _skorch.bare_module(net), _skorch.log_proba_head(net)
        device = _skorch.device_of(net)
        judged = [batch.to(device) for batch in judged]
        posterior = last_layer_posterior(module, head, (batch.to(device) for batch in batches))
        with torch.no_grad():
            network = InferenceCopy(module, head)
            proba = torch.cat([network(batch) for batch in judged]).exp()
            # Few images that a net has learnt by heart leave hardly any curvature, and the prior of
            # the highest marginal likelihood then gives members that contradict them.
            while posterior.prior_precision < _STRONGEST_PRIOR:
                members = LaplaceMembers(module, head, posterior, n_members=_JUDGES)
                log_probs = torch.cat([members(batch) for batch in judged], 1)
                if _fidelity(log_probs, proba) >= _FIDELITY:
                    break
                stronger = min(_STRONGER * posterior.prior_precision, _STRONGEST_PRIOR)
                posterior = replace(posterior, prior_precision=stronger)
        return posterior

    def members(
        self,
        nets: Sequence[Any],
        posteriors: Sequence[LastLayerPosterior | None],
        *,
        decisions: Any = None,
        snapshots: Sequence[nn.Module] = (),
        seed: int,
        device: torch.device,
    ) -> Any:
        """Make the members.

        Parameters
        ----------
        nets : sequence of skorch classifiers
            Fitted.
        posteriors : sequence of LastLayerPosterior or None
            For each net, where the scheme asks for it.
        snapshots : sequence of Module
            Earlier states of the first net, which are members too.
        seed : int
            Seed of what is drawn.
        device : torch.device
            Where to predict.
        """
        modules = [_skorch.bare_module(net) for net in nets]
        heads = [_skorch.log_proba_head(net) for net in nets]
        common: dict[str, Any] = {
            "device": device,
            "plan": self.plan,
            "precision": self.precision,
        }
        drawn: dict[str, Any] = {"n_members": self.n_members, **common}
        groups: list[Any]
        if self.kind == "ensemble":
            groups = [EnsembleMembers(modules, heads, **common)]
        elif self.kind == "laplace":
            groups = [
                LaplaceMembers(module, head, posterior, **drawn)
                for module, head, posterior in zip(modules, heads, posteriors, strict=True)
                if posterior is not None
            ]
        else:
            groups = [
                DropoutMembers(module, head, restrict=self.restrict, **drawn)
                for module, head in zip(modules, heads, strict=True)
            ]
        if snapshots:
            # Their batch cannot be folded, for they differ in their weights.
            common["plan"] = "auto"
            groups.append(EnsembleMembers(snapshots, heads[:1] * len(snapshots), **common))
        members = groups[0] if len(groups) == 1 else JoinedMembers(groups)
        return members.redrawn(seed)


def _fidelity(log_probs: Tensor, proba: Tensor) -> float:
    """Probability that a net gives what its members choose, as a share of what it gives its own.

    Where a net is undecided, members may be of either opinion.
    """
    chosen = log_probs.argmax(-1, keepdim=True)
    theirs = proba.expand_as(log_probs).gather(-1, chosen).mean(0)
    return float(theirs.sum() / proba.amax(-1).sum())
