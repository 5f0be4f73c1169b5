"""Training images of a data set, and those that a comparison is scored on."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tsynd_sk import datasets
from tsynd_sk.comparison._hold_out import hold_out
from tsynd_sk.datasets import LabeledImages, Reading

__all__ = ["Splits", "load_splits"]


@dataclass(frozen=True)
class Splits:
    """Training and test images of one data set.

    Attributes
    ----------
    name : str
        Name of the data set.
    X_train, X_test : ndarray of shape (n, H, W) or (n, H, W, C), uint8 or float32
        Images. Those of `X_test` are scored on, whatever split they are.
    y_train, y_test : ndarray of shape (n,), int64
        Class indices.
    class_names : list of str
        Names of the classes.
    flip : bool, default=True
        Whether a mirrored image is still one of its class.
    scored_on : {"test", "val"}, default="test"
        Which split `X_test` is. Choices are made on "val", and "test" is looked at in the end.
    notes : tuple of str, default=()
        How the images were read and divided, in sentences.
    reading : Reading or None, default=None
        How image files became arrays, for `tsynd_sk.datasets.read_images`.

    Examples
    --------
    >>> import numpy as np
    >>> from tsynd_sk.comparison import Splits
    >>> X, y = np.zeros((6, 8, 8), dtype=np.uint8), np.arange(6) % 2
    >>> splits = Splits("mine", X[:4], y[:4], X[4:], y[4:], ["fit", "sick"], flip=False)
    >>> splits.scored_on, len(splits.digest())
    ('test', 32)
    """

    name: str
    X_train: np.ndarray
    y_train: np.ndarray
    X_test: np.ndarray
    y_test: np.ndarray
    class_names: list[str]
    flip: bool = True
    scored_on: str = "test"
    notes: tuple[str, ...] = ()
    reading: Reading | None = None

    def digest(self) -> str:
        """Compute the checksum of all images and labels.

        Returns
        -------
        str
            Hexadecimal digits.
        """
        md5 = hashlib.md5(usedforsecurity=False)
        for array in (self.X_train, self.y_train, self.X_test, self.y_test):
            md5.update(np.ascontiguousarray(array).tobytes())
        return md5.hexdigest()

    def counts(self) -> str:
        """Say how many images each class has on both sides.

        Returns
        -------
        str
            In one line; of many classes the first twenty.
        """
        n_classes = len(self.class_names)
        n_train, n_test = (np.bincount(y, minlength=n_classes) for y in (self.y_train, self.y_test))
        each = [
            f"{name} {train} + {test}"
            for name, train, test in zip(self.class_names, n_train, n_test, strict=True)
        ]
        more = f" and {n_classes - 20} more" if n_classes > 20 else ""
        return f"images per class (train + {self.scored_on}): {', '.join(each[:20])}{more}"


def load_splits(
    dataset: str,
    *,
    size: int | str | None = None,
    root: str | None = None,
    score_on: str = "test",
    flip: bool = True,
    **files: Any,
) -> Splits:
    """Load the images of whatever ``--dataset`` names.

    Parameters
    ----------
    dataset : str
        "digits", a MedMNIST name, a folder of images, or an ``.npz`` file.
    size : int, "native" or None, default=None
        Side of the images in pixels: MedMNIST's resolution, 28 by default; or the `size` of
        `load_image_folder`, "auto" by default.
    root : str or None, default=None
        Folder of MedMNIST's files.
    score_on : {"test", "val"}, default="test"
        Which split is to be scored on. Where there is no test split, a quarter of the training
        images is held out for it; where there is no validation split, a quarter of what is left
        then if "val" is asked for. Classes keep their shares in both, which are always the same;
        groups, and images of equal pixels, stay on one side.
    flip : bool, default=True
        Whether a mirrored image is still one of its class; never for digits.
    **files : dict
        How the files of a folder are read: further parameters of `load_image_folder`.

    Returns
    -------
    Splits
        The images, with integer labels.

    Raises
    ------
    ValueError
        If `dataset` is nothing that is known, or `size` or `files` do not apply to it; if its
        splits differ in their images' shape; or if there are not enough images to hold some out.
    OSError
        If a file is missing or cannot be read, or MedMNIST's cannot be fetched.

    Examples
    --------
    >>> from tsynd_sk.comparison import load_splits
    >>> splits = load_splits("digits")
    >>> splits.X_train.shape, splits.X_test.shape, splits.flip
    ((1347, 8, 8), (450, 8, 8), False)
    """
    path = Path(dataset).expanduser()
    if path.is_dir():
        source = _folder(path, size, score_on, files)
    else:
        if files:
            raise ValueError(
                f"{', '.join(files)}: how files are read applies to folders of images, and "
                f"{dataset} is none"
            )
        source = _arrays(dataset, path, size, root)
    train = source.load("train")
    notes = list(source.notes)
    for split in ("test", "val"):
        # Held out before the validation images, so that choices never see a test image.
        if split in source.splits:
            # The test split stays closed as long as choices are made.
            scored = source.load(split) if split == score_on else train
            how = f"its own {split} images"
        else:
            train, scored, how = _held_out(train)
            how = f"{len(scored.y)} images that are held out {how}"
        if split == score_on:
            break
    notes.append(f"scored on: {how}")
    name, names = source.name, list(train.class_names)
    if train.X.shape[1:] != scored.X.shape[1:]:
        raise ValueError(
            f"{name} has images of shape {train.X.shape[1:]} in train, but of "
            f"{scored.X.shape[1:]} in {score_on}; resize them, and make all grey or all colour"
        )
    notes += _missing_classes(names, train.y, scored.y, score_on)
    if not path.is_dir():
        notes += _copies(train.X, scored.X, score_on)
    flip = flip and source.mirrors
    return Splits(
        *(name, train.X, train.y, scored.X, scored.y, names, flip, score_on, tuple(notes)),
        reading=source.reading,
    )


@dataclass(frozen=True)
class _Side:
    """Images of one split, and what must not be divided among splits."""

    X: np.ndarray
    y: np.ndarray
    class_names: list[str]
    groups: np.ndarray | None = None
    first_equal: np.ndarray | None = None

    def take(self, rows: slice) -> _Side:
        """Return some rows, as views: images may be many."""
        others = (None if a is None else a[rows] for a in (self.groups, self.first_equal))
        return _Side(self.X[rows], self.y[rows], self.class_names, *others)


@dataclass(frozen=True)
class _Source:
    """A data set by name: how its splits are loaded, and which it has of its own."""

    name: str
    load: Callable[[str], _Side]
    splits: frozenset[str]
    mirrors: bool = True
    notes: tuple[str, ...] = ()
    reading: Reading | None = None


def _folder(path: Path, size: int | str | None, score_on: str, files: dict[str, Any]) -> _Source:
    # Without a split of its own, the test images are held out before validation images are.
    wanted = list(dict.fromkeys(["train", score_on]))
    data = datasets.load_image_folder(
        path, split=wanted, size="auto" if size is None else size, **files
    )
    whole = _Side(data.X, data.y, data.class_names, data.groups, data.first_equal)

    def load(split: str) -> _Side:
        if data.split is None:
            return whole
        rows = np.flatnonzero(data.split == split)
        if not len(rows):
            raise ValueError(f"{path}: no image of its split {split} can be read")
        return whole.take(slice(rows[0], rows[-1] + 1))  # rows go by split

    name, splits = path.resolve().name, frozenset(data.splits)
    return _Source(name, load, splits, notes=tuple(data.notes), reading=data.reading)


def _arrays(dataset: str, path: Path, size: int | str | None, root: str | None) -> _Source:
    size = None if isinstance(size, str) else size
    if dataset != "digits" and path.suffix != ".npz":
        name = dataset if size in (None, 28) else f"{dataset}_{size}"
        load = partial(datasets.load_medmnist, dataset, root=root, size=size or 28)
        return _Source(name, _as_side(load), frozenset({"train", "val", "test"}))
    if size is not None:
        raise ValueError(f"size={size} does not apply to {dataset}, whose images have their own")
    if dataset == "digits":
        digits = _Side(*datasets.load_digits_images())
        return _Source("digits", lambda split: digits, frozenset(), mirrors=False)
    return _Source(path.stem, _as_side(partial(datasets.load_npz, path)), _splits_in(path))


def _as_side(load: Callable[..., LabeledImages]) -> Callable[[str], _Side]:
    def side(split: str) -> _Side:
        images = load(split=split)
        _, first_equal = np.unique([_checksum(x) for x in images.X], return_inverse=True)
        return _Side(*images, first_equal=first_equal)

    return side


def _splits_in(path: Path) -> frozenset[str]:
    # What is wrong with the file is told when it is loaded.
    try:
        with np.load(path, allow_pickle=False) as file:
            return frozenset(s for s in ("train", "val", "test") if f"{s}_images" in file.files)
    except (OSError, ValueError, AttributeError):
        return frozenset()


def _held_out(side: _Side) -> tuple[_Side, _Side, str]:
    train, held, how = hold_out(
        side.y, side.class_names, groups=side.groups, first_equal=side.first_equal
    )
    order = np.concatenate([train, held])
    # In place, so that there is never a second array of all images.
    _reorder(side.X, order)
    others = (None if a is None else a[order] for a in (side.groups, side.first_equal))
    divided = _Side(side.X, side.y[order], side.class_names, *others)
    return divided.take(slice(len(train))), divided.take(slice(len(train), None)), how


def _reorder(X: np.ndarray, order: np.ndarray) -> None:
    """Let ``X`` become ``X[order]``, cycle by cycle of the permutation."""
    open_ = np.ones(len(order), dtype=bool)
    for start in range(len(order)):
        if open_[start]:
            first, place = X[start].copy(), start
            while (source := order[place]) != start:
                X[place] = X[source]
                open_[place] = False
                place = source
            X[place] = first
            open_[place] = False


def _checksum(image: np.ndarray) -> bytes:
    return hashlib.md5(np.ascontiguousarray(image).data, usedforsecurity=False).digest()


def _copies(X: np.ndarray, X_scored: np.ndarray, split: str) -> Iterator[str]:
    """Say how many images of arrays stand there twice; loading files says it with their names."""
    train, scored = ([_checksum(x) for x in images] for images in (X, X_scored))
    in_train, in_scored = set(train), set(scored)
    counts = {
        "repeats in train": len(train) - len(in_train),
        f"repeats in {split}": len(scored) - len(in_scored),
        f"images of {split} that are in train, too": sum(x in in_train for x in scored),
    }
    if any(counts.values()):
        yield "equal pixels: " + ", ".join(f"{n} {what}" for what, n in counts.items() if n)


def _missing_classes(
    names: list[str], y: np.ndarray, y_scored: np.ndarray, split: str
) -> Iterator[str]:
    """Say which classes one side lacks, and what that means for scores."""
    for side, labels in (("train", y), (split, y_scored)):
        lacking = [name for code, name in enumerate(names) if code not in set(labels.tolist())]
        if lacking and len(names) - len(lacking) == 1:
            only = next(name for name in names if name not in lacking)
            yield f"classes: {side} has images of {only!r} only: there is no ROC AUC"
        elif lacking:
            yield (
                f"classes: {side} has no images of {', '.join(map(repr, lacking))}; scores are "
                "means over the classes that it has"
            )
