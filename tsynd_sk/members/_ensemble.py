"""Members that are networks of their own."""

from __future__ import annotations

import copy
import threading
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap
from torch.utils._pytree import tree_map

from tsynd_sk._utils._inference import PREPARING, InferenceCopy
from tsynd_sk._utils._torch_validation import (
    check_agreement,
    check_log_probs,
    check_network,
    check_tensor,
)
from tsynd_sk._utils._validation import check_list
from tsynd_sk.members._dropout import Head, Plan, Precision
from tsynd_sk.members._plans import count_work, rounding, same_values
from tsynd_sk.members._rng_guard import foreign_generators_kept
from tsynd_sk.members._stochastic_sites import evaluated, trace, visiting


class EnsembleMembers:
    """Members that are networks of their own, with nothing random in them.

    Parameters
    ----------
    modules : sequence of Module
        Networks.
    to_log_probas : sequence of callables
        For each network, what turns its output into log-probabilities.
    device : torch.device or None, default=None
        Where to predict; by default where each network is.
    plan : {"auto", "vmap", "loop"}, default="auto"
        How members are computed. "vmap": by ``torch.func.vmap`` over their stacked parameters,
        which asks for networks of one architecture. "auto": so on an accelerator if it can be,
        one after another on a processor, where stacking has no advantage.
    precision : {"float32", "bfloat16"}, default="float32"
        As in `DropoutMembers`.

    Raises
    ------
    TypeError
        If `modules` or `to_log_probas` is no list, or of anything else.
    ValueError
        If there is no network, or not one head for each; at a call, if the networks differ in
        their classes, or if they cannot be stacked and `plan` is "vmap".

    Examples
    --------
    >>> import torch
    >>> from tsynd_sk.members import EnsembleMembers
    >>> nets = [torch.nn.Linear(8, 3) for _ in range(4)]
    >>> members = EnsembleMembers(nets, [lambda logits: logits.log_softmax(-1)] * 4)
    >>> members(torch.ones(5, 8)).shape
    torch.Size([4, 5, 3])
    """

    def __init__(
        self,
        modules: Sequence[nn.Module],
        to_log_probas: Sequence[Head],
        *,
        device: torch.device | None = None,
        plan: Plan = "auto",
        precision: Precision = "float32",
    ):
        modules = check_list("modules", modules, "networks")
        to_log_probas = check_list(
            "to_log_probas", to_log_probas, "callables, one for each network"
        )
        if len(modules) != len(to_log_probas):
            raise ValueError(
                "modules and to_log_probas must be of one length, one head for each network; got "
                f"{len(modules)} and {len(to_log_probas)}"
            )
        for k, (module, head) in enumerate(zip(modules, to_log_probas, strict=True)):
            check_network(module, head, (f"modules[{k}]", f"to_log_probas[{k}]"))
        if plan == "fold":
            raise ValueError(
                "plan='fold' repeats one network's batch, but the members of an ensemble differ in "
                "their weights: use 'vmap', 'loop' or 'auto'"
            )
        if plan not in ("auto", "vmap", "loop"):
            raise ValueError(f"plan must be 'auto', 'vmap' or 'loop'; got {plan!r}")
        self.n_members = len(modules)
        self._copies = [
            InferenceCopy(module, head, device, precision)
            for module, head in zip(modules, to_log_probas, strict=True)
        ]
        self._plan = plan
        self._stack: _Stack | None = None
        self._functions = False
        self._prepared = False

    def redrawn(self, seed: int) -> EnsembleMembers:
        """Give the members themselves, in which nothing is drawn.

        Parameters
        ----------
        seed : int
            Seed of the draws.

        Returns
        -------
        EnsembleMembers
            These members.
        """
        return self

    def plan(self, x: Tensor) -> str:
        """Name the way in which members are computed: "vmap" or "loop".

        Parameters
        ----------
        x : Tensor of shape (n, ...)
            Inputs of the shape that matters.

        Returns
        -------
        str
            "vmap" or "loop".

        Raises
        ------
        TypeError
            If `x` is no Tensor.
        ValueError
            As at a call, see the class.
        """
        check_tensor("x", x)
        # Tracing changes modes for a moment, which threads that share the copies must not see.
        with nullcontext() if self._prepared else PREPARING:
            if not self._prepared:
                self._prepare(x)
                self._prepared = True
        return "loop" if self._stack is None else "vmap"

    def _prepare(self, x: Tensor) -> None:
        with foreign_generators_kept():
            traces = [network.prepare(x, trace) for network in self._copies]
        self._functions = any(found.sites for found in traces)
        if self._plan == "vmap" or (self._plan == "auto" and x.device.type != "cpu"):
            self._stack = self._stacked(x[:2])

    def _stacked(self, x: Tensor) -> _Stack | None:
        exact = [network.exact() for network in self._copies]
        with torch.no_grad():
            reference = self._one_by_one(exact, x)
        try:
            stack = _Stack(self._copies)
            with torch.no_grad(), self._resting():
                agree = same_values(stack(exact, x), reference, rounding(x))
            with self._resting():
                # Some operations can be mapped, but not their gradients.
                count_work(partial(stack, self._copies), x)
            if agree:
                return stack
            why = "their outputs differ from those of the networks alone"
        except Exception as error:
            why = str(error).partition("\n")[0]
        if self._plan == "vmap":
            raise ValueError(
                f"plan='vmap' cannot stack these networks: {why}. Use 'loop' or 'auto'."
            )
        return None

    def _one_by_one(self, copies: Sequence[InferenceCopy], x: Tensor) -> Tensor:
        with self._resting():
            predictions = [network(x) for network in copies]
        check_agreement(predictions, "modules")
        return torch.stack(predictions)

    def _resting(self) -> AbstractContextManager:
        return visiting(evaluated, functions=self._functions)

    def __call__(self, x: Tensor) -> Tensor:
        """Predict with every network; see `DropoutMembers`."""
        if self.plan(x) == "vmap" and self._stack is not None:
            with self._resting():
                return check_log_probs(self._stack(self._copies, x), x)
        return check_log_probs(self._one_by_one(self._copies, x), x)


class _Stack:
    """Networks of one architecture, mapped over their stacked parameters."""

    # For the time of a call, `functional_call` puts parameters into a module that threads share.
    _lock = threading.RLock()

    def __init__(self, copies: Sequence[InferenceCopy]):
        modules = [network.module for network in copies]
        kinds = [[(name, type(part)) for name, part in m.named_modules()] for m in modules]
        if any(kind != kinds[0] for kind in kinds):
            raise ValueError("they are of different architectures")
        self.empty = copy.deepcopy(modules[0]).to("meta")
        state = stack_module_state(modules)
        self.state = tuple({k: v.detach() for k, v in part.items()} for part in state)

    def __call__(self, copies: Sequence[InferenceCopy], x: Tensor) -> Tensor:

        def output(state):
            return copies[0].output(x, lambda x: functional_call(self.empty, state, (x,)))

        with self._lock:
            outputs = vmap(output)(self.state)
        return torch.stack(
            [
                network.to_log_proba(tree_map(lambda part, k=k: part[k], outputs))
                for k, network in enumerate(copies)
            ]
        )
