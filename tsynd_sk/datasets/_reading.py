"""How the images of a set are read, with one scale and one size, and further ones like them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from tsynd_sk._utils._validation import type_name
from tsynd_sk.datasets._read_image import (
    FileFault,
    ImageFacts,
    in_threads,
    look,
    n_threads,
    read_page,
    refusal,
)

_LARGEST = 224
#: A set that uses less of the range of its type is stretched.
_SMALL_PART = 0.5
_BICUBIC = Image.Resampling.BICUBIC
# Of ITU-R 601, as Pillow has it.
_LUMINANCE = np.array([0.299, 0.587, 0.114], dtype=np.float32)

Window = tuple[float, float]


@dataclass(frozen=True)
class Reading:
    """How image files become arrays, alike for all files of a set.

    Attributes
    ----------
    size : tuple of int
        Height and width in pixels.
    fit : {"crop", "pad", "native"}
        How files of another size are resized; "native" refuses them.
    grayscale : bool
        Whether images are grey, of shape (H, W), or have three channels.
    window : tuple of float or None
        Values that become 0 and 255, of files with more than 8 bits, signed values or floats, if
        there are any.
    window_8bit : tuple of float or None
        The same of files with 8 bits.
    pages : {"first", "all"}
        Which pages of a file are images.

    See Also
    --------
    read_images : Read further files by it.

    Examples
    --------
    >>> from dataclasses import asdict
    >>> from tsynd_sk.datasets import Reading
    >>> reading = Reading((64, 64), "crop", True, (-160.0, 240.0), None)
    >>> Reading(**asdict(reading)) == reading
    True
    """

    size: tuple[int, int]
    fit: str
    grayscale: bool
    window: Window | None
    window_8bit: Window | None
    pages: str = "first"

    def __post_init__(self):
        # JSON knows lists only.
        object.__setattr__(self, "size", tuple(self.size))
        for name in ("window", "window_8bit"):
            if (value := getattr(self, name)) is not None:
                object.__setattr__(self, name, tuple(map(float, value)))


def shape_of(reading: Reading) -> tuple[int, ...]:
    """Return the shape of an image."""
    return reading.size if reading.grayscale else (*reading.size, 3)


def pages_of(facts: ImageFacts, pages: str) -> range:
    """Return the numbers of the pages of a file that are images."""
    return range(facts.n_pages if pages == "all" else 1)


def check_fits(reading: Reading, facts: ImageFacts) -> None:
    """Raise FileFault if a file cannot be read as a set was."""
    if (reading.window if facts.deep else reading.window_8bit) is None:
        kinds = ("8 bits", "more than 8 bits, signed values or floats")
        is_, were = kinds if not facts.deep else kinds[::-1]
        raise FileFault(
            "files of another depth",
            f"it has {is_}, but the set had only files of {were}: convert it",
        )
    if reading.fit == "native" and facts.shape != reading.size:
        raise _other_size(facts.shape, reading)


def as_read(reading: Reading, pixels: np.ndarray, facts: ImageFacts) -> np.ndarray:
    """Return the pixels of a file as uint8 that broadcast to the shape of an image."""
    window = reading.window if facts.deep else reading.window_8bit
    assert window is not None
    if facts.deep or window != (0, 255):
        low, high = window
        # In double precision, for values may be 32-bit integers.
        share = (pixels.astype(np.float64) - low) * (255 / (high - low))
        pixels = np.clip(share, 0, 255).astype(np.float32)
        pixels = 255 - pixels if facts.white_is_zero else pixels
    if reading.grayscale and pixels.ndim == 3:
        eight = pixels.dtype == np.uint8
        pixels = np.asarray(Image.fromarray(pixels).convert("L")) if eight else pixels @ _LUMINANCE
    if pixels.shape[:2] != reading.size:
        pixels = _resized(pixels, reading)
    if pixels.dtype != np.uint8:
        pixels = np.rint(np.clip(pixels, 0, 255)).astype(np.uint8)
    return pixels[..., None] if pixels.ndim == 2 and not reading.grayscale else pixels


def _resized(pixels: np.ndarray, reading: Reading) -> np.ndarray:
    if reading.fit == "native":
        raise _other_size(pixels.shape, reading)
    fitted = ImageOps.fit if reading.fit == "crop" else ImageOps.pad
    to = (reading.size[1], reading.size[0])
    if pixels.ndim == 2 or pixels.dtype == np.uint8:
        return np.asarray(fitted(Image.fromarray(pixels), to, method=_BICUBIC))
    channels = [Image.fromarray(np.ascontiguousarray(c)) for c in np.moveaxis(pixels, -1, 0)]
    return np.stack([np.asarray(fitted(c, to, method=_BICUBIC)) for c in channels], axis=-1)


def _other_size(shape: tuple[int, ...], reading: Reading) -> FileFault:
    return FileFault(
        "files of another size",
        f"it is {_wide(shape)}, the others {_wide(reading.size)}; resize by size",
    )


@dataclass(frozen=True)
class Scale:
    """Values that become black and white, of deep files and of those with 8 bits, and why."""

    deep: Window | None
    shallow: Window | None
    note: str = ""
    is_guess: bool = False


def check_window(window: Any) -> Window | None:
    """Return `window` as two floats in ascending order, or None."""
    if window is None:
        return None
    try:
        low, high = map(float, window)
    except (TypeError, ValueError):
        low = high = np.nan
    if not (low < high and np.isfinite([low, high]).all()):
        raise ValueError(
            "window must be two finite numbers, the values that become black and white, such as "
            f"(-160, 240); got {window!r}"
        )
    return low, high


def scale_of(
    facts: Sequence[ImageFacts],
    ranges: Sequence[Window],
    names: Sequence[str],
    window: Window | None,
) -> Scale:
    """Choose one scale for a set; `ranges` and `names` are those of its deep files."""
    deep = [fact for fact in facts if fact.deep]
    n_shallow = len(facts) - len(deep)
    if window is not None:
        note = f"values: {_shown(window)} scaled to [0, 255], as asked for"
        return Scale(window if deep else None, window if n_shallow else None, note)
    shallow = (0.0, 255.0) if n_shallow else None
    if not deep:
        return Scale(None, shallow)
    windows = {fact.window for fact in deep}
    own = windows.pop() if len(windows) == 1 else None
    if own is not None:
        return Scale(own, shallow, f"values: the window of all DICOM files, {_shown(own)}")
    lows, highs = np.transpose(ranges)
    low, high = float(lows.min()), float(highs.max())
    whole = _whole_range(deep, low, high)
    few = _few_that_widen(lows, highs, names)
    used = (low, high if high > low else low + 1)
    note = (
        f"values: all files together use {_shown((low, high))}"
        f"{f' of {_shown(whole)}' if whole else ''}, which is stretched to [0, 255]; "
        "window=(low, high) (--window LOW HIGH) sets another scale"
    )
    is_guess = True
    if whole and high - low >= _SMALL_PART * (whole[1] - whole[0]):
        used, note, is_guess = whole, f"values: {_shown(whole)} scaled to [0, 255]", bool(few)
    note += few
    if windows - {None}:
        note += "; the DICOM files' windows differ"
        is_guess = True
    if n_shallow and is_guess:
        note += f"; {n_shallow} files of 8 bits beside them stay as they are"
    return Scale(used, shallow, note, is_guess)


def _whole_range(deep: Sequence[ImageFacts], low: float, high: float) -> Window | None:
    limits = [fact.limits for fact in deep if fact.limits]
    if len(limits) == len(deep):
        return min(bottom for bottom, _ in limits), max(top for _, top in limits)
    usual = not limits and low >= 0
    return next(((0.0, top) for top in (1.0, 255.0) if usual and high <= top), None)


def _few_that_widen(lows: np.ndarray, highs: np.ndarray, names: Sequence[str]) -> str:
    """Name files without which far less of the range would be used."""
    low, high = np.quantile(lows, 0.05), np.quantile(highs, 0.95)
    if len(names) < 20 or not 0 < high - low < _SMALL_PART * (highs.max() - lows.min()):
        return ""
    beyond = np.flatnonzero((lows < low) | (highs > high))
    named = ", ".join(names[row] for row in beyond[:3])
    return (
        f"; but for {len(beyond)} files such as {named} they would use {_shown((low, high))}: look "
        "at these, or set window (--window)"
    )


def _shown(window: Window) -> str:
    return f"[{window[0]:g}, {window[1]:g}]"


def reading_of(
    facts: Sequence[ImageFacts],
    names: Sequence[str],
    scale: Scale,
    size: int | str,
    fit: str,
    grayscale: bool | None,
    pages: str,
) -> tuple[Reading, str]:
    """Choose how a set is read, and say why."""
    shapes: dict[tuple[int, int], str] = {}
    for fact, name in zip(facts, names, strict=True):
        shapes.setdefault(fact.shape, name)
    first = next(iter(shapes))
    if isinstance(size, int):
        chosen, why = (size, size), "as asked for"
    elif len(shapes) == 1 and (size == "native" or max(first) <= _LARGEST):
        chosen, why = first, "the files' own size"
    elif size == "native":
        two = [f"{_wide(shape)} ({name})" for shape, name in list(shapes.items())[:2]]
        raise ValueError(
            f"the images have {len(shapes)} different sizes, such as {' and '.join(two)}; resize "
            "them to PX x PX by size=PX (--size PX)"
        )
    else:
        side = min(int(np.median([min(fact.shape) for fact in facts])), _LARGEST)
        chosen = (side, side)
        why = f"the median of the files' shorter sides, at most {_LARGEST}"
        if len(shapes) == 1:
            why = f"files are {_wide(first)}; more than {_LARGEST} only by size (--size)"
    n_grey = sum(not fact.colour for fact in facts)
    if grayscale is None:
        grayscale = n_grey == len(facts)
    fit = "native" if size == "native" else fit
    done = "" if len(shapes) == 1 and chosen == first else f", {fit} to fit"
    kinds = f" ({n_grey} grey files among them become colour)" if n_grey and not grayscale else ""
    note = f"size: {_wide(chosen)} pixels ({why}){done}, {'grey' if grayscale else 'colour'}{kinds}"
    return Reading(chosen, fit, grayscale, scale.deep, scale.shallow, pages), note


def _wide(shape: tuple[int, ...]) -> str:
    return f"{shape[1]} x {shape[0]}"


def read_images(paths: str | os.PathLike | Iterable[str | os.PathLike], *, like: Any) -> np.ndarray:
    """Read image files as those of a set were read.

    Parameters
    ----------
    paths : path or list of paths
        Files.
    like : Bunch, Reading or estimator
        What `load_image_folder` returned, its ``reading``, or an estimator saved with it
        (``save_params(path, reading=...)``).

    Returns
    -------
    X : ndarray of shape (n, H, W) or (n, H, W, 3), uint8
        Images, in the order of files and pages.

    Raises
    ------
    ValueError
        If files cannot be read in this way: each is named with the reason.
    TypeError
        If `like` does not say how files were read.

    See Also
    --------
    load_image_folder : Load a set.
    Reading : How it was read.

    Examples
    --------
    >>> import tempfile
    >>> from PIL import Image
    >>> from tsynd_sk.datasets import Reading, read_images
    >>> reading = Reading((16, 16), "crop", True, None, (0, 255))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Image.new("L", (50, 50), 7).save(f"{folder}/new.png")
    ...     read_images(f"{folder}/new.png", like=reading).shape
    (1, 16, 16)
    """
    reading: Any = like
    for name in ("reading", "reading_"):
        reading = getattr(reading, name, reading)
    if not isinstance(reading, Reading):
        raise TypeError(
            "like must be what load_image_folder returned, its reading, or an estimator saved with "
            f"reading=; got {type_name(like)} without one"
        )
    paths = [paths] if isinstance(paths, (str, os.PathLike)) else list(paths)
    shape = shape_of(reading)

    def read(path: Path) -> list[np.ndarray]:
        facts = look(path)
        check_fits(reading, facts)
        pages = (read_page(path, facts, page) for page in pages_of(facts, reading.pages))
        return [np.broadcast_to(as_read(reading, page, facts), shape) for page in pages]

    files = [Path(path).expanduser() for path in paths]
    results = in_threads(read, files, min(4, n_threads()))
    pairs = zip(map(str, files), results, strict=True)
    if faults := {file: result for file, result in pairs if isinstance(result, FileFault)}:
        raise refusal(faults, "", "leave them out of paths")
    return np.array([image for result in results for image in result], np.uint8).reshape(-1, *shape)
