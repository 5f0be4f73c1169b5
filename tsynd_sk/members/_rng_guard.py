"""Find random numbers that a forward pass draws in an unknown way."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves


class Randomness(Exception):
    """Something is about to draw random numbers; the message names the operation."""

    def where(self, module: nn.Module) -> str:
        """Name the operation and the innermost part of a network that was being called."""
        names = {part: name for name, part in module.named_modules()}
        traceback, name, kind = self.__traceback__, "", ""
        while traceback is not None:
            part = traceback.tb_frame.f_locals.get("self")
            if isinstance(part, nn.Module) and part in names:
                name, kind = names[part], type(part).__name__
            traceback = traceback.tb_next
        return f"{self} in " + (f"layer {name!r} ({kind})" if name else "the forward")


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
