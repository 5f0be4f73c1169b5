"""Hold out test images where a data set has no test split."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterable
from typing import Any

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components
from sklearn.model_selection import StratifiedGroupKFold, train_test_split
from sklearn.utils import check_random_state

#: One part in so many is held out.
_PARTS = 4


def hold_out(
    y: np.ndarray,
    class_names: list[Any],
    *,
    groups: np.ndarray | None = None,
    first_equal: np.ndarray | None = None,
    random_state: Any = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Split rows into training rows and a quarter that is held out, both in random order.

    `y` are class codes, to stratify by. Rows of equal `groups`, or of equal numbers in
    `first_equal`, which images with the same pixels share, stay on one side.
    """
    together = _together(len(y), groups, first_equal)
    grouped = groups is not None or len(np.unique(together)) < len(y)
    n_of_class = [len(np.unique(together[y == code])) for code in range(len(class_names))]
    if lone := [class_names[code] for code, n in enumerate(n_of_class) if n == 1]:
        what = "group (or image of its own)" if grouped else "image"
        raise ValueError(
            f"no split can be held out: there is one {what} only of {lone}, and each class needs "
            "two. Add images, leave the class out, or give a test split of your own (cv, or "
            "folders train and test)"
        )
    try:
        if grouped:
            return _by_group(y, together, random_state)
        rows = np.arange(len(y))
        return tuple(
            train_test_split(rows, test_size=1 / _PARTS, stratify=y, random_state=random_state)
        )
    except ValueError as error:
        what = "groups that must each stay on one side" if grouped else "images"
        raise ValueError(
            f"a quarter of {len(y)} images of {len(set(y.tolist()))} classes cannot be held out, "
            f"with {what} of each class on both sides ({error}). Add images, leave rare classes "
            "out, use finer groups, or give a test split of your own"
        ) from None


def hold_outs(
    X: np.ndarray,
    y: np.ndarray,
    class_names: list[Any],
    groups: np.ndarray | None,
    seeds: Iterable[int],
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Hold out another quarter for each seed, with groups and equal images on one side."""
    equal = np.unique([checksum(image) for image in X], return_inverse=True)[1]
    kept = {"groups": groups, "first_equal": equal}
    return [hold_out(y, class_names, **kept, random_state=seed) for seed in seeds]


def checksum(image: np.ndarray) -> bytes:
    """Return a hash of the pixels."""
    return hashlib.md5(np.ascontiguousarray(image).data, usedforsecurity=False).digest()


def _together(n: int, groups: np.ndarray | None, first_equal: np.ndarray | None) -> np.ndarray:
    """Return for each row the number of those it must stay with: its group, and equal images."""
    rows = np.arange(n)
    # Rows of equal pixels are numbers of their own here, whatever rows were dropped before.
    equal = rows if first_equal is None else np.unique(first_equal, return_inverse=True)[1]
    if groups is None:
        return equal
    codes = np.unique(groups, return_inverse=True)[1]
    n_groups = int(codes.max(initial=-1)) + 1
    # scipy 1.11 knows graphs of 32-bit indices alone.
    ends = np.ones(n), (codes.astype(np.int32), (n_groups + equal).astype(np.int32))
    n_nodes = n_groups + int(equal.max(initial=-1)) + 1
    graph = csr_array(ends, shape=(n_nodes, n_nodes))
    return connected_components(graph, directed=False)[1][codes]


def _by_group(
    y: np.ndarray, together: np.ndarray, random_state: Any
) -> tuple[np.ndarray, np.ndarray]:
    n_groups = len(np.unique(together))
    # scikit-learn 1.6 deals out groups of equal classes by their number, whatever the seed.
    rng = check_random_state(random_state)
    together = rng.permutation(n_groups)[np.unique(together, return_inverse=True)[1]]
    folds = StratifiedGroupKFold(min(_PARTS, n_groups), shuffle=True, random_state=rng)
    with warnings.catch_warnings():
        # The count of classes below says it better.
        warnings.simplefilter("ignore", UserWarning)
        sides = list(folds.split(y, y, together))
    classes = set(y.tolist())

    def faults(side: tuple[np.ndarray, np.ndarray]) -> tuple[int, int, float]:
        train, held = side
        lost = len(classes - set(y[train].tolist())), len(classes - set(y[held].tolist()))
        return *lost, abs(len(held) / len(y) - 1 / _PARTS)

    best = min(sides, key=faults)
    if lost := faults(best)[0]:
        raise ValueError(f"{lost} classes would have no training images: add groups of them")
    return best
