"""Checks of labels, and their columns."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils.validation import column_or_1d


def check_labels_given(y: Any) -> None:
    """Raise if `y` is no array of labels, or lacks some, before others do without their name."""
    # Columns are taken for one dimension, with a warning, and others raise for all else.
    if np.ndim(y) != 1:
        return
    y = np.asarray(y)
    if y.dtype.kind in "mM" and np.isnat(y).any():
        raise ValueError("y contains NaT, but every row needs a label: leave such rows out")
    if y.dtype == object and any(map(_is_missing, y)):
        raise ValueError(
            "y contains missing labels (None, NaN or NA), but every row needs one: leave such "
            "rows out"
        )


def check_comparable(y: np.ndarray) -> None:
    """Raise if labels are of types that have no order among them."""
    if y.dtype != object:
        return
    names = sorted({"str" if isinstance(label, str) else type(label).__name__ for label in y})
    if len(y) and names != ["str"]:
        raise ValueError(
            f"Unknown label type: y is an array of objects of type {' and '.join(names)}. Give "
            "labels of one type that numpy knows, for instance y.astype(int) or y.astype(str)."
        )


def _is_missing(label: Any) -> bool:
    try:
        return label is None or bool(label != label)
    except (TypeError, ValueError):
        # pandas.NA says neither yes nor no, and arrays say both.
        return not hasattr(label, "__len__")


def labels_of(y: Any) -> np.ndarray:
    """Return labels, whatever they are, as an array of one dimension."""
    return column_or_1d(y, warn=True)


def encode_labels(y: Any, classes: Any) -> np.ndarray:
    """Return the column of each label: its place, from 0, among the classes.

    Raises
    ------
    ValueError
        If a label is not among the classes.
    """
    classes, labels = np.asarray(classes).tolist(), labels_of(y).tolist()
    # A dict, for numpy would take the string "1" for the number 1.
    columns = dict(zip(classes, range(len(classes)), strict=True))
    try:
        return np.array(list(map(columns.__getitem__, labels)), dtype=np.int64)
    except (KeyError, TypeError):
        # By their repr, for not all that is no label can be hashed.
        unknown = dict.fromkeys(repr(label) for label in labels if label not in classes)
        raise ValueError(
            f"y has labels that were not seen in fit: [{', '.join(list(unknown)[:10])}]; expected "
            f"some of {classes[:20]}"
        ) from None


def n_classes_of(y: Any) -> int:
    """Return the number of classes that are numbered from 0; raise if `y` holds others."""
    codes = np.asarray(y)
    if codes.dtype.kind not in "biuf" or codes.size == 0 or codes.min() < 0:
        raise ValueError(
            f"y must be classes numbered from 0, got {codes.ravel()[:5].tolist()}: encode it by "
            "numpy.unique(y, return_inverse=True)[1], or pass the net to an AugmentedClassifier, "
            "which takes any labels"
        )
    return int(codes.max()) + 1
