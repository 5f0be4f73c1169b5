"""Autoencoders that are good with few images: principal components first, then learned detail.

The linear part of both autoencoders is a principal component analysis in closed form, whitened,
so that one latent unit is one standard deviation. Around it lie convolutional (or dense)
residuals whose last layer starts at zero: training starts where the components end.
"""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral

import torch
from skorch import NeuralNet
from skorch.callbacks import EarlyStopping, LRScheduler
from skorch.dataset import ValidSplit, unpack_data
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import RandomSampler

from tsynd_sk._components import check_n_components, principal_components, safe_scale
from tsynd_sk._skorch import SizedFromData, bare_module

__all__ = ["AutoencoderNet", "DenseAutoencoder", "PatchAutoencoder", "encode"]


def encode(module: nn.Module, x: Tensor) -> Tensor:
    """Code of images, whatever the encoder returns.

    Parameters
    ----------
    module : Module
        With an ``encode`` method that returns codes, a tuple that starts with them (as the
        (mean, log-variance) of many variational autoencoders), a `torch.distributions`
        distribution, or an object with ``mean``, ``latent_dist`` or ``latents``. Of a
        distribution, the mean is the code.
    x : Tensor of shape (n, ...)
        Images.

    Returns
    -------
    Tensor of shape (n, ...)

    Raises
    ------
    TypeError
        If no tensor can be found in what ``encode`` returns.
    """
    code = module.encode(x)
    for _ in range(3):
        if isinstance(code, Tensor):
            return code
        if isinstance(code, tuple | list) and len(code):
            code = code[0]
            continue
        for attribute in ("mean", "latent_dist", "latents"):
            if hasattr(code, attribute):
                code = getattr(code, attribute)
                break
    raise TypeError(
        f"{type(module).__name__}.encode returned {type(code).__name__}; expected a tensor, a "
        "distribution with a mean, or a tuple that starts with one of them"
    )


class _Block(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(F.gelu(self.first(F.gelu(x))))


def _convolutions(n_in: int, n_out: int, width: int, depth: int) -> nn.Sequential:
    last = nn.Conv2d(width, n_out, 1)
    blocks = [_Block(width) for _ in range(depth)]
    return _silent_at_first(nn.Conv2d(n_in, width, 3, padding=1), *blocks, nn.GELU(), last)


def _silent_at_first(*layers: nn.Module) -> nn.Sequential:
    nn.init.zeros_(layers[-1].weight)
    nn.init.zeros_(layers[-1].bias)
    return nn.Sequential(*layers)


def _noisy(z: Tensor, noise: float) -> Tensor:
    # Codes near those of real images must decode well, for that is where the ascent goes.
    return z + noise * torch.randn_like(z) if noise > 0 else z


class PatchAutoencoder(nn.Module):
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
        super().__init__()
        check_n_components(n_components)
        if not isinstance(n_components, Integral):
            raise ValueError(
                f"n_components={n_components!r}, a fraction of variance, needs data: use "
                "PatchAutoencoder.from_data, or AutoencoderNet, which calls it"
            )
        channels, self.height, self.width = image_shape
        self.patch_size = patch_size or _default_patch_size(max(self.height, self.width))
        self.noise = noise
        n_values = channels * self.patch_size**2
        self.n_components = min(int(n_components), n_values)
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("scale", torch.ones(()))
        self.project = nn.Conv2d(n_values, self.n_components, 1)
        self.expand = nn.Conv2d(self.n_components, n_values, 1)
        self.encoder_residual = _convolutions(n_values, self.n_components, width, 1)
        self.decoder_residual = _convolutions(self.n_components, n_values, width, depth)
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
        **params
            Parameters of the class. `n_components` may be a float between 0 and 1: as many
            components as explain that fraction of the patches' variance; its default is 0.95.

        Returns
        -------
        PatchAutoencoder
        """
        if X.ndim != 4:
            raise ValueError(f"X has shape {tuple(X.shape)}; expected (n, channels, height, width)")
        n_components = params.pop("n_components", 0.95)
        check_n_components(n_components)
        params.setdefault("image_shape", tuple(X.shape[1:]))
        side = max(params["image_shape"][1:])
        patch_size = params.pop("patch_size", None) or _default_patch_size(side)
        patches = F.pixel_unshuffle(_padded(X.float(), patch_size), patch_size)
        mean, axes, scale = principal_components(patches.movedim(1, -1).flatten(0, 2), n_components)
        autoencoder = cls(patch_size=patch_size, n_components=len(axes), **params)
        with torch.no_grad():
            autoencoder.mean.copy_(X.mean())
            autoencoder.scale.copy_(safe_scale(X.float()))
            weight = axes / scale[:, None]
            autoencoder.project.weight.copy_(weight[:, :, None, None])
            autoencoder.project.bias.copy_(-weight @ mean)
            autoencoder.expand.weight.copy_((axes * scale[:, None]).T[:, :, None, None])
            autoencoder.expand.bias.copy_(mean)
        return autoencoder

    def encode(self, x: Tensor) -> Tensor:
        """Encode images (n, C, H, W) as (n, n_components, h, w), in standard deviations."""
        patches = F.pixel_unshuffle(_padded(x, self.patch_size), self.patch_size)
        detail = self.encoder_residual((patches - self.mean) / self.scale)
        return self.whiten(self.project(patches) + detail)

    def decode(self, z: Tensor) -> Tensor:
        """Decode codes (n, n_components, h, w) to images (n, C, H, W)."""
        patches = self.expand(z) + self.scale * self.decoder_residual(z)
        images = F.pixel_shuffle(patches, self.patch_size)
        return images[..., : self.height, : self.width]

    def forward(self, x: Tensor) -> Tensor:
        """Reconstruct images, through noise on their codes while training."""
        z = self.encode(x)
        return self.decode(_noisy(z, self.noise) if self.training else z)

    def augment(self, x: Tensor) -> Tensor:
        """Mirror and shift a batch while training, which multiplies the patches to learn from."""
        if torch.rand(()) < 0.5:
            x = x.flip(-1)
        if torch.rand(()) < 0.25:
            height, width = x.shape[-2:]
            margin = self.patch_size // 2
            top, left = torch.randint(2 * margin + 1, (2,)).tolist()
            padded = F.pad(x, (margin, margin, margin, margin), mode="replicate")
            x = padded[..., top : top + height, left : left + width]
        return x


def _default_patch_size(side: int) -> int:
    return 4 if side <= 48 else 8 if side <= 96 else 16


def _padded(x: Tensor, patch_size: int) -> Tensor:
    bottom, right = -x.shape[-2] % patch_size, -x.shape[-1] % patch_size
    return F.pad(x, (0, right, 0, bottom), mode="replicate") if bottom or right else x


class DenseAutoencoder(nn.Module):
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
        super().__init__()
        check_n_components(n_components)
        if not isinstance(n_components, Integral):
            raise ValueError(
                f"n_components={n_components!r}, a fraction of variance, needs data: use "
                "DenseAutoencoder.from_data, or AutoencoderNet, which calls it"
            )
        self.noise = noise
        self.n_components = min(int(n_components), n_features)
        self.register_buffer("mean", torch.zeros(n_features))
        self.register_buffer("scale", torch.ones(n_features))
        self.project = nn.Linear(n_features, self.n_components)
        self.expand = nn.Linear(self.n_components, n_features)
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
        **params
            Parameters of the class. `n_components` may be a float between 0 and 1: as many
            components as explain that fraction of the standardised features' variance; its
            default is 0.95.

        Returns
        -------
        DenseAutoencoder
        """
        if X.ndim != 2:
            raise ValueError(f"X has shape {tuple(X.shape)}; expected (n, n_features)")
        n_components = params.pop("n_components", 0.95)
        check_n_components(n_components)
        params.setdefault("n_features", X.shape[1])
        X = X.float()
        mean, scale = X.mean(0), safe_scale(X, (0,))
        offset, axes, spread = principal_components((X - mean) / scale, n_components)
        autoencoder = cls(n_components=len(axes), **params)
        with torch.no_grad():
            autoencoder.mean.copy_(mean)
            autoencoder.scale.copy_(scale)
            weight = axes / spread[:, None]
            autoencoder.project.weight.copy_(weight)
            autoencoder.project.bias.copy_(-weight @ offset)
            autoencoder.expand.weight.copy_((axes * spread[:, None]).T)
            autoencoder.expand.bias.copy_(offset)
        return autoencoder

    def encode(self, x: Tensor) -> Tensor:
        """Encode rows (n, n_features) as (n, n_components), in standard deviations."""
        x = (x - self.mean) / self.scale
        return self.whiten(self.project(x) + self.encoder_residual(x))

    def decode(self, z: Tensor) -> Tensor:
        """Decode codes (n, n_components) to rows (n, n_features)."""
        return self.mean + self.scale * (self.expand(z) + self.decoder_residual(z))

    def forward(self, x: Tensor) -> Tensor:
        """Reconstruct rows, through noise on their codes while training."""
        z = self.encode(x)
        return self.decode(_noisy(z, self.noise) if self.training else z)


def _dense(n_in: int, n_out: int, width: int) -> nn.Sequential:
    last = nn.Linear(width, n_out)
    return _silent_at_first(
        nn.Linear(n_in, width), nn.GELU(), nn.Linear(width, width), nn.GELU(), last
    )


def holdout(dataset, y=None, **fit_params):
    """Hold out a tenth of the images to stop early; of fewer than 20, none can be spared."""
    if len(dataset) < 20:
        return dataset, dataset
    return ValidSplit(0.1, random_state=0)(dataset, **fit_params)


class AutoencoderNet(SizedFromData, NeuralNet):
    """Autoencoder as a skorch net: ``fit(X)`` sizes, initialises and trains its module.

    An epoch is a fixed number of images, drawn with replacement, so that the same defaults serve
    fifty images and five thousand. Training stops early when a held-out tenth is no longer
    reconstructed better, and the best epoch is kept.

    Parameters
    ----------
    module : type or Module, default=PatchAutoencoder
        With ``encode`` and ``decode``. A class with a ``from_data`` classmethod is built from the
        training data; ``module__`` parameters are passed on to it.
    criterion : type, default=torch.nn.MSELoss
        Loss between reconstruction and image.
    optimizer : type, default=torch.optim.AdamW
        Its weight decay is 1e-4 unless ``optimizer__weight_decay`` is given.
    lr : float, default=2e-3
        Learning rate at the start; it falls to zero along a cosine.
    max_epochs : int, default=60
        Epochs at most.
    epoch_size : int, default=1600
        Images in an epoch.
    batch_size : int, default=64
        Images in a batch.
    train_split : callable or None, default=holdout
        As in skorch.
    verbose : int, default=0
        With 1, a line an epoch.
    **kwargs
        Other parameters of ``skorch.NeuralNet``.

    Examples
    --------
    >>> import numpy as np
    >>> from tsynd_sk.autoencoders import AutoencoderNet, PatchAutoencoder
    >>> X = np.random.default_rng(0).random((40, 1, 8, 8), dtype=np.float32)
    >>> net = AutoencoderNet(PatchAutoencoder, module__n_components=3, max_epochs=1)
    >>> net.fit(X).predict(X).shape
    (40, 1, 8, 8)
    """

    def __init__(
        self,
        module=PatchAutoencoder,
        *,
        criterion=nn.MSELoss,
        optimizer=torch.optim.AdamW,
        lr=2e-3,
        max_epochs=60,
        epoch_size=1600,
        batch_size=64,
        train_split=holdout,
        verbose=0,
        **kwargs,
    ):
        kwargs.setdefault("optimizer__weight_decay", 1e-4)
        super().__init__(
            module,
            criterion=criterion,
            optimizer=optimizer,
            lr=lr,
            max_epochs=max_epochs,
            batch_size=batch_size,
            train_split=train_split,
            verbose=verbose,
            **kwargs,
        )
        self.epoch_size = epoch_size

    @property
    def _default_callbacks(self):
        monitor = "valid_loss" if self.train_split else "train_loss"
        return [
            *super()._default_callbacks,
            ("lr_scheduler", LRScheduler("CosineAnnealingLR", T_max=self.max_epochs)),
            ("early_stopping", EarlyStopping(monitor, patience=20, load_best=True)),
        ]

    def get_iterator(self, dataset, training=False):
        """Draw `epoch_size` images with replacement for training; see skorch."""
        if not training:
            return super().get_iterator(dataset)
        kwargs = {"batch_size": self.batch_size, **self.get_params_for("iterator_train")}
        kwargs.pop("shuffle", None)
        # The standardisation of codes cannot learn from a last batch of a single row.
        single = self.epoch_size > 1 and self.epoch_size % kwargs["batch_size"] == 1
        kwargs.setdefault("drop_last", single)
        sampler = RandomSampler(dataset, replacement=True, num_samples=self.epoch_size)
        return self.iterator_train(dataset, sampler=sampler, **kwargs)

    def train_step(self, batch, **fit_params):
        """Train on a batch as its own target, augmented if the module knows how."""
        x = unpack_data(batch)[0]
        augment = getattr(bare_module(self), "augment", None)
        x = x if augment is None else augment(x)
        return super().train_step((x, x), **fit_params)

    def validation_step(self, batch, **fit_params):
        """Validate on a batch as its own target."""
        x = unpack_data(batch)[0]
        return super().validation_step((x, x), **fit_params)
