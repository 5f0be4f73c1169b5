"""Randomness in a forward pass that nobody has told of: who draws, and from what."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Randomness(Exception):
    """Something drew random numbers; the message names it."""


class Watch(TorchDispatchMode):
    """Stops a forward pass, before global state moves, where it is about to draw random numbers."""

    def __init__(self, module: nn.Module):
        super().__init__()
        self.names = {part: name for name, part in module.named_modules()}
        self.within: list[nn.Module] = [module]
        self.hooks: list[Any] = []
        self.thread = threading.get_ident()

    def __enter__(self):
        def enter(part, inputs):
            # Another thread may be predicting with the same network.
            if threading.get_ident() == self.thread:
                self.within.append(part)

        def leave(part, inputs, output):
            if threading.get_ident() == self.thread:
                self.within.pop()

        for part in self.names:
            self.hooks.append(part.register_forward_pre_hook(enter))
            self.hooks.append(part.register_forward_hook(leave))
        return super().__enter__()

    def __exit__(self, *error):
        super().__exit__(*error)
        for hook in self.hooks:
            hook.remove()

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # To skip it would import it, which takes seconds.
        return False

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if _draws(func, args, kwargs):
            part = self.within[-1]
            name = self.names[part]
            where = f"layer {name!r} ({type(part).__name__})" if name else "the forward"
            raise Randomness(f"{func.name().removeprefix('aten::')} in {where}")
        return func(*args, **kwargs)


def _draws(func: Any, args: tuple, kwargs: dict) -> bool:
    """Tell whether an operation draws random numbers, given how it is called."""
    if torch.Tag.nondeterministic_seeded not in func.tags:
        return False
    # Calls leave out trailing arguments that have their defaults.
    schema = func._schema.arguments
    defaults = {part.name: part.default_value for part in schema if part.has_default_value()}
    names = [part.name for part in schema]
    given = defaults | dict(zip(names, args, strict=False)) | kwargs
    if given.get("generator") is not None:
        return False
    rates = [given.get(name) for name in ("p", "dropout", "dropout_p")]
    switched_off = any(given.get(name) is False for name in ("train", "training"))
    never = any(isinstance(rate, int | float) and rate == 0 for rate in rates)
    return not (switched_off or never)


def find_unsteady_part(module: nn.Module, predict: Callable[[], Any]) -> str:
    """Name the first part of a network that answers differently to the same in two passes."""
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
    # Parts are recorded after those within them.
    for (name, part, x_1, y_1), (_, _, x_2, y_2) in zip(first, calls, strict=False):
        if name and all(map(torch.equal, x_1, x_2)) and not all(map(torch.equal, y_1, y_2)):
            return f"layer {name!r} ({type(part).__name__})"
    return "the forward"


def _copied(value: Any) -> list[Tensor]:
    return [leaf.clone() for leaf in tree_leaves(value) if isinstance(leaf, Tensor)]


@contextmanager
def keep_foreign_generators() -> Iterator[None]:
    """Put the global generators of numpy and Python back: torch does not see who draws there."""
    states = np.random.get_state(), random.getstate()  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(states[0])  # noqa: NPY002
        random.setstate(states[1])
