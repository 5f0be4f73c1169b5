"""Find the last linear layer of a network, and record its inputs and outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

WAYS_OUT = (
    "Either add torch.nn.Dropout before the last layers of the network, or give a list of several "
    "classifiers, which then form an ensemble."
)


class Call(NamedTuple):
    """One call of a linear layer, and its name."""

    layer: str
    features: Tensor
    output: Tensor


def _record(calls: list[Call], name: str, _: nn.Module, args, kwargs, output: Tensor) -> Tensor:
    leaf = output.detach().requires_grad_()
    features = args[0] if args else kwargs["input"]
    calls.append(Call(name, features.detach(), leaf))
    # Not the leaf itself, which an in-place activation would not be allowed to change.
    return leaf.clone()


@contextmanager
def recorded(layers: dict[str, nn.Linear]) -> Iterator[list[Call]]:
    """Record the calls of some layers in order, each output a leaf of the graph that follows."""
    calls: list[Call] = []
    handles = [
        # First in line, to see what the layer computes before other hooks change it.
        layer.register_forward_hook(partial(_record, calls, name), prepend=True, with_kwargs=True)
        for name, layer in layers.items()
    ]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


def layer_label(name: str) -> str:
    return f"linear layer {name!r}" if name else "linear layer"


def last_linear(
    network: nn.Module, to_log_proba: Callable[[Tensor], Tensor], x: Tensor
) -> tuple[str, nn.Linear]:
    """Find the linear layer called last among those that the prediction depends on."""
    layers = {n: part for n, part in network.named_modules() if isinstance(part, nn.Linear)}
    with recorded(layers) as calls:
        log_probs = to_log_proba(network(x))
    outputs = [call.output for call in calls]
    # A layer beside the way to the prediction, as in an auxiliary head, has no gradient.
    used: tuple[Tensor | None, ...] = ()
    if outputs and log_probs.requires_grad:
        used = torch.autograd.grad(log_probs.sum(), outputs, allow_unused=True)
    last = [call.layer for call, slope in zip(calls, used, strict=False) if slope is not None][-1:]
    if not last:
        raise ValueError(
            f"{network._get_name()} calls no torch.nn.Linear that its prediction depends on, so it "
            f"has no last layer for members='laplace'. {WAYS_OUT}"
        )
    return last[0], layers[last[0]]


def check_plain(name: str, layer: nn.Linear) -> None:
    """Raise if a layer's weight is computed from other parameters, or used in another way."""
    kept = {"weight", "bias"} <= layer._parameters.keys()
    plain = kept and type(layer).forward is nn.Linear.forward
    if not plain:
        raise ValueError(
            f"the last {layer_label(name)} is a {type(layer).__name__} whose weight is computed "
            "from other parameters (as by weight_norm) or that overrides forward, so no weight can "
            f"be drawn for it. {WAYS_OUT}"
        )


def only_call(calls: list[Call], name: str, log_probs: Tensor) -> Call:
    """Check that the layer was called once, with one row of features for each prediction."""
    if len(calls) != 1:
        raise ValueError(
            f"the last {layer_label(name)} is called {len(calls)} times in a forward pass, but "
            f"must be called once for members='laplace'. {WAYS_OUT}"
        )
    shape = tuple(calls[0].features.shape)
    if len(shape) != 2 or shape[0] != len(log_probs):
        raise ValueError(
            f"the last {layer_label(name)} receives an array of shape {shape} for "
            f"{len(log_probs)} rows; expected one vector of features for each row, of shape "
            f"(n_samples, n_features). Flatten or pool before that layer. {WAYS_OUT}"
        )
    return calls[0]
