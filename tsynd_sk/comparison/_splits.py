"""Training images of a data set, and those that a comparison is scored on."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from sklearn.model_selection import train_test_split

from tsynd_sk import datasets
from tsynd_sk.datasets import LabeledImages

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


def load_splits(
    dataset: str,
    *,
    size: int | None = None,
    root: str | None = None,
    score_on: str = "test",
    flip: bool = True,
) -> Splits:
    """Load the images of whatever ``--dataset`` names.

    Parameters
    ----------
    dataset : str
        "digits", a MedMNIST name, a folder of images, or an ``.npz`` file.
    size : int or None, default=None
        Side of the images in pixels: MedMNIST's resolution, or what the images of a folder are
        resized to; 28 by default.
    root : str or None, default=None
        Folder of MedMNIST's files.
    score_on : {"test", "val"}, default="test"
        Which split is to be scored on. Where there is no test split, a quarter of all images is
        held out for it; where there is no validation split, a quarter of the training images is
        held out if "val" is asked for. Classes keep their shares in both, which are always the
        same.
    flip : bool, default=True
        Whether a mirrored image is still one of its class; never for digits.

    Returns
    -------
    Splits
        The images, with integer labels.

    Raises
    ------
    ValueError
        If `dataset` is nothing that is known, or `size` does not apply to it; if its splits differ
        in their classes, or in being grey; or if there is nothing to be scored on, nor enough
        images to hold some out for it.
    OSError
        If a file is missing or cannot be read, or MedMNIST's cannot be fetched.

    Examples
    --------
    >>> from tsynd_sk.comparison import load_splits
    >>> splits = load_splits("digits")
    >>> splits.X_train.shape, splits.X_test.shape, splits.flip
    ((1347, 8, 8), (450, 8, 8), False)
    """
    path = Path(dataset)
    name, load, splits = _source(dataset, path, size, root)
    if {"train", score_on} <= splits:
        # The test split stays closed as long as choices are made.
        train, scored = load("train"), load(score_on)
    elif "train" not in splits:
        train, scored = _held_out(load())
        if score_on == "val":
            train, scored = _held_out(train)
    elif score_on == "val":
        train, scored = _held_out(load("train"))
    else:
        raise ValueError(
            f"{path} has train and val, but nothing to test on: score on the validation split "
            "(--score-on val), or add a folder test"
        )
    flip = flip and load is not datasets.load_digits_images
    return replace(_joined(name, train, scored, score_on), flip=flip)


def _source(
    dataset: str, path: Path, size: int | None, root: str | None
) -> tuple[str, Callable[..., LabeledImages], set[str]]:
    """Return the name of a data set, the function that loads it, and the splits that it has."""
    if path.is_dir():
        name, side = path.resolve().name, size or 28
        splits = {split for split in ("train", "val", "test") if (path / split).is_dir()}
        if "train" not in splits or len(splits) == 1:
            return name, partial(datasets.load_image_folder, path, size=side), set()
        return name, lambda split: datasets.load_image_folder(path / split, size=side), splits
    if dataset == "digits" or path.suffix == ".npz":
        if size is not None:
            raise ValueError(
                f"size={size} does not apply to {dataset}, whose images have their own"
            )
        if dataset == "digits":
            return "digits", datasets.load_digits_images, set()
        return path.stem, lambda split: datasets.load_npz(path, split=split), _splits_in(path)
    name = dataset if size in (None, 28) else f"{dataset}_{size}"
    load = partial(datasets.load_medmnist, dataset, root=root, size=size or 28)
    return name, lambda split: load(split=split), {"train", "val", "test"}


def _splits_in(path: Path) -> set[str]:
    # What is wrong with the file is told when it is loaded.
    splits = {"train", "test"}
    try:
        with np.load(path.expanduser(), allow_pickle=False) as file:
            return splits | ({"val"} if "val_images" in file.files else set())
    except (OSError, ValueError, AttributeError):
        return splits


def _joined(name: str, train: LabeledImages, scored: LabeledImages, split: str) -> Splits:
    if train.X.ndim != scored.X.ndim:
        raise ValueError(f"one of train and {split} in {name} is grey and the other in colour")
    if list(train.class_names) != list(scored.class_names):
        raise ValueError(
            f"{name} has the classes {list(train.class_names)} in train, but "
            f"{list(scored.class_names)} in {split}"
        )
    names = list(train.class_names)
    return Splits(name, train.X, train.y, scored.X, scored.y, names, scored_on=split)


def _held_out(images: LabeledImages) -> tuple[LabeledImages, LabeledImages]:
    X, X_held, y, y_held = train_test_split(
        images.X, images.y, test_size=0.25, stratify=images.y, random_state=0
    )
    names = images.class_names
    return LabeledImages(X, y, names), LabeledImages(X_held, y_held, names)
