"""Default classifiers: small networks, dropout placed late, defaults for 50 to 5000 images."""

from __future__ import annotations

from typing import Any

import torch
from skorch import NeuralNetClassifier
from torch import Tensor, nn
from torch.utils.data import DataLoader

from tsynd_sk._skorch import Schedule, SizedFromData, bare_module
from tsynd_sk._utils._batches import load
from tsynd_sk._utils._labels import n_classes_of
from tsynd_sk._utils._tensors import check_training_data, safe_scale

# Gradient steps of a training with max_epochs="auto", and its least number of epochs. Five arms of
# three seeds, 150 images of 64 pixels, then take less than ten minutes on two cores.
_N_STEPS, _LEAST_EPOCHS = 600, 10


class SizedClassifier(nn.Module):
    """Network that is sized by its training data."""

    _n_dims = 4
    _expected = (
        "expects images, (n, channels, height, width). For flat images give image_shape; for "
        "tables use DenseNet."
    )

    @classmethod
    def from_data(cls, X: Tensor, y, **params) -> Any:
        """Make a network for training data and their classes.

        Parameters
        ----------
        X : Tensor of shape (n, C, H, W) or (n, n_features)
            Images, or the rows of a table.
        y : array-like of shape (n,)
            Class indices.
        **params
            Parameters of the class.

        Returns
        -------
        Module
            Not trained yet.
        """
        X = check_training_data(X, cls._n_dims, f"{cls.__name__} {cls._expected}")
        shape = tuple(X.shape[1:])
        size = {"n_features": shape[0]} if cls._n_dims == 2 else {"image_shape": shape}
        net: Any = cls(**{**size, "n_classes": n_classes_of(y), **params})
        if hasattr(net, "_scale_by"):
            # It is about to learn the range of the data.
            net._scale_by(X)
        return net


class ConvNet(SizedClassifier):
    """Small convolutional classifier for images of 8 to 224 pixels; returns logits.

    At least three blocks of convolution, batch normalisation and ReLU halve the image to 4 pixels;
    their mean, and two dense layers behind dropout follow.

    Parameters
    ----------
    image_shape : tuple of int
        (n_channels, height, width).
    n_classes : int
        Number of classes.
    width : int, default=32
        Channels of the first block; they double from block to block, up to four times.
    dropout : float, default=0.3
        Probability of dropping a unit before each dense layer.

    See Also
    --------
    NetClassifier : Trains it.

    Examples
    --------
    >>> import torch
    >>> from tsynd_sk.classifiers import ConvNet
    >>> ConvNet((1, 28, 28), n_classes=3)(torch.rand(5, 1, 28, 28)).shape
    torch.Size([5, 3])
    """

    def __init__(self, image_shape, n_classes: int, *, width: int = 32, dropout: float = 0.3):
        super().__init__()
        # With these a saved net is rebuilt.
        image_shape = tuple(map(int, image_shape))
        self.sizes = {"image_shape": image_shape, "n_classes": n_classes}
        n_in, side = image_shape[0], max(image_shape[1:])
        layers: list[nn.Module] = []
        n_out = width
        while side > 4 or len(layers) < 3 * 3:
            layers += [nn.Conv2d(n_in, n_out, 3, padding=1, bias=False), nn.BatchNorm2d(n_out)]
            if side > 4:
                # Before the ReLU, which then has a quarter of the values and gives the same.
                layers.append(nn.MaxPool2d(2, ceil_mode=True))
                side = -(-side // 2)
            layers.append(nn.ReLU())
            n_in, n_out = n_out, min(2 * n_out, 4 * width)
        self.features = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(n_in, 2 * width),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(2 * width, n_classes),
        )
        # In this order processors convolve faster.
        self.to(memory_format=torch.channels_last)

    def forward(self, x: Tensor) -> Tensor:
        """Compute logits (n, n_classes) of images (n, C, H, W)."""
        return self.head(self.features(x))


class DenseNet(SizedClassifier):
    """Small dense classifier for tables; standardises its features and returns logits.

    Parameters
    ----------
    n_features, n_classes : int
        Numbers of features and classes.
    width : int, default=64
        Units of each of the two hidden layers.
    dropout : float, default=0.3
        Probability of dropping a hidden unit.

    See Also
    --------
    NetClassifier : Trains it: ``NetClassifier(DenseNet)``.

    Examples
    --------
    >>> import torch
    >>> from tsynd_sk.classifiers import DenseNet
    >>> DenseNet(n_features=4, n_classes=3)(torch.rand(5, 4)).shape
    torch.Size([5, 3])
    """

    _n_dims, _expected = 2, "expects (n, n_features)"
    mean: Tensor
    scale: Tensor

    def __init__(self, n_features: int, n_classes: int, *, width: int = 64, dropout: float = 0.3):
        super().__init__()
        self.sizes = {"n_features": n_features, "n_classes": n_classes}
        self.register_buffer("mean", torch.zeros(n_features))
        self.register_buffer("scale", torch.ones(n_features))
        self.layers = nn.Sequential(
            nn.Linear(n_features, width),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(width, width),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(width, n_classes),
        )

    def _scale_by(self, X: Tensor) -> None:
        self.mean.copy_(X.mean(0))
        self.scale.copy_(safe_scale(X, (0,)))

    def forward(self, x: Tensor) -> Tensor:
        """Compute logits (n, n_classes) of rows (n, n_features)."""
        return self.layers((x - self.mean) / self.scale)


class NetClassifier(SizedFromData, NeuralNetClassifier):
    """Default classifier as a skorch net: ``fit(X, y)`` sizes its module and trains it.

    Parameters
    ----------
    module : type or Module, default=ConvNet
        Returns logits. A class with a ``from_data`` classmethod is sized from the training data.
    criterion : type, default=torch.nn.CrossEntropyLoss
        Loss.
    optimizer : type, default=torch.optim.AdamW
        Optimiser.
    lr : float, default=2e-3
        Learning rate at the start; it falls to zero along a cosine.
    max_epochs : int or "auto", default="auto"
        Epochs. "auto": as many as make about 600 gradient steps, but at least ten.
    batch_size : int, default=16
        Images in a batch. A single one that is left in an epoch joins the batch before it.
    train_split : callable or None, default=None
        As in skorch; by default every image is trained on.
    verbose : int, default=0
        With 1, a line an epoch.
    **kwargs
        Other parameters of ``skorch.NeuralNetClassifier``. By default, training rows are shuffled,
        and a method ``param_groups(lr)`` of the module makes ``optimizer__param_groups``.

    Raises
    ------
    TypeError, ValueError
        In `fit`: if `X` is not float32, is empty, not finite or of another shape than `module`
        takes, or classes are not numbered from 0.

    See Also
    --------
    ConvNet : Module for images.
    DenseNet : Module for tables.
    Pretrained : Module with a network of torchvision, or of your own.
    tsynd_sk.comparison.make_network : Makes the net from the name of a network.

    Examples
    --------
    >>> import numpy as np
    >>> from tsynd_sk.classifiers import NetClassifier
    >>> X = np.random.default_rng(0).random((20, 1, 8, 8), dtype=np.float32)
    >>> NetClassifier(max_epochs=1).fit(X, np.arange(20) % 2).predict_proba(X).shape
    (20, 2)
    """

    max_epochs: Any

    def __init__(
        self,
        module=ConvNet,
        *,
        criterion=nn.CrossEntropyLoss,
        optimizer=torch.optim.AdamW,
        lr=2e-3,
        max_epochs="auto",
        batch_size=16,
        train_split=None,
        verbose=0,
        **kwargs,
    ):
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

    @property
    def _default_callbacks(self):
        return [*super()._default_callbacks, ("lr_scheduler", Schedule("CosineAnnealingLR"))]

    def n_epochs(self, n_rows: int) -> int:
        """Return the number of epochs of a training, also for "auto".

        Parameters
        ----------
        n_rows : int
            Training rows.

        Returns
        -------
        int
            Epochs.
        """
        if self.max_epochs != "auto":
            return self.max_epochs
        batch_size = self.batch_size if self.batch_size > 0 else n_rows
        return max(round(_N_STEPS / -(-n_rows // batch_size)), _LEAST_EPOCHS)

    def get_params_for(self, prefix):
        """Collect parameters, see skorch; rows are shuffled, and modules may have rates."""
        params = super().get_params_for(prefix)
        if prefix == "optimizer" and hasattr(self, "module_"):
            groups = getattr(bare_module(self), "param_groups", None)
            if groups is not None and "param_groups" not in params:
                params["param_groups"] = groups(params.get("lr", self.lr))
        # Loaders of the user's own need not know of it, nor does it go with a sampler.
        ordered = params.get("sampler") is not None or params.get("batch_sampler") is not None
        if prefix == "iterator_train" and self.iterator_train is DataLoader and not ordered:
            params.setdefault("shuffle", True)
        return params

    def get_iterator(self, dataset, training=False):
        """Make batches; for training none is of a single row, see skorch."""
        if not training or self.iterator_train is not DataLoader:
            return super().get_iterator(dataset, training)
        kwargs = {"batch_size": self.batch_size, **self.get_params_for("iterator_train")}
        if kwargs["batch_size"] == -1:
            kwargs["batch_size"] = len(dataset)
        return load(dataset, **kwargs)
