"""Principal components in closed form, and what the autoencoders around them share."""

from __future__ import annotations

from numbers import Integral

import numpy as np
import torch
from torch import Tensor, nn

from tsynd_sk._utils._tensors import FLOAT32_ROUNDING

# More rows would change principal components by less than another draw of as many images.
_MAX_ROWS = 20_000


def chosen_rows(n_rows: int) -> np.ndarray:
    """Choose rows for principal components: all, or as many as suffice, the same every time."""
    if n_rows <= _MAX_ROWS:
        return np.arange(n_rows)
    # At random, for every seventh patch might be from the same place in all images.
    return np.sort(np.random.default_rng(0).choice(n_rows, _MAX_ROWS, replace=False))


def principal_components(rows: Tensor, n_components: int | float) -> tuple[Tensor, Tensor, Tensor]:
    """Compute the mean, principal axes (n_components, n_features) and their deviations."""
    if isinstance(n_components, bool) or not (
        (isinstance(n_components, Integral) and n_components >= 1)
        or (isinstance(n_components, float) and 0 < n_components < 1)
    ):
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
    if isinstance(n_components, Integral):
        kept = int(n_components)
    else:
        explained = variance.cumsum(0) / variance.sum().clamp_min(torch.finfo(variance.dtype).tiny)
        kept = int((explained < n_components).sum()) + 1
    kept = min(kept, rank)
    # Eigenvectors are determined up to sign; the largest entry is made positive.
    axes = axes[:kept]
    signs = axes.gather(1, axes.abs().argmax(1, keepdim=True)).sign()
    scale = variance[:kept].sqrt()
    scale = torch.where(scale > 0, scale, torch.ones_like(scale))
    return mean.float(), (axes * signs).float(), scale.float()


class ComponentAutoencoder(nn.Module):
    """What all autoencoders share: linear maps that components initialise, and latent noise.

    Parameters
    ----------
    n_values : int
        Values that are projected, in a patch or in a row.
    n_components : int
        Components to project on, at most `n_values`.
    noise : float, default=0.0
        Standard deviation of the noise on codes while training, in latent standard deviations.
    """

    mean: Tensor
    scale: Tensor
    project: nn.Linear | nn.Conv2d
    expand: nn.Linear | nn.Conv2d
    n_values: int
    n_components: int
    noise: float

    def __init__(self, n_values: int, n_components: int, noise: float = 0.0):
        super().__init__()
        if type(n_components) is bool or not isinstance(n_components, Integral) or n_components < 1:
            raise ValueError(
                f"n_components={n_components!r} is not valid: expected a positive integer, or a "
                "float between 0 and 1 for a fraction of variance, which needs data: use "
                f"{type(self).__name__}.from_data, or AutoencoderNet, which calls it"
            )
        self.n_values = n_values
        self.n_components = min(int(n_components), n_values)
        self.noise = noise

    @torch.no_grad()
    def set_components(self, mean: Tensor, axes: Tensor, scale: Tensor) -> None:
        """Initialise the linear maps by principal components, whitened.

        Parameters
        ----------
        mean : Tensor of shape (n_values,)
            Mean of what is projected.
        axes : Tensor of shape (n_components, n_values)
            Principal axes, of length 1.
        scale : Tensor of shape (n_components,)
            Standard deviations along them.
        """
        weight = axes / scale[:, None]
        self.project.weight.copy_(weight.reshape(self.project.weight.shape))
        assert self.project.bias is not None
        assert self.expand.bias is not None
        self.project.bias.copy_(-weight @ mean)
        self.expand.weight.copy_((axes * scale[:, None]).T.reshape(self.expand.weight.shape))
        self.expand.bias.copy_(mean)

    def encode(self, x: Tensor) -> Tensor:
        """Encode what is reconstructed, in latent standard deviations."""
        raise NotImplementedError

    def decode(self, z: Tensor) -> Tensor:
        """Decode codes."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """Reconstruct, through noise on the codes while training."""
        z = self.encode(x)
        if self.training and self.noise > 0:
            # Codes near those of real images must decode well: that is where the ascent goes.
            z = z + self.noise * torch.randn_like(z)
        return self.decode(z)
