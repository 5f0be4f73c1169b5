"""Which rows are synthesised: by `sample` from which sources, and by `fit_resample` how many."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from numbers import Integral, Real
from types import SimpleNamespace
from typing import Any

import numpy as np
from sklearn.base import OneToOneFeatureMixin
from sklearn.utils import InputTags, Tags
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_consistent_length

from tsynd_sk._utils._labels import class_labels, encode_labels

STRATEGIES = ("auto", "minority", "not minority", "not majority", "all")


def check_labels(estimator, y, X: np.ndarray) -> np.ndarray:
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

    `pool` are the class indices of the real rows; `rng` shuffles where no order is asked for.
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

    Each is used once before one is used again. Return them, and how often they were used before.
    """
    source_index, occurrence = np.empty((2, len(wanted)), dtype=np.int64)
    for code in np.unique(wanted):
        rows, sources = np.flatnonzero(wanted == code), np.flatnonzero(pool == code)
        n_rounds = -(-len(rows) // len(sources))
        order = np.concatenate(list(map(rng.permutation, [sources] * n_rounds)))
        source_index[rows] = order[: len(rows)]
        occurrence[rows] = np.arange(len(rows)) // len(sources)
    return source_index, occurrence


class _InputTags(InputTags):
    dataframe = True


class _ResamplingTags(Tags):
    """Tags that imbalanced-learn asks for."""

    sampler_tags = SimpleNamespace(sample_indices=True)


class ResamplingMixin(OneToOneFeatureMixin):
    """`fit_resample` for estimators with ``fit``, ``sample`` and ``sampling_strategy``."""

    _sampling_type = "over-sampling"

    def fit_resample(self: Any, X, y):
        """Fit, and add synthetic rows as `sampling_strategy` says, as imbalanced-learn does.

        Parameters
        ----------
        X : array-like of shape (n, ...)
            Images as in `fit`, or a table. Synthetic rows take the nearest values that columns of
            a DataFrame can hold; categories must be numbers.
        y : array-like of shape (n,), or DataFrame of one column
            Labels.

        Returns
        -------
        X_resampled : ndarray of shape (n + n_new, ...), or list or DataFrame where such is given
            The rows of `X`, unchanged and in their order, then the synthetic ones.
        y_resampled : ndarray of shape (n + n_new,), or list, Series or DataFrame like `y`
            Their labels.

        Raises
        ------
        ValueError, TypeError
            As `fit`, or if `sampling_strategy` cannot be had from `y`.
        """
        self._validate_params()
        _check_columns(X)
        labels = check_labels(self, y.iloc[:, 0] if _is_column(y) else y, X)
        # Before fit, which may take minutes: it can raise.
        counts = resampling_counts(self.sampling_strategy, labels)
        self.fit(X, labels)
        X_all, y_all = np.array(self.engine_.images), labels.copy()
        self.sampling_strategy_ = counts
        self.sample_indices_ = np.arange(len(X_all))
        wanted = {label: count for label, count in counts.items() if count}
        if wanted:
            X_new, y_new, info = self.sample(y=wanted, return_info=True)
            # Keeps the byte order.
            X_all = np.concatenate([X_all, X_new], dtype=X_new.dtype)
            y_all = np.concatenate([y_all, y_new], dtype=y_all.dtype)
            self.sample_indices_ = np.append(self.sample_indices_, info.source_index)
        return in_container_of(X, X_all), in_container_of(y, y_all)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        tags.input_tags.three_d_array = True
        tags.input_tags = _with_values_of(tags.input_tags, _InputTags)
        return _with_values_of(tags, _ResamplingTags)


def _with_values_of(tags: Any, cls: type) -> Any:
    other: Any = object.__new__(cls)
    for tag in fields(tags):
        setattr(other, tag.name, getattr(tags, tag.name))
    return other


def _check_columns(X: Any) -> None:
    """Raise ValueError for categories that are not numbers."""
    if not (hasattr(X, "iloc") and X.ndim == 2):
        return
    for name, dtype in X.dtypes.items():
        categories = getattr(dtype, "categories", None)
        if categories is not None and np.asarray(categories).dtype.kind not in "buif":
            raise ValueError(
                f"column {name!r} of X has categories that are not numbers, "
                f"{list(categories)[:5]}, between which nothing can be synthesised: encode them "
                "first, for instance by sklearn.preprocessing.OrdinalEncoder or OneHotEncoder"
            )


def _is_column(y: Any) -> bool:
    return hasattr(y, "iloc") and y.ndim == 2 and y.shape[1] == 1


def resampling_counts(sampling_strategy, y: np.ndarray) -> dict:
    """Return how many rows to add to every class, by imbalanced-learn's rules."""
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
        return _counts_to_reach(sampling_strategy, current)
    majority, minority = present[[counts.argmax(), counts.argmin()]].tolist()
    if isinstance(sampling_strategy, Real):
        return _counts_of_ratio(sampling_strategy, current, majority, minority)
    chosen = {
        "minority": [minority],
        "not minority": [label for label in current if label != minority],
        "all": list(current),
    }.get(sampling_strategy, [label for label in current if label != majority])
    return {label: current[majority] - current[label] for label in chosen}


def _counts_of_ratio(ratio, current: dict, majority, minority) -> dict:
    if len(current) != 2:
        raise ValueError(
            f"sampling_strategy={ratio!r}, a ratio, is defined for two classes; y has "
            f"{len(current)}. Give a dict from label to the number of rows after resampling."
        )
    target = int(current[majority] * ratio)
    # A mistake for imbalanced-learn, too.
    if target <= current[minority]:
        raise ValueError(
            f"sampling_strategy={ratio!r} asks for {target} rows of class {minority!r}, which has "
            f"{current[minority]} already, and synthesis only adds: give a larger ratio"
        )
    return {minority: target - current[minority]}


def _counts_to_reach(target: Mapping, current: dict) -> dict:
    unknown = [label for label in target if label not in current]
    if unknown:
        raise ValueError(
            f"sampling_strategy must name labels of y, {list(current)[:20]}; got {unknown[:20]}"
        )
    for label, count in target.items():
        if not isinstance(count, Integral) or count < current[label]:
            raise ValueError(
                f"sampling_strategy asks for {count!r} rows of class {label!r}; expected an "
                f"integer of at least the {current[label]} there are: synthesis only adds"
            )
    return {label: int(count) - current[label] for label, count in target.items()}


def in_container_of(given, values: np.ndarray):
    """Put resampled rows or labels, of which the first are `given`, in a container like it."""
    if isinstance(given, list):
        return list(values) if isinstance(given[0], np.ndarray) else values.tolist()
    if not hasattr(given, "iloc"):
        return values
    if given.ndim == 1:
        return type(given)(values, name=given.name, dtype=given.dtype)
    import pandas as pd

    values = values.reshape(len(values), -1)[len(given) :]
    columns = [
        pd.Series(_as_in_column(values[:, k], dtype), dtype=dtype)
        for k, dtype in enumerate(given.dtypes)
    ]
    new = pd.concat(columns, axis=1)
    new.columns = given.columns
    return pd.concat([given, new], ignore_index=True)


def _as_in_column(values: np.ndarray, dtype: Any) -> np.ndarray:
    if hasattr(dtype, "categories"):
        categories = np.asarray(dtype.categories)
        if values.dtype.kind not in "buif":
            # Labels.
            return values
        nearest = np.abs(values[:, None] - categories.astype(np.float64)).argmin(1)
        return categories[nearest]
    if dtype.kind == "b":
        return values >= 0.5
    # Integers beside floats have been floats in between.
    return np.rint(values) if dtype.kind in "iu" else values
