"""Several groups of members, joined into one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


class JoinedMembers:
    """All members of several groups, with equal weights.

    Use it for an ensemble whose networks have several members each. Give each group its own seed,
    or call `redrawn`: with equal seeds, groups of the same architecture draw equal noise.

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
    >>> members = JoinedMembers(groups).redrawn(seed=0)
    >>> members(torch.ones(5, 8)).shape
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
