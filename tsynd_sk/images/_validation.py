"""Validation of the images that users give, in memory or not."""

from __future__ import annotations

import os
import warnings
from dataclasses import replace
from numbers import Integral
from typing import Any

import numpy as np
from sklearn.utils.validation import check_array, validate_data
from torch.utils.data import DataLoader, Dataset

from tsynd_sk.images._format import ImageFormat, ValueRange
from tsynd_sk.images._stored import Stored, is_stored, parts


def check_images(estimator, X: Any, *, reset: bool, image_shape=None) -> np.ndarray | Stored:
    """Validate images for an estimator.

    Sets its ``image_shape_``, ``format_``, ``value_range_`` and ``n_features_in_`` (of rows) with
    `reset`, and compares with them otherwise. Arrays outside of memory stay there.
    """
    name = type(estimator).__name__
    # Of a flat row, scikit-learn itself says so.
    shape = tuple(getattr(X, "shape", ()))
    if not reset and len(shape) > 1 and shape == estimator.format_.row_shape:
        raise ValueError(f"X has shape {shape}, that of a single image in fit: pass X[np.newaxis]")
    if is_stored(X):
        X = _stored(X)
    else:
        X = array_of_images(X, name=name, estimator=estimator, reset=reset)
    table = X.ndim == 2 and (image_shape if reset else estimator.image_shape_) is None
    axis = 0 if table else None
    stored = isinstance(X, Stored)
    low, high = _extremes(X, axis, name) if stored else (X.min(axis), X.max(axis))
    if max(-float(low.min()), float(high.max())) > float(np.finfo(np.float32).max):
        raise ValueError(
            "X has values too large for dtype('float32'): scale them, such as to the range [0, 1]"
        )
    integers = X.dtype.kind in "iu" and X.dtype != np.uint8
    # Those up to 1 have the scale of networks already.
    pixels = integers and bool(low.min() >= 0) and 1 < float(high.max()) <= 255
    if reset:
        estimator.format_ = ImageFormat.infer(X, image_shape)
        if pixels and estimator.format_.image_shape is not None:
            estimator.format_ = replace(estimator.format_, divisor=255)
            warnings.warn(
                f"X has integers of {X.dtype} from {low} to {high}, which {name} divides by 255: "
                "pass X.astype('uint8') for the same without a warning, or floats",
                UserWarning,
                stacklevel=3,
            )
        # Whoever reads it gives rows of so many columns.
        if X.ndim == 2:
            estimator.n_features_in_ = X.shape[1]
        estimator.image_shape_ = estimator.format_.image_shape
        estimator.value_range_ = ValueRange.of(np.stack([low, high]), estimator.format_)
        return X

    expected = estimator.format_
    if X.shape[1:] != expected.row_shape:
        raise ValueError(
            f"X has rows of shape {X.shape[1:]}, but {name} is expecting rows of shape "
            f"{expected.row_shape}, as in fit"
        )
    if expected.image_shape and pixels and expected.dtype.kind == "f" and isinstance(X, np.ndarray):
        X = X.astype(np.uint8)
    _check_range(X.dtype, float(low.min()), float(high.max()), estimator)
    return X


def array_of_images(X: Any, *, name: str, estimator=None, reset: bool = False) -> np.ndarray:
    """Return images in memory, or rows of a table, as an array of finite numbers.

    An estimator learns the columns of a table with `reset`, and compares with them otherwise.
    """
    if not isinstance(X, np.ndarray) or X.dtype.kind in "OUST":
        _refuse_no_images(X)
    try:
        n_dims = X.ndim if hasattr(X, "ndim") else np.asarray(X).ndim
    except ValueError as error:
        raise ValueError(
            f"X is ragged, but all images must be of one shape: {error} Resize or crop them."
        ) from None
    if n_dims == 2 and estimator is not None:
        X = validate_data(estimator, X, reset=reset, dtype="numeric")
    else:
        X = check_array(X, allow_nd=True, dtype="numeric", estimator=name, input_name="X")
    if X.dtype.kind not in "buif":
        raise ValueError(f"X has dtype {X.dtype}; {name} expects integers or floats")
    if 0 in X.shape:
        raise ValueError(f"X has shape {X.shape}, which is empty: pass at least one image")
    return X


def _refuse_no_images(X: Any) -> None:
    """Raise TypeError for a data set, for names of files, and for arrays within an array."""
    kind, path = type(X).__name__, (str, bytes, os.PathLike)
    if isinstance(X, Dataset | DataLoader):
        dataset = "X" if isinstance(X, Dataset) else "X.dataset"
        raise TypeError(
            f"X is a {kind}, expected an array: pass skorch.helper.SliceDataset({dataset}, 0) as X "
            f"and SliceDataset({dataset}, 1) as y, or np.stack([image for image, _ in dataset])"
        )
    first: Any = None
    # What holds one object for each row; a table has more columns.
    column = hasattr(X, "iloc") and (X.ndim == 1 or X.shape[1] == 1)
    rows = X.to_numpy() if column else X
    if isinstance(X, path):
        first = X
    elif isinstance(X, list | tuple):
        first = X[0] if len(X) and isinstance(X[0], path) else None
    elif isinstance(rows, np.ndarray) and rows.dtype.kind in "OUST" and len(rows) == rows.size > 0:
        # Of strings in a table, scikit-learn says what is missing.
        first = None if rows.ndim > 1 and isinstance(rows.flat[0], path) else rows.flat[0]
    if isinstance(first, path):
        raise TypeError(
            f"X is a {kind} of names of files, such as {str(first)!r}: load them by tsynd_sk."
            "datasets.load_image_folder or np.stack([np.array(PIL.Image.open(name)) for name in X])"
        )
    if getattr(first, "ndim", 0) > 0:
        column = "X.iloc[:, 0]" if getattr(X, "ndim", 1) == 2 else "X"
        raise TypeError(
            f"X is a {kind} of arrays, each of shape {tuple(first.shape)}: pass np.stack({column})"
        )


def _stored(X: Any) -> Stored:
    X = X if isinstance(X, Stored) else Stored(X)
    if not all(isinstance(side, Integral) for side in X.shape):
        raise ValueError(f"X has an unknown side, {X.shape}: call X.compute_chunk_sizes()")
    if X.ndim < 2 or 0 in X.shape or X.dtype.kind not in "buif":
        raise ValueError(
            f"X has shape {X.shape} and dtype {X.dtype}; expected integers or floats in at least "
            "2 dimensions, rows first, none of them empty"
        )
    return X


def _extremes(X: Stored, axis: int | None, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return lowest and highest values; raise if one is not finite."""
    lows, highs, n_read = [], [], 0
    for part in parts(X):
        try:
            check_array(part, allow_nd=True, dtype="numeric", estimator=name, input_name="X")
        except ValueError as error:
            finite = np.isfinite(part.reshape(len(part), -1)).all(axis=1)
            if not finite.all():
                error.add_note(f"The first such row of X is {n_read + int(finite.argmin())}.")
            raise
        lows.append(part.min(axis=axis))
        highs.append(part.max(axis=axis))
        n_read += len(part)
    return np.min(lows, axis=0), np.max(highs, axis=0)


def _check_range(dtype: np.dtype, low: float, high: float, estimator) -> None:
    """Raise if X is on another scale than that of fit; warn if it reaches far beyond it."""
    name, expected, fitted = type(estimator).__name__, estimator.format_, estimator.value_range_
    fitted_low, fitted_high = float(fitted.low.min()), float(fitted.high.max())
    divided = expected.divisor
    if expected.image_shape is not None and high > 1.5 and divided == 255:
        if dtype != np.uint8 and not (dtype.kind in "iu" and low >= 0 and high <= 255):
            raise ValueError(
                f"X has values up to {high:g} in dtype {dtype}, but {name} was fitted on "
                f"{expected.dtype} images, which it divides by 255. Pass uint8, or floats up to 1."
            )
    elif expected.image_shape is not None and dtype == np.uint8 and fitted_high > 1.5:
        raise ValueError(
            f"X is uint8, which is divided by 255, but {name} was fitted on {expected.dtype} "
            f"images with values up to {fitted_high:g}. Pass X.astype({str(expected.dtype)!r})."
        )
    # By how much X may exceed the range of fit, on the scale that networks see.
    scale = 255 if dtype == np.uint8 or (divided == 255 and dtype.kind in "iu") else 1
    width = fitted_high - fitted_low
    if fitted_low - width <= low / scale and high / scale <= fitted_high + width:
        return
    warnings.warn(
        f"X has values from {low:g} to {high:g}, far outside of the range from "
        f"{fitted_low * divided:g} to {fitted_high * divided:g} that {name} was fitted on: scale X "
        "as for fit",
        UserWarning,
        stacklevel=4,
    )
