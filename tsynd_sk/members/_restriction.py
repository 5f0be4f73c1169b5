"""Find the random layers of a network, and choose those that are random in its members."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from numbers import Integral
from operator import attrgetter
from typing import Any

from torch import Tensor, nn

from tsynd_sk._utils._inference import private_copy
from tsynd_sk.members._tracing import Trace, trace
from tsynd_sk.members._visits import Site, mark_random_layers

Restriction = str | int | Sequence[str] | None


def random_layers(
    module: nn.Module, x: Tensor, *, restrict: Restriction = None, required: bool = False
) -> list[str]:
    """Return the names of the layers that `DropoutMembers` draws, in the order of the forward pass.

    One row of `x` passes. If nothing is random, raise if this is `required`; otherwise return an
    empty list, and warn of what draws random numbers in training in an unknown way.
    """
    name = module._get_name()
    found = trace(mark_random_layers(private_copy(module)), x[:1])
    if found.sites or required:
        sites = restrict_sites(found, restrict, name)
        return list(dict.fromkeys(map(attrgetter("layer_name"), sites.values())))
    if found.resting:
        warn_of_resting(name, found.resting)
    return []


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
