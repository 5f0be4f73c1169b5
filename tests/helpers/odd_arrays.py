"""Arrays and labels of every kind that users have, drawn by hypothesis."""

import numpy as np
from hypothesis import strategies as st

BOOLS_AND_INTS = ["?", "u1", "i1", "i2", "i4", "i8", "u2", "u4", "u8", ">i2", ">u2", ">i4"]
FLOATS = ["f2", "f4", "f8", ">f2", ">f4", ">f8"]

dtypes = st.sampled_from([*BOOLS_AND_INTS, *FLOATS]).map(np.dtype)
seeds = st.integers(0, 2**31 - 1)
sides = st.integers(5, 9)
channels = st.integers(1, 4)


@st.composite
def row_shapes(draw, max_side=9):
    """Rows of a table or images, with the `image_shape` that is needed to read them."""
    kind = draw(st.sampled_from(["table", "hw", "chw", "hwc", "flat", "small"]))
    if kind == "table":
        return (draw(st.integers(1, 6)),), None
    height, width = draw(st.integers(5, max_side)), draw(st.integers(5, max_side))
    if kind == "small":
        # Sides as short as the channels are many must be named.
        height, width = draw(st.integers(1, 7)), draw(st.integers(1, 7))
        return (height, width), (height, width)
    if kind == "hw":
        return (height, width), None
    n_channels = draw(channels)
    shape = (height, width, n_channels) if kind == "hwc" else (n_channels, height, width)
    return ((int(np.prod(shape)),), shape) if kind == "flat" else (shape, None)


def filled(rng, shape, dtype, values):
    """Array of a shape and dtype; `values` names the kind of numbers in it."""
    noise = rng.random(shape)
    if dtype.kind == "b":
        return np.zeros(shape, dtype) if values == "constant" else (noise > 0.5).astype(dtype)
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        low, high = {
            "full": (limits.min, limits.max),
            "narrow": (0, 3),
            "constant": (7, 8),
        }.get(values, (0, min(limits.max, 200)))
        return rng.integers(low, high, shape, dtype=dtype.newbyteorder("=")).astype(dtype)
    scale, shift = {
        "full": (200.0, -100.0),
        "narrow": (1e-3, 1.0),
        "constant": (0.0, 0.1),
        "tiny": (1e-7, 0.0),
        "huge": (6e4, -3e4) if dtype.itemsize == 2 else (1e18, -5e17),
    }.get(values, (1.0, 0.0))
    return (scale * noise + shift).astype(dtype)


VALUES = ["usual", "usual", "full", "narrow", "constant", "tiny", "huge", "constant column"]


def laid_out(X, memory, rng):
    """Give the same values in another memory layout; "broadcast" gives all rows those of one."""
    if memory == "fortran":
        return np.asfortranarray(X)
    if memory == "reversed":
        return np.ascontiguousarray(X[::-1, ..., ::-1])[::-1, ..., ::-1]
    if memory == "strided":
        wide = np.repeat(np.repeat(X, 2, axis=0), 3, axis=-1)
        return wide[::2, ..., ::3]
    if memory == "broadcast":
        return np.broadcast_to(X[:1], X.shape)
    if memory == "read-only":
        X = X.copy()
        X.setflags(write=False)
        return X
    if memory == "unaligned" and X.dtype != object:
        buffer = np.zeros(X.nbytes + 1, np.uint8)[1:]
        view = buffer.view(X.dtype).reshape(X.shape)
        view[...] = X
        return view
    return X


MEMORY = ["plain", "fortran", "reversed", "strided", "broadcast", "read-only", "unaligned"]


@st.composite
def images(draw, n_rows=None, shapes=None, values=VALUES):
    """Array of valid images or rows, with the `image_shape` that is needed to read it."""
    row, image_shape = draw(row_shapes() if shapes is None else shapes)
    n = draw(st.integers(2, 40)) if n_rows is None else n_rows
    rng = np.random.default_rng(draw(seeds))
    kind = draw(st.sampled_from(values))
    X = filled(rng, (n, *row), draw(dtypes), kind)
    if kind == "constant column":
        X[..., 0] = X.flat[0]
    return laid_out(X, draw(st.sampled_from(MEMORY)), rng), image_shape


NAMES = {
    "int": [0, 1, 2],
    "negative": [-7, -1, 5],
    "far apart": [3, 10**12, -(2**40)],
    "uint8": np.array([0, 200, 255], np.uint8),
    "str": ["cyst", "", "a longer name"],
    "object": np.array(["benign", "malignant", "é"], object),
    "bool": [False, True],
    "float": [0.0, 1.0, 1e6],
    "big-endian": np.array([1, 2, 300], ">i4"),
}


@st.composite
def labels(draw, n):
    """Labels of n rows, of which each class has one at least."""
    names = np.asarray(NAMES[draw(st.sampled_from(list(NAMES)))])
    n_classes = draw(st.integers(2, min(len(names), n)))
    rng = np.random.default_rng(draw(seeds))
    codes = np.concatenate([np.arange(n_classes), rng.integers(0, n_classes, n - n_classes)])
    y = names[rng.permutation(codes)]
    form = draw(st.sampled_from(["plain", "plain", "list", "read-only", "reversed"]))
    if form == "list":
        return y.tolist()
    if form == "read-only":
        y.setflags(write=False)
    return y[::-1].copy()[::-1] if form == "reversed" else y
