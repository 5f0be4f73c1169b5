"""The network that predicts in a net: its module, or all that the net does with a batch."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import torch
from skorch import NeuralNet, NeuralNetBinaryClassifier
from skorch.dataset import unpack_data
from torch import Tensor, nn
from torch.utils.data import default_collate

from tsynd_sk._skorch._nets import bare_module
from tsynd_sk._utils._inference import in_float32

# These call the module, and do nothing else to images.
_PLAIN = (NeuralNet.infer, NeuralNetBinaryClassifier.infer)

# What callbacks hold cannot be copied, and data is large.
_LEFT_OUT = ("callbacks", "callbacks_", "history_", "train_split", "_data")


def network_of(net: NeuralNet) -> nn.Module:
    """Return what predicts in a net, given images as they come: its bare module, if that is all."""
    if type(net).infer in _PLAIN and collate_of(net) is None:
        return bare_module(net)
    return Inference(net)


def collate_of(net: NeuralNet) -> Callable[[list], Any] | None:
    """Return the function by which a net makes batches to predict; None for torch's."""
    collate = net.get_params_for("iterator_valid").get("collate_fn")
    return None if collate is default_collate else collate


def collated(collate: Callable[[list], Any] | None, x: Any) -> Any:
    """Make a batch of images as a loader does of rows without labels."""
    if collate is None:
        return x
    return unpack_data(collate([(row, torch.zeros(1)) for row in x]))[0]


def held_by(network: nn.Module) -> list:
    """Return the objects that a network predicts by: other ones make another network."""
    if not isinstance(network, Inference):
        return [network]
    return [*network.children(), *network.settings.values()]


class Inference(nn.Module):
    """All that a net does with a batch: its collate function, and an `infer` of its own.

    What it holds of the net are the modules, which copies have for themselves, and the settings,
    which they share. Its layers have the names that they have in the net's module.
    """

    module_: nn.Module

    def __init__(self, net: NeuralNet):
        super().__init__()
        own, optimizers = vars(net), [f"{name}_" for name in net._optimizers]
        self.net_class = type(net)
        self.settings: dict[str, Any] = {}
        for name, value in own.items():
            if name in _LEFT_OUT or name in optimizers or f"{name}_" in own:
                continue
            if isinstance(value, nn.Module):
                self.add_module(name, getattr(value, "_orig_mod", value))
            else:
                self.settings[name] = value
        self.add_module("module_", bare_module(net))

    def __deepcopy__(self, memo: dict[int, Any]) -> Inference:
        other = object.__new__(type(self))
        memo.update({id(self): other, id(self.settings): self.settings})
        vars(other).update(copy.deepcopy(vars(self), memo))
        return other

    def _get_name(self) -> str:
        return self.net_class.__name__

    def named_modules(
        self, memo: set | None = None, prefix: str = "", remove_duplicate: bool = True
    ) -> Iterator[tuple[str, nn.Module]]:
        """Name layers as the net's module does."""
        memo = set() if memo is None else memo
        if self in memo:
            return
        if remove_duplicate:
            memo.add(self)
        yield prefix, self
        for name, part in self.named_children():
            inside = prefix if name == "module_" else f"{prefix}.{name}".lstrip(".")
            yield from part.named_modules(memo, inside, remove_duplicate)

    def forward(self, x: Tensor) -> Any:
        """Return what the net's `infer` returns for a batch of images."""
        net: Any = object.__new__(self.net_class)
        vars(net).update(self.settings, **dict(self.named_children()))
        vars(net).update(module_=_in_float32(self.module_, x), device=_device(net.device, x))
        return net.infer(collated(collate_of(net), x))


def _in_float32(module: nn.Module, x: Tensor) -> nn.Module:
    """Return the same module, which an autocast of `infer`, made for training, does not reach."""
    same: Any = object.__new__(type(module))
    vars(same).update(vars(module))

    def forward(*args: Any, **kwargs: Any) -> Any:
        with in_float32(x):
            return module.forward(*args, **kwargs)

    vars(same)["forward"] = forward
    return same


def _device(device: Any, x: Tensor) -> Any:
    """Return a net's device, or that of its input if it has moved elsewhere."""
    here, own = x.device, x.device if device is None else torch.device(device)
    moved = (here.type, here.index or 0) != (own.type, own.index or 0)
    return str(here) if moved else device
