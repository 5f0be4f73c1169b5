"""Images whose pixels are equal."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np


def digest_of(pixels: np.ndarray, white_is_zero: bool) -> bytes:
    """Return a checksum of pixels as they are stored, before any scale or size."""
    digest = hashlib.blake2b(repr((pixels.shape, white_is_zero)).encode(), digest_size=16)
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.digest()


def first_equal(digests: Sequence[bytes]) -> np.ndarray:
    """Return, for each row, the first row with the same pixels."""
    first: dict[bytes, int] = {}
    return np.array([first.setdefault(d, row) for row, d in enumerate(digests)], dtype=np.int64)


def told(
    first: np.ndarray, names: Sequence[str], classes: Sequence[str], splits: Sequence[str]
) -> str:
    """Return how many images repeat an earlier one, and which are where they should not be.

    Empty if there is none.
    """
    again = np.flatnonzero(first != np.arange(len(first))).tolist()
    if not again:
        return ""

    def pairs(values: Sequence[str]) -> list[str]:
        return [
            f"{names[first[row]]} and {names[row]}"
            for row in again
            if values[row] != values[first[row]]
        ]

    text = f"{len(again)} of {len(first)} images have the pixels of another one"
    for where, found in (("under two labels", pairs(classes)), ("in two splits", pairs(splits))):
        if found:
            text += f"; {where}: {', '.join(found[:3])}"
            text += f" and {len(found) - 3} more" if len(found) > 3 else ""
    if ";" not in text:
        text += f", such as {names[first[again[0]]]} and {names[again[0]]}"
    return text
