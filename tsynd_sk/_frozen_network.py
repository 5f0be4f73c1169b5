"""A network whose noise is drawn once and held, and how all its members are computed."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.func import vmap
from torch.utils._pytree import tree_map

from tsynd_sk._inference import PREPARING, InferenceCopy
from tsynd_sk._plans import PLANS, Work, cheapest, count_work, prices_of, rounding, same_values
from tsynd_sk._tracing import Site, evaluated, trace, visiting
from tsynd_sk._watch import foreign_generators_kept, unsteady_part

Restriction = str | int | Sequence[str] | None

#: Noise of all members by site, with the members in front.
Noise = dict[str, Any]


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
        every = self.network.prepare(x, trace)
        if not every:
            raise ValueError(nothing_random(self._name))
        sites = restricted(every, self.restrict)
        functions = any(site.layer_name.startswith("functional.") for site in every.values())
        rows = x[:2].detach().clone()
        rows = torch.cat([rows, rows]) if len(rows) == 1 else rows
        findings = _Findings(sites, functions, {})
        exact = copy.copy(self)
        exact.network = self.network.exact()
        noise = exact._drawn(sites, seed=0)
        with torch.no_grad():
            reference = exact._loop(findings, noise, rows)
            if not same_values(reference, exact._loop(findings, noise, rows), rounding=0):
                first = tree_map(lambda part: part[0], noise)
                part = unsteady_part(self.network.module, lambda: exact._one(findings, first, rows))
                raise ValueError(
                    f"{part} of {self._name} predicts differently for the same images although all "
                    "noise that torch knows of is held: does it draw from numpy or from a "
                    "generator of its own? Tell how by tsynd_sk.randomness.register_stochastic."
                )
        wanted = PLANS if self.wanted_plan == "auto" else (self.wanted_plan,)
        for plan in wanted:
            try:
                with warnings.catch_warnings():
                    # What vmap says of slow operations is counted, not told.
                    warnings.simplefilter("ignore")
                    with torch.no_grad():
                        values = self._ways[plan](exact, findings, noise, rows)
                    if not same_values(values, reference, rounding(rows)):
                        raise _Unfit("its values would differ from those of a loop")
                    findings.works[plan] = self._work(plan, findings, rows)
            except Exception as error:
                # Kernels without a batching rule, control flow that depends on values, layers that
                # do not keep rows in front: reasons differ, and so do types of errors.
                if self.wanted_plan == plan != "loop":
                    raise ValueError(
                        f"plan={plan!r} cannot run {self._name}: {_first_line(error)}. Use 'auto' "
                        "or 'loop'."
                    ) from None
        return findings

    def _work(self, plan: str, findings: _Findings, rows: Tensor) -> Work:
        noise = self._drawn(findings.sites, seed=0)
        work = count_work(lambda x: self._ways[plan](self, findings, noise, x), rows)
        if plan == "fold" and work.reads_values:
            raise _Unfit("its forward looks at values, and would see those of all members at once")
        return work

    def plan(self, x: Tensor) -> str:
        """Name the plan for a batch."""
        findings, n_rows = self._findings(x), len(x)
        # A network whose gradient fails has no work to compare, but still predicts in a loop.
        if not findings.works:
            return "loop"
        if n_rows not in findings.choices:
            findings.choices[n_rows] = cheapest(findings.works, n_rows, prices_of(x.device))
        return findings.choices[n_rows]

    def draw(self, x: Tensor, seed: int) -> Noise:
        """Draw the noise of all members for images of the shape of `x`."""
        with torch.inference_mode(False):
            return self._drawn(self._findings(x).sites, seed)

    def _drawn(self, sites: dict[str, Site], seed: int) -> Noise:
        generator = torch.Generator().manual_seed(seed)
        low = self.network.precision == "bfloat16"
        noise = {}
        for key, site in sites.items():
            draws = [site.draw(generator) for _ in range(self.n_members)]
            stacked = tree_map(lambda *parts: torch.stack(parts), *draws)
            # A float32 factor would lift all that follows to float32.
            noise[key] = tree_map(_lowered, stacked) if low else stacked
        return noise

    def __call__(self, noise: Noise, x: Tensor) -> Tensor:
        """Log-probabilities of shape (n_members, n_samples, n_classes)."""
        return self._ways[self.plan(x)](self, self._findings(x), noise, x)

    def _predict(self, findings: _Findings, visitor, x: Tensor) -> Tensor:
        with visiting(visitor, functions=findings.functions):
            return self.network(x)

    def _one(self, findings: _Findings, noise: Noise, x: Tensor) -> Tensor:
        def answer(key, layer, kind, inputs, kwargs):
            if key not in noise:
                return evaluated(key, layer, kind, inputs, kwargs)
            return kind.apply(layer, noise[key], *inputs, **kwargs)

        return self._predict(findings, answer, x)

    def _loop(self, findings: _Findings, noise: Noise, x: Tensor) -> Tensor:
        members = (tree_map(lambda part, k=k: part[k], noise) for k in range(self.n_members))
        return torch.stack([self._one(findings, member, x) for member in members])

    def _vmap(self, findings: _Findings, noise: Noise, x: Tensor) -> Tensor:
        return vmap(lambda member: self._one(findings, member, x))(noise)

    def _fold(self, findings: _Findings, noise: Noise, x: Tensor) -> Tensor:
        n_members, n_folded = self.n_members, self.n_members * len(x)

        def folded(value):
            return isinstance(value, Tensor) and value.shape[:1] == (n_folded,)

        def unfolded(value):
            return value.unflatten(0, (n_members, len(x))) if folded(value) else value

        def answer(key, layer, kind, inputs, kwargs):
            if key not in noise:
                return evaluated(key, layer, kind, inputs, kwargs)
            given = inputs, kwargs
            dims = tree_map(lambda value: 0 if folded(value) else None, given)
            apply = vmap(lambda draw, call: kind.apply(layer, draw, *call[0], **call[1]), (0, dims))
            output = apply(noise[key], tree_map(unfolded, given))
            return tree_map(lambda part: part.flatten(0, 1), output)

        return self._predict(findings, answer, x).unflatten(0, (n_members, len(x)))

    _ways = {"fold": _fold, "vmap": _vmap, "loop": _loop}


class _Unfit(Exception):
    """A plan gives other values than a loop."""


def _first_line(error: Exception) -> str:
    line = str(error).partition("\n")[0]
    return line if isinstance(error, _Unfit) else f"{type(error).__name__}: {line}"


def _lowered(part: Tensor) -> Tensor:
    return part.bfloat16() if part.is_floating_point() else part


def check_restriction(restrict: Restriction) -> Restriction:
    """Refuse what does not choose random layers."""
    if restrict is None or restrict == "last":
        return restrict
    if isinstance(restrict, bool | str):
        raise ValueError(
            f"restrict must be None, 'last', an int or a list of names of layers; got {restrict!r}"
        )
    if isinstance(restrict, int):
        if restrict < 1:
            raise ValueError(f"restrict must be at least 1 if it is an int; got {restrict}")
        return restrict
    if not list(restrict):
        raise ValueError(
            "restrict is an empty list, which leaves nothing random; for all give None"
        )
    return list(restrict)


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


def nothing_random(name: str) -> str:
    """Say that a network has no members, and name the ways out."""
    return (
        f"{name} has nothing random in its forward pass (no dropout with p > 0 is called), so that "
        "its predictions carry no epistemic uncertainty by members='dropout'. Either let images "
        "pass through torch.nn.Dropout before its last layers, register own random layers by "
        "tsynd_sk.randomness.register_stochastic, use members='laplace', or give a list of "
        "several classifiers, which then form an ensemble."
    )
