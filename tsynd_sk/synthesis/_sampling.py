"""Which labels are asked for, and which real rows they are synthesised from."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Integral, Real

import numpy as np
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_array, check_consistent_length, column_or_1d

from tsynd_sk._utils._labels import check_comparable, check_labels_given

# Arrays cannot number more, nor can there be memory for so many.
_MOST_ROWS = 2**48

STRATEGIES = ("auto", "minority", "not minority", "not majority", "all")


def check_labels(estimator, y, X: np.ndarray) -> np.ndarray:
    """Validate the labels of training images.

    Raises
    ------
    ValueError
        If `y` is missing, not one finite label an image, or of a single class.
    """
    name = type(estimator).__name__
    if y is None:
        raise ValueError(f"{name} requires y to be passed, but the target y is None")
    check_labels_given(y)
    y = check_array(y, ensure_2d=False, dtype=None, estimator=name, input_name="y")
    y = column_or_1d(y, warn=True)
    check_comparable(y)
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
    """Class index of every row that is asked for.

    Parameters
    ----------
    n_samples : int
        Number of rows.
    y : None, label, array-like of labels, or mapping from label to count
        As in `TargetedSynthesizer.sample`.
    classes : ndarray of shape (n_classes,)
        Labels that are known.
    pool : ndarray of shape (n_sources,)
        Class indices of the real rows.
    rng : RandomState
        Shuffles the rows where no order is asked for.

    Returns
    -------
    ndarray of shape (n_rows,), int64
    """
    if isinstance(n_samples, bool) or not isinstance(n_samples, Integral) or n_samples < 1:
        raise ValueError(f"n_samples={n_samples!r} is not valid: expected an integer of at least 1")
    _check_most("n_samples", n_samples)
    available = np.bincount(pool, minlength=len(classes))
    if y is None:
        return rng.permutation(np.repeat(np.arange(len(classes)), apportion(available, n_samples)))
    if isinstance(y, Mapping):
        codes = encode(list(y), classes)
        counts = [_count(label, count) for label, count in y.items()]
        _check_most("y", sum(counts))
        wanted = np.repeat(codes, counts)
    elif _n_dims(y) == 0:
        return _checked(np.repeat(encode([y], classes), n_samples), available, classes)
    elif np.ndim(y) == 1:
        wanted = encode(y, classes)
    else:
        raise ValueError(f"y has {np.ndim(y)} dimensions; expected a label or a 1-D array of them")
    if n_samples not in (1, len(wanted)):
        raise ValueError(
            f"n_samples={n_samples} contradicts y, which asks for {len(wanted)} rows: give one of "
            "the two"
        )
    if len(wanted) == 0:
        raise ValueError("y asks for no rows at all; expected at least one")
    return _checked(wanted, available, classes)


def _check_most(name: str, n_rows: int) -> None:
    if n_rows > _MOST_ROWS:
        raise ValueError(f"{name} asks for {n_rows} rows; {_MOST_ROWS} are the most there can be")


def _n_dims(y) -> int:
    try:
        return y.ndim if hasattr(y, "ndim") else np.asarray(y).ndim
    except ValueError as error:
        raise ValueError(f"y is ragged; expected a label or a 1-D array: {error}") from None


def _count(label, count) -> int:
    if isinstance(count, bool) or not isinstance(count, Integral) or count < 0:
        raise ValueError(
            f"y={{{label!r}: {count!r}}} is not valid: expected a number of rows, at least 0"
        )
    return int(count)


def _checked(wanted: np.ndarray, available: np.ndarray, classes: np.ndarray) -> np.ndarray:
    missing = np.setdiff1d(wanted, np.flatnonzero(available))
    if len(missing):
        raise ValueError(
            f"y asks for {classes[missing].tolist()}, of which there was no real row in fit to "
            "start from"
        )
    return wanted


def encode(y, classes: np.ndarray) -> np.ndarray:
    """Class indices of labels, all of which must be known."""
    # A dict, for numpy would take the string "1" for the number 1.
    positions = {label: code for code, label in enumerate(classes.tolist())}
    labels = np.asarray(y).tolist()
    unknown = [label for label in labels if not _is_among(label, positions)]
    if unknown:
        # By their look, for not all that is no label can be hashed.
        shown = ", ".join(list(dict.fromkeys(map(repr, unknown)))[:10])
        raise ValueError(
            f"y has labels that were not seen in fit: [{shown}]; expected some of "
            f"{classes.tolist()[:20]}"
        )
    return np.array([positions[label] for label in labels], dtype=np.int64)


def _is_among(label, positions: dict) -> bool:
    try:
        return label in positions
    except TypeError:
        return False


def draw_sources(
    wanted: np.ndarray, pool: np.ndarray, rng: np.random.RandomState
) -> tuple[np.ndarray, np.ndarray]:
    """Choose a real row of the same class for every row that is asked for.

    No source is used a second time before every other one of its class has been used once.

    Returns
    -------
    source_index : ndarray of shape (n_rows,), int64
        Row of the pool.
    occurrence : ndarray of shape (n_rows,), int64
        How often that source has been used before.
    """
    source_index = np.empty(len(wanted), dtype=np.int64)
    occurrence = np.empty(len(wanted), dtype=np.int64)
    for code in np.unique(wanted):
        rows, sources = np.flatnonzero(wanted == code), np.flatnonzero(pool == code)
        n_rounds = -(-len(rows) // len(sources))
        order = np.concatenate([rng.permutation(sources) for _ in range(n_rounds)])
        source_index[rows] = order[: len(rows)]
        occurrence[rows] = np.arange(len(rows)) // len(sources)
    return source_index, occurrence


def resampling_counts(sampling_strategy, y: np.ndarray) -> dict:
    """Count the rows to add to every class, by the rules of imbalanced-learn's over-samplers.

    Parameters
    ----------
    sampling_strategy : str, float, mapping or callable
        See `TargetedSynthesizer`.
    y : ndarray of shape (n,)
        Labels.

    Returns
    -------
    dict
        From label to the number of rows to be added.
    """
    present, counts = np.unique(y, return_counts=True)
    current = dict(zip(present.tolist(), counts.tolist(), strict=True))
    if callable(sampling_strategy):
        sampling_strategy = sampling_strategy(y)
        if not isinstance(sampling_strategy, Mapping):
            raise ValueError(
                f"the callable sampling_strategy gave {sampling_strategy!r}; expected a dict from "
                "label to the number of rows after resampling"
            )
    if isinstance(sampling_strategy, Mapping):
        return _counts_to_reach(dict(sampling_strategy), current)
    majority, minority = (
        max(current, key=current.__getitem__),
        min(current, key=current.__getitem__),
    )
    if isinstance(sampling_strategy, Real):
        return _counts_of_ratio(sampling_strategy, current, majority, minority)
    if not isinstance(sampling_strategy, str) or sampling_strategy not in STRATEGIES:
        raise ValueError(
            f"sampling_strategy={sampling_strategy!r} is not valid: expected one of "
            f"{', '.join(map(repr, STRATEGIES))}, a ratio, a dict or a callable"
        )
    chosen = {
        "minority": [minority],
        "not minority": [label for label in current if label != minority],
        "all": list(current),
    }.get(sampling_strategy, [label for label in current if label != majority])
    return {label: current[majority] - current[label] for label in chosen}


def _counts_of_ratio(ratio, current: dict, majority, minority) -> dict:
    if not 0 < ratio <= 1:
        raise ValueError(
            f"sampling_strategy={ratio!r}, a ratio, is not valid: expected more than 0 and at most "
            "1"
        )
    if len(current) != 2:
        raise ValueError(
            f"sampling_strategy={ratio!r}, a ratio, is defined for two classes; y has "
            f"{len(current)}. Give a dict from label to the number of rows after resampling."
        )
    target = int(current[majority] * ratio)
    # As imbalanced-learn, which takes a ratio that is met already for a mistake.
    if target <= current[minority]:
        raise ValueError(
            f"sampling_strategy={ratio!r} asks for {target} rows of class {minority!r}, no more "
            f"than the {current[minority]} there are; synthesis only adds"
        )
    return {minority: target - current[minority]}


def _counts_to_reach(target: dict, current: dict) -> dict:
    unknown = [label for label in target if label not in current]
    if unknown:
        raise ValueError(f"sampling_strategy names labels that are not in y: {unknown}")
    for label, count in target.items():
        if isinstance(count, Integral):
            _check_most("sampling_strategy", int(count))
        if not isinstance(count, Integral) or count < current[label]:
            raise ValueError(
                f"sampling_strategy asks for {count!r} rows of class {label!r}; expected an "
                f"integer of at least the {current[label]} there are, for synthesis only adds"
            )
    return {label: int(count) - current[label] for label, count in target.items()}


def in_container_of(given, values: np.ndarray):
    """Put resampled rows or labels in a DataFrame or Series of pandas where such were given."""
    if not hasattr(given, "iloc"):
        return values
    if values.ndim == 1:
        return type(given)(values, name=getattr(given, "name", None), dtype=given.dtype)
    values = values.copy()
    for column, dtype in enumerate(given.dtypes):
        # Columns of integers beside such of floats have been floats in between.
        if dtype.kind in "iu":
            values[:, column] = np.rint(values[:, column])
    return type(given)(values, columns=given.columns).astype(dict(given.dtypes))
