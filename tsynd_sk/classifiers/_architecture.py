"""Networks that `Pretrained` knows: torchvision's by name, and functions; and their weights."""

from __future__ import annotations

import copy
import difflib
import inspect
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from tsynd_sk._utils._by_name import object_of
from tsynd_sk._utils._validation import type_name

# Smaller images leave nothing of the five halvings that networks for ImageNet make.
_LEAST_SIDE = 32

# What trainers put before the names of weights, and around all of them.
_PREFIXES = ("", "module.", "net.", "model.", "backbone.")
_WRAPPERS = ("state_dict", "model_state_dict", "model")


@dataclass(frozen=True)
class Architecture:
    """What a network expects of images, as far as it says so."""

    name: str
    least_side: int = 1
    n_channels: int | None = None
    # Mean and standard deviation of channels, for images between 0 and 1: torchvision's alone.
    normalisation: tuple[Any, Any] | None = None


def build(
    net: Any, n_channels: int, n_classes: int, of_imagenet: bool
) -> tuple[nn.Module, Architecture]:
    """Make the network that a user's `net` stands for; raise if it stands for none."""
    name = getattr(net, "__qualname__", type(net).__name__)
    from_torchvision = str(getattr(net, "__module__", "")).startswith("torchvision.models.")
    if from_torchvision and inspect.isroutine(net):
        # Such a function takes no numbers of channels.
        net = net.__name__
    if isinstance(net, str | Path):
        name = str(net)
        if ":" not in name:
            return _of_torchvision(name, n_classes, of_imagenet)
        net = object_of(name, "net")
    if isinstance(net, nn.Module):
        raise TypeError(
            f"net is an instance of {type(net).__name__}, whose weights every training would "
            "share: give a function of (n_channels, n_classes) that makes it"
        )
    if not callable(net):
        raise TypeError(
            "net must be the name of a torchvision model, or a function of (n_channels, n_classes) "
            "that returns a torch.nn.Module, itself or as 'package.module:function' or "
            f"'file.py:function'; got {type_name(net)}"
        )
    if of_imagenet:
        raise ValueError(
            f"weights='imagenet' is for networks of torchvision by name, not for {name}: give the "
            "file of its weights, or let the function load them"
        )
    try:
        inspect.signature(net).bind(n_channels, n_classes)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"net={name!r} must be a function of (n_channels, n_classes): {error}"
        ) from error
    module = net(n_channels, n_classes)
    if not isinstance(module, nn.Module):
        raise TypeError(
            f"net={name!r} returned {type_name(module)}; expected a torch.nn.Module. Pass a "
            "skorch classifier without Pretrained."
        )
    # It may return the same network at every call, which training must not change.
    return copy.deepcopy(module), Architecture(name)


def _of_torchvision(name: str, n_classes: int, of_imagenet: bool) -> tuple[nn.Module, Architecture]:
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
            + " Your own are 'package.module:function' or 'file.py:function'."
        )
    default = models.get_model_weights(name).DEFAULT
    params = {"weights": default} if of_imagenet else {"num_classes": n_classes}
    try:
        with warnings.catch_warnings():
            # GoogLeNet and Inception announce another initialisation.
            warnings.simplefilter("ignore", FutureWarning)
            module: Any = models.get_model(name, **params)
    except OSError as error:
        folder = Path(torch.hub.get_dir()) / "checkpoints"
        raise OSError(
            f"the weights of {name} cannot be fetched: {error}. Where there is a network, fetch "
            f"{default.url} and put it into {folder}, or give its path: weights=FILE, "
            "--weights FILE"
        ) from error
    # These two have further heads, for a loss that knows of them, and their own normalisation.
    for auxiliary in ("aux1", "aux2", "AuxLogits"):
        if auxiliary in module._modules:
            setattr(module, auxiliary, None)
            module.aux_logits, module.transform_input = False, True
    seen = default.transforms()
    least_side = max(_LEAST_SIDE, *default.meta["min_size"])
    return module, Architecture(name, least_side, 3, (seen.mean, seen.std))


def load_weights(module: nn.Module, path: str | Path, head: str, name: str) -> bool:
    """Load weights of a file; return whether those of the head fit, and raise if others do not.

    The file is one of safetensors, or of `torch.save`, which is read without running code.
    """
    file, told = Path(path).expanduser(), f"weights={str(path)!r}"
    if not file.is_file():
        raise FileNotFoundError(f"{told}: there is no such file; expected 'imagenet' or its path")
    try:
        if file.suffix == ".safetensors":
            found: Any = load_file(file)
        else:
            found = torch.load(file, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # torch's reader fails in many ways, on a page of HTML for one
        # Not what torch says, which advises to run the code that may be in the file.
        raise ValueError(
            f"{told} cannot be read as tensors alone: save the network's state_dict() there, by "
            "torch.save or as safetensors"
        ) from error
    found = found if isinstance(found, dict) else {}
    for wrapper in _WRAPPERS:
        if isinstance(found.get(wrapper), dict):
            found = found[wrapper]
    weights = {name: value for name, value in found.items() if isinstance(value, Tensor)}
    if not weights:
        raise ValueError(f"{told} holds no tensors by name: save the network's state_dict() there")
    own = module.state_dict()
    for prefix in _PREFIXES:
        named = {n.removeprefix(prefix): w for n, w in weights.items() if n.startswith(prefix)}
        if named.keys() & own.keys():
            break
    of_head = {n: w for n, w in own.items() if n.rpartition(".")[0] == head}
    fits = all(n in named and named[n].shape == w.shape for n, w in of_head.items())
    if not fits:
        named.update(of_head)
    # Old files do not count batches.
    counts = {n: w for n, w in own.items() if n.endswith("num_batches_tracked")}
    try:
        module.load_state_dict({**counts, **named})
    except RuntimeError as error:
        raise ValueError(
            f"{told} and the network {name} do not fit: {error!s:.600}. Give the weights of this "
            "network"
        ) from error
    return fits
