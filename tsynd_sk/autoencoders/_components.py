"""Principal components in closed form, and what the autoencoders around them share."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Integral
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tsynd_sk._utils._tensors import FLOAT32_ROUNDING, check_training_data, safe_scale

# More rows would change principal components by less than another draw of as many images.
_MAX_ROWS = 20_000


def principal_components(rows: Tensor, n_components: int | float) -> tuple[Tensor, Tensor, Tensor]:
    """Compute the mean, principal axes (n_components, n_features) and their deviations.

    `rows` are (..., n_features); of many, some are enough, the same every time.
    """
    fraction = isinstance(n_components, float) and 0 < n_components < 1
    count = isinstance(n_components, Integral) and not isinstance(n_components, bool)
    if not (fraction or (count and n_components >= 1)):
        raise ValueError(
            f"n_components={n_components!r} is not valid: expected a positive integer, or a "
            "float between 0 and 1 for the fraction of variance to be explained"
        )
    n_rows = rows.shape[:-1].numel()
    if n_rows > _MAX_ROWS:
        # At random, for every seventh patch might be from the same place in all images.
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

    The `n_values` of a patch, or of a row, are projected on at most as many components. `noise` is
    that on codes while training, in latent standard deviations. Subclasses that learn something
    beyond the components set residuals, and `whiten`, which standardises codes.
    """

    #: Dimensions of data, and how messages call them.
    _takes: tuple[int, str]
    #: Axes of data over which `mean` and `scale`, where there are such buffers, are taken.
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
        """Return what components are those of, and add the sizes of data to parameters."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """Reconstruct, through noise on the codes while training."""
        z = self.encode(x)
        if self.training and self.noise > 0:
            # Codes near those of real images must decode well: that is where the ascent goes.
            z = z + self.noise * torch.randn_like(z)
        return self.decode(z)
