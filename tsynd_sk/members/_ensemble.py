"""Members that are separate networks, and members of several networks, joined."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from tsynd_sk._utils._inference import InferenceCopy, check_not_scripted
from tsynd_sk.members._fixed_noise import Head
from tsynd_sk.members._tracing import keep_foreign_generators, trace
from tsynd_sk.members._visits import Pass, visiting


class EnsembleMembers:
    """Members that are separate networks; their dropout is off.

    Parameters
    ----------
    modules : sequence of Module
        Networks.
    to_log_probas : sequence of callables
        One for each network, which turns its output into log-probabilities.
    device : torch.device or None, default=None
        Device to predict on; by default that of each network.

    Raises
    ------
    ValueError
        If there is not one callable for each network; at a call, if something in a network draws
        random numbers in a way that cannot be switched off.

    See Also
    --------
    DropoutMembers : For one network.
    JoinedMembers : Members of networks that have several each.

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
    ):
        for module in modules:
            check_not_scripted(module)
        self._copies = [
            InferenceCopy(module, head, device)
            for module, head in zip(modules, to_log_probas, strict=True)
        ]
        self.n_members = len(self._copies)
        # Whether dropout functions are called; None before the first call.
        self._functions: bool | None = None

    def redrawn(self, seed: int) -> EnsembleMembers:
        """Return the members themselves.

        Parameters
        ----------
        seed : int
            Not used: there is nothing to draw.

        Returns
        -------
        EnsembleMembers
            These members.
        """
        return self

    def __call__(self, x: Tensor) -> Tensor:
        """Predict with every network; see `DropoutMembers`."""
        if self._functions is None:
            # Raise if something random in a network cannot be switched off.
            with keep_foreign_generators():
                run = partial(trace, training=False)
                traces = [network.prepare(x, run) for network in self._copies]
            self._functions = any(found.functions for found in traces)
        with visiting(Pass(), functions=self._functions):
            return torch.stack([network(x) for network in self._copies])


class JoinedMembers:
    """All members of several groups, as of an ensemble whose networks have several members each.

    Give each group its own seed, or call `redrawn`: with equal seeds, groups of the same
    architecture draw equal noise.

    Parameters
    ----------
    groups : sequence of members
        Members of any kind.

    See Also
    --------
    EnsembleMembers : Networks that are one member each.

    Examples
    --------
    >>> import torch
    >>> from tsynd_sk.members import DropoutMembers, JoinedMembers
    >>> nets = [torch.nn.Sequential(torch.nn.Dropout(0.5), torch.nn.Linear(8, 3)) for _ in range(2)]
    >>> groups = [DropoutMembers(net, lambda out: out.log_softmax(-1), n_members=4) for net in nets]
    >>> JoinedMembers(groups).redrawn(seed=0)(torch.ones(5, 8)).shape
    torch.Size([8, 5, 3])
    """

    def __init__(self, groups: Sequence[Any]):
        self.groups = list(groups)
        self.n_members = sum(group.n_members for group in self.groups)

    def redrawn(self, seed: int) -> JoinedMembers:
        """Return members with other draws, independent for each group.

        Parameters
        ----------
        seed : int
            Seed of the draws.

        Returns
        -------
        JoinedMembers
            Members of the same networks.
        """
        generator = torch.Generator().manual_seed(int(seed))
        seeds = torch.randint(2**62, (len(self.groups),), generator=generator).tolist()
        return JoinedMembers([g.redrawn(s) for g, s in zip(self.groups, seeds, strict=True)])

    def __call__(self, x: Tensor) -> Tensor:
        """Predict with every member; see `DropoutMembers`."""
        return torch.cat([group(x) for group in self.groups])
