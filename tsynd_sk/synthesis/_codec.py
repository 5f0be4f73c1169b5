"""An autoencoder as synthesis uses it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from tsynd_sk._utils._inference import InferenceCopy, in_float32
from tsynd_sk.autoencoders import encode
from tsynd_sk.images import ValueRange


class Codec:
    """Private copy of an autoencoder, prepared for images like an example."""

    def __init__(
        self, module: nn.Module, value_range: ValueRange, example: Tensor, device: torch.device
    ):
        network: Any = InferenceCopy(module, nn.Identity(), device)
        network.prepare(example, lambda module, row: module.decode(encode(module, row)))
        self.value_range = value_range
        self._module = network.module
        self._writes = network.writes

    @torch.no_grad()
    def encode(self, x: Tensor) -> Tensor:
        with in_float32(x.device.type):
            return encode(self._module, x.clone() if self._writes else x)

    def decode(self, z: Tensor, *, clip: bool = True) -> Tensor:
        """Images of codes, clipped to the range of real images; differentiable."""
        with in_float32(z.device.type):
            decoded = self._module.decode(z.clone() if self._writes else z)
        if isinstance(decoded, tuple | list):
            decoded = decoded[0]
        elif not isinstance(decoded, Tensor):
            # diffusers and pythae wrap what they decode.
            decoded = getattr(decoded, "sample", getattr(decoded, "reconstruction", decoded))
        return self.value_range.clip(decoded) if clip else decoded

    def decoder(
        self, x: Tensor, z_0: Tensor, keep_detail: bool = True
    ) -> Callable[[Tensor], Tensor]:
        """Make the function that decodes codes, displaced from `z_0`, with what `z_0` lost of `x`.

        What is not displaced is the row of `x` to the bit. Without `keep_detail` it is `decode`.
        """
        if not keep_detail:
            return self.decode
        decoded_sources: dict[bool, Tensor] = {}

        def decode(z: Tensor) -> Tensor:
            # Without gradients torch may choose another kernel, and so another rounding.
            mode = z.requires_grad
            if mode not in decoded_sources:
                source = z_0.detach().clone().requires_grad_(mode)
                decoded_sources[mode] = self.decode(source, clip=False).detach()
            # Unclipped, a decoder that saturates has a gradient. In another order x would be
            # lost in rounding.
            change = self.decode(z, clip=False) - decoded_sources[mode]
            return self.value_range.clip(x + change)

        return decode


# Tensors made in a caller's inference mode could not take part in gradients.
@torch.inference_mode(False)
@torch.no_grad()
def latent_scale(codec: Codec, batches: Iterable[Tensor]) -> Tensor:
    """Measure the deviations of codes, by channel of a spatial code, by coordinate of a flat one.

    Raise ValueError if codes do not decode to the shape of the images, or are not finite.
    """
    count, shift = 0, None
    total = squares = torch.zeros(())
    for x in batches:
        z = codec.encode(x)
        if shift is None:
            decoded = codec.decode(z, clip=False)
            if decoded.shape != x.shape:
                raise ValueError(
                    "autoencoder must decode to the shape that it encodes, "
                    f"{tuple(x.shape[1:])}; got {tuple(decoded.shape[1:])}"
                )
            check_finite(decoded, "autoencoder")
            axes = (0, *range(2, z.ndim))
            # Sums of squares lose digits where the mean is far from zero.
            shift = z.mean(axes, keepdim=True).cpu()
        z = (z.cpu() - shift).double()
        count += z.numel() // shift.numel()
        total = total + z.sum(axes, keepdim=True)
        squares = squares + z.square().sum(axes, keepdim=True)
    variance = squares / count - (total / count).square()
    scale = variance.clamp(min=0).sqrt().float()
    check_finite(scale, "autoencoder")
    return scale


def check_finite(values: Tensor, role: str) -> None:
    """Raise ValueError if the training of a net has diverged."""
    if not values.isfinite().all():
        raise ValueError(
            f"the {role} returns NaN or infinity for training images: its training has diverged. "
            "Scale the images, for instance to values between 0 and 1, or lower its lr."
        )
