"""Members of a network: deterministic networks drawn from those that the data leave plausible.

A member is the user's network under one frozen draw of all that is random in it (Monte Carlo
dropout), under one draw of its last layer (Laplace approximation), or one network of an ensemble.
All members see the same images and answer with log-probabilities of shape
``(n_members, n_samples, n_classes)``, from which `tsynd_sk.uncertainty` computes its measures.
Members work on private copies: a user's network keeps its mode, statistics, gradients and hooks.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap
from torch.utils._pytree import tree_map

from tsynd_sk._checks import (
    check_agreement,
    check_images,
    check_log_probs,
    check_network,
    kind_of,
    listed,
    whole,
)
from tsynd_sk._frozen_network import FrozenNetwork, Restriction
from tsynd_sk._inference import PREPARING, InferenceCopy
from tsynd_sk._plans import count_work, rounding, same_values
from tsynd_sk._tracing import evaluated, frozen, frozen_layer, trace, visiting
from tsynd_sk._watch import foreign_generators_kept
from tsynd_sk.laplace import LastLayerPosterior
from tsynd_sk.randomness import Noise

__all__ = ["DropoutMembers", "EnsembleMembers", "JoinedMembers", "LaplaceMembers"]

#: Turns the output of a network into log-probabilities of shape (n_samples, n_classes).
Head = Callable[[Any], Tensor]

Plan = Literal["auto", "fold", "vmap", "loop"]
Precision = Literal["float32", "bfloat16"]


class _FrozenMembers:
    """Members that are one network under `n_members` draws of its noise."""

    def __init__(self, network: FrozenNetwork, seed: int):
        self.n_members = network.n_members
        self._network = network
        self._seed = whole("seed", seed)
        self._noise: dict[torch.Size, dict[str, Any]] = {}

    def redrawn(self, seed: int) -> _FrozenMembers:
        """Give members of the same network under other draws, without preparing it again.

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
        other._seed, other._noise = whole("seed", seed), {}
        return other

    def plan(self, x: Tensor) -> str:
        """Name the way in which members are computed: "fold", "vmap" or "loop".

        Parameters
        ----------
        x : Tensor of shape (n, ...)
            Inputs of the shape that matters.

        Returns
        -------
        str
            "fold", "vmap" or "loop".
        """
        check_images(x)
        return self._network.plan(x)

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


class DropoutMembers(_FrozenMembers):
    """Members of one network by frozen dropout (Monte Carlo dropout [1]_).

    Found and frozen are torch's dropout layers and dropout functions, the dropout of attention
    weights, stochastic depth, and what `tsynd_sk.randomness.register_stochastic` was told of. Noise
    is drawn once for each member, shared by the rows of a batch, and held. (Rows are taken to be
    the first axis of what a layer receives: where sequences come as (length, n, ...), their
    positions share the noise.)

    Other dropout rests, as in evaluation mode, with a warning that names its layer: that between
    the layers of LSTM, GRU and RNN, ``dropout_p`` of ``scaled_dot_product_attention``, and what a
    network does under ``if self.training``. Forward hooks of the network go with its private copy,
    and are called there.

    Parameters
    ----------
    module : Module
        Network in which something is random.
    to_log_proba : callable
        Turns the output of the network into log-probabilities of shape (n_samples, n_classes).
    n_members : int, default=16
        Number of draws.
    seed : int, default=0
        Seed of the draws. Equal seeds give equal members, whatever the batch and the device.
    device : torch.device or None, default=None
        Where to predict; by default where the network is.
    restrict : None, "last", int or sequence of str, default=None
        Which random layers are random; the others rest, as in evaluation mode. ``None``: all;
        "last": the last one in the forward pass; an int: as many last ones, or all if there are
        fewer; names: the layers of these names and those within them. An approximation, which
        leaves out what earlier layers contribute to the uncertainty: everything before the first
        random layer is computed once for all members, so that late ones cost hardly anything.
    plan : {"auto", "fold", "vmap", "loop"}, default="auto"
        How members are computed; the values are equal up to rounding. "fold": as one large batch,
        from the first random layer on. "vmap": by ``torch.func.vmap`` over the draws. "loop": one
        after another. "auto": whichever, of those that can run the network, causes the least work
        on the shapes at hand, counted while a few rows pass.
    precision : {"float32", "bfloat16"}, default="float32"
        "bfloat16" computes in bfloat16 where operations bear it (``torch.autocast``); the
        log-probabilities are computed in float32 from what comes out.

    Raises
    ------
    TypeError
        If an argument is not of its type, or `module` is a ``torch.jit.ScriptModule``.
    ValueError
        If an argument has none of its values; at a call, if nothing in the network is random, if
        something draws random numbers in a way that cannot be frozen, if `restrict` names no
        random layer, if the network cannot be run by `plan`, or if `to_log_proba` gives another
        shape.

    References
    ----------
    .. [1] Y. Gal, Z. Ghahramani, "Dropout as a Bayesian Approximation", ICML 2016.

    Examples
    --------
    >>> import torch
    >>> from tsynd_sk.members import DropoutMembers
    >>> from tsynd_sk.uncertainty import mutual_information
    >>> net = torch.nn.Sequential(torch.nn.Dropout(0.5), torch.nn.Linear(8, 3))
    >>> members = DropoutMembers(net, lambda logits: logits.log_softmax(-1), n_members=4)
    >>> log_probs = members(torch.ones(5, 8))
    >>> log_probs.shape
    torch.Size([4, 5, 3])
    >>> bool((mutual_information(log_probs) > 0).all())
    True
    """

    def __init__(
        self,
        module: nn.Module,
        to_log_proba: Head,
        *,
        n_members: int = 16,
        seed: int = 0,
        device: torch.device | None = None,
        restrict: Restriction = None,
        plan: Plan = "auto",
        precision: Precision = "float32",
    ):
        check_network(module, to_log_proba)
        network = FrozenNetwork(
            InferenceCopy(module, to_log_proba, device, precision, exchange=frozen),
            n_members=whole("n_members", n_members),
            restrict=restrict,
            plan=plan,
        )
        super().__init__(network, seed)


class LaplaceMembers(_FrozenMembers):
    """Members of one network by draws of its last linear layer; its dropout rests.

    Parameters
    ----------
    module : Module
        Network, in which nothing need be random.
    to_log_proba : callable
        As in `DropoutMembers`.
    posterior : LastLayerPosterior
        What `tsynd_sk.laplace.last_layer_posterior` gave for this network.
    n_members : int, default=16
        Number of draws.
    seed : int, default=0
        As in `DropoutMembers`, as are the other parameters.
    device : torch.device or None, default=None
        Where to predict; by default where the network is.
    plan : {"auto", "fold", "vmap", "loop"}, default="auto"
        How members are computed.
    precision : {"float32", "bfloat16"}, default="float32"
        Number format of the network.

    Raises
    ------
    TypeError, ValueError
        As in `DropoutMembers`, and if `posterior` is not one of this network as it is now.
    """

    def __init__(
        self,
        module: nn.Module,
        to_log_proba: Head,
        posterior: LastLayerPosterior,
        *,
        n_members: int = 16,
        seed: int = 0,
        device: torch.device | None = None,
        plan: Plan = "auto",
        precision: Precision = "float32",
    ):
        check_network(module, to_log_proba)
        _check_posterior(posterior, module)
        noise = Noise(partial(_draw_weights, posterior), _linear, bool)
        exchange = partial(frozen_layer, name=posterior.layer, noise=noise)
        network = FrozenNetwork(
            InferenceCopy(module, to_log_proba, device, precision, exchange=exchange),
            n_members=whole("n_members", n_members),
            # Nothing else, in particular not what functions drop.
            restrict=[posterior.layer or type(module).__name__],
            plan=plan,
        )
        super().__init__(network, seed)


def _check_posterior(posterior: Any, module: nn.Module) -> None:
    if not isinstance(posterior, LastLayerPosterior):
        raise TypeError(
            "posterior must be what tsynd_sk.laplace.last_layer_posterior gives, "
            f"got {kind_of(posterior)}"
        )
    if posterior.is_of(module):
        return
    layer = dict(module.named_modules()).get(posterior.layer)
    if not isinstance(layer, nn.Linear):
        raise ValueError(
            f"posterior is of a torch.nn.Linear named {posterior.layer!r}, which "
            f"{type(module).__name__} does not have: fit it for this network"
        )
    held, expected = (
        {"weight": _shape(part.weight), "bias": _shape(part.bias)} for part in (layer, posterior)
    )
    if held != expected:
        raise ValueError(
            f"posterior is of a layer {posterior.layer!r} with shapes {expected}, but that of "
            f"module has {held}: fit it for this network"
        )
    raise ValueError(
        f"posterior has other weights of layer {posterior.layer!r} than module: the network was "
        "trained after its posterior was fitted: fit it anew"
    )


def _shape(part: Tensor | None) -> tuple[int, ...] | None:
    return None if part is None else tuple(part.shape)


def _draw_weights(posterior: LastLayerPosterior, layer: Any, generator, x: Tensor) -> tuple:
    return tuple(part.to(layer.weight) for part in posterior.sample(generator) if part is not None)


def _linear(layer: nn.Module, weights: tuple, x: Tensor) -> Tensor:
    return F.linear(x, *weights)


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
        modules = listed("modules", modules, "networks")
        to_log_probas = listed("to_log_probas", to_log_probas, "callables, one for each network")
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
        """
        check_images(x)
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


class JoinedMembers:
    """All members of several groups, with equal weights.

    An ensemble whose networks have several members each is the joined members of its networks.
    Give each group a seed of its own, or call `redrawn`: groups of equal seeds draw equal noise
    where their architectures agree.

    Parameters
    ----------
    groups : sequence of members
        Any of this module, or joined ones.

    Raises
    ------
    TypeError
        If `groups` is no list, or of anything but members.
    ValueError
        If there is no group, or, at a call, if groups differ in their classes.
    """

    def __init__(self, groups: Sequence[Any]):
        self.groups = listed("groups", groups, "members")
        for k, group in enumerate(self.groups):
            if not (
                callable(group) and all(hasattr(group, a) for a in ("n_members", "redrawn", "plan"))
            ):
                raise TypeError(
                    f"groups[{k}] must be members, such as DropoutMembers(...), got "
                    f"{kind_of(group)}"
                )
        self.n_members = sum(group.n_members for group in groups)

    def redrawn(self, seed: int) -> JoinedMembers:
        """Give the members under other draws, independent ones for each group.

        Parameters
        ----------
        seed : int
            Seed of the draws.

        Returns
        -------
        JoinedMembers
            Members of the same networks.
        """
        seeds = torch.randint(
            2**62,
            (len(self.groups),),
            generator=torch.Generator().manual_seed(whole("seed", seed)),
        )
        return JoinedMembers(
            [group.redrawn(int(s)) for group, s in zip(self.groups, seeds, strict=True)]
        )

    def plan(self, x: Tensor) -> str:
        """Name the ways in which the groups are computed.

        Parameters
        ----------
        x : Tensor of shape (n, ...)
            Inputs of the shape that matters.

        Returns
        -------
        str
            Their names in the order of the groups, joined by commas.
        """
        return ", ".join(group.plan(x) for group in self.groups)

    def __call__(self, x: Tensor) -> Tensor:
        """Predict with every member; see `DropoutMembers`."""
        parts = [group(x) for group in self.groups]
        check_agreement(parts, "groups")
        return torch.cat(parts)
