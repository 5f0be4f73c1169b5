"""A fitted classifier as a differentiable function of images."""

from __future__ import annotations

import math
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
from tsynd_sk.images import array_of_images, check_images
from tsynd_sk.synthesis import AugmentedClassifier, TargetedSynthesizer


@dataclass(frozen=True)
class DifferentiableClassifier:
    """A private copy of a network, from whose predictions gradients reach images."""

    # The user's, fitted.
    net: NeuralNet
    # Its copy in evaluation mode, which returns log-probabilities.
    network: InferenceCopy
    # Images as the network sees them, which may be flat or without an axis of channels.
    x: Tensor
    # (C, H, W).
    image_shape: tuple[int, int, int]
    # Range of the values that the network sees.
    limits: tuple[float, float]
    # Labels of the columns.
    classes: np.ndarray

    @classmethod
    def from_net(
        cls,
        net: NeuralNet,
        x: np.ndarray,
        image_shape: tuple[int, int, int],
        limits: tuple[float, float],
        classes: np.ndarray | None = None,
    ) -> DifferentiableClassifier:
        """Copy the network of a fitted skorch net.

        Labels are indices of classes if `classes` is None or holds another number of them. Raise
        ValueError if the network would not see what the net does.
        """
        _skorch.check_own_way(net, x)
        network = InferenceCopy(_skorch.network_of(net), _skorch.log_proba_head(net))
        images = torch.from_numpy(x)
        first = images[:2].to(_skorch.device_of(net))
        network.prepare(first)
        with torch.no_grad():
            log_proba = network(first)
        if log_proba.ndim != 2 or log_proba.shape[1] < 2 or len(log_proba) != len(first):
            raise ValueError(
                f"{type(net).__name__} predicts log-probabilities of shape "
                f"{tuple(log_proba.shape)} for {len(first)} images; expected (n, n_classes) with "
                "two classes at least"
            )
        if log_proba.isnan().any():
            raise ValueError(
                f"{type(net).__name__} predicts NaN, because its training diverged: train it "
                "again with a lower lr, or on images scaled to values between 0 and 1"
            )
        n_classes = log_proba.shape[1]
        if classes is None or len(classes) != n_classes:
            classes = np.arange(n_classes)
        return cls(net, network, images, image_shape, limits, np.asarray(classes))

    @classmethod
    def from_estimator(
        cls, estimator: Any, X: ArrayLike, name: str = "estimator"
    ) -> DifferentiableClassifier:
        """Copy the network of a fitted classifier, and bring images to what it sees.

        A bare skorch net sees floats as they are.
        """
        given = check_differentiable(estimator, name)
        if isinstance(given, AugmentedClassifier):
            images = np.asarray(check_images(given, X, reset=False))
            x, limits = given.format_.to_tensor(images).numpy(), (0.0, 1.0)
            if images.dtype != np.uint8 and not given.format_.pixels:
                fitted = given.value_range_
                limits = (
                    min(float(fitted.low), float(x.min())),
                    max(float(fitted.high), float(x.max())),
                )
            return cls.from_net(given.estimator_, x, given.image_shape_, limits, given.classes_)
        images = array_of_images(X, name=type(given).__name__)
        if images.dtype.kind != "f":
            raise ValueError(
                f"X has dtype {images.dtype}, but a skorch net takes X as it is: give the floats "
                "that it was fitted on, for instance X.astype('float32') / 255"
            )
        x = np.ascontiguousarray(images, dtype=np.float32)
        return cls.from_net(given, x, _image_shape(given, x), (float(x.min()), float(x.max())))

    def __call__(self, x: Tensor) -> Tensor:
        """Return log-probabilities (n, n_classes), where the images are."""
        return self.network(x.to(_skorch.device_of(self.net))).to(x.device)

    def log_proba(self, x: Tensor | None = None) -> np.ndarray:
        """Predict log-probabilities (n, n_classes), by default of the images that it has."""
        with torch.no_grad():
            return self(self.x if x is None else x).numpy()


def check_differentiable(estimator: Any, name: str) -> Any:
    """Return a fitted classifier without what froze it, if it has gradients and sees images."""
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
            else "the best_estimator_ of a search, or the last step of a pipeline with X as that "
            "step sees it"
        )
        raise TypeError(
            f"{name} must be a fitted AugmentedClassifier or skorch classifier, which has "
            f"gradients; got {type_name(estimator)}. Give {hint}."
        )
    _skorch.check_classifier(given, name)
    check_is_fitted(given, "module_")
    return given


def _image_shape(net: NeuralNet, x: np.ndarray) -> tuple[int, int, int]:
    row = x.shape[1:] if x.ndim > 2 else tuple(getattr(net, "image_shape_", ()))
    shape = (1, *row) if len(row) == 2 else row
    if len(shape) != 3 or math.prod(shape) != math.prod(x.shape[1:]):
        raise ValueError(
            f"X has shape {x.shape}; expected (n, n_channels, height, width) or (n, height, width) "
            "for a skorch net. If it takes flat images, set its attribute image_shape_ to "
            "(n_channels, height, width)."
        )
    return shape
