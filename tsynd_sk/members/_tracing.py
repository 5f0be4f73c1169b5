"""Find the random sites of a network by passing one row through it."""

from __future__ import annotations

import copy
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from tsynd_sk._utils._inference import modes_kept
from tsynd_sk.members._noises import Noise
from tsynd_sk.members._rng_guard import Randomness, Watch
from tsynd_sk.members._visits import visiting


class Site(NamedTuple):
    """A place in the forward pass where something random happens, with one row of its inputs."""

    layer_name: str
    layer: nn.Module
    noise: Noise
    inputs: tuple
    kwargs: dict


class Trace(NamedTuple):
    """What was found out about a network by passing one row."""

    # Random sites in the order of the forward pass.
    sites: dict[str, Site]
    # Whether dropout functions are called, which may be among the sites.
    functions: bool
    # Names something that draws random numbers in training in an unknown way.
    resting: str | None


@torch.no_grad()
def trace(module: nn.Module, x: Tensor) -> Trace:
    """Find the random sites of a result of `replace_random_layers`, which stays as it is.

    `x` is one row of what the network takes. Raise ValueError if something draws random numbers
    that cannot be fixed.
    """
    # In a copy, because modes change and another thread may be predicting.
    module = copy.deepcopy(module)
    sites: dict[str, Site] = {}
    generator = torch.Generator().manual_seed(0)

    def record(key, layer, noise, inputs, kwargs):
        # Only the noise is applied, even if the network is in training mode.
        layer.eval()
        name = key.rpartition("#")[0]
        sites[key] = Site(name, layer, noise, inputs, kwargs)
        state = generator.get_state()
        try:
            draw = noise.draw(layer, generator, *inputs, **kwargs)
            generator.set_state(state)
            again = noise.draw(layer, generator, *inputs, **kwargs)
            repeats = all(map(torch.equal, tree_leaves(draw), tree_leaves(again)))
        except Randomness:
            repeats = False
        if not repeats:
            raise ValueError(
                f"the draw that is registered for {type(layer).__name__} (layer {name!r}) does not "
                "take all random numbers from its generator, so members cannot be drawn again: "
                "pass generator=generator to each function that draws"
            )
        try:
            return noise.apply(layer, draw, *inputs, **kwargs)
        except NotImplementedError as error:
            raise ValueError(f"layer {name!r}: {error}") from None

    try:
        with visiting(record, functions=True) as predicting, Watch():
            module(x)
    except Randomness as randomness:
        raise ValueError(
            f"{randomness.where(module)} of {module._get_name()} draws random numbers when it "
            "predicts, in a way that cannot be fixed for members. Register it by "
            "tsynd_sk.members.register_stochastic, or use torch.nn.Dropout instead."
        ) from None
    found, resting = dict(sites), None
    with modes_kept(module):
        for part in module.modules():
            # One row has no batch statistics, and running ones must not change.
            part.training = not isinstance(part, nn.modules.batchnorm._NormBase)
        try:
            with visiting(record, functions=True) as training, Watch():
                module(x)
            for key, on in predicting.switches.items():
                # Dropout that is off even in training is not random.
                if not on and not training.switches.get(key, True):
                    del found[key]
        except Randomness as randomness:
            resting = randomness.where(module)
        except Exception:
            # In training mode a network may need other inputs; then nothing can be found out.
            pass
    return Trace(found, bool(predicting.switches), resting)
