"""Several fitted classifiers, and images that all of them see."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor

from tsynd_sk import _skorch
from tsynd_sk.evaluation import DifferentiableClassifier, labels_of_images
from tsynd_sk.images import array_of_images
from tsynd_sk.inspection._drawing import as_displayed

# More columns than that make no picture.
_MAX_IMAGES = 32


def estimators_by_name(estimator: Any) -> Mapping[str, Any]:
    """Return a mapping from names to estimators as it is, and call a single one by its class."""
    if isinstance(estimator, Mapping):
        return estimator
    return {type(_skorch.unfreeze(estimator)).__name__: estimator}


@dataclass(frozen=True)
class ComparedClassifiers:
    """Fitted classifiers by name, and images that all of them see, as matplotlib shows them."""

    by_name: dict[str, DifferentiableClassifier]
    images: np.ndarray

    @classmethod
    def from_estimator(cls, estimator: Any, X: ArrayLike, display: str) -> ComparedClassifiers:
        """Copy the networks of one or more classifiers; `display` is who asks, for messages."""
        given = estimators_by_name(estimator)
        images = array_of_images(X, name=display)
        if len(images) > _MAX_IMAGES:
            raise ValueError(
                f"X has {len(images)} images, and {display} draws a column for each: pass at most "
                f"{_MAX_IMAGES}, for instance X[:8]"
            )
        copies: dict[str, DifferentiableClassifier] = {}
        # What was fitted on these images knows their layout and their labels; a bare net does not,
        # but may know the shape of flat ones.
        first = None
        for name in sorted(
            given, key=lambda n: [not hasattr(given[n], at) for at in ("format_", "image_shape_")]
        ):
            copies[name] = DifferentiableClassifier.from_estimator(
                given[name], images, f"estimator {name!r}", like=first
            )
            first = first or copies[name]
        by_name = {name: copies[name] for name in given}
        return cls(by_name, as_displayed(images, next(iter(by_name.values())).image_format))

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
        height, width = self.images.shape[1:3]
        shown = x.detach().double().reshape(len(x), -1, height, width).permute(0, 2, 3, 1)
        return (shown.numpy() * self._scale).reshape(self.images.shape)

    def encode(self, y: Any) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Return labels as an array, and the column of each for every classifier."""
        found = {n: labels_of_images(y, self.images, c.classes) for n, c in self.by_name.items()}
        return next(iter(found.values()))[0], {name: codes for name, (_, codes) in found.items()}
