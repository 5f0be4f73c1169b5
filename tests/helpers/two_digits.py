"""Zeros and ones, grey and in colour, and what is fitted on them."""

import numpy as np

from tsynd_sk._skorch import scoped_seed
from tsynd_sk.datasets._loaders import load_digits_images

_DIGITS, _LABELS, _ = load_digits_images()
_TWO = np.flatnonzero(_LABELS < 2)[:60]
GREY, CODES = _DIGITS[_TWO].astype(np.float32), _LABELS[_TWO]
y = np.array(["nought", "one"])[CODES]
COLOUR = np.rint(255 * np.stack([GREY, 0.5 * GREY, 1 - GREY], axis=-1)).astype(np.uint8)
# The same with channels first, as networks see them.
FIRST = np.ascontiguousarray(np.moveaxis(COLOUR, -1, 1), dtype=np.float32) / 255


def fitted(estimator, *data):
    with scoped_seed(0):
        return estimator.fit(*data)
