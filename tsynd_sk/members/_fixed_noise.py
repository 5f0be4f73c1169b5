"""Members of one network with fixed noise.

Their noise is drawn once, by `draw_members`, and kept for every call. Members are folded into the
batch: everything before the first random site is computed once; there activations are repeated for
every member. If a connection bypasses that site, as in a residual block, they are repeated where
the smallest module begins that contains both. If rows depend on each other, or control flow on
values, members run one by one.

Two rows and two members decide which, once for each network and shape of inputs. Time does not
decide: equal seeds must give equal bits in every process.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from operator import itemgetter
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from tsynd_sk._utils._inference import PREPARING, InferenceCopy, check_not_scripted, in_float32
from tsynd_sk._utils._tensors import same_values
from tsynd_sk._utils._validation import check_int_at_least
from tsynd_sk.members._noises import Noise
from tsynd_sk.members._tracing import (
    Restriction,
    Trace,
    find_unsteady_part,
    keep_foreign_generators,
    restrict_sites,
    trace,
    warn_of_resting,
)
from tsynd_sk.members._visits import (
    Draws,
    Pass,
    draw_members,
    mark_random_layers,
    repeat_inputs,
    visiting,
)

#: How members are computed, by the shape of one row of the inputs: "fold" (at the first random
#: site), "fold in NAME" (where the part of that name begins, "" for the network) or "loop".
Decisions = dict[tuple[int, ...], str]

# With more bytes of activations a processor waits for memory, so rows are split into batches.
_CACHE = 32 * 2**20

#: Turns the output of a network into log-probabilities of shape (n_samples, n_classes).
Head = Callable[[Any], Tensor]


class FixedNoiseMembers:
    """Members of one network; see `DropoutMembers`."""

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
        self._network = InferenceCopy(module, to_log_proba, device)
        mark_random_layers(self._network.module, self._only)
        self.n_members, self._restrict, self._seed = n_members, restrict, seed
        self._decisions = {} if decisions is None else decisions
        # By shape of a row: what members with other draws share, and the largest number of bytes of
        # a row at a random site; and the draws of these members.
        self._found: dict[tuple[int, ...], tuple[Trace, int]] = {}
        # Parts that can repeat their inputs, also for members with other draws.
        self._repeating: set[str] = set()
        self._draws: dict[tuple[int, ...], Draws] = {}

    def redrawn(self, seed: int) -> FixedNoiseMembers:
        """Return members of the same network with other draws, without preparing it again.

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
                    rows = x[:2].detach().clone() if len(x) else x.new_zeros(2, *shape)
                    rows = torch.cat([rows, rows]) if len(rows) == 1 else rows
                    # Other noise than that of a single layer is off.
                    run, name = partial(trace, training=self._only is None), self._network.name
                    found = self._network.prepare(rows, run)
                    if found.resting and found.sites and self._restrict is None:
                        warn_of_resting(name, found.resting)
                    found = found._replace(sites=restrict_sites(found, self._restrict, name))
                    if shape not in self._decisions:
                        self._decisions[shape] = self._decide(found, rows)
                    leaves = tree_leaves(list(found.sites.values()))
                    n_bytes = max(
                        (leaf.nbytes for leaf in leaves if torch.is_tensor(leaf)), default=1
                    )
                    self._found[shape] = found, max(n_bytes, 1)
                sites = self._found[shape][0].sites
                self._draws[shape] = draw_members(sites, self.n_members, self._seed)
        (found, n_bytes), size = self._found[shape], max(len(x), 1)
        if x.device.type == "cpu":
            size = min(size, max(_CACHE // (self.n_members * n_bytes), 1))
        given = self._decisions[shape], found, self._draws[shape]
        return torch.cat([self._predict(*given, part) for part in x.split(size)], 1)

    def _decide(self, found: Trace, rows: Tensor) -> str:
        """Choose the fastest way to compute members that gives the same values as a loop."""
        given = found, draw_members(found.sites, 2, seed=0)
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
        if found.by_value:
            return "loop"
        # Fold at the first random layer, or in a module that contains it, the smallest first.
        around = next(iter(found.sites.values())).layer_name.split(".")[:-1]
        for length in range(len(around) + 1, -1, -1):
            part = f"fold in {'.'.join(around[:length])}"
            decision = part if length <= len(around) else "fold"
            x = rows.clone().requires_grad_()
            try:
                with torch.enable_grad():
                    folded = self._predict(decision, *given, x)
                    # A network without gradients has members, too.
                    if folded.requires_grad:
                        torch.autograd.grad(folded.sum(), x, allow_unused=True)
            except Exception:
                # Layers may not keep rows in front: types of errors differ.
                continue
            if same_values(folded, one_by_one, rounding):
                return decision
        return "loop"

    def _predict(self, decision: str, found: Trace, draws: Draws, x: Tensor) -> Tensor:
        n_members, n_rows, network = len(tree_leaves(draws)[0]), len(x), self._network
        passes = [Pass(draws, found.sites, n_members, n_rows)]
        if decision == "loop":
            passes = []
            for k in range(n_members):
                member = tree_map(itemgetter(slice(k, k + 1)), draws)
                passes.append(Pass(member, found.sites, 1, n_rows))
        elif decision != "fold":
            passes[0].repeat = name = decision.removeprefix("fold in ")
            if name not in self._repeating:
                part, hook = network.module.get_submodule(name), partial(repeat_inputs, name)
                part.register_forward_pre_hook(hook, with_kwargs=True)
                self._repeating.add(name)
        outputs = []
        for current in passes:
            with visiting(current, functions=found.functions), in_float32(x.device.type):
                output = network.module(x.clone() if network.writes else x)
                outputs.append(network.to_log_proba(output))
        return torch.cat(outputs).unflatten(0, (n_members, n_rows))


class DropoutMembers(FixedNoiseMembers):
    """Members of one network by fixed dropout (Monte Carlo dropout [1]_).

    Noise is drawn once for each member, and shared by the rows of a batch (the first axis of a
    layer's input): that of torch's dropout layers and functions, the dropout of attention weights,
    stochastic depth, and layers of `register_stochastic`. Other dropout is off, and a warning names
    its layer: between the layers of LSTM, GRU and RNN, ``dropout_p`` of
    ``scaled_dot_product_attention``, and what a network does under ``if self.training``.

    Parameters
    ----------
    module : Module
        Network with dropout or other random layers.
    to_log_proba : callable
        Turns the output of the network into log-probabilities of shape (n_samples, n_classes).
    n_members : int, default=16
        Number of draws.
    seed : int, default=0
        Seed of the draws. Equal seeds give equal members, whatever the batch and the device.
    device : torch.device or None, default=None
        Device to predict on; by default that of the network.
    restrict : None, "last", int or sequence of str, default=None
        Layers to keep random; others are off. None: all; "last": the last in the forward pass; an
        int: that many last ones, or all; names: these layers and those within them. This ignores
        the uncertainty of earlier layers, but is fast: what comes before the first random layer is
        computed once.
    decisions : dict or None, default=None
        How members are computed, by the shape of one row of the inputs. The first call finds and
        adds missing entries; later members of the same network can take the same dict.

    Raises
    ------
    TypeError
        If `module` is a ``torch.jit.ScriptModule``.
    ValueError
        At a call, if nothing in the network is random, something draws random numbers in a way that
        cannot be fixed, or `restrict` names no random layer.

    See Also
    --------
    LaplaceMembers : For a network without random layers.
    EnsembleMembers : For several networks.
    register_stochastic : Make a random layer of your own known.

    References
    ----------
    .. [1] Y. Gal, Z. Ghahramani, "Dropout as a Bayesian Approximation", ICML 2016.

    Examples
    --------
    >>> import torch
    >>> from tsynd_sk.members import DropoutMembers
    >>> net = torch.nn.Sequential(torch.nn.Dropout(0.5), torch.nn.Linear(8, 3))
    >>> members = DropoutMembers(net, lambda logits: logits.log_softmax(-1), n_members=4)
    >>> members(torch.ones(5, 8)).shape
    torch.Size([4, 5, 3])
    """
