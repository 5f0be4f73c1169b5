"""Which labels are asked for, and which real rows they are synthesised from."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Integral

import numpy as np
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_consistent_length

from tsynd_sk._utils._labels import class_labels, encode_labels


def check_labels(estimator, y, X: np.ndarray) -> np.ndarray:
    """Return the labels of training images; raise ValueError if they cannot be learned."""
    name = type(estimator).__name__
    if y is None:
        raise ValueError(f"{name} requires y to be passed, but the target y is None")
    y = class_labels(y, name)
    check_classification_targets(y)
    check_consistent_length(X, y)
    classes = np.unique(y)
    if len(classes) < 2:
        raise ValueError(
            f"{name} needs images of at least two classes; y has one class only: "
            f"{classes.tolist()[0]!r}"
        )
    return y


def apportion(weights: np.ndarray, n: int) -> np.ndarray:
    """Divide `n` in proportion to `weights` by largest remainders."""
    quotas = n * weights / weights.sum()
    counts = np.floor(quotas).astype(np.int64)
    order = np.argsort(counts - quotas, kind="stable")
    counts[order[: n - counts.sum()]] += 1
    return counts


def requested_codes(
    n_samples: int, y, classes: np.ndarray, pool: np.ndarray, rng: np.random.RandomState
) -> np.ndarray:
    """Return the class index of every row that `TargetedSynthesizer.sample` is asked for.

    `classes` are all labels, and `pool` the class indices of the real rows; `rng` shuffles the rows
    where no order is asked for.
    """
    if isinstance(n_samples, bool) or not isinstance(n_samples, Integral) or n_samples < 1:
        raise ValueError(f"n_samples={n_samples!r} is not valid: expected an integer of at least 1")
    available = np.bincount(pool, minlength=len(classes))
    if y is None:
        return rng.permutation(np.repeat(np.arange(len(classes)), apportion(available, n_samples)))
    if isinstance(y, Mapping):
        codes = encode_labels(list(y), classes)
        for label, count in y.items():
            if isinstance(count, bool) or not isinstance(count, Integral) or count < 0:
                asked = f"y={{{label!r}: {count!r}}}"
                raise ValueError(f"{asked} is not valid: expected a number of rows, at least 0")
        wanted = np.repeat(codes, list(map(int, y.values())))
    elif np.ndim(y) == 0:
        wanted = np.repeat(encode_labels([y], classes), n_samples)
    elif np.ndim(y) == 1:
        wanted = encode_labels(y, classes)
    else:
        raise ValueError(f"y has {np.ndim(y)} dimensions; expected a label or a 1-D array of them")
    if n_samples not in (1, len(wanted)):
        raise ValueError(
            f"n_samples={n_samples} contradicts y, which asks for {len(wanted)} rows: give one of "
            "the two"
        )
    if len(wanted) == 0:
        raise ValueError("y asks for no rows at all; expected at least one")
    missing = np.setdiff1d(wanted, np.flatnonzero(available))
    if len(missing):
        raise ValueError(
            f"y must ask for classes that had real rows in fit; got {classes[missing].tolist()}"
        )
    return wanted


def draw_sources(
    wanted: np.ndarray, pool: np.ndarray, rng: np.random.RandomState
) -> tuple[np.ndarray, np.ndarray]:
    """Choose a real row of the same class for every row that is asked for.

    No source is used a second time before every other one of its class has been used once. Return
    rows of the pool, and how often each has been used before.
    """
    source_index, occurrence = np.empty((2, len(wanted)), dtype=np.int64)
    for code in np.unique(wanted):
        rows, sources = np.flatnonzero(wanted == code), np.flatnonzero(pool == code)
        n_rounds = -(-len(rows) // len(sources))
        order = np.concatenate(list(map(rng.permutation, [sources] * n_rounds)))
        source_index[rows] = order[: len(rows)]
        occurrence[rows] = np.arange(len(rows)) // len(sources)
    return source_index, occurrence
