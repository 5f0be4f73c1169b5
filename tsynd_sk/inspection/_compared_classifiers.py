"""Several fitted classifiers, and images that all of them see."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils.validation import check_consistent_length
from torch import Tensor

from tsynd_sk._utils._labels import encode_labels, labels_of
from tsynd_sk.evaluation import DifferentiableClassifier, check_differentiable
from tsynd_sk.images import ImageFormat, array_of_images
from tsynd_sk.inspection._drawing import as_displayed
from tsynd_sk.inspection._sources import estimators_by_name
from tsynd_sk.synthesis import AugmentedClassifier

# More columns than that make no picture.
_MAX_IMAGES = 32


@dataclass(frozen=True)
class ComparedClassifiers:
    """Fitted classifiers by name, and images that all of them see, as matplotlib shows them."""

    by_name: dict[str, DifferentiableClassifier]
    images: np.ndarray
    # (C, H, W).
    image_shape: tuple[int, int, int]

    @classmethod
    def from_estimator(cls, estimator: Any, X: ArrayLike, display: str) -> ComparedClassifiers:
        """Copy the networks of one or more classifiers; `display` is who asks, for messages."""
        given = {
            name: check_differentiable(one, f"estimator {name!r}")
            for name, one in estimators_by_name(estimator).items()
        }
        images = array_of_images(X, name=display)
        if len(images) > _MAX_IMAGES:
            raise ValueError(
                f"X has {len(images)} images, and {display} draws a column for each: pass at most "
                f"{_MAX_IMAGES}, for instance X[:8]"
            )
        augmented = [one for one in given.values() if isinstance(one, AugmentedClassifier)]
        # What was fitted on these images knows their layout and their labels; a bare net does not.
        image_format = augmented[0].format_ if augmented else _infer_format(given, images)
        classes = augmented[0].classes_ if augmented else None
        by_name = {
            name: DifferentiableClassifier.from_estimator(one, images)
            if isinstance(one, AugmentedClassifier)
            else _from_bare_net(one, images, image_format, classes)
            for name, one in given.items()
        }
        image_shape = next(iter(by_name.values())).image_shape
        return cls(by_name, as_displayed(images, image_format), image_shape)

    @property
    def limits(self) -> tuple[float, float]:
        """Range of values of what the networks see, the same for all of them."""
        lows, highs = zip(*(one.limits for one in self.by_name.values()), strict=True)
        return min(lows), max(highs)

    @property
    def displayed_limits(self) -> tuple[float, float]:
        """The same on the scale of the images."""
        low, high = self.limits
        return low * self._scale, high * self._scale

    @property
    def _scale(self) -> float:
        return 255.0 if self.images.dtype == np.uint8 else 1.0

    def displayed(self, x: Tensor) -> np.ndarray:
        """Bring what a network sees to the layout and the scale of the images, as floats."""
        channels_first = x.detach().double().reshape(len(x), *self.image_shape)
        shown = channels_first.permute(0, 2, 3, 1).numpy() * self._scale
        return shown.reshape(self.images.shape)

    def encode(self, y: Any) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Return labels as an array, and the column of each for every classifier."""
        labels = labels_of(y)
        check_consistent_length(self.images, labels)
        return labels, {n: encode_labels(labels, one.classes) for n, one in self.by_name.items()}


def _infer_format(nets: dict[str, Any], images: np.ndarray) -> ImageFormat:
    shapes = [net.image_shape_ for net in nets.values() if hasattr(net, "image_shape_")]
    image_format = ImageFormat.infer(images, shapes[0] if shapes else None)
    if image_format.image_shape is None:
        raise ValueError(
            f"X has shape {images.shape}; expected images, (n, H, W), (n, H, W, C) or (n, C, H, "
            "W). For a skorch net that sees flat images, set its attribute image_shape_ to "
            "(n_channels, height, width)."
        )
    return image_format


def _from_bare_net(
    net: Any, images: np.ndarray, image_format: ImageFormat, classes: np.ndarray | None
) -> DifferentiableClassifier:
    assert image_format.image_shape is not None
    x = image_format.to_tensor(images).numpy()
    limits = (0.0, 1.0) if images.dtype == np.uint8 else (float(x.min()), float(x.max()))
    if images.ndim == 2 and hasattr(net, "image_shape_"):
        x = x.reshape(len(x), -1)
    about = image_format.image_shape, limits, classes
    try:
        return DifferentiableClassifier.from_net(net, x, *about)
    except (RuntimeError, ValueError, IndexError):
        if image_format.layout != "hw":
            raise
        # Nets of tsynd_sk see an axis of channels. Others may see grey images without one.
        return DifferentiableClassifier.from_net(net, x[:, 0], *about)
