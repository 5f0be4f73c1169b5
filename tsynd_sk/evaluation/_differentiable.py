"""A fitted classifier as a differentiable function of images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.utils.validation import check_is_fitted
from skorch import NeuralNet
from torch import Tensor

from tsynd_sk import _skorch
from tsynd_sk._utils._inference import InferenceCopy
from tsynd_sk._utils._validation import type_name
from tsynd_sk.images import ImageFormat, array_of_images, check_images
from tsynd_sk.synthesis import AugmentedClassifier, TargetedSynthesizer


@dataclass(frozen=True)
class DifferentiableClassifier:
    """A private copy of a network, from whose predictions gradients reach images."""

    # The user's, and its copy in evaluation mode, which returns log-probabilities.
    net: NeuralNet
    network: InferenceCopy
    # Images as the network sees them, which may be flat or without an axis of channels.
    x: Tensor
    image_format: ImageFormat
    # Range of the values that the network sees.
    limits: tuple[float, float]
    # Labels of the columns.
    classes: np.ndarray

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: ArrayLike,
        name: str = "estimator",
        like: DifferentiableClassifier | None = None,
    ) -> DifferentiableClassifier:
        """Copy the network of a fitted classifier, and bring images to what it sees.

        A bare skorch net gets the layout and, if it has as many classes, the labels of `like`;
        otherwise labels are indices.
        """
        given = _check_differentiable(estimator, name)
        augmented = isinstance(given, AugmentedClassifier)
        if augmented:
            images = np.asarray(check_images(given, X, reset=False))
            net, image_format, classes = given.estimator_, given.format_, given.classes_
        else:
            images = array_of_images(X, name=type(given).__name__)
            net, classes = given, like and like.classes
            image_format = like.image_format if like else _format_for(net, images)
        x, limits = image_format.to_tensor(images), (0.0, 1.0)
        # Of pixels in a wider type, the range is that of pixels too.
        wider = image_format.divisor == 255 and image_format.dtype != np.uint8
        if images.dtype != np.uint8 and not wider:
            limits = float(x.min()), float(x.max())
            if augmented:
                fitted = given.value_range_
                limits = min(limits[0], float(fitted.low)), max(limits[1], float(fitted.high))
        if not augmented and images.ndim == 2 and hasattr(net, "image_shape_"):
            x = x.flatten(1)

        try:
            network, n_classes = _copy_network(net, x)
        except (RuntimeError, ValueError, IndexError):
            if augmented or image_format.layout != "hw":
                raise
            # Nets of tsynd_sk see an axis of channels. Others may see grey images without one.
            x = x[:, 0]
            network, n_classes = _copy_network(net, x)
        if np.size(classes) != n_classes:
            classes = np.arange(n_classes)
        return cls(net, network, x, image_format, limits, np.asarray(classes))

    def __call__(self, x: Tensor) -> Tensor:
        """Return log-probabilities (n, n_classes), where the images are."""
        return self.network(x.to(_skorch.device_of(self.net))).to(x.device)

    def log_proba(self, x: Tensor | None = None) -> np.ndarray:
        """Predict log-probabilities, by default of the images that it has."""
        with torch.no_grad():
            return self(self.x if x is None else x).numpy()


def _copy_network(net: NeuralNet, x: Tensor) -> tuple[InferenceCopy, int]:
    """Return a copy and its number of classes, if it predicts what the net does."""
    _skorch.check_own_way(net, x.numpy())
    network = InferenceCopy(_skorch.network_of(net), _skorch.log_proba_head(net))
    first = x[:2].to(_skorch.device_of(net))
    network.prepare(first)
    with torch.no_grad():
        log_proba = network(first)
    if log_proba.ndim != 2 or log_proba.shape[1] < 2 or len(log_proba) != len(first):
        raise ValueError(
            f"{type(net).__name__} predicts log-probabilities of shape {tuple(log_proba.shape)} "
            f"for {len(first)} images; expected (n, n_classes) with two classes at least"
        )
    if log_proba.isnan().any():
        raise ValueError(
            f"{type(net).__name__} predicts NaN: train it again with a lower lr, or on images "
            "scaled to values between 0 and 1"
        )
    return network, log_proba.shape[1]


def _check_differentiable(estimator: Any, name: str) -> Any:
    given = _skorch.unfreeze(estimator)
    if isinstance(given, AugmentedClassifier):
        check_is_fitted(given, "estimator_")
        if given.image_shape_ is None:
            raise ValueError(
                f"{name} was fitted on a table, not on images. If its rows are flat images, "
                "give its synthesizer image_shape=(n_channels, height, width)."
            )
        return given
    if not isinstance(given, NeuralNet):
        hint = (
            "its classifier_"
            if isinstance(given, TargetedSynthesizer)
            else "the best_estimator_ of a search, or the last step of a pipeline and its input"
        )
        raise TypeError(
            f"{name} must be a fitted AugmentedClassifier or skorch classifier, which has "
            f"gradients; got {type_name(estimator)}. Give {hint}."
        )
    _skorch.check_net(given, name)
    check_is_fitted(given, "module_")
    return given


def _format_for(net: NeuralNet, images: np.ndarray) -> ImageFormat:
    image_format = ImageFormat.infer(images, getattr(net, "image_shape_", None))
    if image_format.image_shape is None:
        raise ValueError(
            f"X has shape {images.shape}; expected images, (n, H, W), (n, H, W, C) or (n, C, H, "
            "W). Of a skorch net that sees flat images, set its attribute image_shape_, (C, H, W)."
        )
    if images.dtype.kind in "iu" and images.dtype != np.uint8:
        raise ValueError(
            f"X has dtype {images.dtype}: give floats as in fit, for instance "
            "X.astype('float32') / 255, or uint8, which is divided by 255"
        )
    return image_format
