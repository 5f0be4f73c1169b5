"""An autoencoder as synthesis uses it: frozen, fast, and within the range of real images."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from tsynd_sk._inference import InferenceCopy, upcast
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
    precision : {"float32", "bfloat16"}, default="float32"
        Number format.
    """

    def __init__(
        self,
        module: nn.Module,
        value_range: ValueRange,
        device: torch.device,
        precision: str = "float32",
    ):
        self.value_range = value_range
        self._network = InferenceCopy(module, upcast, device, precision)
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


def latent_scale(codec: Codec, x: Tensor, batch_size: int, device: torch.device) -> Tensor:
    """Measure the deviations of codes: by channel of a spatial code, by coordinate of a flat one.

    Raises
    ------
    ValueError
        If codes do not decode to the shape of the images.
    """
    codes = torch.cat([codec.encode(part.to(device)) for part in x.split(batch_size)])
    with torch.no_grad():
        decoded = codec.decode(codes[:1])
    if decoded.shape != x[:1].shape:
        raise ValueError(
            f"autoencoder decodes the code of an image of shape {tuple(x.shape[1:])} to shape "
            f"{tuple(decoded.shape[1:])}; the two must be equal"
        )
    return codes.std((0, *range(2, codes.ndim)), correction=0, keepdim=True).cpu()
