"""An autoencoder of images with a spatial code, good with few of them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tsynd_sk._utils._tensors import safe_scale
from tsynd_sk.autoencoders._patch_pca import PatchPCA, patches_of

__all__ = ["PatchAutoencoder"]


class _Block(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(F.gelu(self.first(F.gelu(x))))


def _convolutions(n_in: int, n_out: int, width: int, depth: int) -> nn.Sequential:
    first = nn.Conv2d(n_in, width, 3, padding=1)
    blocks, last = list(map(_Block, [width] * depth)), nn.Conv2d(width, n_out, 1)
    # A residual that is zero until it is trained.
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)  # type: ignore[arg-type]
    return nn.Sequential(first, *blocks, nn.GELU(), last)


class PatchAutoencoder(PatchPCA):
    """Convolutional autoencoder whose spatial code starts as principal components of patches.

    The image is cut into patches; each is projected on whitened principal components, which gives
    a spatial code of shape (n_components, ceil(H / patch_size), ceil(W / patch_size)).
    Convolutions over neighbouring patches add what the components miss, in both directions.
    Codes are standardised per channel: one unit is one standard deviation.

    Parameters
    ----------
    image_shape : tuple of int
        (n_channels, height, width) of the images. Sides that are no multiple of the patch are
        padded by their edge, and the decoded image is cropped.
    patch_size : int or None, default=None
        Side of a patch in pixels. ``None``: 4 for images up to 48 pixels, 8 up to 96, else 16.
    n_components : int or float, default=4
        Number of latent channels, at most the values in a patch. A float needs data, see
        `from_data`.
    width : int, default=64
        Channels of the hidden layers.
    depth : int, default=2
        Residual blocks in the decoder; the encoder has one.
    noise : float, default=0.1
        Standard deviation of the noise on codes while training, in latent standard deviations.

    Attributes
    ----------
    sizes : dict
        What `from_data` reads off the training images, as arguments of the class, with which a
        saved autoencoder is rebuilt.

    See Also
    --------
    PatchPCA : Its components alone, without a training.
    AutoencoderNet : Trains it.

    Examples
    --------
    >>> import torch
    >>> from tsynd_sk.autoencoders import PatchAutoencoder
    >>> autoencoder = PatchAutoencoder.from_data(torch.rand(20, 1, 30, 28), n_components=3)
    >>> z = autoencoder.encode(torch.rand(2, 1, 30, 28))
    >>> z.shape, autoencoder.decode(z).shape
    (torch.Size([2, 3, 8, 7]), torch.Size([2, 1, 30, 28]))
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
        # Without it, the encoder would drown the noise by inflating its codes.
        self.whiten = nn.BatchNorm2d(self.n_components, affine=False, momentum=0.01)

    @classmethod
    def from_data(cls, X: Tensor, y=None, **params) -> PatchAutoencoder:
        """Build an autoencoder for images and initialise it by their principal components.

        Parameters
        ----------
        X : Tensor of shape (n, n_channels, height, width)
            Training images.
        y : ignored
            Autoencoders need no labels.
        **params
            Parameters of the class. `n_components` may be a float, as in `PatchPCA.from_data`.

        Returns
        -------
        PatchAutoencoder
            On the CPU, not trained yet.
        """
        autoencoder = super().from_data(X, y, **params)
        autoencoder.mean.copy_(X.mean())
        autoencoder.scale.copy_(safe_scale(X))
        return autoencoder

    def encode(self, x: Tensor) -> Tensor:
        """Encode images as spatial codes, in standard deviations.

        Parameters
        ----------
        x : Tensor of shape (n, C, H, W)
            Images.

        Returns
        -------
        Tensor of shape (n, n_components, h, w)
            Codes, one vector for each patch.
        """
        patches = patches_of(x, self.patch_size)
        detail = self.encoder_residual((patches - self.mean) / self.scale)
        return self.whiten(self.project(patches) + detail)

    def decode(self, z: Tensor) -> Tensor:
        """Decode spatial codes to images.

        Parameters
        ----------
        z : Tensor of shape (n, n_components, h, w)
            Codes, in standard deviations.

        Returns
        -------
        Tensor of shape (n, C, H, W)
            Images.
        """
        return self._images_of(self.expand(z) + self.scale * self.decoder_residual(z))

    def augment(self, x: Tensor) -> Tensor:
        """Mirror and shift a batch while training, which multiplies the patches to learn from.

        Parameters
        ----------
        x : Tensor of shape (n, C, H, W)
            Images.

        Returns
        -------
        Tensor of shape (n, C, H, W)
            The images moved, all of them alike.
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
