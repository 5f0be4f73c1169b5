"""Private copies of networks, made fast for inference."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

#: Preparing a copy changes its modes and weights for a moment; threads that share it must wait.
PREPARING = threading.RLock()


def private_copy(module: nn.Module, device: torch.device | None = None) -> nn.Module:
    """Copy a network for inference: evaluation mode, no gradients of weights."""
    # Tensors left behind by a training step (kept activations, weights under spectral_norm) hang
    # on its graph and cannot be copied with it.
    kept = (value for part in module.modules() for value in vars(part).values())
    memo = {id(v): v.detach().clone() for v in kept if isinstance(v, Tensor) and not v.is_leaf}
    duplicate = copy.deepcopy(module, memo).eval().requires_grad_(False)
    for part in duplicate.modules():
        # What accelerate wraps for mixed precision, which is for the training.
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


def _lay_out(module: nn.Module, memory_format: torch.memory_format) -> None:
    """Lay the weights of two-dimensional convolutions out; activations follow them."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d | nn.ConvTranspose2d):
            weight = part._parameters.get("weight")
            if weight is not None:
                # Not contiguous(), which leaves the strides of a single channel as they are.
                weight.data = weight.data.clone(memory_format=memory_format)


class InferenceCopy:
    """Private copy of a network with what turns its output into log-probabilities.

    Parameters
    ----------
    module : Module
        The user's network.
    to_log_proba : callable
        Turns its output into log-probabilities.
    device : torch.device or None, default=None
        Where to predict; ``None`` for where the network is.
    exchange : callable or None, default=None
        Changes the copy before it is laid out, and returns it.
    """

    def __init__(
        self,
        module: nn.Module,
        to_log_proba: Callable[[Any], Tensor],
        device: torch.device | None = None,
        exchange: Callable[[nn.Module], nn.Module] | None = None,
    ):
        duplicate = without_fast_paths(private_copy(module, device))
        self.name = type(module).__name__
        self.module = exchange(duplicate) if exchange else duplicate
        self.to_log_proba = to_log_proba
        self.writes = False
        self._prepared = False

    def prepare(
        self, x: Tensor, run: Callable[[nn.Module, Tensor], Any] = nn.Module.__call__
    ) -> Any:
        """Lay the weights out, so that a row passes; return ``run(module, x[:1])``."""
        # Processors convolve channels-last activations faster.
        layouts = [torch.channels_last, torch.contiguous_format]
        if self._prepared or x.device.type != "cpu":
            layouts = [torch.preserve_format]
        # What is kept from here on is to serve gradients later.
        with PREPARING, torch.inference_mode(False), torch.no_grad(), in_float32(x):
            for layout in layouts:
                if not self._prepared:
                    _lay_out(self.module, layout)
                row = x[:1].clone()
                version = row._version
                try:
                    result = run(self.module, row)
                    break
                except RuntimeError:
                    # Tensor.view cannot flatten such activations. An error with another cause
                    # comes back with the next layout.
                    if layout is layouts[-1]:
                        raise
        self._prepared = True
        # A network may write on its input, which other members and the user are to see as it was.
        self.writes |= row._version != version
        return result

    def __call__(self, x: Tensor) -> Tensor:
        """Return log-probabilities of shape (n_samples, n_classes)."""
        with in_float32(x):
            return self.to_log_proba(self.module(x.clone() if self.writes else x))


def in_float32(x: Tensor) -> torch.autocast:
    """Keep an autocast that surrounds a call from lowering the precision."""
    return torch.autocast(x.device.type, enabled=False)
