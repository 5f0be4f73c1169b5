"""Several groups of members, joined into one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from tsynd_sk._utils._torch_validation import check_agreement
from tsynd_sk._utils._validation import check_int, check_list


class JoinedMembers:
    """All members of several groups, with equal weights.

    Use it for an ensemble whose networks have several members each. Give each group its own seed,
    or call `redrawn`: with equal seeds, groups of the same architecture draw equal noise.

    Parameters
    ----------
    groups : sequence of members
        Members of any kind.

    Raises
    ------
    TypeError
        If `groups` is not a list.
    ValueError
        If there is no group; at a call, if groups predict different numbers of classes.

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
        self.groups = check_list("groups", groups, "members")
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
        seeds = torch.randint(
            2**62,
            (len(self.groups),),
            generator=torch.Generator().manual_seed(check_int("seed", seed)),
        )
        return JoinedMembers(
            [group.redrawn(int(s)) for group, s in zip(self.groups, seeds, strict=True)]
        )

    def __call__(self, x: Tensor) -> Tensor:
        """Predict with every member; see `DropoutMembers`."""
        parts = [group(x) for group in self.groups]
        check_agreement(parts, "groups")
        return torch.cat(parts)
