"""Labelled images from a folder with one subfolder of image files per class."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.utils import Bunch
from tqdm import tqdm

from tsynd_sk._utils._validation import check_int_at_least
from tsynd_sk.datasets._folder_layout import (
    ImageFile,
    Layout,
    counted,
    group_hint,
    groups_of,
    layout_of,
    mask_hint,
    wanted_splits,
)
from tsynd_sk.datasets._read_image import (
    FileFault,
    ImageFacts,
    in_threads,
    look,
    n_threads,
    read_page,
    refusal,
)
from tsynd_sk.datasets._reading import (
    as_read,
    check_window,
    pages_of,
    reading_of,
    scale_of,
    shape_of,
)


def load_image_folder(
    path: str | os.PathLike,
    *,
    split: str | Iterable[str] | None = None,
    size: int | str = "auto",
    fit: str = "crop",
    grayscale: bool | None = None,
    window: tuple[float, float] | None = None,
    pages: str = "first",
    exclude: str | Iterable[str] = (),
    groups: str | os.PathLike | Mapping[str, str] | None = None,
    group_pattern: str | None = None,
    duplicates: str = "keep",
    on_error: str = "raise",
    verbose: bool = True,
) -> Bunch:
    """Load a folder that holds one subfolder of image files per class, or splits of that kind.

    Files are found at any depth (PNG, JPEG, TIFF, BMP, WebP, GIF, JPEG 2000, PGM and DICOM), and
    all read alike.

    Parameters
    ----------
    path : str or path
        The folder. Its subfolders are classes, or splits that hold the classes' folders, called
        train or training, val, valid, validation or dev, and test or testing.
    split : {"train", "val", "test"}, list of these or None, default=None
        Which of the folder's own splits to return, with the size and scale of the whole folder. Of
        a list, those that there are; None: all.
    size : int, "auto" or "native", default="auto"
        Side in pixels of square images. "native": the size of all files. "auto": the same if it is
        at most 224; otherwise the median of the shorter sides, at most 224.
    fit : {"crop", "pad"}, default="crop"
        Images of another size are resized (bicubic) until they fill `size`, and cropped to the
        centre; or until they fit in, with black margins.
    grayscale : bool or None, default=None
        Whether images are grey, or have three channels. None: grey if all files are.
    window : (float, float) or None, default=None
        Values that become black and white, for all files. None: those of the DICOM files' window,
        of the type, or those that all files together use; 8-bit values stay as they are.
    pages : {"first", "all"}, default="first"
        Which pages, or frames, of files become images.
    exclude : str or list of str, default=()
        Globs of names or paths to leave out, such as ``"*_mask.png"``.
    groups : path, dict or None, default=None
        What belongs together (a patient, slide or camera): a dict from files (paths below the
        folder, or names) to groups, or a CSV file with columns "file" and "group", else the
        first two. None: PatientID of DICOM files.
    group_pattern : str or None, default=None
        Regular expression that finds the group in a file's path below the folder: all that it
        matches, or what its parentheses do.
    duplicates : {"keep", "drop"}, default="keep"
        What to do with images that have the pixels of an earlier one.
    on_error : {"raise", "skip"}, default="raise"
        What to do with files that cannot be read.
    verbose : bool, default=True
        Show progress.

    Returns
    -------
    data : Bunch
        Rows go by split, class and file name.

        X : ndarray of shape (n, H, W) or (n, H, W, 3), uint8
            Images.
        y : ndarray of shape (n,), int64
            Class codes.
        class_names : list of str
            Names of the classes: ``class_names[code]``.
        files : list of str
            Path of each image below the folder.
        split : ndarray of shape (n,) or None
            Split of each image.
        splits : list of str
            The folder's own splits.
        groups : ndarray of shape (n,) or None
            Group of each image.
        grouped_by : str
            Where the groups come from, or "".
        first_equal : ndarray of shape (n,), int64
            The first row with the same pixels.
        reading : Reading
            How files became arrays.
        left_out : dict
            Names of what was left out, by reason.
        notes : list of str
            What was chosen and found.

    Raises
    ------
    FileNotFoundError, NotADirectoryError
        If `path` is missing or is a file.
    ImportError
        If there are DICOM files, but no pydicom.
    ValueError
        If it is unclear what a subfolder means, a class has no image, files cannot be read, a group
        is missing or in two splits, or an argument is not valid.

    Warns
    -----
    UserWarning
        If anything was left out, images have equal pixels, or the scale is a guess.

    See Also
    --------
    read_images : Read further files in the same way.
    load_npz : Load arrays.
    tsynd_sk.comparison.load_splits : Load images for a comparison, by name.

    Examples
    --------
    >>> import os, tempfile
    >>> from PIL import Image
    >>> from tsynd_sk.datasets import load_image_folder
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for k, name in enumerate(("benign", "malignant")):
    ...         os.mkdir(f"{folder}/{name}")
    ...         Image.new("L", (30, 20), k).save(f"{folder}/{name}/{k}.png")
    ...     data = load_image_folder(folder, size=16)
    >>> data.X.shape, data.files
    ((2, 16, 16), ['benign/0.png', 'malignant/1.png'])
    """
    choices: dict[str, tuple[Any, tuple]] = {
        "fit": (fit, ("crop", "pad")),
        "grayscale": (grayscale, (None, True, False)),
        "pages": (pages, ("first", "all")),
        "duplicates": (duplicates, ("keep", "drop")),
        "on_error": (on_error, ("raise", "skip")),
    }
    if isinstance(size, str):
        choices["size"] = (size, ("auto", "native"))
    else:
        size = check_int_at_least("size", size, 1)
    for name, (value, known) in choices.items():
        if value not in known:
            number = "an int, or " if name == "size" else ""
            raise ValueError(
                f"{name} must be {number}one of {', '.join(map(str, known))}; got {value!r}"
            )
    window = check_window(window)
    folder = Path(path).expanduser()
    exclude = [exclude] if isinstance(exclude, str) else list(exclude)
    # The bar is there before files are found, which takes long on remote disks.
    with tqdm(desc=f"files of {folder.name}", disable=not verbose, leave=False) as bar:
        layout = layout_of(folder, exclude, bar.update)
        wanted = wanted_splits(split, layout.splits, folder)
        bar.reset(total=2 * len(layout.files))
        load = _Load(layout, folder, on_error, bar)
        load.look()
        load.choose_reading(size, fit, grayscale, window, pages)
        by = load.group(groups, group_pattern)
        read = [f for f in load.files if f.split in wanted] if wanted else load.files
        X, files, digests = load.read(read)
    _, first, inverse = np.unique(digests, return_index=True, return_inverse=True)
    first = first[inverse]
    repeats = np.flatnonzero(first != np.arange(len(first))).tolist()
    if repeats:
        equal = _told(repeats, first, files)
        more = '; duplicates="drop" (--duplicates drop) keeps one'
        if duplicates == "drop":
            load.left_out["equal to an earlier image"] = [files[row].name for row in repeats]
            kept = np.setdiff1d(np.arange(len(first)), repeats).tolist()
            X, files, first = _moved_up(X, kept), [files[k] for k in kept], np.arange(len(kept))
            more = "; the first of each is kept"
        load.notes.append(f"equal pixels: {equal}")
        load.warnings.append(f"{folder}: {equal}{more}")
    if load.left_out:
        load.notes.append(f"left out: {counted(load.left_out)}")
        if set(load.left_out) - {"excluded by name", "equal to an earlier image"}:
            load.warnings.insert(0, f"Left out of {folder}: {counted(load.left_out)}")
    for message in load.warnings:
        warnings.warn(message, UserWarning, stacklevel=2)
    names = [file.name for file in files]
    codes = {name: code for code, name in enumerate(layout.class_names)}
    return Bunch(
        X=X,
        y=np.array([codes[file.class_name] for file in files], dtype=np.int64),
        class_names=layout.class_names,
        files=names,
        split=np.array([file.split for file in files]) if layout.splits else None,
        splits=list(layout.splits),
        groups=None if load.groups is None else np.array([load.groups[name] for name in names]),
        grouped_by=by,
        first_equal=first,
        reading=load.reading,
        left_out=load.left_out,
        notes=load.notes,
    )


def _told(repeats: list[int], first: np.ndarray, files: list[ImageFile]) -> str:
    """Tell how many images repeat an earlier one, and which are where they should not be."""
    pairs = [(files[first[row]], files[row]) for row in repeats]
    text = f"{len(pairs)} of {len(first)} images have the pixels of another one"
    wrong = {
        "under two labels": [p for p in pairs if p[0].class_name != p[1].class_name],
        "in two splits": [p for p in pairs if p[0].split != p[1].split],
    }
    for where, found in (wrong if any(wrong.values()) else {"such as": pairs[:1]}).items():
        if found:
            named = ", ".join(f"{one.name} and {other.name}" for one, other in found[:3])
            text += f"; {where}: {named}"
    return text


class _Load:
    """One load of a folder, step by step."""

    def __init__(self, layout: Layout, folder: Path, on_error: str, bar: Any):
        self.class_names = layout.class_names
        self.files = layout.files
        self.left_out = layout.left_out
        self.notes: list[str] = []
        self.warnings: list[str] = []
        self.folder = folder
        self._on_error = on_error
        self._bar = bar

    def _each(
        self, files: list[ImageFile], task: Callable[[int], Any], like: Iterable[ImageFacts] = ()
    ) -> dict[int, Any]:
        """Return what `task` returns for the number of each file; count or raise its faults."""
        results = in_threads(task, range(len(files)), n_threads(like), self._bar.update)
        faults = {
            file.name: fault
            for file, fault in zip(files, results, strict=True)
            if isinstance(fault, FileFault)
        }
        if faults and self._on_error == "raise":
            way_out = 'leave them out by on_error="skip" (--on-error skip)'
            raise refusal(faults, f" of {self.folder}", way_out)
        for name, fault in faults.items():
            self.left_out.setdefault(fault.reason, []).append(name)
        self.files = [file for file in self.files if file.name not in faults]
        filled = {file.class_name for file in self.files}
        if empty := [name for name in self.class_names if name not in filled]:
            lost = f"; left out: {counted(self.left_out)}" if self.left_out else ""
            raise ValueError(
                f"No image that can be read for {empty} in {self.folder}{lost}: add images, or "
                "leave the folder out by exclude (--exclude)"
            )
        return {k: each for k, each in enumerate(results) if not isinstance(each, FileFault)}

    def look(self) -> None:
        """Ask every file what it is."""
        files = self.files
        found = self._each(files, lambda k: look(files[k].path))
        self.facts: dict[str, ImageFacts] = {files[k].name: facts for k, facts in found.items()}

    def choose_reading(self, size, fit, grayscale, window, pages) -> None:
        """Choose one scale and one size for all files."""
        deep = [file for file in self.files if self.facts[file.name].deep]
        ranges: list = []
        if deep and window is None:
            self._bar.total += len(deep)
            facts = [self.facts[file.name] for file in deep]
            found = self._each(deep, lambda k: _range(deep[k], facts[k], pages), facts)
            ranges, deep = list(found.values()), [deep[k] for k in found]
        names = [file.name for file in self.files]
        facts = [self.facts[name] for name in names]
        scale = scale_of(facts, ranges, [file.name for file in deep], window)
        self.reading, note = reading_of(facts, names, scale, size, fit, grayscale, pages)
        self.notes += [note, *([scale.note] if scale.note else [])]
        if scale.is_guess:
            self.warnings.append(f"{self.folder}: {scale.note}")
        if pages == "first" and (paged := [n for n, f in self.facts.items() if f.n_pages > 1]):
            self.left_out['further pages of files, which pages="all" (--pages all) reads'] = paged
        if n_cut := sum(fact.loses_bits for fact in facts):
            self.warnings.append(
                f"values: of {n_cut} PNG files with 16 bits a colour, Pillow reads the upper 8; "
                "save them as TIFF"
            )

    def group(self, groups, pattern: str | None) -> str:
        """Find the group of each file; return what tells it."""
        names = [file.name for file in self.files]
        patients = [self.facts[name].patient for name in names]
        self.groups: dict[str, str] | None = None
        self.notes += mask_hint(names)
        if told := groups_of(names, groups, pattern):
            found, by = told
        elif all(patients) and len(set(patients)) > 1:
            found, by = patients, "PatientID"
        else:
            if any(patients):
                self.notes.append("groups: none, for PatientID is empty or everywhere the same")
            if self.reading.pages == "first" or all(f.n_pages == 1 for f in self.facts.values()):
                self.notes += group_hint(names, len(self.class_names))
                return ""
            found, by = names, "file"
        splits: dict[str, list[str]] = {}
        for group, file in zip(found, self.files, strict=True):
            if file.split not in splits.setdefault(group, []):
                splits[group].append(file.split)
        if spread := [group for group, own in splits.items() if len(own) > 1]:
            message = (
                f"{self.folder}: {len(spread)} groups by {by} have images in several splits, "
                f"such as {spread[0]!r} ({', '.join(splits[spread[0]])}): move each to one, or put "
                "all images in one folder, from which whole groups are held out"
            )
            if by != "PatientID":
                raise ValueError(message)
            self.warnings.append(message)
        self.groups = dict(zip(names, found, strict=True))
        self.notes.append(f"groups: {len(splits)} by {by}, each kept on one side of a split")
        return by

    def read(self, files: list[ImageFile]) -> tuple[np.ndarray, list[ImageFile], list[bytes]]:
        """Return images, their files, and hashes of their pixels."""
        facts = [self.facts[file.name] for file in files]
        reading = self.reading
        rows = [(f, k) for f in files for k in pages_of(self.facts[f.name], reading.pages)]
        X = np.empty((len(rows), *shape_of(reading)), dtype=np.uint8)

        def read(row: int) -> bytes:
            file, page = rows[row]
            fact = self.facts[file.name]
            pixels = read_page(file.path, fact, page)
            X[row] = as_read(reading, pixels, fact)
            digest = hashlib.blake2b(repr((pixels.shape, fact.white_is_zero)).encode())
            digest.update(np.ascontiguousarray(pixels).data)
            return digest.digest()

        digests = self._each([file for file, _ in rows], read, facts)
        # A file with a page that fails is left out as a whole.
        left = {file.name for file in self.files}
        kept = [row for row, (file, _) in enumerate(rows) if file.name in left]
        return _moved_up(X, kept), [rows[k][0] for k in kept], [digests[k] for k in kept]


def _range(file: ImageFile, facts: ImageFacts, pages: str) -> tuple[float, float]:
    read = [read_page(file.path, facts, page) for page in pages_of(facts, pages)]
    return float(min(p.min() for p in read)), float(max(p.max() for p in read))


def _moved_up(X: np.ndarray, kept: list[int]) -> np.ndarray:
    """Return some rows without a second array."""
    if len(kept) == len(X):
        return X
    for place, row in enumerate(kept):
        X[place] = X[row]
    return X[: len(kept)]
