"""Networks by name: torchvision's or one's own, with pretrained weights or without."""

from __future__ import annotations

import warnings
from contextlib import suppress
from itertools import product
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.parameter import is_lazy

from tsynd_sk._utils._by_name import file_of, module_of_file
from tsynd_sk._utils._inference import modes_kept
from tsynd_sk._utils._tensors import are_probabilities
from tsynd_sk._utils._validation import type_name
from tsynd_sk.classifiers._architecture import Architecture, build, load_weights
from tsynd_sk.classifiers._default import SizedClassifier

# Sides that are tried for a network that does not take images as they are, and does not tell.
_SIDES = (32, 64, 128, 224, 299)

# Processors convolve faster channels last, depthwise up to twice as fast. What flattens by `view`
# does not take that, and says so in the error of the second.
_LAYOUTS = (torch.channels_last, torch.contiguous_format)

# What a network raises that does not take images of a shape.
_REFUSALS = (RuntimeError, ValueError, AssertionError)

# Learning rate of a backbone with weights, as a share of that of its new head.
_BACKBONE_LR = 0.1


class Pretrained(SizedClassifier):
    """A network of torchvision by name, or one of your own, for images of any size; returns logits.

    Grey images are repeated to as many channels as the network takes, normalised, and enlarged to
    the least size that it takes. A new head replaces one of another number of classes, with a
    warning.

    Parameters
    ----------
    image_shape : tuple of int
        (n_channels, height, width) of images as they come.
    n_classes : int
        Number of classes.
    net : str or callable
        Name of a torchvision classification model, such as "resnet18"; or a function of
        ``(n_channels, n_classes)`` that returns a `torch.nn.Module`, which is copied: itself,
        "package.module:function" or "path/to/file.py:function".
    weights : None, "imagenet" or path-like, default=None
        None: as `net` comes, which is at random for torchvision's. "imagenet": torchvision's
        default weights, fetched if they are not there. A file: safetensors, or a state dict, which
        is read without running code.
    freeze : bool, default=False
        Whether to train the head alone; batch normalisation stays in evaluation mode.
    backbone_lr : float or None, default=None
        Learning rate of all but the head, as a fraction of the net's ``lr``. None: 0.1 with
        `weights`, 1 without.
    normalisation : tuple or None, default=None
        Mean and standard deviation to normalise by: numbers, or one for each channel. None: a
        network of torchvision gets images between 0 and 1, scaled if need be, normalised as its
        default weights expect; your own gets them as they are.

    Raises
    ------
    TypeError, ValueError
        If `net` is none of these, takes no such images or ends in softmax, or if `weights` do not
        fit it.
    ImportError, OSError
        If torchvision is not installed, there is no file, or weights cannot be fetched.

    See Also
    --------
    NetClassifier : Trains it: ``NetClassifier(Pretrained, module__net="resnet18")``.
    tsynd_sk.comparison.make_network : Makes both.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from tsynd_sk.classifiers import Pretrained
    >>> def linear(n_channels, n_classes):
    ...     return nn.Sequential(nn.Flatten(), nn.Linear(n_channels * 64, n_classes))
    >>> Pretrained((1, 8, 8), 2, net=linear)(torch.rand(5, 1, 8, 8)).shape
    torch.Size([5, 2])
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        image_shape,
        n_classes: int,
        *,
        net=None,
        weights=None,
        freeze: bool = False,
        backbone_lr: float | None = None,
        normalisation=None,
    ):
        super().__init__()
        if backbone_lr is None:
            backbone_lr = 1.0 if weights is None else _BACKBONE_LR
        self.backbone_lr, self.freeze = float(backbone_lr), bool(freeze)
        image_shape = tuple(map(int, image_shape))
        # With these a saved net is rebuilt, and then gets its weights.
        self.sizes = {
            "image_shape": image_shape,
            "n_classes": n_classes,
            "weights": None,
            "backbone_lr": self.backbone_lr,
        }
        self._file = file_of(net) if isinstance(net, str) else None
        module, known = build(net, image_shape[0], n_classes, weights == "imagenet")
        new_head = self._adapt_to(module, image_shape, known) != n_classes
        if new_head:
            _replace_head(module, self.head, n_classes, known.name)
        if isinstance(weights, str | Path) and weights != "imagenet":
            # The file may know as many classes as there are.
            new_head = not load_weights(module, weights, self.head, known.name)
        elif weights not in (None, "imagenet"):
            raise TypeError(f"weights must be None, 'imagenet' or a path; got {type_name(weights)}")
        if new_head:
            warnings.warn(
                f"the head of {known.name}, its layer {self.head!r}, was of another size: a "
                f"new one for {n_classes} classes takes its place, and has to be trained",
                UserWarning,
                stacklevel=2,
            )
        given = normalisation or known.normalisation or (0.0, 1.0)
        of_torchvision = known.normalisation is not None
        self._random = known.name if of_torchvision and weights is None else None
        self._scale_from_data = of_torchvision and normalisation is None
        for name, values in zip(("mean", "std"), given, strict=True):
            column = torch.as_tensor(values, dtype=torch.float32).reshape(-1, 1, 1)
            self.register_buffer(name, column.expand(self.n_channels, 1, 1).clone())
        if self.freeze:
            module.requires_grad_(False)
            module.get_submodule(self.head).requires_grad_(True)
        self.net = module.to(memory_format=_LAYOUTS[self.layout])
        self.train(self.training)

    def _adapt_to(
        self, module: nn.Module, image_shape: tuple[int, ...], known: Architecture
    ) -> int:
        """Find what a network takes, by images of zeros, and its head; return its columns.

        They are as they come, grey ones repeated, and of sizes that are common.
        """
        if len(image_shape) != 3:
            raise ValueError(f"image_shape must be (n_channels, height, width); got {image_shape}")
        own, sides = image_shape[0], image_shape[1:]
        factor = max(known.least_side / min(sides), 1)
        sizes = [(round(sides[0] * factor), round(sides[1] * factor))]
        squares = _SIDES if known.least_side == 1 else (known.least_side,)
        sizes += [(side, side) for side in squares]
        if any(map(is_lazy, module.parameters())):
            # Lazy layers get their sizes in a first pass.
            with suppress(*_REFUSALS):
                _try(module, torch.zeros(2, *image_shape))
        errors = []
        for n_channels in dict.fromkeys((known.n_channels or own, 3)):
            if own not in (1, n_channels):
                continue
            for size, layout in product(sizes, _LAYOUTS):
                x = torch.zeros(2, n_channels, *size).contiguous(memory_format=layout)
                try:
                    logits, self.head = _try(module.to(memory_format=layout), x)
                except _REFUSALS as error:
                    errors.append(f"{type(error).__name__}: {error}")
                    continue
                if logits.shape[1] > 1 and are_probabilities(logits):
                    raise ValueError(
                        f"{known.name} returns probabilities, which sum to 1; expected logits: "
                        "leave out the softmax at its end"
                    )
                self.n_channels, self.size = n_channels, None if size == sides else size
                # By number, for torch 2.4 cannot pickle a layout.
                self.layout = _LAYOUTS.index(layout)
                return logits.shape[1]
        if not errors:
            raise ValueError(
                f"{known.name} takes images of {known.n_channels} channels, but X has {own}: pass "
                "fewer, or a function of (n_channels, n_classes) that makes the network"
            )
        raise ValueError(
            f"{known.name} must take images of shape {image_shape}, or the same enlarged"
            f"{' or repeated to 3 channels' if own == 1 else ''}; it raises {errors[1]}"
        )

    def _scale_by(self, X: Tensor) -> None:
        if self.freeze and self._random:
            raise ValueError(
                f"freeze=True would keep {self._random} at random weights: give module__weights "
                "(--weights)"
            )
        low, high = float(X.min()), float(X.max())
        if self._scale_from_data and (low < 0 or high > 1):
            self.mean.mul_(high - low).add_(low)
            self.std.mul_(high - low)

    def forward(self, x: Tensor) -> Tensor:
        """Compute logits (n, n_classes) of images (n, C, H, W)."""
        if self.training and len(x) == 1:
            # Batch normalisation cannot learn from a single value.
            return self(torch.cat([x, x]))[:1]
        if x.shape[1] == 1:
            x = x.expand(-1, self.n_channels, -1, -1)
        x = (x - self.mean) / self.std
        if self.size is not None:
            x = F.interpolate(x, self.size, mode="bilinear", align_corners=False)
        return _logits(self.net(x.contiguous(memory_format=_LAYOUTS[self.layout])))

    def train(self, mode: bool = True) -> Pretrained:
        """Switch to training mode, or to evaluation, where a frozen backbone's statistics stay."""
        super().train(mode)
        if self.freeze:
            for part in self.net.modules():
                if isinstance(part, _NormBase):
                    part.eval()
        return self

    def param_groups(self, lr: float) -> list[tuple[str, dict[str, Any]]]:
        """Return skorch's ``optimizer__param_groups``: how fast head and backbone learn.

        Parameters
        ----------
        lr : float
            Learning rate of the head.

        Returns
        -------
        list of tuple
            Patterns of names of parameters, with their rates; empty if all learn alike.
        """
        if self.backbone_lr == 1:
            return []
        head = f"*net.{self.head}.*" if self.head else "*net.*"
        return [(head, {"lr": lr}), ("*net.*", {"lr": self.backbone_lr * lr})]

    def __reduce__(self):
        # Classes of a file have to be there before what follows refers to them.
        return _blank, (type(self), self._file), vars(self)


def _blank(cls: Any, file: Path | None) -> Any:
    if file is not None:
        module_of_file(file)
    return cls.__new__(cls)


def _logits(output: Any) -> Tensor:
    """Return the logits in what a network returns."""
    if isinstance(output, tuple):
        output = output[0]
    elif isinstance(output, dict):
        output = output.get("logits", output)
    else:
        output = getattr(output, "logits", output)
    if not isinstance(output, Tensor):
        raise TypeError(
            f"the network returns {type_name(output)}; expected a tensor of logits, a tuple that "
            "begins with it, or a dict or object that has it as 'logits'"
        )
    return output


@torch.no_grad()
def _try(module: nn.Module, x: Tensor) -> tuple[Tensor, str]:
    """Return a network's logits, and the name of the last layer that has as many columns."""
    called: list[Any] = []

    def remember(layer: nn.Module, inputs: Any, output: Any) -> None:
        called.append(layer)

    names = {layer: name for name, layer in module.named_modules()}
    layers = [layer for layer in names if isinstance(layer, nn.Linear | nn.Conv2d)]
    handles = [layer.register_forward_hook(remember) for layer in layers]
    try:
        with modes_kept(module):
            logits = _logits(module.eval()(x))
    finally:
        for handle in handles:
            handle.remove()
    if logits.ndim != 2 or len(logits) != len(x):
        raise ValueError(
            f"it returns an array of shape {tuple(logits.shape)} for {len(x)} images; expected a "
            "row of logits for each"
        )
    for layer in reversed(called):
        if len(layer.weight) == logits.shape[1]:
            return logits, names[layer]
    raise ValueError("the logits must come from a torch.nn.Linear or Conv2d, the head")


def _replace_head(module: nn.Module, head: str, n_classes: int, name: str) -> None:
    """Exchange the last layer for one of as many columns as there are classes."""
    if not head:
        raise ValueError(
            f"{name} is a single layer: let the function make one of n_classes={n_classes} columns"
        )
    old: Any = module.get_submodule(head)
    bias = old.bias is not None
    if isinstance(old, nn.Linear):
        new: nn.Module = nn.Linear(old.in_features, n_classes, bias)
    else:
        size = old.kernel_size, old.stride, old.padding
        new = nn.Conv2d(old.in_channels, n_classes, *size, bias=bias)
    parent, _, child = head.rpartition(".")
    setattr(module.get_submodule(parent), child, new)
