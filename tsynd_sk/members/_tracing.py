"""Find what is random in a network by one row, and choose what is random in its members."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from numbers import Integral
from operator import attrgetter
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from tsynd_sk._utils._inference import private_copy
from tsynd_sk._utils._tensors import detached_copy
from tsynd_sk.members._visits import Pass, Randomness, Site, Watch, mark_random_layers, visiting

Restriction = str | int | Sequence[str] | None


class Trace(NamedTuple):
    """What was found out about a network by passing one row."""

    # Random sites in the order of the forward pass.
    sites: dict[str, Site]
    # Whether dropout functions are called.
    functions: bool
    # Whether control flow may depend on values after the first site, as after `if x.sum() > 0`.
    by_value: bool
    # Names something that draws random numbers in training in an unknown way.
    resting: str | None


@torch.no_grad()
def trace(network: nn.Module, x: Tensor, *, training: bool = True) -> Trace:
    """Find the random sites of a result of `mark_random_layers`, which stays as it is, by one row.

    Without `training`, nothing is found out that is random in training alone and unknown to
    `mark_random_layers`. Raise ValueError if something draws numbers that cannot be fixed.
    """
    # Dropout functions are looked for only where something beside the known layers is random.
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


def is_random(module: nn.Module, x: Tensor) -> bool:
    """Return whether `DropoutMembers` find anything random; warn of what they cannot draw."""
    found = trace(mark_random_layers(private_copy(module)), x[:1])
    if found.resting and not found.sites:
        warn_of_resting(module._get_name(), found.resting)
    return bool(found.sites)


def restrict_sites(found: Trace, restrict: Restriction, name: str) -> dict[str, Site]:
    """Return the random sites of a network that a restriction keeps; raise if there are none."""
    if not found.sites:
        why = (
            f"{found.resting} draws random numbers in training, but in an unknown way"
            if found.resting
            else "no dropout with p > 0 is called"
        )
        raise ValueError(
            f"{name} has nothing random in its forward pass ({why}), so members='dropout' finds no "
            "epistemic uncertainty. Use members='laplace', add torch.nn.Dropout before its last "
            "layers, register your own random layers by tsynd_sk.members.register_stochastic, or "
            "give a list of several classifiers, which then form an ensemble."
        )
    if restrict is None:
        return found.sites
    is_number = isinstance(restrict, Integral) and type(restrict) is not bool and int(restrict) > 0
    is_list = isinstance(restrict, list | tuple) and len(restrict) > 0
    if not (is_number or is_list or (isinstance(restrict, str) and restrict == "last")):
        raise ValueError(
            "restrict must be None (all random layers), 'last', an int of at least 1 (so many last "
            f"ones) or a list of names of layers, not an empty one; got {restrict!r}"
        )
    layers = list(dict.fromkeys(map(attrgetter("layer_name"), found.sites.values())))
    number: Any = 1 if restrict == "last" else restrict
    chosen: list[str] = []
    for part in layers[-number:] if isinstance(number, Integral) else number:
        within = [layer for layer in layers if f"{layer}.".startswith(f"{part}.")]
        if not within:
            raise ValueError(
                f"restrict names {part!r}, which is not random: choose from {layers}, or the "
                "modules that contain them"
            )
        chosen += within
    return {key: site for key, site in found.sites.items() if site.layer_name in chosen}


def warn_of_resting(name: str, resting: str) -> None:
    """Warn that something is random in training, but not in the members."""
    warnings.warn(
        f"{resting} of {name} draws random numbers in training in an unknown way, so it is off in "
        "the members of the network, as in evaluation mode. To make it random in them, use "
        "torch.nn.Dropout instead, or register it by tsynd_sk.members.register_stochastic; to "
        "leave it off, name the other random layers in restrict.",
        UserWarning,
        stacklevel=2,
    )


def find_unsteady_part(module: nn.Module, predict: Callable[[], Any]) -> str:
    """Name the first module that returns other values for the same input in a second pass."""
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
