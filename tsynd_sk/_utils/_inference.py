"""Private copies of networks, made fast for inference."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from tsynd_sk._utils._tensors import detached_memo

#: Number formats in which networks may compute.
PRECISIONS = ("float32", "bfloat16")

_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


def private_copy(module: nn.Module, device: torch.device | None = None) -> nn.Module:
    """Copy a network for inference: evaluation mode, weights held, the original untouched."""
    memo = detached_memo(module.modules())
    duplicate = copy.deepcopy(module, memo).eval().requires_grad_(False)
    for part in duplicate.modules():
        # What accelerate wraps for mixed precision; here `precision` says how to compute.
        if "_original_forward" in vars(part):
            part.forward = vars(part).pop("_original_forward")
    return duplicate if device is None else duplicate.to(device)


def without_fast_paths(module: nn.Module) -> nn.Module:
    """Keep the transformers of a private copy from kernels that have no gradients."""
    for part in module.modules():
        if isinstance(part, nn.TransformerEncoder):
            # It would drop padded rows where no gradients are asked for, and only there.
            part.use_nested_tensor = False
        elif isinstance(part, nn.TransformerEncoderLayer):
            # Its kernel knows these two activations only; without it, the layer calls its own.
            part.activation_relu_or_gelu = 0
        elif isinstance(part, nn.MultiheadAttention) and part.dropout == 0:
            # Dropout is all that training means to it.
            part.training = True
    return module


class _Affine(nn.Module):
    """Batch normalisation with its statistics held, as one multiplication and one addition."""

    scale: Tensor
    shift: Tensor

    def __init__(self, norm: Any):
        super().__init__()
        self.norm = norm
        scale = torch.rsqrt(norm.running_var + norm.eps)
        if norm.weight is not None:
            scale = scale * norm.weight
        shift = -norm.running_mean * scale
        if norm.bias is not None:
            shift = shift + norm.bias
        self.register_buffer("scale", scale.detach())
        self.register_buffer("shift", shift.detach())

    def __getattr__(self, name: str) -> Any:
        # A network may read the statistics of its layers.
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("norm"), name)

    def forward(self, x: Tensor) -> Tensor:
        shape = (-1, *[1] * (x.ndim - 2))
        return torch.addcmul(self.shift.view(shape), x, self.scale.view(shape))


class _GlobalMean(nn.Module):
    """Adaptive pooling to a single pixel."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((-2, -1), keepdim=True)


def streamlined(module: nn.Module, precision: str) -> nn.Module:
    """Exchange, in a private copy, layers that ``torch.func.vmap`` maps badly for plain arithmetic.

    Mapped batch normalisation is rewritten to normalise more channels, which copies all activations
    twice; mapped pooling of channels-last activations to a pixel goes one member after another.
    """
    root = nn.Sequential(module)
    for parent in list(root.modules()):
        for name, child in parent._modules.items():
            if child is None or child._forward_hooks or child._forward_pre_hooks:
                # Hooks want what the layer itself takes and gives.
                continue
            if _is_global_pool(child):
                parent._modules[name] = _GlobalMean()
            # In bfloat16 torch's own normalisation keeps statistics in float32.
            elif _is_settled_norm(child) and precision == "float32":
                parent._modules[name] = _Affine(child)
    return root[0]


def _is_settled_norm(layer: Any) -> bool:
    # Without running statistics it normalises by the batch.
    return type(layer) in _NORMS and layer.running_mean is not None


def _is_global_pool(layer: Any) -> bool:
    return type(layer) is nn.AdaptiveAvgPool2d and layer.output_size in (1, (1, 1), [1, 1])


def lay_out(module: nn.Module, memory_format: torch.memory_format) -> None:
    """Lay the weights of two-dimensional convolutions out; activations follow them."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d | nn.ConvTranspose2d):
            weight = part._parameters.get("weight")
            if weight is not None:
                # Not contiguous(), which leaves the strides of a single channel as they are.
                weight.data = weight.data.clone(memory_format=memory_format)


def channels_last_pays(device: torch.device, precision: str) -> bool:
    """Tell whether convolutions are faster on channels-last activations.

    On processors they are, in every format; on accelerators where tensor cores do the work.
    """
    return device.type == "cpu" or precision == "bfloat16"


def autocast(device: torch.device, precision: str) -> AbstractContextManager:
    """Compute in a number format, where operations bear it, whatever surrounds the call."""
    lower = precision == "bfloat16"
    if not lower and not torch.is_autocast_enabled(device.type):
        return nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=lower)


def upcast(output: Any) -> Any:
    """Give what came out of a network in lower precision as float32."""
    if isinstance(output, Tensor):
        return output.float() if output.dtype in (torch.bfloat16, torch.float16) else output
    if isinstance(output, tuple | list):
        return type(output)(upcast(part) for part in output)
    return output


#: Preparing is rare and short; one at a time, because several threads may share a copy.
PREPARING = threading.RLock()


class InferenceCopy:
    """Private copy of a network with what turns its output into log-probabilities.

    Parameters
    ----------
    module : Module
        The user's network.
    to_log_proba : callable
        Head; applied in float32.
    device : torch.device or None
        Where to predict; ``None`` for where the network is.
    precision : {"float32", "bfloat16"}
        Number format of the network.
    exchange : callable or None, default=None
        Changes the copy before it is laid out, and gives it back.
    """

    def __init__(
        self,
        module: nn.Module,
        to_log_proba: Callable[[Any], Tensor],
        device: torch.device | None = None,
        precision: str = "float32",
        exchange: Callable[[nn.Module], nn.Module] | None = None,
    ):
        if precision not in PRECISIONS:
            raise ValueError(f"precision must be one of {PRECISIONS}; got {precision!r}")
        duplicate = without_fast_paths(private_copy(module, device))
        duplicate = exchange(duplicate) if exchange else duplicate
        self.name = type(module).__name__
        self.module = streamlined(duplicate, precision)
        self.to_log_proba = to_log_proba
        self.precision = precision
        self._prepared = False
        self._writes = False

    def prepare(self, x: Tensor, run: Callable[[nn.Module, Tensor], Any] | None = None) -> Any:
        """Lay the weights out, so that a row passes; give what ``run(module, x)`` gives for it."""
        run = run or nn.Module.__call__

        def attempt() -> Any:
            row = x[:1].clone()
            version = row._version
            result = run(self.module, row)
            self._writes |= row._version != version
            return result

        with (
            PREPARING,
            # What is kept from here on is to serve gradients later.
            torch.inference_mode(False),
            torch.no_grad(),
            autocast(x.device, self.precision),
        ):
            first, self._prepared = not self._prepared, True
            if first and channels_last_pays(x.device, self.precision):
                lay_out(self.module, torch.channels_last)
                try:
                    return attempt()
                except RuntimeError:
                    # Tensor.view cannot flatten such activations. An error with another cause
                    # comes back below.
                    lay_out(self.module, torch.contiguous_format)
            return attempt()

    def exact(self) -> InferenceCopy:
        """Give the same network in full precision, where rounding hides no mistakes."""
        other = copy.copy(self)
        other.precision = "float32"
        return other

    def output(self, x: Tensor, call: Callable[[Tensor], Any] | None = None) -> Any:
        """Give what comes out of the network, or of another call of it, as float32 or better."""
        # A network may write on its input, which other members and the user are to see as it was.
        x = x.clone() if self._writes else x
        with autocast(x.device, self.precision):
            return upcast((call or self.module)(x))

    def __call__(self, x: Tensor) -> Tensor:
        """Log-probabilities of shape (n_samples, n_classes)."""
        return self.to_log_proba(self.output(x))
