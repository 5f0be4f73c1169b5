"""Networks that `Pretrained` knows: torchvision's by name, and functions that make one."""

from __future__ import annotations

import copy
import difflib
import inspect
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tsynd_sk._utils._by_name import object_of
from tsynd_sk._utils._validation import type_name

# Smaller images leave nothing of the five halvings that networks for ImageNet make.
_LEAST_SIDE = 32


@dataclass(frozen=True)
class Architecture:
    """How a network is made, by functions of (n_channels, n_classes), and what it expects."""

    name: str
    make: Callable[[int, int], nn.Module]
    least_side: int = 1
    # Those that it was made for, where it does not say.
    n_channels: int | None = None
    # Mean and standard deviation of channels, for images between 0 and 1.
    normalisation: tuple[Any, Any] | None = None
    # Address of torchvision's default weights, and what makes it with these and a head for them.
    url: str | None = None
    make_with_default_weights: Callable[[], nn.Module] | None = None


def architecture_of(net: Any) -> Architecture:
    """Return what a user's `net` stands for; raise if it stands for none."""
    name = getattr(net, "__qualname__", type(net).__name__)
    from_torchvision = str(getattr(net, "__module__", "")).startswith("torchvision.models.")
    if from_torchvision and inspect.isroutine(net):
        # Such a function takes no numbers of channels.
        net = net.__name__
    if isinstance(net, str | Path):
        name = str(net)
        if ":" not in name:
            return _of_torchvision(name)
        net = object_of(name, "net")
    if isinstance(net, nn.Module):
        raise TypeError(
            f"net is an instance of {type(net).__name__}, whose weights every training would "
            "share: give a function of (n_channels, n_classes) that makes it anew"
        )
    if not callable(net):
        raise TypeError(
            "net must be the name of a torchvision model, or a function of (n_channels, n_classes) "
            "that returns a torch.nn.Module: itself, 'package.module:function' or "
            f"'file.py:function'; got {type_name(net)}"
        )

    def make(n_channels: int, n_classes: int) -> nn.Module:
        try:
            inspect.signature(net).bind(n_channels, n_classes)
        except (TypeError, ValueError) as error:
            raise TypeError(
                f"net={name!r} must be a function of (n_channels, n_classes): {error}"
            ) from error
        module = net(n_channels, n_classes)
        if not isinstance(module, nn.Module):
            raise TypeError(
                f"net={name!r} returned {type_name(module)}; expected a torch.nn.Module. A skorch "
                "classifier is passed by itself, without Pretrained."
            )
        # It may return the same network whenever it is called, which training must not change.
        return copy.deepcopy(module)

    return Architecture(name, make)


def _of_torchvision(name: str) -> Architecture:
    try:
        # Importing torchvision takes a second.
        from torchvision import models
    except ImportError as error:
        raise ImportError(
            f'net={name!r} is a network of torchvision: pip install "tsynd_sk[networks]"'
        ) from error
    known = models.list_models(module=models)
    if name not in known:
        near = difflib.get_close_matches(name, known, 3)
        raise ValueError(
            f"torchvision has no classification model {name!r}"
            + (f"; did you mean {' or '.join(map(repr, near))}?" if near else ".")
            + " A network of your own is 'package.module:function' or 'file.py:function'."
        )
    default = models.get_model_weights(name).DEFAULT
    seen = default.transforms()
    return Architecture(
        name,
        lambda n_channels, n_classes: _built(name, num_classes=n_classes),
        least_side=max(_LEAST_SIDE, *default.meta["min_size"]),
        n_channels=3,
        normalisation=(seen.mean, seen.std),
        url=default.url,
        make_with_default_weights=lambda: _built(name, weights=default),
    )


def _built(name: str, **params: Any) -> Any:
    from torchvision import models

    with warnings.catch_warnings():
        # GoogLeNet and Inception announce another initialisation.
        warnings.simplefilter("ignore", FutureWarning)
        net: Any = models.get_model(name, **params)
    # These two have further heads, for a loss that knows of them, and their own normalisation.
    for auxiliary in ("aux1", "aux2", "AuxLogits"):
        if auxiliary in net._modules:
            setattr(net, auxiliary, None)
            net.aux_logits, net.transform_input = False, True
    # In this order processors convolve faster.
    return net.to(memory_format=torch.channels_last)
