"""The skorch net that trains autoencoders, and what codes are, whatever an encoder returns."""

from __future__ import annotations

from typing import Any

import torch
from skorch.callbacks import EarlyStopping
from skorch.dataset import ValidSplit, unpack_data
from torch import Tensor, nn
from torch.utils.data import DataLoader, RandomSampler

from tsynd_sk._skorch import Schedule, SizedFromData, bare_module
from tsynd_sk._utils._batches import load
from tsynd_sk.autoencoders._patch import PatchAutoencoder


def encode(module: Any, x: Tensor) -> Tensor:
    """Code of images, whatever the encoder returns.

    Parameters
    ----------
    module : Module
        Its ``encode`` returns codes, a tuple that starts with them, a distribution of
        `torch.distributions`, whose mean is the code, or an object with ``mean``, ``latent_dist``
        or ``latents``.
    x : Tensor of shape (n, ...)
        Images.

    Returns
    -------
    Tensor of shape (n, ...)
        Codes.

    Raises
    ------
    TypeError
        If no tensor can be found in what ``encode`` returns.

    Examples
    --------
    >>> import torch
    >>> from tsynd_sk.autoencoders import encode
    >>> class Variational(torch.nn.Module):
    ...     def encode(self, x):
    ...         return torch.distributions.Normal(x.mean((2, 3)), 1.0)
    >>> encode(Variational(), torch.ones(5, 3, 8, 8)).shape
    torch.Size([5, 3])
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
        "distribution with a mean, or a tuple that starts with one"
    )


def holdout(dataset, y=None, **fit_params):
    """Hold out a tenth of the images to stop early; of fewer than 20, none can be spared."""
    if len(dataset) < 20:
        return dataset, dataset
    return ValidSplit(0.1, random_state=0)(dataset, **fit_params)


class AutoencoderNet(SizedFromData):
    """Autoencoder as a skorch net: ``fit(X)`` sizes, initialises and trains its module.

    Training stops early when a held-out tenth is no longer reconstructed better, and keeps the best
    epoch.

    Parameters
    ----------
    module : type or Module, default=PatchAutoencoder
        With ``encode`` and ``decode``. A class with a ``from_data`` classmethod is built by it from
        the training data and ``module__`` parameters.
    criterion : type, default=torch.nn.MSELoss
        Loss between reconstruction and image.
    optimizer : type, default=torch.optim.AdamW
        Its default weight decay is 1e-4.
    lr : float, default=2e-3
        Learning rate at the start; it falls to zero along a cosine.
    max_epochs : int, default=60
        Epochs at most; 0 is enough for `PatchPCA` and `DensePCA`, which ``from_data`` solves.
    epoch_size : int, default=1600
        Images in an epoch, drawn with replacement.
    batch_size : int, default=64
        Images in a batch.
    train_split : callable or None, default=holdout
        As in skorch.
    verbose : int, default=0
        With 1, a line an epoch.
    **kwargs
        Other parameters of ``skorch.NeuralNet``.

    Raises
    ------
    TypeError, ValueError
        In `fit`: if `X` is not float32, is empty, not finite or of another shape than `module`
        takes.

    See Also
    --------
    PatchPCA : Module for images in closed form.
    PatchAutoencoder : Module for images.
    DensePCA : Module for tables in closed form.
    DenseAutoencoder : Module for tables.

    Examples
    --------
    >>> import numpy as np
    >>> from tsynd_sk.autoencoders import AutoencoderNet, PatchPCA
    >>> X = np.random.default_rng(0).random((40, 1, 8, 8), dtype=np.float32)
    >>> AutoencoderNet(PatchPCA, max_epochs=0).fit(X).predict(X).shape
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
        if self.max_epochs == 0:
            # A schedule without epochs, and a best one among none, do not exist.
            return super()._default_callbacks
        monitor = "valid_loss" if self.train_split else "train_loss"
        return [
            *super()._default_callbacks,
            ("lr_scheduler", Schedule("CosineAnnealingLR")),
            ("early_stopping", EarlyStopping(monitor, patience=20, load_best=True)),
        ]

    def get_iterator(self, dataset, training=False):
        """Draw `epoch_size` images with replacement for training; see skorch."""
        if not training:
            return super().get_iterator(dataset)
        kwargs = {"batch_size": self.batch_size, **self.get_params_for("iterator_train")}
        kwargs.pop("shuffle", None)
        kwargs["sampler"] = RandomSampler(dataset, replacement=True, num_samples=self.epoch_size)
        iterator = load if self.iterator_train is DataLoader else self.iterator_train
        return iterator(dataset, **kwargs)

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
