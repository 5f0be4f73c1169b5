"""Load images by the name of a data set, and say which of them to score on."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tsynd_sk import datasets
from tsynd_sk.comparison._hold_out import checksum, hold_outs
from tsynd_sk.datasets import Reading


@dataclass(frozen=True)
class Splits:
    """Images of a data set, and which of them to score on.

    Attributes
    ----------
    name : str
        Name of the data set.
    X : ndarray of shape (n, H, W) or (n, H, W, C), uint8 or float32
        Images.
    y : ndarray of shape (n,), int64
        Class indices.
    class_names : list of str
        Names of the classes.
    test_rows : ndarray of shape (n_test,) or None, default=None
        Rows to score on; None if every run holds out its own part.
    groups : ndarray of shape (n,) or None, default=None
        What each image belongs to (a patient, a slide), if known.
    flip : bool, default=True
        Whether a mirrored image is still one of its class.
    scored_on : {"test", "val"}, default="test"
        Which split `test_rows` are: "val" to choose between settings, "test" once in the end.
    notes : tuple of str, default=()
        How the images were read and split.
    reading : Reading or None, default=None
        How image files became arrays, for `tsynd_sk.datasets.read_images`.

    Examples
    --------
    >>> import numpy as np
    >>> from tsynd_sk.comparison import Splits
    >>> X, y = np.zeros((6, 8, 8), dtype=np.uint8), np.arange(6) % 2
    >>> splits = Splits("mine", X, y, ["fit", "sick"], test_rows=np.arange(4, 6))
    >>> [(train.tolist(), test.tolist()) for train, test in splits.divisions(1)]
    [([0, 1, 2, 3], [4, 5])]
    >>> splits.labels[:2].tolist(), splits.counts()
    (['fit', 'sick'], 'images per class (train + test): fit 2 + 1, sick 2 + 1')
    """

    name: str
    X: np.ndarray
    y: np.ndarray
    class_names: list[str]
    test_rows: np.ndarray | None = None
    groups: np.ndarray | None = None
    flip: bool = True
    scored_on: str = "test"
    notes: tuple[str, ...] = ()
    reading: Reading | None = None

    @property
    def labels(self) -> np.ndarray:
        """Name of the class of each image, an array of shape (n,)."""
        return np.array(self.class_names)[self.y]

    def divisions(
        self, n_repeats: int, random_state: int = 0
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """Split the images once for each run, for `cv` of `compare`.

        Parameters
        ----------
        n_repeats : int
            Number of runs.
        random_state : int, default=0
            Seed of the first hold-out; each further one has the next number.

        Returns
        -------
        list of (train, test)
            Rows. Always the same if the data set has a split of its own; otherwise each run holds
            out another quarter, as in `compare`.
        """
        if self.test_rows is not None:
            train = np.setdiff1d(np.arange(len(self.y)), self.test_rows)
            return [(train, self.test_rows)] * n_repeats
        seeds = range(random_state, random_state + n_repeats)
        return hold_outs(self.X, self.y, self.class_names, self.groups, seeds)

    def counts(self) -> str:
        """Return how many images each class has.

        Returns
        -------
        str
            One line; of many classes, the first twenty.
        """
        sides, what = [np.bincount(self.y, minlength=len(self.class_names))], ""
        if self.test_rows is not None:
            test = np.bincount(self.y[self.test_rows], minlength=len(self.class_names))
            sides, what = [sides[0] - test, test], f" (train + {self.scored_on})"
        each = [
            f"{name} {' + '.join(str(side[code]) for side in sides)}"
            for code, name in enumerate(self.class_names)
        ]
        more = f" and {len(each) - 20} more" if len(each) > 20 else ""
        return f"images per class{what}: {', '.join(each[:20])}{more}"


def load_splits(
    dataset: str,
    *,
    size: int | str | None = None,
    root: str | None = None,
    score_on: str = "test",
    flip: bool = True,
    **files: Any,
) -> Splits:
    """Load images by name, as ``--dataset`` does.

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
        Split to score on. If there is none, every run holds out its own part. With "val", test
        images are left out: the test split, or always the same quarter.
    flip : bool, default=True
        Whether a mirrored image is still one of its class; never for digits.
    **files : dict
        Further parameters of `load_image_folder`, for folders.

    Returns
    -------
    Splits
        The images, with integer labels.

    Raises
    ------
    ValueError
        If `dataset` is unknown, an argument does not apply to it, its splits differ in the shape of
        images, or there are too few images to hold some out.
    OSError
        If a file is missing or cannot be read, or MedMNIST cannot be downloaded.

    See Also
    --------
    compare : Train on the images, with several arms.
    tsynd_sk.datasets.load_image_folder : Reads the files of a folder.

    Examples
    --------
    >>> from tsynd_sk.comparison import load_splits
    >>> splits = load_splits("digits")
    >>> splits.X.shape, splits.test_rows, splits.flip
    ((1797, 8, 8), None, False)
    """
    path = Path(dataset).expanduser()
    if path.is_dir():
        source = _folder(path, size, score_on, files)
    elif files:
        raise ValueError(
            f"{', '.join(files)} applies to folders of image files, and {dataset} is none: leave "
            "it out"
        )
    else:
        source = _arrays(dataset, path, size, root)
    side, test_rows, notes = source.load("train"), None, list(source.notes)
    if score_on == "val" and "test" not in source.splits:
        # Held out before the validation images, so that choices never see a test image.
        ((train, _),) = hold_outs(*side, range(1))
        side = side.take(np.sort(train))
    if score_on in source.splits:
        # The test split is not loaded as long as choices are made.
        scored, n = source.load(score_on), len(side.y)
        if side.X.shape[1:] != scored.X.shape[1:]:
            raise ValueError(
                f"{source.name} has images of shape {side.X.shape[1:]} in train, but of "
                f"{scored.X.shape[1:]} in {score_on}: resize them, and make all grey or all colour"
            )
        notes += [f"scored on: its own {score_on} images"]
        for split, y in (("train", side.y), (score_on, scored.y)):
            notes += _missing_classes(side.class_names, y, split)
        if not path.is_dir():
            # For files, loading them counts copies by name.
            notes += _copies(side.X, scored.X, score_on)
        test_rows = np.arange(n, n + len(scored.y))
        X, y = np.concatenate([side.X, scored.X]), np.concatenate([side.y, scored.y])
        groups = None if side.groups is None else np.concatenate([side.groups, scored.groups])
        side = _Side(X, y, side.class_names, groups)
    else:
        kept = "" if side.groups is None else ", with groups kept together"
        notes.append(f"scored on: a quarter drawn anew for each seed, stratified by class{kept}")
    return Splits(
        *(source.name, side.X, side.y, side.class_names, test_rows, side.groups),
        flip=flip and (dataset != "digits" or path.is_dir()),
        scored_on=score_on,
        notes=tuple(notes),
        reading=source.reading,
    )


class _Side(NamedTuple):
    """Images of one split, and the groups that splits must not share."""

    X: np.ndarray
    y: np.ndarray
    class_names: list[str]
    groups: Any = None

    def take(self, rows: Any) -> _Side:
        """Return some rows; views for a slice, because images may be many."""
        groups = None if self.groups is None else self.groups[rows]
        return _Side(self.X[rows], self.y[rows], self.class_names, groups)


class _Source(NamedTuple):
    """A data set by name: how to load its splits, and which it has."""

    name: str
    load: Callable[[str], _Side]
    splits: Collection[str]
    notes: Sequence[str] = ()
    reading: Reading | None = None


def _folder(path: Path, size: int | str | None, score_on: str, files: dict[str, Any]) -> _Source:
    data = datasets.load_image_folder(
        path, split=["train", score_on], size="auto" if size is None else size, **files
    )
    whole = _Side(data.X, data.y, data.class_names, data.groups)

    def load(split: str) -> _Side:
        if data.split is None:
            return whole
        rows = np.flatnonzero(data.split == split)
        if not len(rows):
            raise ValueError(
                f"{path}: no image of its split {split} can be read; the warning before this says "
                "why each file was left out. Replace these files, or remove the split's folder"
            )
        return whole.take(slice(rows[0], rows[-1] + 1))  # rows go by split

    return _Source(path.resolve().name, load, data.splits, data.notes, data.reading)


def _arrays(dataset: str, path: Path, size: int | str | None, root: str | None) -> _Source:
    is_npz = path.suffix == ".npz"
    if dataset != path.name and not path.exists():
        raise FileNotFoundError(f"no such {'file' if is_npz else 'folder'}: {path}")
    size = None if isinstance(size, str) else size
    if dataset != "digits" and not is_npz:
        name = dataset if size in (None, 28) else f"{dataset}_{size}"

        def load(split: str) -> _Side:
            try:
                data = datasets.load_medmnist(dataset, split=split, root=root, size=size or 28)
            except ValueError as error:
                error.add_note(
                    f"{dataset!r} was taken for a name of MedMNIST, because there is no such "
                    f"folder or .npz file in {Path.cwd()}."
                )
                raise
            return _Side(*data)

        return _Source(name, load, ("train", "val", "test"))
    if size is not None:
        raise ValueError(
            f"size={size} does not apply to {dataset}, which is read in its own size: leave size "
            "out, or give a folder of images or a MedMNIST name"
        )
    if not is_npz:
        return _Source("digits", lambda split: _Side(*datasets.load_digits_images()), ())
    splits: list[str] = []
    # Loading the file will say what is wrong with it.
    with suppress(OSError, ValueError, AttributeError), np.load(path, allow_pickle=False) as file:
        splits += [s for s in ("train", "val", "test") if f"{s}_images" in file.files]
    return _Source(path.stem, lambda split: _Side(*datasets.load_npz(path, split=split)), splits)


def _copies(X: np.ndarray, X_scored: np.ndarray, split: str) -> Iterator[str]:
    train, scored = ([checksum(x) for x in images] for images in (X, X_scored))
    in_train = set(train)
    counts = {
        "repeats in train": len(train) - len(in_train),
        f"repeats in {split}": len(scored) - len(set(scored)),
        f"images of {split} also in train": len([x for x in scored if x in in_train]),
    }
    if any(counts.values()):
        yield "equal pixels: " + ", ".join(f"{n} {what}" for what, n in counts.items() if n)


def _missing_classes(names: list[str], y: np.ndarray, split: str) -> Iterator[str]:
    """Name the classes that a split lacks, and what that means for scores."""
    there = {names[code] for code in np.unique(y)}
    if len(there) == 1:
        yield f"classes: {split} has images of {there.pop()!r} only, so there is no ROC AUC"
    elif lacking := [repr(name) for name in names if name not in there]:
        yield (
            f"classes: {split} has no images of {', '.join(lacking)}; scores are means over the "
            "classes that it has"
        )
