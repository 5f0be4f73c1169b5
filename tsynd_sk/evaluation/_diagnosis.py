"""What must not be among synthetic images, counted row by row."""

from __future__ import annotations

from typing import Any

import numpy as np

from tsynd_sk.evaluation._image_space import ImageSpace
from tsynd_sk.images import parts


def diagnose(
    space: ImageSpace,
    X_new: np.ndarray,
    y_new: np.ndarray,
    info: Any,
    n_wanted: int,
    labels: np.ndarray,
) -> tuple[dict[str, int], np.ndarray, np.ndarray, list[str]]:
    """Count what must not be among the samples `X_new`, `y_new`, `info`.

    `labels` are those of the real images, `n_wanted` the number of samples that were asked for.

    Returns
    -------
    counts : dict
        From the name of what must not be to the number of rows that are so.
    kept : ndarray of int
        Rows that can be measured.
    images : ndarray
        These rows of `X_new`, in the dtype of the real images.
    notes : list of str
        Why others cannot be measured.
    """
    image_format, value_range = space.synthesizer.format_, space.synthesizer.value_range_
    n, expected = len(X_new), image_format.dtype.newbyteorder("=")
    y_new, sources = y_new[:n], info.source_index[:n]
    shaped = X_new.shape[1:] == image_format.row_shape
    measurable = shaped and X_new.dtype.kind in "buif"
    finite = beyond = np.zeros(n, bool)
    if measurable:
        low, high = value_range.extremes
        finite = _all(np.isfinite(X_new))
        beyond = finite & ~_all((low <= X_new) & (X_new <= high))
    kept = np.flatnonzero(finite)
    images = X_new[kept].astype(expected, copy=False) if measurable else X_new[:0]
    keys = space.keys(images) if len(kept) else []
    real = (key for part in parts(space.real) for key in space.keys(part))
    copied = set(keys).intersection(real)
    counts = {
        "wrong number": abs(n - n_wanted),
        "wrong shape": 0 if shaped else n,
        "wrong dtype": 0 if X_new.dtype.newbyteorder("=") == expected else n,
        "not finite": int(n - finite.sum()) if measurable else 0,
        "out of range": int(beyond.sum()),
        "unknown label": int(n - np.isin(y_new, space.synthesizer.classes_).sum()),
        "other label": int((labels[sources] != y_new).sum()),
        "duplicate": len(keys) - len(set(keys)),
        "copy": sum(key in copied for key in keys),
    }
    notes = []
    if not measurable:
        notes.append(
            f"Samples of shape {X_new.shape[1:]} and dtype {X_new.dtype} cannot be measured; "
            f"expected {image_format.row_shape} and {expected}."
        )
    elif len(kept) < n:
        notes.append(f"{n - len(kept)} samples that are not finite were left out of what follows.")
    return counts, kept, images, notes


def _all(holds: np.ndarray) -> np.ndarray:
    return np.all(holds.reshape(len(holds), -1), axis=1, keepdims=True)[:, 0]
