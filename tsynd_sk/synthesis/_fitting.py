"""What the fits of all estimators share: nothing by halves, no member that cannot be."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from skorch.callbacks import Callback

from tsynd_sk import _skorch
from tsynd_sk.synthesis._member_scheme import MemberScheme


@contextmanager
def all_or_nothing(estimator: Any) -> Iterator[None]:
    """Forget what an earlier fit has learned; bring it back if this one fails."""
    before = _take_learned(estimator)
    try:
        yield
    except BaseException:
        _take_learned(estimator)
        vars(estimator).update(before)
        raise


def _take_learned(estimator: Any) -> dict[str, Any]:
    return {name: vars(estimator).pop(name) for name in list(vars(estimator)) if name[-1] == "_"}


@contextmanager
def reported(task: _skorch.Task, role: str, net: Any, verbose: int) -> Iterator[list[Callback]]:
    """Report a training as a part of a task, and by a bar: with these callbacks in the net."""
    subtask = task.subtask(role, getattr(net, "max_epochs", None))
    yield [_skorch.EpochTasks(subtask), *([_skorch.EpochBar(role)] if verbose else [])]
    subtask.end()


class MembersCheck(Callback):
    """Refuse a net that can have no members when it is about to train.

    Not earlier, for other callbacks may size its module by the data.

    Parameters
    ----------
    scheme : MemberScheme
        How members are to be made.
    x : array of shape (n, ...), float32
        Images as the net sees them.
    """

    def __init__(self, scheme: MemberScheme, x: Any):
        self.scheme = scheme
        self.x = x[:2]

    def on_train_begin(self, net, X=None, y=None, **kwargs):
        """Raise ValueError if the net can have no members."""
        self.scheme.resolve_kind(net, torch.from_numpy(self.x))
