"""An autoencoder as synthesis uses it: frozen, fast, and within the range of real images."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from tsynd_sk._utils._inference import InferenceCopy
from tsynd_sk.autoencoders import encode
from tsynd_sk.images import ValueRange


class Codec:
    """Private, frozen copy of an autoencoder that decodes into the range of real images.

    Parameters
    ----------
    module : Module
        The user's, with ``encode`` and ``decode``.
    value_range : ValueRange
        Range of the real images.
    device : torch.device
        Where to compute.
    """

    def __init__(self, module: nn.Module, value_range: ValueRange, device: torch.device):
        self.value_range = value_range
        self._network = InferenceCopy(module, _tensor, device)
        self._module: Any = self._network.module

    def prepare(self, x: Tensor) -> Codec:
        """Get ready for images like these, and give itself."""
        self._network.prepare(x, _round_trip)
        return self

    def encode(self, x: Tensor) -> Tensor:
        """Codes of images."""
        with torch.no_grad():
            return self._network.output(x, lambda x: encode(self._module, x))

    def decode(self, z: Tensor) -> Tensor:
        """Images of codes, in the range of real images; differentiable."""
        images = self._network.output(z, lambda z: _tensor(self._module.decode(z)))
        return self.value_range.clip(images)


def _round_trip(module: Any, row: Tensor) -> Any:
    return module.decode(encode(module, row))


def _tensor(decoded: Any) -> Tensor:
    if isinstance(decoded, tuple | list):
        return decoded[0]
    if isinstance(decoded, Tensor):
        return decoded
    # Variational autoencoders of diffusers and pythae wrap what they decode.
    return getattr(decoded, "sample", getattr(decoded, "reconstruction", decoded))


def latent_scale(codec: Codec, batches: Iterable[Tensor]) -> Tensor:
    """Measure the deviations of codes: by channel of a spatial code, by coordinate of a flat one.

    Parameters
    ----------
    codec : Codec
        Autoencoder.
    batches : iterable of Tensor of shape (n, ...)
        Training images; one batch at a time is in memory.

    Raises
    ------
    ValueError
        If codes do not decode to the shape of the images, or are not finite.
    """
    count, shift = 0, None
    total = squares = torch.zeros(())
    for x in batches:
        z = codec.encode(x)
        if shift is None:
            _check_decoded(codec, x, z)
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
    """Refuse a net whose training has diverged."""
    if not values.isfinite().all():
        raise ValueError(
            f"what the {role} gives for training images is not finite: its training has diverged. "
            "Scale the images, for instance to values between 0 and 1, or lower its lr."
        )


def _check_decoded(codec: Codec, x: Tensor, z: Tensor) -> None:
    with torch.no_grad():
        decoded = codec.decode(z)
    if decoded.shape != x.shape:
        raise ValueError(
            f"autoencoder decodes the code of an image of shape {tuple(x.shape[1:])} to shape "
            f"{tuple(decoded.shape[1:])}; the two must be equal"
        )
    check_finite(decoded, "autoencoder")
