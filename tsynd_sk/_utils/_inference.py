"""Private copies of networks, made fast for inference."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import chain
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from tsynd_sk._utils._tensors import detached_copy

#: Preparing a copy changes its modes and weights for a moment; threads that share it must wait.
PREPARING = threading.RLock()

#: Keeps an autocast that surrounds it, on a type of device, from lowering the precision.
in_float32 = partial(torch.autocast, enabled=False)


def check_not_scripted(module: nn.Module) -> None:
    """Raise if a network is a ``torch.jit.ScriptModule``."""
    if isinstance(module, torch.jit.ScriptModule):
        raise TypeError(
            f"the network is a {type(module).__name__}, in which layers such as dropout cannot be "
            "found; pass the module that was scripted or traced"
        )


def private_copy(module: nn.Module, device: torch.device | None = None) -> nn.Module:
    """Copy a network for inference, without gradients of weights or kernels that have none."""
    duplicate = detached_copy(module).eval().requires_grad_(False)
    for part in duplicate.modules():
        # What accelerate wraps for mixed precision, which is for the training.
        if "_original_forward" in vars(part):
            part.forward = vars(part).pop("_original_forward")
        if isinstance(part, nn.TransformerEncoder):
            # It would drop padded rows where no gradients are asked for, and only there.
            part.use_nested_tensor = False
        elif isinstance(part, nn.TransformerEncoderLayer):
            # Its kernel knows these two activations only; without it, the layer calls its own.
            part.activation_relu_or_gelu = 0
        elif isinstance(part, nn.MultiheadAttention) and part.dropout == 0:
            # Dropout is all that training means to it.
            part.training = True
    return duplicate if device is None else duplicate.to(device)


@contextmanager
def modes_kept(*modules: nn.Module) -> Iterator[None]:
    """Restore which parts of networks are in training mode."""
    parts = list(chain.from_iterable(map(nn.Module.modules, modules)))
    modes = list(map(attrgetter("training"), parts))
    try:
        yield
    finally:
        for part, mode in zip(parts, modes, strict=True):
            part.training = mode


_TO_A_PIXEL = (1, (1, 1), [1, 1])
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


class _FixedNorm(nn.Module):
    """Batch normalisation by running statistics, as one multiplication and one addition."""

    scale: Tensor
    shift: Tensor

    def forward(self, x: Tensor) -> Tensor:
        shape = (-1, *[1] * (x.ndim - 2))
        return torch.addcmul(self.shift.view(shape), x, self.scale.view(shape))


class InferenceCopy:
    """Private copy of a network with what turns its output into log-probabilities.

    Plain arithmetic takes the place of slower kernels: for batch normalisation by running
    statistics, which disappears in the weights of a convolution before it in an `nn.Sequential`;
    and for the pooling of channels-last activations to a pixel.
    """

    def __init__(
        self,
        module: nn.Module,
        to_log_proba: Callable[[Any], Tensor],
        device: torch.device | None = None,
    ):
        self.name = module._get_name()
        self.to_log_proba = to_log_proba
        self.writes = False
        self._prepared = False
        root = nn.Sequential(private_copy(module, device))
        for parent in list(root.modules()):
            # Elsewhere, nobody but the forward knows what follows what.
            in_order = type(parent).forward is nn.Sequential.forward
            before, children = "", dict[str, Any](parent._modules)
            for name, child in children.items():
                # Hooks want what the layer itself takes and returns; some have a forward of their
                # own. Without running statistics a layer normalises by the batch.
                if (
                    child is None
                    or child._forward_hooks
                    or child._forward_pre_hooks
                    or "forward" in vars(child)
                ):
                    before = ""
                    continue
                if type(child) in _NORMS and child.running_mean is not None:
                    # A copy, for the layer may have other places; it keeps the layer's attributes.
                    parent._modules[name] = norm = copy.copy(child)
                    norm.__class__ = nn.Identity if before else _FixedNorm
                    if before:
                        fused = fuse_conv_bn_eval(children[before], child)
                        parent._modules[before] = fused.requires_grad_(False)
                    else:
                        scale = torch.rsqrt(norm.running_var + norm.eps)
                        scale = scale if norm.weight is None else scale * norm.weight
                        shift = -norm.running_mean * scale
                        norm.scale = scale.detach()
                        norm.shift = (shift if norm.bias is None else shift + norm.bias).detach()
                elif type(child) is nn.AdaptiveAvgPool2d and child.output_size in _TO_A_PIXEL:
                    mean = partial(torch.mean, dim=(-2, -1), keepdim=True)
                    child.forward = mean  # type: ignore[method-assign]
                before = name if in_order and type(child) in _CONVOLUTIONS else ""
        self.module = root[0]

    def prepare(
        self, x: Tensor, run: Callable[[nn.Module, Tensor], Any] = nn.Module.__call__
    ) -> Any:
        """Lay the weights out, so that a row passes; return ``run(module, x[:1])``."""
        # Processors convolve channels-last activations faster.
        layouts = [torch.channels_last, torch.contiguous_format]
        if self._prepared or x.device.type != "cpu":
            layouts = [torch.preserve_format]
        # What is kept from here on is to serve gradients later.
        with PREPARING, torch.inference_mode(False), torch.no_grad(), in_float32(x.device.type):
            for layout in layouts:
                # Activations follow the weights of two-dimensional convolutions.
                for part in [] if self._prepared else self.module.modules():
                    convolves = isinstance(part, nn.Conv2d | nn.ConvTranspose2d)
                    weight = part._parameters.get("weight") if convolves else None
                    if weight is not None:
                        # Not contiguous(), which leaves the strides of a single channel.
                        weight.data = weight.data.clone(memory_format=layout)
                row = x[:1].clone()
                version = row._version
                try:
                    result = run(self.module, row)
                    break
                except RuntimeError:
                    # Tensor.view cannot flatten such activations.
                    if layout is layouts[-1]:
                        raise
        self._prepared = True
        # A network may write on its input, which other members and the user are to see as it was.
        self.writes |= row._version != version
        return result

    def __call__(self, x: Tensor) -> Tensor:
        with in_float32(x.device.type):
            return self.to_log_proba(self.module(x.clone() if self.writes else x))
