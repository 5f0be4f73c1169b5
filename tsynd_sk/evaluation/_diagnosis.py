"""What has to hold of synthetic images, row by row."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from tsynd_sk.evaluation._feature_space import last_layer_features
from tsynd_sk.images import Selection, parts


class ImageSpace:
    """Images as vectors: in the units of networks, and as a classifier's last layer sees them.

    Parameters
    ----------
    synthesizer : TargetedSynthesizer
        Fitted.
    real : array of shape (n, ...)
        Real images in its layout, in memory or not.
    """

    def __init__(self, synthesizer: Any, real: Any):
        self.synthesizer = synthesizer
        self.n_real = len(real)
        self._real = real
        self._scale: Any = 1.0
        if synthesizer.image_shape_ is None:
            # Columns of a table have units of their own.
            spread = np.asarray(real, dtype=np.float32).std(axis=0)
            self._scale = np.where(spread > 0, spread, 1)

    def values(self, images: np.ndarray) -> np.ndarray:
        """Give flat rows as networks see them; equal images give equal bytes."""
        # Zero has two signs, which differ in their bytes.
        return self.synthesizer.format_.to_tensor(images).flatten(1).numpy() + np.float32(0)

    def rows(self, images: np.ndarray) -> np.ndarray:
        """Give vectors whose Euclidean distance is the root-mean-square difference of values."""
        values = self.values(images)
        return (values / self._scale / np.sqrt(values.shape[1])).astype(np.float32)

    def real(self) -> Iterator[np.ndarray]:
        """Go through the vectors of the real images."""
        return (self.rows(part) for part in parts(self._real))

    def images(self, index: np.ndarray) -> np.ndarray:
        """Give some of the real images."""
        return Selection(self._real, index)[:]

    def some_real(self, index: np.ndarray) -> np.ndarray:
        """Give vectors of some of the real images."""
        return self.rows(self.images(index))

    def keys(self) -> Iterator[bytes]:
        """Go through the bytes of the real images."""
        return (row.tobytes() for part in parts(self._real) for row in self.values(part))

    def features(self, images: np.ndarray) -> np.ndarray:
        """Give what the last linear layer of the first classifier receives."""
        net = self.synthesizer._nets[0]
        return last_layer_features(net, self.synthesizer._batches(images))


class Diagnosis(NamedTuple):
    """What is wrong with samples: counts by name, and the rows that can be measured."""

    counts: dict[str, int]
    kept: np.ndarray
    images: np.ndarray
    notes: list[str]


def diagnose(
    space: ImageSpace,
    X_new: np.ndarray,
    y_new: np.ndarray,
    info: Any,
    n_wanted: int,
    labels: np.ndarray,
) -> Diagnosis:
    """Count what must not be among samples.

    Parameters
    ----------
    space : ImageSpace
        Real images.
    X_new, y_new, info
        What was sampled.
    n_wanted : int
        How many samples were asked for.
    labels : ndarray of shape (n_real,)
        Labels of the real images.
    """
    image_format, value_range = space.synthesizer.format_, space.synthesizer.value_range_
    lengths = [len(X_new), len(y_new), len(info.source_index)]
    n = min(lengths)
    counts = {"wrong number": max(abs(length - n_wanted) for length in lengths)}
    X_new, y_new, sources = X_new[:n], y_new[:n], info.source_index[:n]
    shaped = X_new.shape[1:] == image_format.row_shape
    expected = image_format.dtype.newbyteorder("=")
    counts["wrong shape"] = 0 if shaped else n
    counts["wrong dtype"] = 0 if X_new.dtype.newbyteorder("=") == expected else n
    measurable = shaped and X_new.dtype.kind in "buif"
    finite = beyond = np.zeros(n, bool)
    if measurable:
        finite = _all(np.isfinite(X_new))
        low, high = value_range.extremes
        beyond = finite & ~_all((low <= X_new) & (X_new <= high))
    counts["not finite"] = int(n - finite.sum()) if measurable else 0
    counts["out of range"] = int(beyond.sum())
    counts["unknown label"] = int(n - np.isin(y_new, space.synthesizer.classes_).sum())
    counts["other label"] = int((labels[sources] != y_new).sum())
    kept = np.flatnonzero(finite)
    images = X_new[kept].astype(expected, copy=False) if measurable else X_new[:0]
    keys = [row.tobytes() for row in space.values(images)] if len(kept) else []
    counts["duplicate"] = len(keys) - len(set(keys))
    known = set(keys).intersection(space.keys()) if keys else set()
    counts["copy"] = sum(key in known for key in keys)
    notes = []
    if not measurable:
        notes.append(
            f"Samples of shape {X_new.shape[1:]} and dtype {X_new.dtype} cannot be measured; "
            f"expected {image_format.row_shape} and {expected}."
        )
    elif len(kept) < n:
        notes.append(f"{n - len(kept)} samples that are not finite were left out of what follows.")
    return Diagnosis(counts, kept, images, notes)


def _all(holds: np.ndarray) -> np.ndarray:
    return np.all(holds.reshape(len(holds), -1), axis=1, keepdims=True)[:, 0]
