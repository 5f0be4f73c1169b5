"""Autoencoders of the rows of a table: principal components, and what is learned beyond."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from tsynd_sk._utils._tensors import safe_scale
from tsynd_sk.autoencoders._components import ComponentAutoencoder

__all__ = ["DenseAutoencoder", "DensePCA"]


class DensePCA(ComponentAutoencoder):
    r"""Principal components of a table: a linear autoencoder of its rows in closed form.

    Features are standardised inside; codes have one standard deviation per coordinate.
    `from_data` does all that there is to learn: nothing is gained by training it.

    Parameters
    ----------
    n_features : int
        Features in a row.
    n_components : int or float, default=8
        Latent coordinates, at most `n_features`. A float needs data, see `from_data`.

    Attributes
    ----------
    sizes : dict
        What `from_data` reads off the training rows, as arguments of the class, with which a saved
        autoencoder is rebuilt.

    See Also
    --------
    DenseAutoencoder : Starts from them, and learns what they miss.
    AutoencoderNet : Fits it.

    Notes
    -----
    With the mean :math:`m` and the standard deviations :math:`s` of features, the axes :math:`V` of
    their correlation matrix as columns, and the standard deviations :math:`\sigma` along them, a
    row :math:`x` and its code :math:`z` are [1]_

    .. math:: z = \operatorname{diag}(\sigma)^{-1} V^\top \operatorname{diag}(s)^{-1} (x - m),
              \qquad \hat x = m + \operatorname{diag}(s) V \operatorname{diag}(\sigma) z .

    References
    ----------
    .. [1] I. T. Jolliffe, "Principal Component Analysis", 2nd ed., Springer, 2002.

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
        Latent coordinates, at most `n_features`. A float needs data, see `from_data`.
    width : int, default=64
        Units of the hidden layers.
    noise : float, default=0.1
        Standard deviation of the noise on codes while training, in latent standard deviations.

    Attributes
    ----------
    sizes : dict
        What `from_data` reads off the training rows, as arguments of the class, with which a saved
        autoencoder is rebuilt.

    See Also
    --------
    DensePCA : Its components alone, without a training.
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
    last = nn.Linear(width, n_out)
    # A residual that is zero until it is trained.
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(*hidden, last)
