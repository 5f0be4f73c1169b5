"""One scale for all images of a set: which values become black and white."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tsynd_sk.datasets._image_facts import ImageFacts

#: A set that uses less than this share of what its type can hold is stretched.
_SMALL_PART = 0.5

Window = tuple[float, float]


@dataclass(frozen=True)
class Scale:
    """Values that become black and white, and how that came about.

    `deep` is for values of more than 8 bits, signed ones and floats; `shallow` for 8 bits. Each is
    None if the set has no such file.
    """

    deep: Window | None
    shallow: Window | None
    note: str = ""
    #: Whether somebody should know who has not asked.
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
            "window must be two finite numbers, the value that becomes black and a higher one that "
            f"becomes white, such as (-160, 240); got {window!r}"
        )
    return low, high


def scale_of(
    facts: Sequence[ImageFacts],
    ranges: Sequence[Window],
    names: Sequence[str],
    window: Window | None,
) -> Scale:
    """Choose one scale for a set, of whose deep files these are the ranges of values and names."""
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
    low, high = (f(side) for f, side in zip((min, max), zip(*ranges, strict=True), strict=True))
    whole = _whole_range(deep, low, high)
    few = _few_that_widen(np.asarray(ranges, dtype=float), names, high - low)
    used = (low, high if high > low else low + 1)
    note = f"values: all files together use {_shown((low, high))}"
    if whole:
        note += f" of {_shown(whole)}"
    note += (
        ", which is stretched to [0, 255], alike in all; window=(low, high) (--window LOW HIGH) "
        "sets another scale"
    )
    is_guess = True
    if whole and high - low >= _SMALL_PART * (whole[1] - whole[0]):
        used, note, is_guess = whole, f"values: {_shown(whole)} scaled to [0, 255]", bool(few)
    note += few
    if windows - {None}:
        note += "; the DICOM files' windows differ, and a window for each would hide brightness"
        is_guess = True
    if n_shallow and is_guess:
        note += f"; {n_shallow} files of 8 bits beside them stay as they are: do they compare?"
    return Scale(used, shallow, note, is_guess)


def _whole_range(deep: Sequence[ImageFacts], low: float, high: float) -> Window | None:
    limits = [fact.limits for fact in deep if fact.limits]
    if len(limits) == len(deep):
        return min(bottom for bottom, _ in limits), max(top for _, top in limits)
    usual = (top for top in (1.0, 255.0) if low >= 0 and high <= top)
    return None if limits else next(((0.0, top) for top in usual), None)


def _few_that_widen(ranges: np.ndarray, names: Sequence[str], used: float) -> str:
    """Name files without which far less of the range would be used: hot pixels, say."""
    low, high = np.quantile(ranges[:, 0], 0.05), np.quantile(ranges[:, 1], 0.95)
    if len(ranges) < 20 or not 0 < high - low < _SMALL_PART * used:
        return ""
    beyond = np.flatnonzero((ranges[:, 0] < low) | (ranges[:, 1] > high))
    named = ", ".join(names[row] for row in beyond[:3])
    return (
        f"; but for {len(beyond)} files such as {named} they would use {_shown((low, high))}: see "
        "them, or set window (--window)"
    )


def _shown(window: Window) -> str:
    return f"[{window[0]:g}, {window[1]:g}]"
