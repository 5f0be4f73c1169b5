"""What evaluations and displays get: names, labels, fitted synthesizers and their samples."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import numpy as np
from sklearn.utils import Bunch
from sklearn.utils.validation import check_consistent_length, check_is_fitted

from tsynd_sk._utils._labels import encode_labels, labels_of
from tsynd_sk._utils._validation import type_name
from tsynd_sk.images import check_images
from tsynd_sk.synthesis import AugmentedClassifier, TargetedSynthesizer


def names_among(known: Collection[str], given: str | Iterable[str], what: str) -> list[str]:
    """Return one or more names as a list without repeats, or raise."""
    names = list(dict.fromkeys([given] if isinstance(given, str) else given))
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"Unknown {what} {unknown[0]!r}; known: {', '.join(known)}")
    return names


def labels_of_images(y: Any, X: Any, classes: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return a label for each row of `X`, and its column among the classes, or raise."""
    labels = labels_of(y)
    check_consistent_length(X, labels)
    return labels, encode_labels(labels, classes)


def fitted_synthesizer(estimator: Any) -> Any:
    """Return the fitted synthesizer that an estimator is or has, or raise."""
    if not isinstance(estimator, TargetedSynthesizer | AugmentedClassifier):
        raise TypeError(
            "expected a fitted TargetedSynthesizer or AugmentedClassifier, got "
            f"{type_name(estimator)}"
        )
    check_is_fitted(estimator)
    return getattr(estimator, "synthesizer_", estimator)


def sample_beside_sources(
    synthesizer: Any,
    X: Any,
    n_samples: int | None = None,
    *,
    y: Any = None,
    random_state: Any = None,
) -> tuple[Any, np.ndarray, np.ndarray, Bunch]:
    """Return `X`, of which a synthesizer was fitted, as an array, and what ``sample`` returns.

    ``None`` samples as many, 1,000 at most.
    """
    images = check_images(synthesizer, X, reset=False)
    n_samples = min(len(images), 1000) if n_samples is None else n_samples
    X_new, y_new, info = synthesizer.sample(
        n_samples, y=y, random_state=random_state, return_info=True
    )
    if info.source_index.max() >= len(images):
        raise ValueError(
            f"X has {len(images)} images, but row {info.source_index.max()} is the source of a "
            "synthetic one: pass the whole X of fit"
        )
    return images, X_new, y_new, info
