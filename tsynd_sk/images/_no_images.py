"""Errors for what users pass as images and is none, with the way to images."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from torch.utils.data import DataLoader, Dataset


def refuse_no_images(X: Any) -> None:
    """Raise TypeError for a data set, for names of files, and for arrays within an array."""
    kind = type(X).__name__
    if isinstance(X, Dataset | DataLoader):
        dataset = "X" if isinstance(X, Dataset) else "X.dataset"
        raise TypeError(
            f"X is a {kind}, which gives images one by one, with their labels: pass "
            f"skorch.helper.SliceDataset({dataset}, 0) as X and SliceDataset({dataset}, 1) as y, "
            "or an array of images, such as np.stack([image for image, label in dataset])"
        )
    first = X if _is_path(X) else _first_object(X)
    if _is_path(first):
        raise TypeError(
            f"X is a {kind} of names of files or folders, such as {str(first)!r}: load the images "
            "first, by tsynd_sk.datasets.load_image_folder for a folder with a subfolder for each "
            "class, or by np.stack([np.asarray(PIL.Image.open(name)) for name in X])"
        )
    if getattr(first, "ndim", 0) > 0:
        column = "X.iloc[:, 0]" if getattr(X, "ndim", 1) == 2 else "X"
        raise TypeError(
            f"X is a {kind} of arrays, each of shape {tuple(first.shape)}, not an array: "
            f"pass np.stack({column})"
        )


def _is_path(X: Any) -> bool:
    # Elements of an array of strings are strings too.
    return isinstance(X, str | bytes | os.PathLike)


def _first_object(X: Any) -> Any:
    """Return the first element of a list of strings, or of what holds one object for each row."""
    if isinstance(X, list | tuple):
        return X[0] if len(X) and _is_path(X[0]) else None
    if hasattr(X, "iloc") and (getattr(X, "ndim", 0) == 1 or X.shape[1] == 1):
        X = X.to_numpy()
    # Of a table with several columns, strings and the like are said otherwise.
    if not isinstance(X, np.ndarray) or X.dtype.kind not in "OUST" or not 0 < X.size == len(X):
        return None
    first = X.flat[0]
    return first if X.ndim == 1 or not _is_path(first) else None
