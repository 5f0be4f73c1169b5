"""Checks of labels, and their columns."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils.validation import check_array, column_or_1d


def class_labels(y: Any, name: str) -> np.ndarray:
    """Return labels as an array of one dimension; raise if some are missing or of unlike types."""
    given = np.asarray(y)
    if given.ndim == 1 and given.dtype.kind in "OmM" and any(map(_is_missing, given)):
        raise ValueError("y contains missing labels (None, NaN, NA or NaT): leave such rows out")
    y = check_array(y, ensure_2d=False, dtype=None, estimator=name, input_name="y")
    y = column_or_1d(y, warn=True)
    if y.dtype == object:
        names = sorted({"str" if isinstance(label, str) else type(label).__name__ for label in y})
        if names != ["str"]:
            raise ValueError(
                f"Unknown label type: y is an array of objects of type {' and '.join(names)}. Pass "
                "labels of one type, such as y.astype(str)."
            )
    return y


def _is_missing(label: Any) -> bool:
    try:
        return label is None or bool(label != label)
    except (TypeError, ValueError):
        # pandas.NA says neither yes nor no, an array both.
        return not hasattr(label, "__len__")


def labels_of(y: Any) -> np.ndarray:
    """Return labels of any kind as an array of one dimension."""
    return column_or_1d(y, warn=True)


def encode_labels(y: Any, classes: Any) -> np.ndarray:
    """Return the place of each label among the classes."""
    classes, labels = np.asarray(classes).tolist(), column_or_1d(y, warn=True).tolist()
    # A dict, for numpy would take the string "1" for the number 1.
    columns = dict(zip(classes, range(len(classes)), strict=True))
    try:
        return np.array(list(map(columns.__getitem__, labels)), dtype=np.int64)
    except (KeyError, TypeError):
        # By their repr, for some cannot be hashed.
        unknown = dict.fromkeys(repr(label) for label in labels if label not in classes)
        raise ValueError(
            f"y has labels that were not seen in fit: [{', '.join(list(unknown)[:10])}]; expected "
            f"some of {classes[:20]}"
        ) from None


def n_classes_of(y: Any) -> int:
    """Return the number of classes that are numbered from 0."""
    codes = np.asarray(y)
    if codes.dtype.kind not in "biuf" or codes.size == 0 or codes.min() < 0:
        raise ValueError(
            f"y must be classes numbered from 0, got {codes.ravel()[:5].tolist()}: encode it by "
            "numpy.unique(y, return_inverse=True)[1], or use AugmentedClassifier"
        )
    return int(codes.max()) + 1
