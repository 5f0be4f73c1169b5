"""Autoencoders of images: principal components of patches, and what is learned beyond."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tsynd_sk.autoencoders._components import ComponentAutoencoder, zeroed

__all__ = ["PatchAutoencoder", "PatchPCA"]


class PatchPCA(ComponentAutoencoder):
    r"""Principal components of patches: a linear autoencoder of images in closed form.

    Each patch of an image is projected on whitened principal components of all patches, which
    gives a code of shape (n_components, ceil(H / patch_size), ceil(W / patch_size)). One unit of it
    is one standard deviation. `from_data` learns all that there is to learn.

    Parameters
    ----------
    image_shape : tuple of int
        (n_channels, height, width) of the images. Sides that are no multiple of the patch are
        padded by their edge.
    patch_size : int or None, default=None
        Side of a patch in pixels. ``None``: 4 for images up to 48 pixels, 8 up to 96, else 16.
    n_components : int or float, default=4
        Latent channels, at most the values in a patch; a float only in `from_data`.

    Attributes
    ----------
    sizes : dict
        Arguments that rebuild a saved autoencoder.

    See Also
    --------
    PatchAutoencoder : Learns what they miss.
    AutoencoderNet : Fits it.

    Notes
    -----
    With the mean :math:`\mu` of patches, the axes :math:`V` of their covariance as columns, and the
    standard deviations :math:`\sigma` along them, a patch :math:`p` and its code :math:`z` are

    .. math:: z = \operatorname{diag}(\sigma)^{-1} V^\top (p - \mu), \qquad
              \hat p = \mu + V \operatorname{diag}(\sigma) z .

    Examples
    --------
    >>> import torch
    >>> from tsynd_sk.autoencoders import PatchPCA
    >>> autoencoder = PatchPCA.from_data(torch.rand(20, 1, 30, 28), n_components=3)
    >>> autoencoder.encode(torch.rand(2, 1, 30, 28)).shape
    torch.Size([2, 3, 8, 7])
    """

    _takes = 4, "expected (n, channels, height, width)"

    def __init__(
        self, image_shape: Sequence[int], *, patch_size: int | None = None, n_components: int = 4
    ):
        channels, height, width = map(int, image_shape)
        patch_size = int(patch_size or _patch_size_for(max(height, width)))
        n_values = channels * patch_size**2
        super().__init__(n_values, n_components, 0.0)
        self.image_size = (height, width)
        self.patch_size = patch_size
        self.sizes = {
            "image_shape": (channels, height, width),
            "patch_size": patch_size,
            "n_components": self.n_components,
        }
        self.project = nn.Conv2d(n_values, self.n_components, 1)
        self.expand = nn.Conv2d(self.n_components, n_values, 1)

    @classmethod
    def _rows_of(cls, X: Tensor, params: dict[str, Any]) -> Tensor:
        params.setdefault("image_shape", tuple(X.shape[1:]))
        side = params["patch_size"] = params.get("patch_size") or _patch_size_for(max(X.shape[2:]))
        return _patches(X, side).movedim(1, -1)

    def encode(self, x: Tensor) -> Tensor:
        """Encode images, in latent standard deviations.

        Parameters
        ----------
        x : Tensor of shape (n, C, H, W)
            Images.

        Returns
        -------
        Tensor of shape (n, n_components, h, w)
            Codes: a vector for each patch.
        """
        patches = _patches(x, self.patch_size)
        z = self.project(patches)
        if self.encoder_residual is not None:
            z = self.whiten(z + self.encoder_residual((patches - self.mean) / self.scale))
        return z

    def decode(self, z: Tensor) -> Tensor:
        """Decode codes to images.

        Parameters
        ----------
        z : Tensor of shape (n, n_components, h, w)
            Codes, in standard deviations.

        Returns
        -------
        Tensor of shape (n, C, H, W)
            Images.
        """
        patches = self.expand(z)
        if self.decoder_residual is not None:
            patches = patches + self.scale * self.decoder_residual(z)
        height, width = self.image_size
        return F.pixel_shuffle(patches, self.patch_size)[..., :height, :width]


class PatchAutoencoder(PatchPCA):
    """Convolutional autoencoder whose spatial code starts as principal components of patches.

    Codes are those of `PatchPCA`; convolutions over neighbouring patches add what the components
    miss, in both directions. One unit of a code is one standard deviation.

    Parameters
    ----------
    image_shape : tuple of int
        (n_channels, height, width) of the images. Sides that are no multiple of the patch are
        padded by their edge.
    patch_size : int or None, default=None
        Side of a patch in pixels. ``None``: 4 for images up to 48 pixels, 8 up to 96, else 16.
    n_components : int or float, default=4
        Latent channels, at most the values in a patch; a float only in `from_data`.
    width : int, default=64
        Channels of the hidden layers.
    depth : int, default=2
        Residual blocks in the decoder; the encoder has one.
    noise : float, default=0.1
        Noise on codes while training, in latent standard deviations.

    Attributes
    ----------
    sizes : dict
        Arguments that rebuild a saved autoencoder.

    See Also
    --------
    PatchPCA : Its components alone.
    AutoencoderNet : Trains it.

    Examples
    --------
    >>> import torch
    >>> from tsynd_sk.autoencoders import PatchAutoencoder
    >>> autoencoder = PatchAutoencoder.from_data(torch.rand(20, 1, 30, 28), n_components=3)
    >>> autoencoder.encode(torch.rand(2, 1, 30, 28)).shape
    torch.Size([2, 3, 8, 7])
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        *,
        patch_size: int | None = None,
        n_components: int = 4,
        width: int = 64,
        depth: int = 2,
        noise: float = 0.1,
    ):
        super().__init__(image_shape, patch_size=patch_size, n_components=n_components)
        self.noise = noise
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("scale", torch.ones(()))
        self.encoder_residual = _convolutions(self.n_values, self.n_components, width, 1)
        self.decoder_residual = _convolutions(self.n_components, self.n_values, width, depth)
        # Or the encoder would inflate its codes to drown the noise.
        self.whiten = nn.BatchNorm2d(self.n_components, affine=False, momentum=0.01)

    def augment(self, x: Tensor) -> Tensor:
        """Mirror and shift a batch while training.

        Parameters
        ----------
        x : Tensor of shape (n, C, H, W)
            Images.

        Returns
        -------
        Tensor of shape (n, C, H, W)
            The images, all moved alike.
        """
        if torch.rand(()) < 0.5:
            x = x.flip(-1)
        if torch.rand(()) < 0.25:
            height, width = x.shape[-2:]
            margin = self.patch_size // 2
            top, left = torch.randint(2 * margin + 1, (2,)).tolist()
            padded = F.pad(x, (margin, margin, margin, margin), mode="replicate")
            x = padded[..., top : top + height, left : left + width]
        return x


class _Block(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(F.gelu(self.first(F.gelu(x))))


def _convolutions(n_in: int, n_out: int, width: int, depth: int) -> nn.Sequential:
    first = nn.Conv2d(n_in, width, 3, padding=1)
    blocks = [_Block(width) for _ in range(depth)]
    return nn.Sequential(first, *blocks, nn.GELU(), zeroed(nn.Conv2d(width, n_out, 1)))


def _patches(x: Tensor, side: int) -> Tensor:
    """Cut images into patches (n, n_values, h, w)."""
    bottom, right = -x.shape[-2] % side, -x.shape[-1] % side
    x = F.pad(x, (0, right, 0, bottom), mode="replicate") if bottom or right else x
    return F.pixel_unshuffle(x, side)


def _patch_size_for(side: int) -> int:
    return 4 if side <= 48 else 8 if side <= 96 else 16
