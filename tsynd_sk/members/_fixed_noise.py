"""Members of one network with fixed noise.

Members are folded into the batch: everything before the first random site is computed once; there
the activations are repeated for every member, and continue as one large batch. If a connection
bypasses that site, as in a residual block, they are repeated at the start of the smallest module
that contains both. If rows depend on each other, or control flow depends on values, members run one
by one.

Two rows and two members decide which, once for each network and shape of inputs. Time does not
decide, because equal seeds must give equal bits in every process.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_leaves, tree_map, tree_unflatten

from tsynd_sk._utils._inference import PREPARING, InferenceCopy
from tsynd_sk._utils._torch_validation import check_log_probs, check_network, check_tensor
from tsynd_sk._utils._validation import check_int, check_int_at_least
from tsynd_sk.members._noises import ELEMENTWISE
from tsynd_sk.members._restriction import Restriction, check_restriction, choose_sites
from tsynd_sk.members._rng_guard import find_unsteady_part, keep_foreign_generators
from tsynd_sk.members._tracing import Site, trace
from tsynd_sk.members._visits import ValueWatch, visiting

#: How members are computed, by the shape of one row of the inputs: "fold" (at the first random
#: site), "fold in NAME" (where the part of that name begins, "" for the network) or "loop".
Decisions = dict[tuple[int, ...], str]

# With more bytes of activations a processor waits for memory, so rows are split into batches.
_CACHE = 32 * 2**20

#: Turns the output of a network into log-probabilities of shape (n_samples, n_classes).
Head = Callable[[Any], Tensor]

#: Draws of the members by site, with the members in front.
Draws = dict[str, Any]


class _Found(NamedTuple):
    """What was found out about a network.

    Attributes
    ----------
    sites : dict of str to Site
        Random sites that make members.
    functions : bool
        Whether dropout functions are called, too.
    n_bytes : int
        Largest number of bytes of a row at a site.
    """

    sites: dict[str, Site]
    functions: bool
    n_bytes: int


class FixedNoiseMembers:
    """Members of one network, with `n_members` draws of its noise.

    Parameters
    ----------
    module, to_log_proba, n_members, seed, device, restrict, decisions
        See `tsynd_sk.members.DropoutMembers`.
    replace_layers : callable
        Exchanges the random layers of a private copy for fixed ones, and returns it.
    """

    def __init__(
        self,
        module: nn.Module,
        to_log_proba: Head,
        replace_layers: Callable[[nn.Module], nn.Module],
        *,
        n_members: int,
        seed: int,
        device: torch.device | None,
        restrict: Restriction,
        decisions: Decisions | None,
    ):
        check_network(module, to_log_proba)
        self.n_members = check_int_at_least("n_members", n_members, 1)
        self._network = InferenceCopy(module, to_log_proba, device, exchange=replace_layers)
        self._restrict = check_restriction(restrict)
        self._decisions = {} if decisions is None else decisions
        self._seed = check_int("seed", seed)
        # By shape of a row: what members under other draws share, and the draws of these.
        self._found: dict[tuple[int, ...], _Found] = {}
        self._draws: dict[tuple[int, ...], Draws] = {}

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
        other._seed, other._draws = check_int("seed", seed), {}
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
        check_tensor("x", x)
        shape = tuple(x.shape[1:])
        if shape not in self._draws:
            with PREPARING, keep_foreign_generators(), torch.inference_mode(False):
                if shape not in self._found:
                    self._found[shape] = self._prepare(x)
                self._draws[shape] = _draw(self._found[shape].sites, self.n_members, self._seed)
        found, size = self._found[shape], max(len(x), 1)
        if x.device.type == "cpu":
            size = min(size, max(_CACHE // (self.n_members * found.n_bytes), 1))
        given = self._decisions[shape], found, self._draws[shape]
        if len(x) <= size:
            return check_log_probs(self._predict(*given, x), x)
        parts = [self._predict(*given, part) for part in x.split(size)]
        return check_log_probs(torch.cat(parts, 1), x)

    def _prepare(self, x: Tensor) -> _Found:
        """Find the random sites for inputs of this shape, and decide how to compute members."""
        rows = x[:2].detach().clone() if len(x) else x.new_zeros(2, *x.shape[1:])
        rows = torch.cat([rows, rows]) if len(rows) == 1 else rows
        every = self._network.prepare(rows, trace)
        sites, n_bytes = choose_sites(every, self._restrict, self._network.name), 1
        for leaf in tree_leaves(list(sites.values())):
            n_bytes = max(n_bytes, leaf.nbytes) if isinstance(leaf, Tensor) else n_bytes
        found = _Found(sites, every.functions, n_bytes)
        shape = tuple(x.shape[1:])
        if shape not in self._decisions:
            self._decisions[shape] = self._decide(found, rows)
        return found

    def _decide(self, found: _Found, rows: Tensor) -> str:
        """Choose the fastest way to compute members that gives the same values as a loop."""
        given = found, _draw(found.sites, 2, seed=0)
        # Accelerators may round factors to 10 bits, as TensorFloat-32 does.
        exact = rows.device.type == "cpu" or rows.dtype == torch.float64
        rounding = torch.finfo(rows.dtype).eps ** 0.5 if exact else 2**-8
        with torch.no_grad():
            one_by_one = self._predict("loop", *given, rows)
            again = self._predict("loop", *given, rows)
            if not _same_values(one_by_one, again, 0 if rows.device.type == "cpu" else rounding):
                part = find_unsteady_part(
                    self._network.module, lambda: self._predict("loop", *given, rows)
                )
                raise ValueError(
                    f"{part} of {self._network.name} predicts differently for the same images "
                    "although all noise that torch knows of is fixed: does it draw from numpy or "
                    "from its own generator? Register it by tsynd_sk.members.register_stochastic."
                )
        # Fold at the first random layer, or in a module that contains it, the smallest first.
        around = next(iter(found.sites.values())).layer_name.split(".")[:-1]
        for length in range(len(around) + 1, -1, -1):
            part = f"fold in {'.'.join(around[:length])}"
            decision = part if length <= len(around) else "fold"
            x = rows.clone().requires_grad_()
            try:
                with torch.enable_grad():
                    with ValueWatch():
                        folded = self._predict(decision, *given, x)
                    # A network without gradients has members, too.
                    if folded.requires_grad:
                        torch.autograd.grad(folded.sum(), x, allow_unused=True)
            except Exception:
                # Control flow that depends on values, layers that do not keep rows in front:
                # types of errors differ.
                continue
            if _same_values(folded, one_by_one, rounding):
                return decision
        return "loop"

    def _predict(self, decision: str, found: _Found, draws: Draws, x: Tensor) -> Tensor:
        """Compute all members: one large batch, or one pass for each."""
        n_members = len(tree_leaves(draws)[0])
        if decision == "loop":
            outputs = []
            for k in range(n_members):
                member = tree_map(partial(_one_of, k), draws)
                with visiting(_answer_with(found, member, len(x)), functions=found.functions):
                    outputs.append(self._network(x))
            return torch.stack(outputs)
        _, _, name = decision.partition("fold in ")
        with visiting(_answer_with(found, draws, len(x)), functions=found.functions) as current:
            if decision != "fold":
                current.repeat = (name, len(x), n_members)
            return self._network(x).unflatten(0, (n_members, len(x)))


def _answer_with(found: _Found, draws: Draws, n_rows: int) -> Callable[..., Any]:
    """Make the visitor that applies, at each site, each member's noise to the member's rows."""

    def answer(key, layer, noise, inputs, kwargs):
        if key not in draws:
            return layer(*inputs, **kwargs)
        noises, site = draws[key], found.sites[key]
        n_members = len(tree_leaves(noises)[0])
        n_folded = n_members * n_rows
        if noise.apply in ELEMENTWISE:
            x = inputs[0]
            x = x.unflatten(0, (n_members, -1)) if len(x) == n_folded else x.unsqueeze(0)
            return noise.apply(layer, noises, x).flatten(0, 1)
        leaves, structure = tree_flatten((inputs, kwargs))
        # Tensors with the rows of all members are split among them; others are shared. A tensor
        # has rows if it had one when one row was traced: a mask as long as a batch has none.
        for i, traced in enumerate(tree_leaves((site.inputs, site.kwargs))):
            rows = isinstance(traced, Tensor) and traced.shape[:1] == (1,)
            whole = rows and n_rows and leaves[i].shape[:1] == (n_folded,)
            leaves[i] = leaves[i].chunk(n_members) if whole else [leaves[i]] * n_members
        outputs = []
        for k in range(n_members):
            args, named = tree_unflatten([leaf[k] for leaf in leaves], structure)
            draw = tree_map(lambda part, k=k: part[k], noises)
            outputs.append(noise.apply(layer, draw, *args, **named))
        if isinstance(outputs[0], Tensor):
            return torch.cat(outputs)
        return tree_map(_joined, *outputs)

    return answer


def _joined(*parts: Any) -> Any:
    return torch.cat(parts) if isinstance(parts[0], Tensor) else parts[0]


def _draw(sites: dict[str, Site], n_members: int, seed: int) -> Draws:
    generator, draws = torch.Generator().manual_seed(seed), {}
    for key, site in sites.items():
        each = map(site.draw, [generator] * n_members)
        draws[key] = tree_map(_stacked, *each)
    return draws


def _stacked(*parts: Tensor) -> Tensor:
    return torch.stack(parts)


def _one_of(k: int, part: Tensor) -> Tensor:
    return part[k : k + 1]


def _same_values(one: Tensor, other: Tensor, rounding: float) -> bool:
    return one.shape == other.shape and torch.allclose(
        one, other, rtol=rounding, atol=rounding, equal_nan=True
    )
