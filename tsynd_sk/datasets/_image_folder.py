"""Labelled images from a folder with one subfolder of image files per class."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.utils import Bunch
from tqdm import tqdm

from tsynd_sk._utils._validation import check_int_at_least
from tsynd_sk.datasets._folder_layout import SPLITS, ImageFile, layout_of
from tsynd_sk.datasets._folder_load import FolderLoad, counted, moved_up
from tsynd_sk.datasets._reading import check_window


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

    PNG, JPEG, TIFF, BMP, WebP, GIF, JPEG 2000, PGM and DICOM files are found at any depth below a
    class's folder. All are read alike, with one scale, whatever split they are in.

    Parameters
    ----------
    path : str or path
        The folder. Its subfolders are classes, or splits that hold the classes' folders, called
        train or training, val, valid, validation or dev, and test or testing in any case.
    split : {"train", "val", "test"}, list of these or None, default=None
        Which of the folder's own splits to return; of a list those that there are, and all images
        if there are no splits. None: all images. Size and scale are always those of the whole
        folder.
    size : int, "auto" or "native", default="auto"
        Side in pixels of square images. "native": the size of the files, which must be the same.
        "auto": the same if it is at most 224; otherwise square, with the median of the shorter
        sides, at most 224.
    fit : {"crop", "pad"}, default="crop"
        Images of another size are resized (bicubic, with the aspect ratio kept) until they fill
        `size`, and the centre is cropped; or until they fit in, with black margins.
    grayscale : bool or None, default=None
        True: turn colours grey. False: three channels, also where all are grey. None: three
        channels if any file has colours.
    window : (float, float) or None, default=None
        Values that become black and white, for all files. None chooses, see Notes.
    pages : {"first", "all"}, default="first"
        Which pages, or frames, of a file with several become images.
    exclude : str or list of str, default=()
        Globs of names, or of paths below the folder, to leave out, such as ``"*_mask.png"``.
    groups : path, dict or None, default=None
        What belongs together (a patient, slide or camera): a dict from files (paths below the
        folder, or names) to groups, or a CSV file with these in columns "file" and "group", or in
        the first two. None: the tag PatientID, if DICOM files have it.
    group_pattern : str or None, default=None
        Regular expression that finds the group in a file's path below the folder: what its
        parentheses match, or else all that it matches.
    duplicates : {"keep", "drop"}, default="keep"
        Whether images with the pixels of an earlier one are dropped.
    on_error : {"raise", "skip"}, default="raise"
        Whether files that cannot be read are an error, or left out and counted in the warning.
    verbose : bool, default=True
        Show progress.

    Returns
    -------
    data : Bunch
        Rows go by split, class and file name, whatever the file system.

        X : ndarray of shape (n, H, W) or (n, H, W, 3), uint8
            Images.
        y : ndarray of shape (n,), int64
            Class codes.
        class_names : list of str
            Names of the classes of all splits: ``class_names[code]``.
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
            The first row with the same pixels, the row itself as a rule.
        reading : Reading
            How files became arrays; `read_images` repeats it on others.
        left_out : dict
            Names of the files and folders that were left out, by reason.
        notes : list of str
            What was chosen, and what else there is to know.

    Raises
    ------
    FileNotFoundError, NotADirectoryError
        If `path` is missing or is a file.
    ImportError
        If there are DICOM files, but no pydicom.
    ValueError
        If there are fewer than two classes, one has no image, it is unclear what a subfolder means,
        files cannot be read, a file has no group, a group has images in two splits, or an argument
        is not valid.

    Warns
    -----
    UserWarning
        If anything was left out, images have equal pixels, or the scale of values is a guess.

    See Also
    --------
    read_images : Read further files in the same way.
    load_npz : Load arrays.
    tsynd_sk.comparison.load_splits : Load images for a comparison, by name.

    Notes
    -----
    8-bit values stay as they are. Files with more bits, signed values or floats have one scale for
    the whole folder: the window of DICOM files if all have the same; the range of their type (for
    floats [0, 1] or [0, 255]) if they use half of it or more; otherwise the range that all of them
    together use. White-is-zero and MONOCHROME1 are inverted, the orientation of EXIF is respected,
    and transparent pixels are laid over black.

    Examples
    --------
    >>> import os, tempfile
    >>> from PIL import Image
    >>> from tsynd_sk.datasets import load_image_folder
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for k, name in enumerate(("benign", "malignant")):
    ...         os.mkdir(f"{folder}/{name}")
    ...         Image.new("L", (30, 20), k).save(f"{folder}/{name}/first.png")
    ...     data = load_image_folder(folder, size=16)
    >>> data.X.shape, data.class_names, data.reading.fit
    ((2, 16, 16), ['benign', 'malignant'], 'crop')
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
    # The bar is there before the first file is found, which takes long on remote disks.
    with tqdm(
        desc=f"files of {folder.name}", unit=" files", disable=not verbose, leave=False
    ) as bar:
        layout = layout_of(folder, exclude, bar.update)
        wanted = _wanted_splits(split, layout.splits, folder)
        bar.reset(total=2 * len(layout.files))
        load = FolderLoad(layout, folder, on_error, bar)
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
            X, files, first = moved_up(X, kept), [files[k] for k in kept], np.arange(len(kept))
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


def _wanted_splits(split, splits: tuple[str, ...], folder: Path) -> list[str]:
    if split is None:
        return []
    asked = [split] if isinstance(split, str) else list(split)
    if unknown := [name for name in asked if name not in SPLITS]:
        raise ValueError(
            f"split must be one, or a list, of {', '.join(SPLITS)}; got {unknown[0]!r}"
        )
    wanted = [name for name in asked if name in splits]
    if not wanted and (splits or isinstance(split, str)):
        raise ValueError(
            f"split must be one of those that {folder} has, {list(splits) or 'none'}; got {split!r}"
        )
    return wanted


def _told(repeats: Sequence[int], first: np.ndarray, files: Sequence[ImageFile]) -> str:
    """Return how many images repeat an earlier one, and which are where they should not be."""
    pairs = [(files[first[row]], files[row]) for row in repeats]
    text = f"{len(pairs)} of {len(first)} images have the pixels of another one"
    wrong = {
        "under two labels": [p for p in pairs if p[0].class_name != p[1].class_name],
        "in two splits": [p for p in pairs if p[0].split != p[1].split],
    }
    for where, found in (wrong if any(wrong.values()) else {"such as": pairs[:1]}).items():
        if found:
            named = ", ".join(f"{one.name} and {other.name}" for one, other in found[:3])
            more = f" and {len(found) - 3} more" if len(found) > 3 else ""
            text += f"; {where}: {named}{more}"
    return text
