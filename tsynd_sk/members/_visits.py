"""Random sites of a network, each of which is visited for its output.

`mark_random_layers` has every random layer of a private copy ask `visit` for its output. What a
visit gives depends on the present *pass*: for `_tracing` it notes the site; for members it applies
their noise, which `_fixed_noise` has drawn once, by `draw_members`, and keeps.
"""

from __future__ import annotations

import copy
import inspect
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial
from operator import itemgetter
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_leaves, tree_map, tree_unflatten

from tsynd_sk.members._noises import NOISES, Noise

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

#: Draws of the members by site, with the members in front.
Draws = dict[str, Any]


class Site(NamedTuple):
    """A place in the forward pass where something is random, with one row of its inputs."""

    layer_name: str
    layer: nn.Module
    noise: Noise
    inputs: tuple
    kwargs: dict


@dataclass
class Pass:
    """State of one forward pass in one thread; sites without draws are off."""

    draws: Draws = field(default_factory=dict)
    sites: dict[str, Site] = field(default_factory=dict)
    n_members: int = 1
    n_rows: int = 1
    # Whether to find the sites, by one row.
    tracing: bool = False
    # Name of the part whose inputs are repeated for every member.
    repeat: str | None = None
    calls: Counter[str] = field(default_factory=Counter)
    # Which dropout functions are switched on, by key.
    switches: dict[str, bool] = field(default_factory=dict)
    inside: bool = False
    # Whether a value may have decided what is computed, after the first site.
    by_value: bool = False


_PASS: ContextVar[Pass] = ContextVar("_PASS")


@contextmanager
def visiting(current: Pass, *, functions: bool) -> Iterator[Pass]:
    """Make a pass the present one."""
    token = _PASS.set(current)
    try:
        with _DropoutFunctions() if functions else nullcontext():
            yield current
    finally:
        _PASS.reset(token)


def visit(layer: nn.Module, name: str, noise: Noise, *inputs: Any, **kwargs: Any) -> Any:
    """Return the output of a random layer as the present pass wants it."""
    current = _PASS.get(None)
    if current is None:
        raise RuntimeError(
            f"layer {name!r} runs again in the backward pass, as in torch.utils.checkpoint, which "
            "cannot repeat its noise: use checkpoints only in training (`if self.training`)"
        )
    if kwargs:
        # `draw` and `apply` may name their arguments differently.
        bound = inspect.signature(layer.forward).bind(*inputs, **kwargs)
        inputs, kwargs = bound.args, bound.kwargs
    # A layer that is used twice in a pass has different noise each time.
    key = f"{name}#{current.calls[name]}"
    current.calls[name] += 1
    outside, current.inside = current.inside, True
    try:
        if current.tracing:
            # Only the noise is applied, even if the network is in training mode.
            layer.eval()
            current.sites[key] = site = Site(name, layer, noise, inputs, kwargs)
            if noise.apply is not None:
                _try_to_draw(current, key, site)
        x, draws = inputs[0], current.draws.get(key)
        if draws is None:
            return x if noise.apply is None else layer.forward(*inputs, **kwargs)
        if noise.apply is not None:
            return _apply_by_member(current, key, inputs, kwargs)
        folded = len(x) == current.n_members * current.n_rows
        x = x.unflatten(0, (current.n_members, -1)) if folded else x.unsqueeze(0)
        x = x * draws if isinstance(draws, Tensor) else x * draws[0] + draws[1]
        return x.flatten(0, 1)
    finally:
        current.inside = outside


def draw_members(sites: dict[str, Site], n_members: int, seed: int) -> Draws:
    """Draw the noise of members at all sites."""
    generator, draws = torch.Generator().manual_seed(int(seed)), {}
    for key, (_, layer, noise, inputs, kwargs) in sites.items():
        leaves: list[list[Tensor]] = []
        for _ in range(n_members):
            draw, structure = tree_flatten(noise.draw(layer, generator, *inputs, **kwargs))
            leaves.append(draw)
        draws[key] = tree_unflatten(map(torch.stack, zip(*leaves, strict=True)), structure)
    return draws


def _try_to_draw(current: Pass, key: str, site: Site) -> None:
    """Give a site the noise of one member; raise if a second draw differs."""
    by_value = current.by_value
    try:
        draws, again = (draw_members({key: site}, 1, seed=0) for _ in range(2))
        repeats = all(map(torch.equal, tree_leaves(draws), tree_leaves(again)))
    except Randomness:
        repeats = False
    if not repeats:
        raise ValueError(
            f"the draw that is registered for {type(site.layer).__name__} (layer "
            f"{site.layer_name!r}) does not take all random numbers from its generator, so members "
            "cannot be drawn again: pass generator=generator to each function that draws"
        )
    current.draws.update(draws)
    current.by_value = by_value


def _apply_by_member(current: Pass, key: str, inputs: tuple, kwargs: dict) -> Any:
    name, layer, noise, *one_row = current.sites[key]
    n_members, n_folded = current.n_members, current.n_members * current.n_rows
    leaves, structure = tree_flatten((inputs, kwargs))
    # Tensors with the rows of all members are split; others, such as a mask as long as a batch, are
    # shared. A tensor has rows if it had one when one row was traced.
    for i, traced in enumerate(tree_leaves(tuple(one_row))):
        rows = isinstance(traced, Tensor) and traced.shape[:1] == (1,)
        whole = rows and n_folded and leaves[i].shape[:1] == (n_folded,)
        leaves[i] = leaves[i].chunk(n_members) if whole else [leaves[i]] * n_members
    outputs = []
    for k in range(n_members):
        args, named = tree_unflatten([leaf[k] for leaf in leaves], structure)
        draw = tree_map(itemgetter(k), current.draws[key])
        try:
            outputs.append(noise.apply(layer, draw, *args, **named))  # type: ignore[misc]
        except NotImplementedError as error:
            raise ValueError(f"layer {name!r}: {error}") from None
    return tree_map(_joined, *outputs)


def _joined(*parts: Any) -> Any:
    return torch.cat(parts) if isinstance(parts[0], Tensor) else parts[0]


class _DropoutFunctions(TorchFunctionMode):
    """Turns calls of dropout functions into visits of random sites."""

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
        return visit(layer, call, NOISES[type(layer)], x)


class Randomness(Exception):
    """Something is about to draw random numbers; the message is the operation."""

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


class Watch(TorchDispatchMode):
    """Stops a pass before it draws random numbers, so that global state does not change.

    It also notes whether control flow may depend on values after the first random site, before
    which the batch is that of a single member.
    """

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # To skip it would import it, which takes seconds.
        return False

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if torch.Tag.data_dependent_output in func.tags:
            current = _PASS.get()
            current.by_value |= bool(current.calls)
        if torch.Tag.nondeterministic_seeded in func.tags:
            given = {}
            for i, part in enumerate(func._schema.arguments):
                # Calls omit trailing arguments that have their defaults.
                default = part.default_value if part.has_default_value() else None
                given[part.name] = args[i] if i < len(args) else kwargs.get(part.name, default)
            # Arguments switch off some operations.
            off = given.get("train") is False or given.get("training") is False
            rate = given.get("p", given.get("dropout", given.get("dropout_p")))
            never = isinstance(rate, int | float) and rate == 0
            if given.get("generator") is None and not (off or never):
                raise Randomness(func.name().removeprefix("aten::"))
        return func(*args, **kwargs)


def repeat_inputs(name: str, part: nn.Module, inputs: tuple, kwargs: dict | None = None) -> Any:
    """Repeat the rows that a module receives, if the present pass asks for it: a forward hook."""
    current = _PASS.get(None)
    # Without kwargs another thread is still registering the hook.
    if current is None or current.repeat != name or kwargs is None:
        return None
    current.repeat = None
    leaves, structure = tree_flatten((inputs, kwargs))
    tensors = [i for i, leaf in enumerate(leaves) if isinstance(leaf, Tensor)]
    if len(tensors) != 1 or leaves[tensors[0]].shape[:1] != (current.n_rows,):
        # One of several tensors could be shared by all rows, and as long as the batch by chance.
        raise RuntimeError(f"{name} takes more than one tensor of rows")
    leaves[tensors[0]] = torch.cat([leaves[tensors[0]]] * current.n_members)
    return tree_unflatten(leaves, structure)


def mark_random_layers(module: nn.Module, only: tuple[str, Noise] | None = None) -> nn.Module:
    """Have the random layers of a private copy visited, or a linear one `only`, with this noise.

    It then runs only inside `visiting`.
    """
    for name, part in module.named_modules():
        kind = type(part)
        noise = NOISES.get(kind) or NOISES.get(f"{kind.__module__}.{kind.__qualname__}")
        if only is not None:
            noise = only[1] if name == only[0] and isinstance(part, nn.Linear) else None
        if noise is not None and noise.active(part):
            # The copy shares the weights, and is not visited itself.
            part.forward = partial(visit, copy.copy(part), name or kind.__name__, noise)
    return module
