"""From arrays in a user's layout to the float tensors that networks see, and back without loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from operator import index
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tsynd_sk._utils._tensors import PickledAsArrays
from tsynd_sk.images._stored import NetworkInput, Stored

_MAX_CHANNELS = 4


@dataclass(frozen=True)
class ImageFormat:
    """How the images of an array are laid out.

    Attributes
    ----------
    row_shape : tuple of int
        Shape of one row of the array.
    image_shape : tuple of int or None
        (n_channels, height, width); None for the rows of a table.
    layout : {"hw", "hwc", "chw", None}
        Order of the axes of an image.
    dtype : numpy dtype
        Type of the values.
    divisor : int
        What values are divided by for networks: 255 for pixels, otherwise 1.

    See Also
    --------
    ValueRange : The values of images.

    Examples
    --------
    >>> import numpy as np
    >>> from tsynd_sk.images import ImageFormat
    >>> X = np.full((2, 28, 28, 3), 255, dtype=np.uint8)
    >>> image_format = ImageFormat.infer(X)
    >>> x = image_format.to_tensor(X)
    >>> x.shape, x.max(), image_format.to_array(x).shape
    (torch.Size([2, 3, 28, 28]), tensor(1.), (2, 28, 28, 3))
    """

    row_shape: tuple[int, ...]
    image_shape: tuple[int, int, int] | None
    layout: str | None
    dtype: np.dtype
    divisor: int

    @classmethod
    def infer(cls, X: np.ndarray, image_shape: Sequence[int] | None = None) -> ImageFormat:
        """Find out how images are laid out.

        Parameters
        ----------
        X : ndarray of shape (n, H, W), (n, H, W, C), (n, C, H, W) or (n, n_features)
            Images, flat images, or a table.
        image_shape : tuple of int or None, default=None
            Shape of one image, (H, W), (C, H, W) or, for up to four channels, (H, W, C): for flat
            images, and for those whose channels may be first or last.

        Returns
        -------
        ImageFormat

        Raises
        ------
        ValueError
            If the layout is ambiguous, or `image_shape` another.
        """
        row, shape, layout = X.shape[1:], None, None
        if image_shape is not None:
            shape, layout = cls._match(row, image_shape)
        elif len(row) == 2:
            shape, layout = (1, *row), "hw"
            if min(row) <= _MAX_CHANNELS < max(row):
                raise ValueError(
                    f"X with rows of shape {row} is ambiguous: for grey images, give "
                    f"image_shape={row}; for a single image, pass X[np.newaxis]"
                )
        elif len(row) == 3:
            first, last = row[0] <= _MAX_CHANNELS, row[2] <= _MAX_CHANNELS
            shape, layout = (row, "chw") if first else ((row[2], *row[:2]), "hwc")
            if first == last:
                raise ValueError(
                    f"X with rows of shape {row} is ambiguous: give image_shape=(n_channels, "
                    "height, width), or move the channels by np.moveaxis"
                )
        elif len(row) > 3:
            raise ValueError(
                f"X has {X.ndim} dimensions; expected images, (n, height, width) with or without "
                "n_channels, or (n, n_features). Volumes and videos are not supported: pass their "
                "slices or frames"
            )
        return cls(row, shape, layout, X.dtype, 255 if X.dtype == np.uint8 else 1)

    @staticmethod
    def _match(row: tuple[int, ...], image_shape: Any) -> tuple[tuple[int, int, int], str]:
        """Return shape and layout of rows by the shape that a user gives."""
        try:
            given = tuple(map(index, image_shape))
        except TypeError:
            given = ()
        if len(given) not in (2, 3) or min(given) < 1:
            raise ValueError(
                f"image_shape={image_shape!r} is not valid: expected positive integers, (height, "
                "width), (n_channels, height, width) or (height, width, n_channels)"
            )
        layout = "chw"
        if len(given) == 2:
            channels, height, width, layout = 1, *given, "hw"
        elif given[2] <= _MAX_CHANNELS < given[0]:
            height, width, channels, layout = *given, "hwc"
        else:
            channels, height, width = given
        shape, flat = (channels, height, width), channels * height * width
        layouts = {(flat,): layout, (height, width, channels): "hwc", shape: "chw"}
        if channels == 1:
            layouts[height, width] = "hw"
        if row in layouts:
            return shape, layouts[row]
        raise ValueError(
            f"X must have rows of shape image_shape={given}, or flat ones of {flat} values; got "
            f"rows of shape {row}"
        )

    def to_tensor(self, X: np.ndarray) -> Tensor:
        """Convert images to what networks see.

        Parameters
        ----------
        X : ndarray of shape (n, ...)
            Images. uint8 is divided by 255, and so are other integers if `divisor` is 255.

        Returns
        -------
        Tensor of shape (n, C, H, W), or (n, n_features) for a table, float32
            Never shares memory with `X`.
        """
        x = torch.from_numpy(np.array(X, dtype=np.float32, order="C"))
        if X.dtype == np.uint8 or (self.divisor == 255 and X.dtype.kind in "iu"):
            x /= 255
        if self.image_shape is None:
            return x
        channels, height, width = self.image_shape
        if self.layout == "hwc":
            x = x.reshape(len(x), height, width, channels).permute(0, 3, 1, 2)
            # For one channel, contiguous() would keep strides by which nets round otherwise.
            return x.clone(memory_format=torch.contiguous_format)
        return x.reshape(len(x), channels, height, width)

    def as_network_input(self, X: np.ndarray | Stored) -> np.ndarray | NetworkInput:
        """Return what networks see of images; outside of memory, it is converted when read.

        Parameters
        ----------
        X : array of shape (n, ...)
            Images, in memory or not.

        Returns
        -------
        array of shape (n, C, H, W), or (n, n_features) for a table, float32
            In memory if `X` is.
        """
        return NetworkInput(X, self) if isinstance(X, Stored) else self.to_tensor(X).numpy()

    def to_array(self, x: Tensor) -> np.ndarray:
        """Convert what networks see back to images in the user's layout and dtype.

        Parameters
        ----------
        x : Tensor of shape (n, C, H, W), or (n, n_features) for a table
            Images. Integers are rounded.

        Returns
        -------
        ndarray of shape (n, ...)
            Images of type `dtype`.
        """
        if self.layout == "hwc":
            x = x.permute(0, 2, 3, 1)
        values = x.detach().cpu().numpy().reshape(len(x), *self.row_shape)
        if self.divisor != 1:
            values = values * self.divisor
        if np.issubdtype(self.dtype, np.integer):
            limits = np.iinfo(self.dtype)
            values = np.clip(np.rint(values.astype(np.float64)), limits.min, limits.max)
        elif self.dtype == np.bool_:
            values = values > 0.5
        return np.ascontiguousarray(values, dtype=self.dtype)


@dataclass(frozen=True)
class ValueRange(PickledAsArrays):
    """The range of values of real images, to which synthetic ones are clipped.

    Attributes
    ----------
    low, high : Tensor
        Scalars for images, one value a feature for tables, on the scale that networks see.
    levels : int or None
        Steps in a unit of that scale; None for floats.
    half : bool
        Whether the user's type is float16.
    extremes : tuple of ndarray
        Lowest and highest values in the user's type and scale.

    See Also
    --------
    ImageFormat : The layout of images.

    Examples
    --------
    >>> import numpy as np, torch
    >>> from tsynd_sk.images import ImageFormat, ValueRange
    >>> X = np.array([[[0, 51], [102, 204]]], dtype=np.uint8)
    >>> value_range = ValueRange.of(X, ImageFormat.infer(X))
    >>> value_range.clip(torch.tensor([-1.0, 0.4, 2.0]))
    tensor([0.0000, 0.4000, 0.8000])
    """

    low: Tensor
    high: Tensor
    levels: int | None
    half: bool
    extremes: tuple[np.ndarray, np.ndarray]

    @classmethod
    def of(cls, X: np.ndarray, image_format: ImageFormat) -> ValueRange:
        """Find the range of images, or of each feature of a table.

        Parameters
        ----------
        X : array of shape (n, ...)
            Images, in memory or not.
        image_format : ImageFormat
            How they are laid out.

        Returns
        -------
        ValueRange
            From the lowest value of `X` to the highest.
        """
        axis, dtype = 0 if image_format.image_shape is None else None, image_format.dtype
        extremes = X.min(axis=axis), X.max(axis=axis)
        divisor = image_format.divisor
        low = torch.as_tensor(np.asarray(extremes[0], dtype=np.float32)) / divisor
        high = torch.as_tensor(np.asarray(extremes[1], dtype=np.float32)) / divisor
        levels = None if np.issubdtype(dtype, np.floating) else divisor
        half = dtype.kind == "f" and dtype.itemsize == 2
        return cls(low, high, levels, half=half, extremes=extremes)

    def clip_array(self, X: np.ndarray) -> np.ndarray:
        """Clip images in the user's dtype to the range.

        By rounding to float32, as networks do, they may have left it.

        Parameters
        ----------
        X : ndarray of shape (n, ...)
            Images in the user's dtype.

        Returns
        -------
        ndarray of the shape and dtype of `X`
            Images within the range.
        """
        # numpy answers in the byte order of the machine.
        return np.clip(X, *self.extremes).astype(X.dtype, copy=False)

    def clip(self, x: Tensor) -> Tensor:
        """Clip images to the range, and round them to the user's type, differentiably.

        They survive the way to the user's array and back to the bit. Rounding passes gradients on.

        Parameters
        ----------
        x : Tensor of shape (n, C, H, W), or (n, n_features) for a table
            Images as networks see them.

        Returns
        -------
        Tensor of the shape of `x`
            Images within the range.
        """
        x = torch.clamp(x, self.low.to(x), self.high.to(x))
        if self.half:
            return x.detach().half().to(x) + (x - x.detach())
        if self.levels is None:
            return x
        # As a tensor: CUDA multiplies by the reciprocal of a number, which rounds otherwise.
        levels = torch.tensor(float(self.levels), device=x.device)
        rounded = torch.round(x.detach() * levels) / levels
        return rounded + (x - x.detach())
