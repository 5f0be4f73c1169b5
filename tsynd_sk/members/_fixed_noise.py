"""A network whose noise is drawn once and held, and how all its members are computed."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from numbers import Integral
from typing import Any

import torch
from torch import Tensor
from torch.func import vmap
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

from tsynd_sk._utils._inference import PREPARING, InferenceCopy
from tsynd_sk.members._plans import (
    PLAN_OF,
    PLANS,
    WAYS,
    Work,
    cheapest,
    count_work,
    prices_of,
    rounding,
    same_values,
)
from tsynd_sk.members._rng_guard import foreign_generators_kept, unsteady_part
from tsynd_sk.members._stochastic_sites import Site, evaluated, trace, visiting

Restriction = str | int | Sequence[str] | None

#: Draws of all members by site, with the members in front.
Draws = dict[str, Any]


@dataclass(frozen=True)
class _Findings:
    """What a few rows told about a network: its random sites, and the work of each plan.

    `choices` remembers the cheapest plan by the number of rows.
    """

    sites: dict[str, Site]
    functions: bool
    works: dict[str, Work]
    choices: dict[int, str] = field(default_factory=dict)


class FrozenNetwork:
    """Computes, from noise and images, the log-probabilities of all members.

    Parameters
    ----------
    network : InferenceCopy
        Network with frozen layers.
    n_members : int
        Number of draws.
    restrict, plan
        See `tsynd_sk.members.DropoutMembers`.
    """

    def __init__(self, network: InferenceCopy, *, n_members: int, restrict: Restriction, plan: str):
        if plan not in ("auto", *PLANS):
            raise ValueError(f"plan must be 'auto' or one of {PLANS}; got {plan!r}")
        if n_members < 1:
            raise ValueError(f"n_members must be at least 1; got {n_members}")
        self.network = network
        self.n_members = n_members
        self.restrict = check_restriction(restrict)
        self.wanted_plan = plan
        self._found: dict[torch.Size, _Findings] = {}

    @property
    def _name(self) -> str:
        return self.network.name

    def _findings(self, x: Tensor) -> _Findings:
        shape = x.shape[1:]
        if shape not in self._found:
            with PREPARING, foreign_generators_kept(), torch.inference_mode(False):
                if shape not in self._found:
                    self._found[shape] = self._investigate(x)
        return self._found[shape]

    def _investigate(self, x: Tensor) -> _Findings:
        rows = x[:2].detach().clone() if len(x) else x.new_zeros(2, *x.shape[1:])
        rows = torch.cat([rows, rows]) if len(rows) == 1 else rows
        every, resting = self.network.prepare(rows, trace)
        if not every:
            raise ValueError(nothing_random(self._name, resting))
        if resting and self.restrict is None:
            warn_of_resting(self._name, resting)
        functions = any(site.layer_name.startswith("functional.") for site in every.values())
        findings = _Findings(restricted(every, self.restrict), functions, {})
        exact = copy.copy(self)
        exact.network = self.network.exact()
        with torch.no_grad():
            reference = exact._reference(findings, rows)
        why = ""
        for way in WAYS[self.wanted_plan]:
            if way == "repeat" and "fold" in findings.works:
                continue
            try:
                findings.works[way] = self._fitting(way, exact, findings, rows, reference)
            except Exception as error:
                # Kernels without a batching rule, control flow that depends on values, layers that
                # do not keep rows in front: reasons differ, and so do types of errors.
                why = why or _first_line(error)
        if not findings.works and self.wanted_plan not in ("auto", "loop"):
            raise ValueError(
                f"plan={self.wanted_plan!r} cannot run {self._name}: {why}. Use 'auto' or 'loop'."
            )
        return findings

    def _reference(self, findings: _Findings, rows: Tensor) -> Tensor:
        """Predict in a loop, and refuse a network that does not hold still."""
        noise = self._drawn(findings.sites, seed=0)
        reference = self._loop(findings, noise, rows)
        if not same_values(reference, self._loop(findings, noise, rows), rounding=0):
            first = tree_map(lambda part: part[0], noise)
            part = unsteady_part(self.network.module, lambda: self._one(findings, first, rows))
            raise ValueError(
                f"{part} of {self._name} predicts differently for the same images although all "
                "noise that torch knows of is held: does it draw from numpy or from a generator of "
                "its own? Tell how by tsynd_sk.members.register_stochastic."
            )
        return reference

    def _fitting(
        self, way: str, exact: FrozenNetwork, findings: _Findings, rows: Tensor, reference: Tensor
    ) -> Work:
        """Count the work of a way whose values are those of a loop."""
        with warnings.catch_warnings():
            # What vmap says of slow operations is counted, not told.
            warnings.simplefilter("ignore")
            with torch.no_grad():
                noise = exact._drawn(findings.sites, seed=0)
                values = self._ways[way](exact, findings, noise, rows)
            if not same_values(values, reference, rounding(rows)):
                raise _Unfit("its values would differ from those of a loop")
            return self._work(way, findings, rows)

    def _work(self, way: str, findings: _Findings, rows: Tensor) -> Work:
        noise = self._drawn(findings.sites, seed=0)
        work = count_work(lambda x: self._ways[way](self, findings, noise, x), rows)
        if way in ("fold", "repeat") and work.reads_values:
            raise _Unfit("its forward looks at values, and would see those of all members at once")
        return work

    def plan(self, x: Tensor) -> str:
        """Name the plan for a batch."""
        return PLAN_OF.get(way := self._way(x), way)

    def _way(self, x: Tensor) -> str:
        findings, n_rows = self._findings(x), len(x)
        # A network whose gradient fails has no work to compare, but still predicts in a loop.
        if not findings.works:
            return "loop"
        if n_rows not in findings.choices:
            findings.choices[n_rows] = cheapest(findings.works, n_rows, prices_of(x.device))
        return findings.choices[n_rows]

    def draw(self, x: Tensor, seed: int) -> Draws:
        """Draw the noise of all members for images of the shape of `x`."""
        with torch.inference_mode(False):
            return self._drawn(self._findings(x).sites, seed)

    def _drawn(self, sites: dict[str, Site], seed: int) -> Draws:
        generator = torch.Generator().manual_seed(seed)
        low = self.network.precision == "bfloat16"
        noise = {}
        for key, site in sites.items():
            draws = [site.draw(generator) for _ in range(self.n_members)]
            stacked = tree_map(lambda *parts: torch.stack(parts), *draws)
            # A float32 factor would lift all that follows to float32.
            noise[key] = tree_map(_lowered, stacked) if low else stacked
        return noise

    def __call__(self, noise: Draws, x: Tensor) -> Tensor:
        """Log-probabilities of shape (n_members, n_samples, n_classes)."""
        return self._ways[self._way(x)](self, self._findings(x), noise, x)

    def _predict(self, findings: _Findings, visitor, x: Tensor) -> Tensor:
        with visiting(visitor, functions=findings.functions):
            return self.network(x)

    def _one(self, findings: _Findings, noise: Draws, x: Tensor) -> Tensor:
        def answer(key, layer, kind, inputs, kwargs):
            if key not in noise:
                return evaluated(key, layer, kind, inputs, kwargs)
            return kind.apply(layer, noise[key], *inputs, **kwargs)

        return self._predict(findings, answer, x)

    def _loop(self, findings: _Findings, noise: Draws, x: Tensor) -> Tensor:
        members = (tree_map(lambda part, k=k: part[k], noise) for k in range(self.n_members))
        return torch.stack([self._one(findings, member, x) for member in members])

    def _vmap(self, findings: _Findings, noise: Draws, x: Tensor) -> Tensor:
        return vmap(lambda member: self._one(findings, member, x))(noise)

    def _fold(
        self, findings: _Findings, noise: Draws, x: Tensor, *, from_start: bool = False
    ) -> Tensor:
        n_members, n_folded = self.n_members, self.n_members * len(x)

        def folded(value):
            return isinstance(value, Tensor) and value.shape[:1] == (n_folded,)

        def unfolded(value):
            return value.unflatten(0, (n_members, len(x))) if folded(value) else value

        def answer(key, layer, kind, inputs, kwargs):
            if key not in noise:
                return evaluated(key, layer, kind, inputs, kwargs)
            given = inputs, kwargs
            others: list[Any] = []

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

        entry = x.repeat(n_members, *[1] * (x.ndim - 1)) if from_start else x
        return self._predict(findings, answer, entry).unflatten(0, (n_members, len(x)))

    def _repeat(self, findings: _Findings, noise: Draws, x: Tensor) -> Tensor:
        return self._fold(findings, noise, x, from_start=True)

    _ways = {"fold": _fold, "vmap": _vmap, "repeat": _repeat, "loop": _loop}


class _Unfit(Exception):
    """A plan gives other values than a loop."""


def _first_line(error: Exception) -> str:
    line = str(error).partition("\n")[0]
    return line if isinstance(error, _Unfit) else f"{type(error).__name__}: {line}"


def _lowered(part: Tensor) -> Tensor:
    return part.bfloat16() if part.is_floating_point() else part


def check_restriction(restrict: Restriction) -> Restriction:
    """Refuse what does not choose random layers."""
    if restrict is None or (isinstance(restrict, str) and restrict == "last"):
        return restrict
    if isinstance(restrict, Integral) and not isinstance(restrict, bool):
        if restrict < 1:
            raise ValueError(f"restrict must be at least 1 if it is an int; got {restrict}")
        return int(restrict)
    if (
        isinstance(restrict, list | tuple)
        and restrict
        and all(isinstance(n, str) for n in restrict)
    ):
        return list(restrict)
    raise ValueError(
        "restrict must be None (all random layers), 'last', an int (as many last ones) or a list "
        f"of names of layers, not an empty one; got {restrict!r}"
    )


def restricted(sites: dict[str, Site], restrict: Restriction) -> dict[str, Site]:
    """Choose the sites that are to be random."""
    if restrict is None:
        return sites
    layers = list(dict.fromkeys(site.layer_name for site in reversed(sites.values())))
    if isinstance(restrict, str | int):
        chosen = set(layers[: 1 if isinstance(restrict, str) else restrict])
    else:
        chosen = {
            layer
            for layer in layers
            if any(layer == name or layer.startswith(f"{name}.") for name in restrict)
        }
        for name in restrict:
            if not any(layer == name or layer.startswith(f"{name}.") for layer in layers):
                raise ValueError(
                    f"restrict names {name!r}, but the random layers are {layers[::-1]}"
                )
    return {key: site for key, site in sites.items() if site.layer_name in chosen}


def warn_of_resting(name: str, resting: str) -> None:
    """Say that something which is random in training is not so in the members."""
    warnings.warn(
        f"{resting} of {name} draws random numbers in training. It is not known how, so that it "
        "rests in the members of the network, as in evaluation mode. If it is to be random in "
        "them, put torch.nn.Dropout in its place, or tell how it draws by "
        "tsynd_sk.members.register_stochastic; if not, name in restrict what is to be.",
        UserWarning,
        stacklevel=2,
    )


def nothing_random(name: str, resting: str | None) -> str:
    """Say that a network has no members, and name the ways out."""
    why = (
        f"({resting} draws random numbers in training, but in a way that is not known)"
        if resting
        else "(no dropout with p > 0 is called)"
    )
    return (
        f"{name} has nothing random in its forward pass {why}, so that its predictions carry no "
        "epistemic uncertainty by members='dropout'. Either let images pass through "
        "torch.nn.Dropout before its last layers, register own random layers by "
        "tsynd_sk.members.register_stochastic, use members='laplace', or give a list of "
        "several classifiers, which then form an ensemble (AugmentedClassifier: n_peers)."
    )
