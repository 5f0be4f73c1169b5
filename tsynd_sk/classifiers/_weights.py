"""Weights of a network that come from a file or from torchvision, but for those of its head."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from tsynd_sk.classifiers._architecture import Architecture

# What trainers put before the names of weights, and around all of them.
_PREFIXES = ("", "module.", "net.", "model.", "backbone.")
_WRAPPERS = ("state_dict", "model_state_dict", "model")


def with_default_weights(architecture: Architecture) -> nn.Module:
    """Make a network of torchvision with its default weights, which may have to be fetched."""
    make, url = architecture.make_with_default_weights, architecture.url
    if make is None or url is None:
        raise ValueError(
            f"weights='imagenet' is for networks of torchvision by name, not for "
            f"{architecture.name}: give the file of its weights, or let the function load them"
        )
    try:
        return make()
    except OSError as error:
        folder = Path(torch.hub.get_dir()) / "checkpoints"
        raise OSError(
            f"the weights of {architecture.name} cannot be fetched: {error}. Where there is a "
            f"network, fetch {url} and put it into {folder}, or give its path: weights=FILE, "
            "--weights FILE"
        ) from error


def read_weights(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Read tensors by name from a safetensors file, or one of `torch.save` without running code."""
    file, told = Path(path).expanduser(), f"weights={os.fspath(path)!r}"
    if not file.is_file():
        raise FileNotFoundError(
            f"{told}: there is no such file; expected 'imagenet' or the path of one"
        )
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
            f"{told} cannot be read as tensors alone: it holds a whole network, or something else. "
            "Save the network's state_dict(), by torch.save or as safetensors."
        ) from error
    found = found if isinstance(found, dict) else {}
    for wrapper in _WRAPPERS:
        if isinstance(found.get(wrapper), dict):
            found = found[wrapper]
    tensors = {name: value for name, value in found.items() if isinstance(value, Tensor)}
    if not tensors:
        raise ValueError(f"{told} holds no tensors by name: save the network's state_dict() there")
    return tensors


def load_weights(module: nn.Module, weights: dict[str, Tensor], head: str, told: str) -> bool:
    """Load weights; return False if those of the head were of another size, or missing.

    Raise if anything else does not fit. `told` names network and weights in messages.
    """
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
            f"{told} do not fit: {error!s:.600}. Give the weights of this network, or the network "
            "that they were saved from"
        ) from error
    return fits
