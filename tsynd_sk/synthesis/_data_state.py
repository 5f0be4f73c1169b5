"""Labels, format and range of images, and the images themselves, as tensors and JSON and back."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import torch
from sklearn.exceptions import NotFittedError
from torch import Tensor

from tsynd_sk._utils._tensor_file import Contents, Refused, field, list_field
from tsynd_sk.images import ImageFormat, ValueRange

_NUMBERS = re.compile(r"[<>|](b1|[iu][1248]|f[248])")
_LABELS = re.compile(_NUMBERS.pattern + r"|[<>|]U[1-9]\d{0,5}|\|O")


def data_state(estimator) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Give what an estimator knows about its data, but not the data.

    Raises
    ------
    ValueError
        If labels or images are of a type that files do not know.
    """
    image_format, names = estimator.format_, getattr(estimator, "feature_names_in_", None)
    low, high = estimator.value_range_.extremes
    shape = image_format.image_shape
    tensors = {
        "lowest": as_tensor(low, image_format.dtype),
        "highest": as_tensor(high, image_format.dtype),
    }
    return tensors, {
        "classes": _labels_state(estimator.classes_),
        "images": {
            "row_shape": list(map(int, image_format.row_shape)),
            "shape": None if shape is None else list(map(int, shape)),
            "layout": image_format.layout,
            "dtype": image_format.dtype.str,
            "feature_names": None if names is None else list(map(str, names)),
        },
    }


def restore_data(estimator, contents: Contents, image_shape) -> None:
    """Take over labels, format and range of images."""
    described = field(contents.body, "images", dict)
    row = tuple(list_field(described, "row_shape", int))
    dtype_name = field(described, "dtype", str)
    if not _NUMBERS.fullmatch(dtype_name) or not row or min(row) < 1 or max(row) > 2**31:
        raise Refused(f"it is damaged: images of shape {row[:5]} in dtype {dtype_name[:20]!r}")
    dtype = np.dtype(dtype_name)
    try:
        # One image that takes no memory, whatever shape the file claims.
        found = ImageFormat.infer(np.broadcast_to(np.zeros((), dtype), (1, *row)), image_shape)
    except ValueError as error:
        raise Refused(
            f"its images have rows of shape {row[:5]}, which image_shape={image_shape!r} of the "
            f"estimator does not fit: {error}"
        ) from error
    shape = described.get("shape")
    layout = described.get("layout")
    if (None if found.image_shape is None else list(found.image_shape), found.layout) != (
        shape,
        layout,
    ):
        raise Refused(
            f"its images have shape {shape!r:.40} in layout {layout!r:.20}, but for "
            f"image_shape={image_shape!r} of the estimator they would have {found.image_shape} in "
            f"{found.layout!r}. Construct the estimator with the parameters of the one that was "
            "saved."
        )
    range_shape = row if found.image_shape is None else ()
    low = array_of(contents, "lowest", dtype, range_shape)
    high = array_of(contents, "highest", dtype, range_shape)
    if not (low <= high).all():
        raise Refused("it is damaged: the lowest values of its images are above the highest")
    estimator.classes_ = _labels(field(contents.body, "classes", dict))
    estimator.format_ = found
    estimator.image_shape_ = found.image_shape
    estimator.n_features_in_ = found.n_features
    estimator.value_range_ = ValueRange.between((low, high), found)
    names = field(described, "feature_names", list, type(None))
    if names is not None:
        if len(names) != estimator.n_features_in_:
            raise Refused(f"it is damaged: {len(names)} names of features")
        estimator.feature_names_in_ = np.array(
            list_field(described, "feature_names", str), dtype=object
        )


def check_has_images(synthesizer) -> None:
    """Refuse what needs the training images after they were left out of a file."""
    if synthesizer._X is None:
        raise NotFittedError(
            "the training images were left out of the file that this synthesizer was loaded from: "
            "give images to synthesize(X, y), or have them in the file by "
            "save_params(path, with_images=True), or fit"
        )


def stand_in(synthesizer) -> Tensor:
    """Make up an image, as networks see them, in the range of the training images."""
    image_format, value_range = synthesizer.format_, synthesizer.value_range_
    shape = image_format.image_shape or image_format.row_shape
    # Varied, for the plans of members are compared on it.
    share = torch.from_numpy(np.random.default_rng(0).random((1, *shape), dtype=np.float32))
    return value_range.clip(torch.lerp(value_range.low, value_range.high, share))


def images_state(synthesizer) -> dict[str, Tensor]:
    """Give the training images and their classes."""
    return {
        "images": as_tensor(np.asarray(synthesizer._X), synthesizer.format_.dtype),
        "image_classes": torch.from_numpy(synthesizer._codes.astype(np.int64)),
    }


def restore_images(synthesizer, contents: Contents) -> None:
    synthesizer._X = synthesizer._y = synthesizer._codes = None
    if "images" not in contents.tensors:
        return
    n_rows = len(contents.tensors["images"]) if contents.tensors["images"].ndim else 0
    image_format = synthesizer.format_
    X = array_of(contents, "images", image_format.dtype, (n_rows, *image_format.row_shape))
    codes = take(contents.tensors, "image_classes", torch.int64, (n_rows,)).numpy()
    classes = synthesizer.classes_
    if not n_rows or codes.min() < 0 or codes.max() >= len(classes):
        raise Refused("it is damaged: its images are of none of its classes")
    synthesizer._set_sources(X, classes[codes], classes)


def take(
    tensors: dict[str, Tensor], name: str, dtype: torch.dtype, shape: tuple[int, ...]
) -> Tensor:
    """Take a tensor out of those of a file, which must be as expected."""
    if name not in tensors:
        raise Refused(f"it is damaged: {name!r} is missing")
    tensor = tensors.pop(name)
    if tensor.dtype != dtype or tuple(tensor.shape) != shape:
        raise Refused(
            f"it is damaged: {name!r} has shape {tuple(tensor.shape)} and dtype {tensor.dtype}, "
            f"expected {shape} and {dtype}"
        )
    return tensor


def as_tensor(array: np.ndarray, dtype: np.dtype) -> Tensor:
    """Put numbers into a tensor to the bit; those without a sign as numbers with one."""
    if not _NUMBERS.fullmatch(dtype.str):
        raise ValueError(
            f"cannot save images of dtype {dtype}, which tensors do not know: fit on float64"
        )
    array = np.array(array, dtype=dtype.newbyteorder("="), order="C")
    return torch.from_numpy(array.view(_signed(array.dtype)))


def _signed(dtype: np.dtype) -> np.dtype:
    return np.dtype(f"i{dtype.itemsize}") if dtype.kind == "u" and dtype.itemsize > 1 else dtype


def array_of(contents: Contents, name: str, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
    native = dtype.newbyteorder("=")
    expected = torch.from_numpy(np.empty(0, _signed(native))).dtype
    array = take(contents.tensors, name, expected, shape).numpy().view(native)
    if not np.isfinite(array).all():
        raise Refused(f"it is damaged: {name!r} holds values that are not finite")
    return array.astype(dtype, copy=False)


def _labels_state(classes: np.ndarray) -> dict[str, Any]:
    values = classes.tolist()
    plain = _LABELS.fullmatch(classes.dtype.str) is not None
    if classes.dtype.kind == "O":
        plain = all(type(value) is str for value in values)
    if not plain:
        raise ValueError(
            f"cannot save labels such as {values[0]!r} of dtype {classes.dtype}: only numbers, "
            "booleans and strings can be written without code that reads them. Convert y before "
            "fit, for instance by y.astype(str)."
        )
    return {"dtype": classes.dtype.str, "values": values}


def _labels(fields: dict[str, Any]) -> np.ndarray:
    name, values = field(fields, "dtype", str), field(fields, "values", list)
    if not _LABELS.fullmatch(name):
        raise Refused(f"it is damaged: labels of dtype {name[:20]!r}")
    dtype = np.dtype(name)
    kind = {"b": bool, "i": int, "u": int, "f": float}.get(dtype.kind, str)
    list_field(fields, "values", kind)
    # Strings take as much memory as their dtype says.
    if not values or len(set(values)) < len(values) or dtype.itemsize * len(values) > 2**26:
        raise Refused(
            f"it is damaged: {len(values)} labels of dtype {name}, of which some are equal"
        )
    try:
        labels = np.array(values, dtype=dtype)
    except OverflowError as error:
        raise Refused(f"it is damaged: labels that are no {name}") from error
    if labels.tolist() != values:
        raise Refused(f"it is damaged: labels that are no {name}")
    return labels
