"""An autoencoder of the rows of a table."""

from __future__ import annotations

from torch import Tensor, nn

from tsynd_sk.autoencoders._dense_pca import DensePCA

__all__ = ["DenseAutoencoder"]


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

    @classmethod
    def from_data(cls, X: Tensor, y=None, **params) -> DenseAutoencoder:
        """Build an autoencoder for rows and initialise it by their principal components.

        Parameters
        ----------
        X : Tensor of shape (n, n_features)
            Training rows.
        y : ignored
            Autoencoders need no labels.
        **params
            Parameters of the class. `n_components` may be a float, as in `DensePCA.from_data`.

        Returns
        -------
        DenseAutoencoder
            On the CPU, not trained yet.
        """
        return super().from_data(X, y, **params)

    def encode(self, x: Tensor) -> Tensor:
        """Encode rows as latent coordinates, in standard deviations.

        Parameters
        ----------
        x : Tensor of shape (n, n_features)
            Rows.

        Returns
        -------
        Tensor of shape (n, n_components)
            Codes.
        """
        x = (x - self.mean) / self.scale
        return self.whiten(self.project(x) + self.encoder_residual(x))

    def decode(self, z: Tensor) -> Tensor:
        """Decode latent coordinates to rows.

        Parameters
        ----------
        z : Tensor of shape (n, n_components)
            Codes, in standard deviations.

        Returns
        -------
        Tensor of shape (n, n_features)
            Rows.
        """
        return self.mean + self.scale * (self.expand(z) + self.decoder_residual(z))


def _dense(n_in: int, n_out: int, width: int) -> nn.Sequential:
    hidden = (nn.Linear(n_in, width), nn.GELU(), nn.Linear(width, width), nn.GELU())
    last = nn.Linear(width, n_out)
    # A residual that is zero until it is trained.
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(*hidden, last)
