"""Autoencoders that start from principal components: what they share, and those of tables."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Integral
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tsynd_sk._utils._tensors import FLOAT32_ROUNDING, check_training_data, safe_scale

__all__ = ["DenseAutoencoder", "DensePCA"]

# More rows would change principal components by less than another draw of as many images.
_MAX_ROWS = 20_000


def principal_components(rows: Tensor, n_components: int | float) -> tuple[Tensor, Tensor, Tensor]:
    """Compute the mean, principal axes (n_components, n_features) and their deviations."""
    fraction = isinstance(n_components, float) and 0 < n_components < 1
    count = isinstance(n_components, Integral) and not isinstance(n_components, bool)
    if not (fraction or (count and n_components >= 1)):
        raise ValueError(
            f"n_components={n_components!r} is not valid: expected a positive integer, or a "
            "float between 0 and 1 for the fraction of variance to be explained"
        )
    n_rows = rows.shape[:-1].numel()
    if n_rows > _MAX_ROWS:
        # At random, for every seventh patch might be from one place in all images.
        chosen = np.sort(np.random.default_rng(0).choice(n_rows, _MAX_ROWS, replace=False))
        rows = rows[tuple(map(torch.from_numpy, np.unravel_index(chosen, rows.shape[:-1])))]
    rows = rows.flatten(0, -2).double()
    mean = rows.mean(0)
    centred = rows - mean
    variance, axes = torch.linalg.eigh(centred.T @ centred / max(len(rows) - 1, 1))
    variance, axes = variance.flip(0), axes.flip(1).T
    rounding = (FLOAT32_ROUNDING * rows.abs().max()).square()
    variance = torch.where(variance > rounding, variance, torch.zeros_like(variance))
    rank = max(int((variance > variance[0] * 1e-7).sum()), 1)
    if fraction:
        explained = variance.cumsum(0) / variance.sum().clamp_min(torch.finfo(variance.dtype).tiny)
        n_components = int((explained < n_components).sum()) + 1
    kept = min(int(n_components), rank)
    # Eigenvectors are determined up to sign; the largest entry is made positive.
    axes = axes[:kept]
    signs = axes.gather(1, axes.abs().argmax(1, keepdim=True)).sign()
    scale = variance[:kept].sqrt()
    scale = torch.where(scale > 0, scale, torch.ones_like(scale))
    return mean.float(), (axes * signs).float(), scale.float()


class ComponentAutoencoder(nn.Module):
    """What all autoencoders share: linear maps that components initialise, and latent noise.

    Subclasses that learn something beyond the components set residuals, and `whiten`, which
    standardises codes.
    """

    #: Dimensions of data, and how messages call them.
    _takes: tuple[int, str]
    #: Axes of data over which `mean` and `scale` are taken.
    _axes: tuple[int, ...] = ()
    mean: Tensor
    scale: Tensor
    encode: Callable[[Tensor], Tensor]
    decode: Callable[[Tensor], Tensor]
    whiten: nn.Module

    def __init__(self, n_values: int, n_components: int, noise: float):
        super().__init__()
        count = isinstance(n_components, Integral) and not isinstance(n_components, bool)
        if not (count and n_components >= 1):
            raise ValueError(
                f"n_components={n_components!r} is not valid: expected a positive integer, or a "
                "float between 0 and 1 for a fraction of variance, which needs data: use "
                f"{type(self).__name__}.from_data, or AutoencoderNet, which calls it"
            )
        self.n_values = n_values
        self.n_components = min(int(n_components), n_values)
        self.noise = noise
        self.encoder_residual: nn.Module | None = None
        self.decoder_residual: nn.Module | None = None

    @classmethod
    def from_data(cls, X: Tensor, y=None, *, n_components=0.95, **params) -> Any:
        """Build an autoencoder from the principal components of images, or of rows of a table.

        Parameters
        ----------
        X : Tensor of shape (n, n_channels, height, width) or (n, n_features)
            Training images, or rows.
        y : ignored
            Autoencoders need no labels.
        n_components : int or float, default=0.95
            A float between 0 and 1: as many as explain that fraction of the variance of patches, or
            of standardised features.
        **params
            Other parameters of the class.

        Returns
        -------
        Module
            Of this class, on the CPU; residuals are zero.
        """
        X = check_training_data(X, *cls._takes)
        mean, axes, scale = principal_components(cls._rows_of(X, params), n_components)
        autoencoder = cls(n_components=len(axes), **params)
        # Whitened: one latent unit is one standard deviation.
        weight = axes / scale[:, None]
        learned = {
            "project.weight": weight,
            "project.bias": -weight @ mean,
            "expand.weight": (axes * scale[:, None]).T,
            "expand.bias": mean,
        }
        state = autoencoder.state_dict()
        if "scale" in state:
            learned |= {"mean": X.mean(cls._axes), "scale": safe_scale(X, cls._axes)}
        for name, values in learned.items():
            state[name].copy_(values.reshape(state[name].shape))
        return autoencoder

    @classmethod
    def _rows_of(cls, X: Tensor, params: dict[str, Any]) -> Tensor:
        """Return what to take components of; add the sizes of data to parameters."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """Reconstruct, with noise on the codes while training."""
        z = self.encode(x)
        if self.training and self.noise > 0:
            # Codes near those of real images must decode well: there the ascent goes.
            z = z + self.noise * torch.randn_like(z)
        return self.decode(z)


def zeroed(layer: Any) -> Any:
    """Make the last layer of a residual, which is zero until it is trained."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


class DensePCA(ComponentAutoencoder):
    """Principal components of a table: a linear autoencoder of its rows in closed form.

    Codes are those of `PatchPCA`, of rows with standardised features in the place of patches.
    `from_data` learns all that there is to learn.

    Parameters
    ----------
    n_features : int
        Features in a row.
    n_components : int or float, default=8
        Latent coordinates, at most `n_features`; a float only in `from_data`.

    Attributes
    ----------
    sizes : dict
        Arguments that rebuild a saved autoencoder.

    See Also
    --------
    DenseAutoencoder : Learns what they miss.
    AutoencoderNet : Fits it.

    Examples
    --------
    >>> import torch
    >>> from tsynd_sk.autoencoders import DensePCA
    >>> autoencoder = DensePCA.from_data(torch.randn(50, 6), n_components=2)
    >>> autoencoder.encode(torch.randn(3, 6)).shape
    torch.Size([3, 2])
    """

    _takes = 2, "expected (n, n_features)"
    _axes = (0,)

    def __init__(self, n_features: int, *, n_components: int = 8):
        super().__init__(n_features, n_components, 0.0)
        self.sizes = {"n_features": int(n_features), "n_components": self.n_components}
        self.register_buffer("mean", torch.zeros(n_features))
        self.register_buffer("scale", torch.ones(n_features))
        self.project = nn.Linear(n_features, self.n_components)
        self.expand = nn.Linear(self.n_components, n_features)

    @classmethod
    def _rows_of(cls, X: Tensor, params: dict[str, Any]) -> Tensor:
        params.setdefault("n_features", X.shape[1])
        return (X - X.mean(0)) / safe_scale(X, (0,))

    def encode(self, x: Tensor) -> Tensor:
        """Encode the rows of a table, in latent standard deviations.

        Parameters
        ----------
        x : Tensor of shape (n, n_features)
            Rows.

        Returns
        -------
        Tensor of shape (n, n_components)
            Codes.
        """
        values = (x - self.mean) / self.scale
        z = self.project(values)
        if self.encoder_residual is not None:
            z = self.whiten(z + self.encoder_residual(values))
        return z

    def decode(self, z: Tensor) -> Tensor:
        """Decode codes to the rows of a table.

        Parameters
        ----------
        z : Tensor of shape (n, n_components)
            Codes, in standard deviations.

        Returns
        -------
        Tensor of shape (n, n_features)
            Rows.
        """
        values = self.expand(z)
        if self.decoder_residual is not None:
            values = values + self.decoder_residual(z)
        return self.mean + self.scale * values


class DenseAutoencoder(DensePCA):
    """Autoencoder for the rows of a table: principal components and dense residuals.

    Features are standardised inside; codes have one standard deviation per coordinate.

    Parameters
    ----------
    n_features : int
        Features in a row.
    n_components : int or float, default=8
        Latent coordinates, at most `n_features`; a float only in `from_data`.
    width : int, default=64
        Units of the hidden layers.
    noise : float, default=0.1
        Noise on codes while training, in latent standard deviations.

    Attributes
    ----------
    sizes : dict
        Arguments that rebuild a saved autoencoder.

    See Also
    --------
    DensePCA : Its components alone.
    AutoencoderNet : Trains it.

    Examples
    --------
    >>> import torch
    >>> from tsynd_sk.autoencoders import DenseAutoencoder
    >>> autoencoder = DenseAutoencoder.from_data(torch.randn(50, 6), n_components=2)
    >>> autoencoder.encode(torch.randn(3, 6)).shape
    torch.Size([3, 2])
    """

    def __init__(
        self, n_features: int, *, n_components: int = 8, width: int = 64, noise: float = 0.1
    ):
        super().__init__(n_features, n_components=n_components)
        self.noise = noise
        self.encoder_residual = _dense(n_features, self.n_components, width)
        self.decoder_residual = _dense(self.n_components, n_features, width)
        self.whiten = nn.BatchNorm1d(self.n_components, affine=False, momentum=0.01)


def _dense(n_in: int, n_out: int, width: int) -> nn.Sequential:
    hidden = (nn.Linear(n_in, width), nn.GELU(), nn.Linear(width, width), nn.GELU())
    return nn.Sequential(*hidden, zeroed(nn.Linear(width, n_out)))
