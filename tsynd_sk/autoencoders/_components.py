"""Principal components in closed form, for the linear start of autoencoders."""

from __future__ import annotations

from numbers import Integral

import torch
from torch import Tensor, nn

from tsynd_sk._utils._tensors import FLOAT32_ROUNDING

# Rows beyond this number change principal components by less than training does afterwards.
_MAX_ROWS = 50_000


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
        # At random, for every seventh patch might be from the same place in all images.
        generator = torch.Generator().manual_seed(0)
        rows = rows[torch.randperm(len(rows), generator=generator)[:_MAX_ROWS]]
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
    """What both autoencoders share: linear maps that components initialise, and latent noise.

    Parameters
    ----------
    n_values : int
        Values that are projected, in a patch or in a row.
    n_components : int
        Components to project on, at most `n_values`.
    noise : float
        Standard deviation of the noise on codes while training, in latent standard deviations.
    """

    mean: Tensor
    scale: Tensor
    project: nn.Linear | nn.Conv2d
    expand: nn.Linear | nn.Conv2d
    n_components: int
    noise: float

    def __init__(self, n_values: int, n_components: int, noise: float):
        super().__init__()
        if type(n_components) is bool or not isinstance(n_components, Integral) or n_components < 1:
            raise ValueError(
                f"n_components={n_components!r} is not valid: expected a positive integer, or a "
                "float between 0 and 1 for a fraction of variance, which needs data: use "
                f"{type(self).__name__}.from_data, or AutoencoderNet, which calls it"
            )
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
