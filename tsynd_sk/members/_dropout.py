"""Members that are one network under frozen draws of all that is random in it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn

from tsynd_sk._utils._inference import InferenceCopy
from tsynd_sk._utils._torch_validation import check_log_probs, check_network, check_tensor
from tsynd_sk._utils._validation import check_int
from tsynd_sk.members._fixed_noise import FrozenNetwork, Restriction
from tsynd_sk.members._stochastic_sites import frozen

#: Turns the output of a network into log-probabilities of shape (n_samples, n_classes).
Head = Callable[[Any], Tensor]

Plan = Literal["auto", "fold", "vmap", "loop"]
Precision = Literal["float32", "bfloat16"]


class FrozenMembers:
    """Members that are one network under `n_members` draws of its noise."""

    def __init__(self, network: FrozenNetwork, seed: int):
        self.n_members = network.n_members
        self._network = network
        self._seed = check_int("seed", seed)
        self._noise: dict[torch.Size, dict[str, Any]] = {}

    def redrawn(self, seed: int) -> FrozenMembers:
        """Give members of the same network under other draws, without preparing it again.

        Parameters
        ----------
        seed : int
            Seed of the draws.

        Returns
        -------
        DropoutMembers or LaplaceMembers
            Members of the same network.

        Raises
        ------
        TypeError
            If `seed` is no int.
        """
        other = copy.copy(self)
        other._seed, other._noise = check_int("seed", seed), {}
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

        Raises
        ------
        TypeError
            If `x` is no Tensor.
        ValueError
            As at a call, see the class.
        """
        check_tensor("x", x)
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

        Raises
        ------
        TypeError
            If `x` is no Tensor.
        ValueError
            As at a call, see the class.
        """
        check_tensor("x", x)
        shape = x.shape[1:]
        if shape not in self._noise:
            self._noise[shape] = self._network.draw(x, self._seed)
        return check_log_probs(self._network(self._noise[shape], x), x)


class DropoutMembers(FrozenMembers):
    """Members of one network by frozen dropout (Monte Carlo dropout [1]_).

    Found and frozen are torch's dropout layers and dropout functions, the dropout of attention
    weights, stochastic depth, and what `tsynd_sk.members.register_stochastic` was told of. Noise
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
            n_members=check_int("n_members", n_members),
            restrict=restrict,
            plan=plan,
        )
        super().__init__(network, seed)
