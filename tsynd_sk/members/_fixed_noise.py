"""A network whose noise is drawn once and fixed, and how all its members are computed.

Members are folded into the batch: what comes before the first random site is computed once, there
the activations are repeated for every member, and one large batch goes on. Where a connection goes
around the first random site, so that both meet again, `torch.func.vmap` tells what depends on the
members. Where neither can be (rows that meet each other, control flow that looks at values), the
members run one by one.

Which of these it is, is decided on two rows and two members, once for a network and a shape of
inputs. It is not decided by the clock: equal seeds are to give equal bits in every process, and the
three round differently.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.func import vmap
from torch.utils._pytree import tree_flatten, tree_leaves, tree_map, tree_unflatten

from tsynd_sk._utils._inference import PREPARING, InferenceCopy
from tsynd_sk._utils._validation import at_least, check_images, check_int, check_log_probs
from tsynd_sk.members._random_layers import (
    Restriction,
    check_restriction,
    nothing_random,
    restrict_sites,
    warn_of_resting,
)
from tsynd_sk.members._rng_guard import find_unsteady_part, keep_foreign_generators
from tsynd_sk.members._stochastic_sites import (
    Site,
    ValueWatch,
    Visitor,
    trace,
    visiting,
    without_noise,
)

#: How members are computed ("fold", "map" or "loop") by the shape of one row of the inputs.
Decisions = dict[tuple[int, ...], str]

# Beyond so many bytes a processor waits for its memory: rows then go in several batches.
_CACHE = 32 * 2**20

#: Draws of all members by site, with the members in front.
Draws = dict[str, Any]


class _Traced(NamedTuple):
    """What one row told about a network, and how its members are computed."""

    sites: dict[str, Site]
    functions: bool
    decision: str


class FixedNoiseNetwork:
    """Computes, from noise and images, the log-probabilities of all members.

    Parameters
    ----------
    network : InferenceCopy
        Network whose random layers ask the present pass for their noise.
    n_members : int
        Number of draws.
    restrict, decisions
        See `tsynd_sk.members.DropoutMembers`.
    """

    def __init__(
        self,
        network: InferenceCopy,
        *,
        n_members: int,
        restrict: Restriction,
        decisions: Decisions | None,
    ):
        self.network = network
        self.n_members = at_least("n_members", n_members, 1)
        self.restrict = check_restriction(restrict)
        self.decisions = {} if decisions is None else decisions
        self._traced: dict[torch.Size, _Traced] = {}

    def trace(self, x: Tensor) -> _Traced:
        """Find the random sites for inputs like these, and decide how to compute members."""
        shape = x.shape[1:]
        if shape not in self._traced:
            with PREPARING, keep_foreign_generators(), torch.inference_mode(False):
                if shape not in self._traced:
                    self._traced[shape] = self._trace(x)
        return self._traced[shape]

    def _trace(self, x: Tensor) -> _Traced:
        rows = x[:2].detach().clone() if len(x) else x.new_zeros(2, *x.shape[1:])
        rows = torch.cat([rows, rows]) if len(rows) == 1 else rows
        every, resting = self.network.prepare(rows, trace)
        if not every:
            raise ValueError(nothing_random(self.network.name, resting))
        if resting and self.restrict is None:
            warn_of_resting(self.network.name, resting)
        functions = any(site.layer_name.startswith("functional.") for site in every.values())
        traced = _Traced(restrict_sites(every, self.restrict), functions, "loop")
        key = tuple(x.shape[1:])
        if key not in self.decisions:
            self.decisions[key] = self._decide(traced, rows)
        return traced._replace(decision=self.decisions[key])

    def _decide(self, traced: _Traced, rows: Tensor) -> str:
        """Choose the first way to compute members that gives what a loop gives."""
        noise = _draw(traced.sites, 2, seed=0)
        with torch.no_grad():
            one_by_one = self._loop(traced, noise, rows)
            first = _member(noise, 0)
            if not _same_values(one_by_one[0], self._one(traced, first, rows), 0):
                part = find_unsteady_part(
                    self.network.module, lambda: self._one(traced, first, rows)
                )
                raise ValueError(
                    f"{part} of {self.network.name} predicts differently for the same images "
                    "although all noise that torch knows of is fixed: does it draw from numpy or "
                    "from a generator of its own? Tell how by "
                    "tsynd_sk.members.register_stochastic."
                )
        # Accelerators may round what they multiply to 10 bits, as TensorFloat-32 does.
        exact = rows.device.type == "cpu" or rows.dtype == torch.float64
        rounding = torch.finfo(rows.dtype).eps ** 0.5 if exact else 2**-8
        for decision in ("fold", "map"):
            x = rows.clone().requires_grad_()
            try:
                with torch.enable_grad(), warnings.catch_warnings():
                    # What vmap says of slow operations.
                    warnings.simplefilter("ignore")
                    with ValueWatch():
                        folded = self._ways[decision](self, traced, noise, x)
                    # Also a network without gradients can tell uncertainty.
                    if folded.requires_grad:
                        torch.autograd.grad(folded.sum(), x, allow_unused=True)
            except Exception:
                # Kernels without a batching rule, control flow that depends on values, layers that
                # do not keep rows in front: types of errors differ.
                continue
            if _same_values(folded, one_by_one, rounding):
                return decision
        return "loop"

    def draw(self, x: Tensor, seed: int) -> Draws:
        """Draw the noise of all members for images of the shape of `x`."""
        with torch.inference_mode(False):
            return _draw(self.trace(x).sites, self.n_members, seed)

    def __call__(self, noise: Draws, x: Tensor) -> Tensor:
        """Return log-probabilities of shape (n_members, n_samples, n_classes)."""
        traced = self.trace(x)
        compute = self._ways[traced.decision]
        size = self._rows_at_once(traced) if x.device.type == "cpu" else max(len(x), 1)
        parts = [compute(self, traced, noise, part) for part in x.split(size)]
        return parts[0] if len(parts) == 1 else torch.cat(parts, 1)

    def _rows_at_once(self, traced: _Traced) -> int:
        """Return the number of rows whose activations, of all members, fit in the cache."""
        sizes = [
            leaf.numel() * leaf.element_size()
            for site in traced.sites.values()
            for leaf in tree_leaves(site.inputs)
            if isinstance(leaf, Tensor)
        ]
        n_bytes = max(sizes, default=1)
        return max(_CACHE // (self.n_members * n_bytes), 1)

    def _predict(self, traced: _Traced, visitor: Visitor, x: Tensor) -> Tensor:
        with visiting(visitor, functions=traced.functions):
            return self.network(x)

    def _one(self, traced: _Traced, noise: Draws, x: Tensor) -> Tensor:
        def answer(key, layer, kind, inputs, kwargs):
            if key not in noise:
                return without_noise(key, layer, kind, inputs, kwargs)
            return kind.apply(layer, noise[key], *inputs, **kwargs)

        return self._predict(traced, answer, x)

    def _loop(self, traced: _Traced, noise: Draws, x: Tensor) -> Tensor:
        n_members = len(tree_leaves(noise)[0])
        return torch.stack([self._one(traced, _member(noise, k), x) for k in range(n_members)])

    def _map(self, traced: _Traced, noise: Draws, x: Tensor) -> Tensor:
        return vmap(lambda member: self._one(traced, member, x))(noise)

    def _fold(self, traced: _Traced, noise: Draws, x: Tensor) -> Tensor:
        n_members = len(tree_leaves(noise)[0])
        n_folded = n_members * len(x)

        def folded(value):
            return isinstance(value, Tensor) and value.shape[:1] == (n_folded,)

        def unfolded(value):
            return value.unflatten(0, (n_members, len(x))) if folded(value) else value

        def answer(key, layer, kind, inputs, kwargs):
            if key not in noise:
                return without_noise(key, layer, kind, inputs, kwargs)
            given = inputs, kwargs
            others: list[Any] = []

            # vmap pairs each member's noise with its rows, and with all rows at the first site.
            # Only tensors leave it; what else a layer returns goes by `others`.
            def apply(draw, call):
                output = kind.apply(layer, draw, *call[0], **call[1])
                leaves, structure = tree_flatten(output)
                others[:] = [structure, [None if isinstance(o, Tensor) else (o,) for o in leaves]]
                return [leaf for leaf in leaves if isinstance(leaf, Tensor)]

            dims = tree_map(lambda value: 0 if folded(value) else None, given)
            tensors = iter(vmap(apply, (0, dims))(noise[key], tree_map(unfolded, given)))
            structure, fixed = others
            leaves = [next(tensors).flatten(0, 1) if o is None else o[0] for o in fixed]
            return tree_unflatten(leaves, structure)

        return self._predict(traced, answer, x).unflatten(0, (n_members, len(x)))

    _ways: dict[str, Callable[..., Tensor]] = {"fold": _fold, "map": _map, "loop": _loop}


def _draw(sites: dict[str, Site], n_members: int, seed: int) -> Draws:
    generator = torch.Generator().manual_seed(seed)
    return {
        key: tree_map(
            lambda *parts: torch.stack(parts), *[site.draw(generator) for _ in range(n_members)]
        )
        for key, site in sites.items()
    }


def _member(noise: Draws, k: int) -> Draws:
    return tree_map(lambda part: part[k], noise)


def _same_values(one: Tensor, other: Tensor, rounding: float) -> bool:
    return one.shape == other.shape and torch.allclose(
        one, other, rtol=rounding, atol=rounding, equal_nan=True
    )


class FixedNoiseMembers:
    """Members that are one network under `n_members` draws of its noise."""

    def __init__(self, network: FixedNoiseNetwork, seed: int):
        self.n_members = network.n_members
        self._network = network
        self._seed = check_int("seed", seed)
        self._noise: dict[torch.Size, Draws] = {}

    def redrawn(self, seed: int) -> FixedNoiseMembers:
        """Return members of the same network under other draws, without preparing it again.

        Parameters
        ----------
        seed : int
            Seed of the draws.

        Returns
        -------
        DropoutMembers or LaplaceMembers
            Members of the same network.
        """
        other = copy.copy(self)
        other._seed, other._noise = check_int("seed", seed), {}
        return other

    def __call__(self, x: Tensor) -> Tensor:
        """Predict with every member.

        Parameters
        ----------
        x : Tensor of shape (n_samples, ...)
            What the network takes.

        Returns
        -------
        Tensor of shape (n_members, n_samples, n_classes)
            Log-probabilities, differentiable in `x`.
        """
        check_images(x)
        shape = x.shape[1:]
        if shape not in self._noise:
            self._noise[shape] = self._network.draw(x, self._seed)
        return check_log_probs(self._network(self._noise[shape], x), x)
