"""`fit_resample`: imbalanced-learn's protocol, and its rules of how many rows to add."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any

import numpy as np

from tsynd_sk.synthesis._sampling import check_labels, check_n_rows

STRATEGIES = ("auto", "minority", "not minority", "not majority", "all")


class ResamplingMixin:
    """`fit_resample` for estimators with ``fit``, ``sample`` and ``sampling_strategy``."""

    def fit_resample(self: Any, X, y):
        """Fit, and add synthetic rows until classes are as `sampling_strategy` says.

        The protocol of imbalanced-learn's samplers, so that the synthesizer is a step of
        ``imblearn.pipeline.Pipeline``; on images too.

        Parameters
        ----------
        X : array-like of shape (n, ...)
            Images as in `fit`, or a table.
        y : array-like of shape (n,)
            Labels.

        Returns
        -------
        X_resampled : ndarray of shape (n + n_new, ...), or DataFrame
            The rows of `X`, unchanged and in their order, then the synthetic ones.
        y_resampled : ndarray of shape (n + n_new,), or Series
            Their labels.

        Raises
        ------
        ValueError
            As `fit`, or if `sampling_strategy` cannot be had from `y`.
        TypeError
            As `fit`.
        """
        labels = check_labels(self, y, X)
        # Before fit, which may take minutes, for it can be impossible.
        counts = resampling_counts(self.sampling_strategy, labels)
        self.fit(X, labels)
        X_all, y_all = np.array(self.engine_.images), labels.copy()
        self.sample_indices_ = np.arange(len(X_all))
        counts = {label: count for label, count in counts.items() if count}
        if counts:
            X_new, y_new, info = self.sample(y=counts, return_info=True)
            # Left alone, numpy answers in the byte order of the machine.
            X_all = np.concatenate([X_all, X_new], dtype=X_new.dtype)
            y_all = np.concatenate([y_all, y_new], dtype=y_all.dtype)
            self.sample_indices_ = np.append(self.sample_indices_, info.source_index)
        return in_container_of(X, X_all), in_container_of(y, y_all)


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
            check_n_rows("sampling_strategy", int(count))
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
