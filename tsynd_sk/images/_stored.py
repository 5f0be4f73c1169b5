"""Arrays that are larger than memory: read in parts, converted as they are read."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from typing import Any

import numpy as np
from torch import Tensor

#: Bytes of an array that are read at a time where nothing else says how much.
PART_BYTES = 2**24

# What only arrays in memory have: those of the array API, tables, sparse matrices.
_IN_MEMORY = ("__array_namespace__", "iloc", "__dataframe__", "tocsr")
_ARRAY_LIKE = ("shape", "ndim", "__getitem__")


def is_stored(X: Any) -> bool:
    """Return whether an array is read in parts, as those of memmap, zarr, h5py and dask are."""
    if isinstance(X, np.ndarray):
        return isinstance(X, np.memmap)
    if isinstance(X, Tensor | np.generic) or any(hasattr(X, name) for name in _IN_MEMORY):
        return False
    try:
        np.dtype(X.dtype)
    except (AttributeError, TypeError):
        # A tensor of a library with types of its own, whose values numpy knows how to ask for.
        return False
    return all(hasattr(X, name) for name in _ARRAY_LIKE)


class _Rows:
    """What has a shape, with rows first."""

    shape: tuple[int, ...]

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]


class Stored(_Rows):
    """Array outside of memory, whose rows are read by any index of numpy.

    The array itself is asked for slices and for rising lists of rows, as HDF5 knows them.
    """

    def __init__(self, array: Any):
        # Rows of an ndarray are read faster than those of a memmap.
        self.array = array.view(np.ndarray) if isinstance(array, np.memmap) else array
        self.shape = tuple(array.shape)
        self.dtype = np.dtype(array.dtype)

    def __getitem__(self, rows) -> np.ndarray:
        if isinstance(rows, int | np.integer):
            return np.asarray(self.array[range(len(self))[rows]])
        numbers = row_numbers(rows, len(self))
        if isinstance(numbers, range):
            return np.asarray(self.array[numbers.start : numbers.stop])
        if isinstance(self.array, np.ndarray):
            return self.array[numbers]
        if len(numbers) == 0:
            return np.empty((0, *self.shape[1:]), self.dtype)
        ordered, inverse = np.unique(numbers, return_inverse=True)
        first, last = int(ordered[0]), int(ordered[-1])
        # Many stores are slow at lists of rows.
        side_by_side = last - first + 1 == len(ordered)
        read = self.array[first : last + 1] if side_by_side else self.array[ordered]
        return np.asarray(read)[inverse]

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        array = np.empty(self.shape, dtype or self.dtype)
        filled = 0
        for part in parts(self):
            array[filled : filled + len(part)] = part
            filled += len(part)
        return array


def row_numbers(rows: Any, n_rows: int) -> range | np.ndarray:
    """Return the numbers of the rows that an index names; a range if they are neighbours."""
    if isinstance(rows, slice):
        rows = range(n_rows)[rows]
    if isinstance(rows, range) and rows.step == 1:
        return rows
    index = np.asarray(rows)
    return np.arange(n_rows)[index if len(index) else index.astype(int)]


def parts(X: np.ndarray | Stored) -> Iterator[np.ndarray]:
    """Go through an array, in memory as a whole, elsewhere part by part."""
    if isinstance(X, np.ndarray):
        yield X
        return
    n_rows = rows_of_a_part(X)
    for first in range(0, len(X), n_rows):
        yield X[first : first + n_rows]


def rows_of_a_part(X: Any) -> int:
    """Return how many rows a part has."""
    return max(PART_BYTES // max(X.dtype.itemsize * int(np.prod(X.shape[1:])), 1), 1)


class NetworkInput(_Rows):
    """What networks see of a stored array, converted as it is read."""

    dtype = np.dtype(np.float32)

    def __init__(self, X: Stored, image_format: Any):
        self.X = X
        self.image_format = image_format
        row = image_format.image_shape or image_format.row_shape
        self.shape = (len(X), *row)

    def __getitem__(self, rows) -> np.ndarray:
        if isinstance(rows, int | np.integer):
            return self.image_format.to_tensor(self.X[rows][np.newaxis]).numpy()[0]
        numbers, n_rows = row_numbers(rows, len(self)), rows_of_a_part(self.X)
        x = np.empty((len(numbers), *self.shape[1:]), self.dtype)
        for first in range(0, len(numbers), n_rows):
            part = slice(first, first + n_rows)
            x[part] = self.image_format.to_tensor(self.X[numbers[part]]).numpy()
        return x


class Selection(_Rows):
    """Some rows of an array under new numbers, without a copy."""

    def __init__(self, X: Any, index: np.ndarray):
        self.X = X
        self.index = np.asarray(index)
        self.shape = (len(self.index), *X.shape[1:])
        self.dtype = X.dtype

    def __getitem__(self, rows) -> np.ndarray:
        return self.X[self.index[rows]]


def spread(n_rows: int, n_chosen: int) -> np.ndarray:
    """Choose rows evenly over an array."""
    return np.linspace(0, n_rows - 1, min(n_rows, n_chosen)).astype(int)


def empty_on_disk(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Make an array in a temporary file that goes with it."""
    n_bytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
    with tempfile.TemporaryFile() as file:
        if hasattr(os, "posix_fallocate") and n_bytes:
            # Writing to a page that a full disk has no block for would kill the process.
            os.posix_fallocate(file.fileno(), 0, n_bytes)
        return np.memmap(file, dtype=dtype, shape=shape)
