"""Load images by the name of a data set, and say which of them to score on."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components
from sklearn.model_selection import StratifiedGroupKFold, train_test_split
from sklearn.utils import check_random_state

from tsynd_sk import datasets
from tsynd_sk.datasets import Reading

# Rows to train on and to score on.
Division = tuple[np.ndarray, np.ndarray]

# One part in so many is held out.
_PARTS = 4


@dataclass(frozen=True)
class Splits:
    """Images, and which of them to score on.

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
        Which split `test_rows` are: "val" to choose settings, "test" once in the end.
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
    >>> [train], [test] = zip(*splits.divisions(1))
    >>> splits.counts(), splits.labels[test].tolist()
    ('images per class (train + test): fit 2 + 1, sick 2 + 1', ['fit', 'sick'])
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

    def divisions(self, n_repeats: int, random_state: int = 0) -> list[Division]:
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
            Rows: always the same with `test_rows`; otherwise each run holds out another quarter.
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
            f"{name} {' + '.join(map(str, n))}"
            for name, *n in zip(self.class_names, *sides, strict=True)
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
        Side of the images in pixels: for MedMNIST 28 by default; for folders the `size` of
        `load_image_folder`, "auto" by default.
    root : str or None, default=None
        Folder of MedMNIST's files.
    score_on : {"test", "val"}, default="test"
        Split to score on; if there is none, every run holds out its own part. "val" leaves test
        images out: the test split, or always the same quarter.
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
        If `dataset` is unknown, an argument does not apply to it, its splits differ in shape, or
        images are too few to hold some out.
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
        load, splits = _folder(path, size, score_on, files)
    elif files:
        raise ValueError(
            f"{', '.join(files)} applies to folders of image files, and {dataset} is none: leave "
            "it out"
        )
    else:
        load, splits = _arrays(dataset, path, size, root)
    side, test_rows = load("train"), None
    X, y, groups, notes = side.X, side.y, side.groups, [*side.notes]
    if score_on == "val" and "test" not in splits:
        # Held out before the validation images, so that choices never see a test image.
        rows = np.sort(side.divisions(1)[0][0])
        X, y, groups = X[rows], y[rows], None if groups is None else groups[rows]
    if score_on in splits:
        # The test split is not loaded as long as choices are made.
        scored = load(score_on)
        if X.shape[1:] != scored.X.shape[1:]:
            raise ValueError(
                f"{side.name} has images of shape {X.shape[1:]} in train, but of "
                f"{scored.X.shape[1:]} in {score_on}: resize them, and make all grey or all colour"
            )
        notes.append(f"scored on: its own {score_on} images")
        for split, codes in (("train", y), (score_on, scored.y)):
            notes += _missing_classes(side.class_names, codes, split)
        if not path.is_dir():
            # For files, loading them counts copies by name.
            notes += _copies(X, scored.X, score_on)
        test_rows = np.arange(len(y), len(y) + len(scored.y))
        X, y = np.concatenate([X, scored.X]), np.concatenate([y, scored.y])
        groups = None if groups is None else np.concatenate([groups, scored.groups])
    else:
        kept = "" if groups is None else ", with groups kept together"
        notes.append(f"scored on: a quarter drawn anew for each seed, stratified by class{kept}")
    return Splits(
        *(side.name, X, y, side.class_names, test_rows, groups),
        flip=flip and (dataset != "digits" or path.is_dir()),
        scored_on=score_on,
        notes=tuple(notes),
        reading=side.reading,
    )


# How to load a split by name, and the names of the splits that there are.
_Source = tuple[Callable[[str], Splits], Collection[str]]


def _folder(path: Path, size: int | str | None, score_on: str, files: dict[str, Any]) -> _Source:
    data = datasets.load_image_folder(
        path, split=["train", score_on], size="auto" if size is None else size, **files
    )

    def load(split: str) -> Splits:
        rows = slice(None)
        if data.split is not None:
            of_split = np.flatnonzero(data.split == split)
            if not len(of_split):
                raise ValueError(
                    f"{path}: no image of its split {split} can be read; the warning before this "
                    "says why. Replace the files, or remove the split's folder"
                )
            # Rows go by split; a slice copies no images.
            rows = slice(of_split[0], of_split[-1] + 1)
        groups = None if data.groups is None else data.groups[rows]
        params = {"groups": groups, "notes": data.notes, "reading": data.reading}
        return Splits(path.resolve().name, data.X[rows], data.y[rows], data.class_names, **params)

    return load, data.splits


def _arrays(dataset: str, path: Path, size: int | str | None, root: str | None) -> _Source:
    is_npz = path.suffix == ".npz"
    if dataset != path.name and not path.exists():
        raise FileNotFoundError(f"no such {'file' if is_npz else 'folder'}: {path}")
    size = None if isinstance(size, str) else size
    if dataset != "digits" and not is_npz:

        def load(split: str) -> Splits:
            try:
                data = datasets.load_medmnist(dataset, split=split, root=root, size=size or 28)
            except ValueError as error:
                error.add_note(
                    f"{dataset!r} was taken for a name of MedMNIST: there is no such folder or "
                    f".npz file in {Path.cwd()}."
                )
                raise
            return Splits(dataset if size in (None, 28) else f"{dataset}_{size}", *data)

        return load, ("train", "val", "test")
    if size is not None:
        raise ValueError(
            f"size={size} does not apply to {dataset}, which has its own: leave size out, or give "
            "a folder of images or a MedMNIST name"
        )
    if not is_npz:
        return lambda split: Splits("digits", *datasets.load_digits_images()), ()
    splits: list[str] = []
    # Loading the file will say what is wrong with it.
    with suppress(OSError, ValueError, AttributeError), np.load(path, allow_pickle=False) as file:
        splits += [s for s in ("train", "val", "test") if f"{s}_images" in file.files]
    return lambda split: Splits(path.stem, *datasets.load_npz(path, split=split)), splits


def _copies(X: np.ndarray, X_scored: np.ndarray, split: str) -> Iterator[str]:
    train, scored = _checksums(X), _checksums(X_scored)
    counts = {
        "repeats in train": len(train) - len(set(train)),
        f"repeats in {split}": len(scored) - len(set(scored)),
        f"images of {split} also in train": int(np.isin(scored, train).sum()),
    }
    if any(counts.values()):
        yield "equal pixels: " + ", ".join(f"{n} {what}" for what, n in counts.items() if n)


def _missing_classes(names: list[str], y: np.ndarray, split: str) -> Iterator[str]:
    there = {names[code] for code in np.unique(y)}
    if len(there) == 1:
        yield f"classes: {split} has images of {there.pop()!r} only, so there is no ROC AUC"
    elif lacking := [repr(name) for name in names if name not in there]:
        yield (
            f"classes: {split} has no images of {', '.join(lacking)}; scores are means over the "
            "classes that it has"
        )


def hold_outs(
    X: np.ndarray,
    y: np.ndarray,
    class_names: list[Any],
    groups: np.ndarray | None,
    seeds: Iterable[int],
) -> list[Division]:
    """Hold out another quarter for each seed; equal images stay together, too."""
    kept = {"groups": groups, "first_equal": np.unique(_checksums(X), return_inverse=True)[1]}
    return [hold_out(y, class_names, **kept, random_state=seed) for seed in seeds]


def _checksums(X: np.ndarray) -> list[str]:
    return [hashlib.md5(np.ascontiguousarray(x).data, usedforsecurity=False).hexdigest() for x in X]


def hold_out(
    y: np.ndarray,
    class_names: list[Any],
    *,
    groups: np.ndarray | None = None,
    first_equal: np.ndarray | None = None,
    random_state: Any = 0,
) -> Division:
    """Split rows into training rows and a quarter that is held out, both in random order.

    `y` are class codes, to stratify by. Rows of equal `groups`, or of equal numbers in
    `first_equal` (those of equal pixels), stay on one side.
    """
    together = _together(len(y), groups, first_equal)
    grouped = groups is not None or len(np.unique(together)) < len(y)
    n_of_class = [len(np.unique(together[y == code])) for code in range(len(class_names))]
    if lone := [class_names[code] for code, n in enumerate(n_of_class) if n == 1]:
        what = "group (or image of its own)" if grouped else "image"
        raise ValueError(
            f"no split can be held out: there is one {what} only of {lone}, and each class needs "
            "two. Add images, leave the class out, or give a test split (cv, or folders train and "
            "test)"
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
            "out, use finer groups, or give a test split"
        ) from None


def _together(n: int, groups: np.ndarray | None, first_equal: np.ndarray | None) -> np.ndarray:
    """Return a number for each row, equal for those that must stay together."""
    # Rows may have been dropped, so numbers begin anew.
    equal = np.arange(n) if first_equal is None else np.unique(first_equal, return_inverse=True)[1]
    if groups is None:
        return equal
    codes = np.unique(groups, return_inverse=True)[1]
    n_groups = int(codes.max(initial=-1)) + 1
    # scipy 1.11 knows graphs of 32-bit indices alone.
    ends = np.ones(n), (codes.astype(np.int32), (n_groups + equal).astype(np.int32))
    n_nodes = n_groups + int(equal.max(initial=-1)) + 1
    graph = csr_array(ends, shape=(n_nodes, n_nodes))
    return connected_components(graph, directed=False)[1][codes]


def _by_group(y: np.ndarray, together: np.ndarray, random_state: Any) -> Division:
    numbers, codes = np.unique(together, return_inverse=True)
    n_groups, rng = len(numbers), check_random_state(random_state)
    # scikit-learn 1.6 deals out groups of equal classes by their number, whatever the seed.
    together = rng.permutation(n_groups)[codes]
    folds = StratifiedGroupKFold(min(_PARTS, n_groups), shuffle=True, random_state=rng)
    with warnings.catch_warnings():
        # The count of classes below says it better.
        warnings.simplefilter("ignore", UserWarning)
        sides = list(folds.split(y, y, together))
    classes = set(y.tolist())

    def faults(side: Division) -> tuple[int, int, float]:
        train, held = side
        lost = len(classes - set(y[train].tolist())), len(classes - set(y[held].tolist()))
        return *lost, abs(len(held) / len(y) - 1 / _PARTS)

    best = min(sides, key=faults)
    if lost := faults(best)[0]:
        raise ValueError(f"{lost} classes would have no training images: add groups of them")
    return best
