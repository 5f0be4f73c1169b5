"""Principal components in closed form, and what the autoencoders around them share."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tsynd_sk._utils._tensors import FLOAT32_ROUNDING
from tsynd_sk._utils._torch_validation import check_training_data

# More rows would change principal components by less than another draw of as many images.
_MAX_ROWS = 20_000


def chosen_rows(n_rows: int) -> np.ndarray:
    """Choose rows for principal components: all, or as many as suffice, the same every time."""
    if n_rows <= _MAX_ROWS:
        return np.arange(n_rows)
    # At random, for every seventh patch might be from the same place in all images.
    return np.sort(np.random.default_rng(0).choice(n_rows, _MAX_ROWS, replace=False))


def is_count(value: Any) -> bool:
    """Return whether a value is an integer of at least 1."""
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= 1


def principal_components(rows: Tensor, n_components: int | float) -> tuple[Tensor, Tensor, Tensor]:
    """Compute the mean, principal axes (n_components, n_features) and their deviations."""
    fraction = isinstance(n_components, float) and 0 < n_components < 1
    if not (fraction or is_count(n_components)):
        raise ValueError(
            f"n_components={n_components!r} is not valid: expected a positive integer, or a "
            "float between 0 and 1 for the fraction of variance to be explained"
        )
    if len(rows) > _MAX_ROWS:
        rows = rows[torch.from_numpy(chosen_rows(len(rows)))]
    rows = rows.double()
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

    The `n_values` of a patch, or of a row, are projected on at most as many components. `noise` is
    that on codes while training, in latent standard deviations.
    """

    #: Dimensions of data, and how messages call them.
    _takes: tuple[int, str]
    mean: Tensor
    scale: Tensor
    project: nn.Linear | nn.Conv2d
    expand: nn.Linear | nn.Conv2d

    def __init__(self, n_values: int, n_components: int, noise: float):
        super().__init__()
        if not is_count(n_components):
            raise ValueError(
                f"n_components={n_components!r} is not valid: expected a positive integer, or a "
                "float between 0 and 1 for a fraction of variance, which needs data: use "
                f"{type(self).__name__}.from_data, or AutoencoderNet, which calls it"
            )
        self.n_values = n_values
        self.n_components = min(int(n_components), n_values)
        self.noise = noise

    @classmethod
    def from_data(cls, X: Tensor, y=None, *, n_components=0.95, **params) -> Any:
        """Build an autoencoder for images, or the rows of a table, by their principal components.

        Parameters
        ----------
        X : Tensor of shape (n, n_channels, height, width) or (n, n_features)
            Training images, or rows.
        y : ignored
            Autoencoders need no labels.
        n_components : int or float, default=0.95
            A float between 0 and 1: as many components as explain that fraction of the variance, of
            patches or of standardised features.
        **params
            Other parameters of the class.

        Returns
        -------
        Module
            Of this class, on the CPU; what is learned beyond the components is zero.
        """
        X = check_training_data(X, *cls._takes)
        components = principal_components(cls._rows_of(X, params), n_components)
        autoencoder = cls(n_components=len(components[1]), **params)
        autoencoder._initialise(X, *components)
        return autoencoder

    @classmethod
    def _rows_of(cls, X: Tensor, params: dict[str, Any]) -> Tensor:
        """Return what components are those of, and add the sizes of data to parameters."""
        raise NotImplementedError

    @torch.no_grad()
    def _initialise(self, X: Tensor, mean: Tensor, axes: Tensor, scale: Tensor) -> None:
        """Initialise the linear maps by principal components of data `X`, whitened."""
        weight = axes / scale[:, None]
        self.project.weight.copy_(weight.reshape(self.project.weight.shape))
        assert self.project.bias is not None
        assert self.expand.bias is not None
        self.project.bias.copy_(-weight @ mean)
        self.expand.weight.copy_((axes * scale[:, None]).T.reshape(self.expand.weight.shape))
        self.expand.bias.copy_(mean)

    def encode(self, x: Tensor) -> Tensor:
        """Encode images, or the rows of a table, in latent standard deviations.

        Parameters
        ----------
        x : Tensor of shape (n, C, H, W) or (n, n_features)
            Images, or rows.

        Returns
        -------
        Tensor of shape (n, n_components, h, w) or (n, n_components)
            Codes: a vector for each patch, or for each row.
        """
        return self._codes_of(self._values_of(x))

    def decode(self, z: Tensor) -> Tensor:
        """Decode codes to images, or to the rows of a table.

        Parameters
        ----------
        z : Tensor of shape (n, n_components, h, w) or (n, n_components)
            Codes, in standard deviations.

        Returns
        -------
        Tensor of shape (n, C, H, W) or (n, n_features)
            Images, or rows.
        """
        return self._from_values(self._expanded(z))

    def _codes_of(self, values: Tensor) -> Tensor:
        return self.project(values)

    def _expanded(self, z: Tensor) -> Tensor:
        return self.expand(z)

    def _values_of(self, x: Tensor) -> Tensor:
        """Return what is projected: patches (n, n_values, h, w), or standardised rows."""
        raise NotImplementedError

    def _from_values(self, values: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """Reconstruct, through noise on the codes while training."""
        z = self.encode(x)
        if self.training and self.noise > 0:
            # Codes near those of real images must decode well: that is where the ascent goes.
            z = z + self.noise * torch.randn_like(z)
        return self.decode(z)
