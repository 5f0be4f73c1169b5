"""Find the random layers of a network, and choose those that are random in its members."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from numbers import Integral

from torch import Tensor, nn

from tsynd_sk._utils._inference import private_copy, without_fast_paths
from tsynd_sk.members._tracing import Site, Trace, trace
from tsynd_sk.members._visits import replace_random_layers

Restriction = str | int | Sequence[str] | None


def random_layers(
    module: nn.Module, x: Tensor, *, restrict: Restriction = None, required: bool = False
) -> list[str]:
    """Return the names of the layers that `DropoutMembers` draws, in the order of the forward pass.

    Parameters
    ----------
    module : Module
        Network; it stays as it is.
    x : Tensor of shape (n, ...)
        Some inputs, of which one row passes.
    restrict : None, "last", int or sequence of str, default=None
        See `DropoutMembers`.
    required : bool, default=False
        Whether a network with nothing random is an error. Otherwise the list is empty, and a
        warning names what draws random numbers in training in an unknown way.

    Raises
    ------
    ValueError
        If `restrict` chooses no random layer, or something draws random numbers in a way that
        cannot be fixed.
    """
    restrict = check_restriction(restrict)
    found = trace(replace_random_layers(without_fast_paths(private_copy(module))), x[:1])
    if found.sites:
        sites = restrict_sites(found.sites, restrict).values()
        return list(dict.fromkeys(site.layer_name for site in sites))
    name = module._get_name()
    if required:
        raise ValueError(nothing_random(name, found.resting))
    if found.resting:
        warn_of_resting(name, found.resting)
    return []


def check_restriction(restrict: Restriction) -> Restriction:
    """Check that a restriction can choose random layers."""
    if restrict is None or (isinstance(restrict, str) and restrict == "last"):
        return restrict
    if isinstance(restrict, Integral) and not isinstance(restrict, bool):
        if restrict < 1:
            raise ValueError(f"restrict must be at least 1 if it is an int; got {restrict}")
        return int(restrict)
    if (
        isinstance(restrict, list | tuple)
        and restrict
        and all(isinstance(name, str) for name in restrict)
    ):
        return list(restrict)
    raise ValueError(
        "restrict must be None (all random layers), 'last', an int (as many last ones) or a list "
        f"of names of layers, not an empty one; got {restrict!r}"
    )


def choose_sites(found: Trace, restrict: Restriction, name: str) -> dict[str, Site]:
    """Choose the random sites of a network that are random in its members."""
    if not found.sites:
        raise ValueError(nothing_random(name, found.resting))
    if found.resting and restrict is None:
        warn_of_resting(name, found.resting)
    return restrict_sites(found.sites, restrict)


def restrict_sites(sites: dict[str, Site], restrict: Restriction) -> dict[str, Site]:
    """Return the sites that a restriction keeps."""
    if restrict is None:
        return sites
    layers = list(dict.fromkeys(site.layer_name for site in sites.values()))
    if isinstance(restrict, str | int):
        chosen = set(layers[-(1 if isinstance(restrict, str) else restrict) :])
    else:
        chosen = set()
        for name in restrict:
            within = {layer for layer in layers if f"{layer}.".startswith(f"{name}.")}
            if not within:
                raise ValueError(
                    f"restrict names {name!r}, which is not random: choose from {layers}, or the "
                    "modules that contain them"
                )
            chosen |= within
    return {key: site for key, site in sites.items() if site.layer_name in chosen}


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


def nothing_random(name: str, resting: str | None) -> str:
    """Return the message for a network without random layers."""
    why = (
        f"({resting} draws random numbers in training, but in an unknown way)"
        if resting
        else "(no dropout with p > 0 is called)"
    )
    return (
        f"{name} has nothing random in its forward pass {why}, so members='dropout' finds no "
        "epistemic uncertainty. Use members='laplace', add torch.nn.Dropout before its last "
        "layers, register your own random layers by tsynd_sk.members.register_stochastic, or give "
        "a list of several classifiers, which then form an ensemble."
    )
