"""Find the random sites of a network by passing one row through it."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from tsynd_sk._utils._tensors import detached_copy
from tsynd_sk.members._visits import Pass, Randomness, Site, Watch, visiting


class Trace(NamedTuple):
    """What was found out about a network by passing one row."""

    # Random sites in the order of the forward pass.
    sites: dict[str, Site]
    # Whether dropout functions are called, which may be among the sites.
    functions: bool
    # Whether control flow may depend on values after the first site, as after `if x.sum() > 0`.
    by_value: bool
    # Names something that draws random numbers in training in an unknown way.
    resting: str | None


@torch.no_grad()
def trace(network: nn.Module, x: Tensor, *, training: bool = True) -> Trace:
    """Find the random sites of a result of `mark_random_layers`, which stays as it is.

    `x` is one row of what the network takes. Without `training`, nothing is found out that is
    random in training alone and not known to `mark_random_layers`. Raise ValueError if something
    draws random numbers that cannot be fixed.
    """
    # Dropout functions are looked for only where something other than the known layers is random.
    for functions in (False, True):
        # In a copy, because modes change and another thread may be predicting.
        module, resting = detached_copy(network), None
        try:
            with visiting(Pass(tracing=True), functions=functions) as found, Watch():
                module(x)
        except Randomness as randomness:
            if not functions:
                continue
            raise ValueError(
                f"{randomness.where(module)} of {module._get_name()} draws random numbers when it "
                "predicts, in a way that cannot be fixed for members. Register it by "
                "tsynd_sk.members.register_stochastic, or use torch.nn.Dropout instead."
            ) from None
        if not training:
            break
        for part in module.modules():
            # One row has no batch statistics, and running ones must not change.
            part.training = not isinstance(part, nn.modules.batchnorm._NormBase)
        try:
            with visiting(Pass(tracing=True), functions=functions) as trained, Watch():
                module(x)
            for key, on in found.switches.items():
                # Dropout that is off even in training is not random.
                if not on and not trained.switches.get(key, True):
                    del found.sites[key]
            break
        except Randomness as randomness:
            resting = randomness.where(module)
        except Exception:
            # In training mode a network may need other inputs; then nothing can be found out.
            pass
    return Trace(found.sites, bool(found.switches), found.by_value, resting)


def find_unsteady_part(module: nn.Module, predict: Callable[[], Any]) -> str:
    """Name the first module whose output differs between two passes with the same input."""
    calls: list[tuple[str, nn.Module, list[Tensor], list[Tensor]]] = []

    def record(name: str, part: nn.Module, inputs: Any, output: Any) -> None:
        calls.append((name, part, _copied(inputs), _copied(output)))

    hooks = [
        part.register_forward_hook(partial(record, name)) for name, part in module.named_modules()
    ]
    try:
        predict()
        first = list(calls)
        calls.clear()
        predict()
    finally:
        for hook in hooks:
            hook.remove()
    # Modules are recorded after those within them.
    for (name, part, x_1, y_1), (_, _, x_2, y_2) in zip(first, calls, strict=False):
        if name and all(map(torch.equal, x_1, x_2)) and not all(map(torch.equal, y_1, y_2)):
            return f"layer {name!r} ({type(part).__name__})"
    return "the forward"


def _copied(value: Any) -> list[Tensor]:
    return [leaf.clone() for leaf in tree_leaves(value) if isinstance(leaf, Tensor)]


@contextmanager
def keep_foreign_generators() -> Iterator[None]:
    """Restore the global generators of numpy and Python, whose use torch does not see."""
    states = np.random.get_state(), random.getstate()  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(states[0])  # noqa: NPY002
        random.setstate(states[1])
