"""How a net predicts: its network, and the function from output to probabilities."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from skorch import NeuralNet, NeuralNetBinaryClassifier
from skorch.dataset import unpack_data
from torch import Tensor, nn
from torch.utils.data import default_collate

from tsynd_sk._skorch._nets import bare_module, variant
from tsynd_sk._utils._inference import in_float32
from tsynd_sk._utils._validation import type_name
from tsynd_sk.uncertainty import safe_log

# These only call the module.
_PLAIN = (NeuralNet.infer, NeuralNetBinaryClassifier.infer)

# What callbacks hold cannot be copied, and data is large.
_LEFT_OUT = ("callbacks", "callbacks_", "history_", "train_split", "_data")


def network_of(net: NeuralNet) -> nn.Module:
    """Return the network of a net: its bare module, unless the net prepares images itself."""
    collate = getattr(net, "iterator_valid__collate_fn", default_collate)
    if type(net).infer in _PLAIN and collate is default_collate:
        return bare_module(net)
    return Inference(net)


def collated(net: NeuralNet, rows: Any) -> Any:
    """Make a batch of rows without labels by the net's own collate function."""
    return unpack_data(net.iterator_valid__collate_fn([(row, torch.zeros(1)) for row in rows]))[0]


class Inference(nn.Module):
    """All that a net does with a batch: its collate function, and its own `infer`.

    Copies copy the modules of the net and share its settings.
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
                self.add_module(name, bare_module(net, name))
            else:
                self.settings[name] = value

    def __eq__(self, other: object) -> bool:
        """Return whether another one predicts with the same objects."""
        return isinstance(other, Inference) and self._held() == other._held()

    def __hash__(self) -> int:
        return hash(self.module_)

    def _held(self) -> list[int]:
        return list(map(id, [*self.children(), *self.settings.values()]))

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
        return net.infer(collated(net, x) if "iterator_valid__collate_fn" in self.settings else x)


def _in_float32(module: nn.Module, x: Tensor) -> nn.Module:
    """Return the module for `infer` in float32 and evaluation mode, whatever the autocast."""

    def forward(*args: Any, **kwargs: Any) -> Any:
        with in_float32(x.device.type):
            return module.forward(*args, **kwargs)

    return variant(module, training=False, forward=forward)


def _device(device: Any, x: Tensor) -> Any:
    """Return a net's device, or that of its input if this differs."""
    here, own = x.device, x.device if device is None else torch.device(device)
    moved = (here.type, here.index or 0) != (own.type, own.index or 0)
    return str(here) if moved else device


def log_proba_head(net: NeuralNet) -> Callable[[Tensor], Tensor]:
    """Make the function from a module's output to the logarithm of ``predict_proba``.

    That of a softmax or sigmoid is computed directly, exactly for confident predictions, too.
    """
    # No reference to the net: members are pickled to other processes and must stay small.
    criterion, nonlinearity = bare_module(net, "criterion_"), net._get_predict_nonlinearity()
    if net.predict_nonlinearity == "auto" and isinstance(criterion, nn.CrossEntropyLoss):
        nonlinearity = "softmax"
    elif net.predict_nonlinearity == "auto" and isinstance(criterion, nn.BCEWithLogitsLoss):
        nonlinearity = "sigmoid"
    flat = isinstance(net, NeuralNetBinaryClassifier)
    return partial(_to_log_proba, nonlinearity=nonlinearity, flat=flat)


def scores_head(net: NeuralNet) -> Callable[[Tensor], Tensor] | None:
    """Make the function from a module's output to class scores; None if it is logits already."""
    head: Any = log_proba_head(net)
    return None if isinstance(head.keywords["nonlinearity"], str) else head


def unreadable(output: Any, reason: str = "") -> TypeError:
    """Return the error for an output of a module in which no prediction is found."""
    keys = f" with {', '.join(map(repr, list(output)[:5]))}" if isinstance(output, dict) else ""
    return TypeError(
        f"the module returns {type_name(output)}{keys}, in which no prediction is found{reason}. "
        "Let forward return a tensor, or a tuple that begins with it. A list or dict of tensors, "
        "or an object with a method to(device), needs a criterion that takes it, and as "
        "predict_nonlinearity a function from it to probabilities, such as "
        "lambda output: output['logits'].softmax(-1)"
    )


def _to_log_proba(output, *, nonlinearity: Any, flat: bool) -> Tensor:
    logits = output[0] if isinstance(output, tuple) else output
    if not isinstance(logits, Tensor):
        proba = None if isinstance(nonlinearity, str) else nonlinearity(logits)
        if not isinstance(proba, Tensor):
            raise unreadable(output)
        return safe_log(proba)
    if flat or (nonlinearity == "sigmoid" and logits.ndim == 2 and logits.shape[1] == 1):
        logits = logits.reshape(-1)
    if nonlinearity == "softmax":
        return logits.log_softmax(-1)
    if nonlinearity == "sigmoid":
        log_sigmoid = torch.nn.functional.logsigmoid
        return torch.stack([log_sigmoid(-logits), log_sigmoid(logits)], -1)
    return safe_log(nonlinearity(logits))
