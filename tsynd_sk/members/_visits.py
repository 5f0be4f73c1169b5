"""Random sites of a network, each of which asks a visitor for its output.

In a private copy of the network, a `RandomSiteLayer` replaces each random layer. During a pass, one
*visitor*, which knows the noise of the members, answers all of them by their keys. `_tracing` finds
the sites; `_fixed_noise` draws their noise once and answers with it.
"""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten, tree_unflatten

from tsynd_sk._utils._inference import Replacement
from tsynd_sk.members._noises import Noise, noise_of
from tsynd_sk.members._rng_guard import Watcher

_FUNCTIONS = {
    F.dropout: nn.Dropout,
    F.dropout1d: nn.Dropout1d,
    F.dropout2d: nn.Dropout2d,
    F.dropout3d: nn.Dropout3d,
    F.alpha_dropout: nn.AlphaDropout,
    F.feature_alpha_dropout: nn.FeatureAlphaDropout,
    torch.dropout: nn.Dropout,
    torch.feature_dropout: nn.Dropout2d,
    torch.alpha_dropout: nn.AlphaDropout,
    torch.feature_alpha_dropout: nn.FeatureAlphaDropout,
}


#: Answers the visit of a site, given its key, layer, noise, inputs and keyword arguments.
Visitor = Callable[[str, nn.Module, Noise, tuple, dict], Any]


@dataclass
class _Pass:
    """State of one forward pass in one thread."""

    visitor: Visitor
    calls: Counter[str] = field(default_factory=Counter)
    # Which dropout functions are switched on, by key.
    switches: dict[str, bool] = field(default_factory=dict)
    inside: bool = False
    # Name of the part whose inputs are repeated, how many rows they have, and how often.
    repeat: tuple[str, int, int] | None = None


_PASS: ContextVar[_Pass] = ContextVar("_PASS")


@contextmanager
def visiting(visitor: Visitor, *, functions: bool) -> Iterator[_Pass]:
    """Answer the visits of all random sites, with or without those of dropout functions."""
    current = _Pass(visitor)
    token = _PASS.set(current)
    try:
        with _DropoutFunctions() if functions else nullcontext():
            yield current
    finally:
        _PASS.reset(token)


class RandomSiteLayer(Replacement):
    """Replaces a random layer, and asks the visitor of the present pass for its output."""

    def __init__(self, name: str, layer: nn.Module, noise: Noise):
        super().__init__(layer)
        self.name, self.noise = name, noise

    def forward(self, *inputs: Any, **kwargs: Any) -> Any:
        """Visit the site."""
        layer, current = self.layer, _PASS.get(None)
        if current is None:
            raise RuntimeError(
                f"layer {self.name!r} runs again in the backward pass, as in "
                "torch.utils.checkpoint, which cannot repeat its noise: use checkpoints only in "
                "training (`if self.training`)"
            )
        if kwargs:
            # `draw` and `apply` may name their arguments differently.
            bound = inspect.signature(layer.forward).bind(*inputs, **kwargs)
            inputs, kwargs = bound.args, bound.kwargs
        # A layer that is used twice in a pass has different noise each time.
        key = f"{self.name}#{current.calls[self.name]}"
        current.calls[self.name] += 1
        outside, current.inside = current.inside, True
        try:
            return current.visitor(key, layer, self.noise, inputs, kwargs)
        finally:
            current.inside = outside


class _DropoutFunctions(TorchFunctionMode):
    """Turns calls of torch.nn.functional's dropout into visits of random sites."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs, current = kwargs or {}, _PASS.get()
        if func not in _FUNCTIONS or current.inside:
            return func(*args, **kwargs)
        x = args[0] if args else kwargs["input"]
        p = float(args[1] if len(args) > 1 else kwargs.get("p", 0.5))
        if p == 0:
            return x
        layer = _FUNCTIONS[func](p).eval()
        # Functions have no names, so each call counts as a layer.
        name = f"functional.{func.__name__}"
        call = f"{name}.{current.calls[name]}"
        current.calls[name] += 1
        on = args[2] if len(args) > 2 else kwargs.get("training", kwargs.get("train", True))
        current.switches[f"{call}#0"] = bool(on)
        return RandomSiteLayer(call, layer, noise_of(layer)).forward(x)  # type: ignore[arg-type]


class ValueWatch(Watcher):
    """Stops a pass whose control flow depends on values, after its first random site.

    Before that site the batch is that of a single member, so values may decide.
    """

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if torch.Tag.data_dependent_output in func.tags:
            current = _PASS.get(None)
            if current is None or current.calls:
                raise RuntimeError("what follows may depend on values, as after `if x.sum() > 0`")
        return func(*args, **(kwargs or {}))


def _repeat_inputs(name: str, part: nn.Module, inputs: tuple, kwargs: dict) -> Any:
    """Repeat the rows that a module receives, if the present pass asks for it: a forward hook."""
    current = _PASS.get(None)
    if current is None or current.repeat is None or current.repeat[0] != name:
        return None
    _, n_rows, n_times = current.repeat
    current.repeat = None
    leaves, structure = tree_flatten((inputs, kwargs))
    tensors = [i for i, leaf in enumerate(leaves) if isinstance(leaf, Tensor)]
    if len(tensors) != 1 or leaves[tensors[0]].shape[:1] != (n_rows,):
        # One of several tensors could be shared by all rows, and as long as the batch by chance.
        raise RuntimeError(f"{name} takes more than one tensor of rows")
    leaves[tensors[0]] = torch.cat([leaves[tensors[0]]] * n_times)
    return tree_unflatten(leaves, structure)


def replace_random_layers(module: nn.Module, only: tuple[str, Noise] | None = None) -> nn.Module:
    """Replace random layers of a private copy; the result runs only inside `visiting`.

    `only` names a linear layer and its noise; then no other is replaced.
    """
    root, sites = nn.Sequential(module), {}
    for name, part in module.named_modules():
        part.register_forward_pre_hook(partial(_repeat_inputs, name), with_kwargs=True)
        noise = noise_of(part)
        if only is not None:
            noise = only[1] if name == only[0] and isinstance(part, nn.Linear) else None
        if noise is not None:
            sites[part] = RandomSiteLayer(name or type(part).__name__, part, noise)
    for parent in list(root.modules()):
        # A layer may have several names.
        for name, child in parent._modules.items():
            parent._modules[name] = sites.get(child, child)
    return root[0]


def without_noise(key: str, layer: nn.Module, noise: Noise, inputs: tuple, kwargs: dict) -> Any:
    """Answer a visit as evaluation mode does."""
    return layer(*inputs, **kwargs)
