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
from operator import attrgetter, itemgetter
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_leaves, tree_map, tree_unflatten

from tsynd_sk._utils._inference import PREPARING, InferenceCopy
from tsynd_sk._utils._tensors import same_values
from tsynd_sk._utils._torch_validation import check_not_scripted
from tsynd_sk._utils._validation import check_int_at_least
from tsynd_sk.members._noises import ELEMENTWISE, Noise
from tsynd_sk.members._restriction import Restriction, restrict_sites, warn_of_resting
from tsynd_sk.members._rng_guard import find_unsteady_part, keep_foreign_generators
from tsynd_sk.members._tracing import Site, Trace, trace
from tsynd_sk.members._visits import ValueWatch, replace_random_layers, visiting

#: How members are computed, by the shape of one row of the inputs: "fold" (at the first random
#: site), "fold in NAME" (where the part of that name begins, "" for the network) or "loop".
Decisions = dict[tuple[int, ...], str]

# With more bytes of activations a processor waits for memory, so rows are split into batches.
_CACHE = 32 * 2**20

#: Turns the output of a network into log-probabilities of shape (n_samples, n_classes).
Head = Callable[[Any], Tensor]

#: Draws of the members by site, with the members in front.
Draws = dict[str, Any]


class FixedNoiseMembers:
    """Members of one network, with `n_members` draws of its noise; see `DropoutMembers`."""

    # Name of a linear layer whose noise replaces that of random layers, and this noise.
    _only: tuple[str, Noise] | None = None

    def __init__(
        self,
        module: nn.Module,
        to_log_proba: Head,
        *,
        n_members: int = 16,
        seed: int = 0,
        device: torch.device | None = None,
        restrict: Restriction = None,
        decisions: Decisions | None = None,
    ):
        check_not_scripted(module)
        check_int_at_least("n_members", n_members, 1)
        exchange = partial(replace_random_layers, only=self._only)
        self._network = InferenceCopy(module, to_log_proba, device, exchange)
        self.n_members, self._restrict, self._seed = n_members, restrict, seed
        self._decisions = {} if decisions is None else decisions
        # By shape of a row: what members under other draws share, with the largest number of bytes
        # of a row at a random site; and the draws of these members.
        self._found: dict[tuple[int, ...], tuple[Trace, int]] = {}
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
        other._seed, other._draws = seed, {}
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
        shape = tuple(x.shape[1:])
        if shape not in self._draws:
            with PREPARING, keep_foreign_generators(), torch.inference_mode(False):
                if shape not in self._found:
                    self._found[shape] = self._prepare(x)
                sites = self._found[shape][0].sites
                self._draws[shape] = _draw(sites, self.n_members, self._seed)
        (found, n_bytes), size = self._found[shape], max(len(x), 1)
        if x.device.type == "cpu":
            size = min(size, max(_CACHE // (self.n_members * n_bytes), 1))
        predict = partial(self._predict, self._decisions[shape], found, self._draws[shape])
        return torch.cat(list(map(predict, x.split(size))), 1)

    def _prepare(self, x: Tensor) -> tuple[Trace, int]:
        """Find the random sites for inputs of this shape, and decide how to compute members."""
        rows = x[:2].detach().clone() if len(x) else x.new_zeros(2, *x.shape[1:])
        rows = torch.cat([rows, rows]) if len(rows) == 1 else rows
        found, name, shape = self._network.prepare(rows, trace), self._network.name, x.shape[1:]
        if found.resting and found.sites and self._restrict is None:
            warn_of_resting(name, found.resting)
        found = found._replace(sites=restrict_sites(found, self._restrict, name))
        if tuple(shape) not in self._decisions:
            self._decisions[tuple(shape)] = self._decide(found, rows)
        tensors = filter(torch.is_tensor, tree_leaves(list(found.sites.values())))
        return found, max([1, *map(attrgetter("nbytes"), tensors)])

    def _decide(self, found: Trace, rows: Tensor) -> str:
        """Choose the fastest way to compute members that gives the same values as a loop."""
        given = found, _draw(found.sites, 2, seed=0)
        # Accelerators may round factors to 10 bits, as TensorFloat-32 does.
        exact = rows.device.type == "cpu" or rows.dtype == torch.float64
        rounding = torch.finfo(rows.dtype).eps ** 0.5 if exact else 2**-8
        with torch.no_grad():
            one_by_one = self._predict("loop", *given, rows)
            again = self._predict("loop", *given, rows)
            if not same_values(one_by_one, again, 0 if rows.device.type == "cpu" else rounding):
                predict = partial(self._predict, "loop", *given, rows)
                part = find_unsteady_part(self._network.module, predict)
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
            if same_values(folded, one_by_one, rounding):
                return decision
        return "loop"

    def _predict(self, decision: str, found: Trace, draws: Draws, x: Tensor) -> Tensor:
        """Compute all members: one large batch, or one pass for each."""
        n_members = len(tree_leaves(draws)[0])
        if decision == "loop":
            outputs = []
            for k in range(n_members):
                member = tree_map(itemgetter(slice(k, k + 1)), draws)
                with visiting(_answer_with(found, member, len(x)), functions=found.functions):
                    outputs.append(self._network(x))
            return torch.stack(outputs)
        _, _, name = decision.partition("fold in ")
        with visiting(_answer_with(found, draws, len(x)), functions=found.functions) as current:
            if decision != "fold":
                current.repeat = (name, len(x), n_members)
            return self._network(x).unflatten(0, (n_members, len(x)))


def _answer_with(found: Trace, draws: Draws, n_rows: int) -> Callable[..., Any]:
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
            draw = tree_map(itemgetter(k), noises)
            outputs.append(noise.apply(layer, draw, *args, **named))
        return tree_map(_joined, *outputs)

    return answer


def _joined(*parts: Any) -> Any:
    return torch.cat(parts) if isinstance(parts[0], Tensor) else parts[0]


def _draw(sites: dict[str, Site], n_members: int, seed: int) -> Draws:
    generator, draws = torch.Generator().manual_seed(int(seed)), {}
    for key, (_, layer, noise, inputs, kwargs) in sites.items():
        leaves: list[list[Tensor]] = []
        for _ in range(n_members):
            draw, structure = tree_flatten(noise.draw(layer, generator, *inputs, **kwargs))
            leaves.append(draw)
        draws[key] = tree_unflatten(map(torch.stack, zip(*leaves, strict=True)), structure)
    return draws
