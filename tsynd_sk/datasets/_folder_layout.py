"""Which files of a folder are images, of which class and which split, and what is left out."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from tsynd_sk.datasets._read_image import SUFFIXES, is_dicom

#: Common names of splits, in small letters.
SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
}
SPLITS = ("train", "val", "test")

_SYSTEM = {"thumbs.db", "ehthumbs.db", "desktop.ini", "__macosx", "@eadir", "$recycle.bin"}


@dataclass(frozen=True)
class ImageFile:
    """An image file, its name below the folder, its class and its split."""

    path: Path
    name: str
    class_name: str
    split: str = ""


@dataclass
class Layout:
    """Image files by split, class and name, whatever order the file system has them in."""

    files: list[ImageFile]
    class_names: list[str]
    #: The folder's own splits, of "train", "val" and "test"; none if classes stand at the top.
    splits: tuple[str, ...] = ()
    #: Names of what is left out, by reason.
    left_out: dict[str, list[str]] = field(default_factory=dict)


def layout_of(folder: Path, exclude: Iterable[str], report=lambda: None) -> Layout:
    """Find the image files of a folder.

    Raises
    ------
    ValueError
        If it is unclear what a folder means, or links form a loop.
    """
    found = _Found(folder, list(exclude), report)
    found.walk(folder, (), (os.path.realpath(folder),))
    found.files.sort()
    splits = _splits_at_top(folder, found)
    files, classes = [], set()
    depth = 1 if splits else 0
    for parts, path in found.files:
        name = "/".join(parts)
        if len(parts) < depth + 2:
            found.left_out["files outside of the classes' folders"].append(name)
            continue
        split = splits[parts[0]] if splits else ""
        files.append(ImageFile(path, name, parts[depth], split))
    for parts in found.folders:
        if len(parts) == depth + 1:
            classes.add(parts[depth])
    if len(classes) < 2:
        raise ValueError(_too_few(folder, sorted(classes), found))
    files.sort(key=lambda f: (SPLITS.index(f.split) if f.split else 0, f.class_name, f.name))
    own = tuple(split for split in SPLITS if split in splits.values())
    return Layout(files, sorted(classes), own, dict(found.left_out))


class _Found:
    """Image files and folders below a folder, by the parts of their names."""

    def __init__(self, folder: Path, exclude: list[str], report):
        self.root = folder
        self.exclude = exclude
        self.report = report
        self.files: list[tuple[tuple[str, ...], Path]] = []
        self.folders: set[tuple[str, ...]] = set()
        self.left_out: dict[str, list[str]] = defaultdict(list)

    def walk(self, folder: Path, parts: tuple[str, ...], above: tuple[str, ...]) -> None:
        with os.scandir(folder) as entries:
            listed = sorted(entries, key=lambda entry: entry.name)
        for entry in listed:
            # Names that are no UTF-8 cannot be printed as they are.
            own = (*parts, entry.name.encode("utf-8", "backslashreplace").decode())
            name = "/".join(own)
            if any(fnmatchcase(t, g) for g in self.exclude for t in (name, entry.name)):
                self.left_out["excluded by name"].append(name)
            elif entry.name.startswith((".", "~$")) or entry.name.casefold() in _SYSTEM:
                self.left_out["hidden files and those of the system"].append(name)
            elif _is_folder(entry):
                # Only a link leads back to what it lies in.
                real = os.path.realpath(entry.path) if entry.is_symlink() else entry.path
                real = os.path.realpath(real)
                if real in above:
                    raise ValueError(
                        f"{entry.path} is a link to a folder that it lies in ({real}): remove "
                        "it, or leave it out by exclude (--exclude)"
                    )
                self.folders.add(own)
                self.walk(Path(entry.path), own, (*above, real))
            elif not Path(entry.path).is_file():
                self.left_out["broken links and what is no file"].append(name)
            elif Path(entry.name).suffix.lower() in SUFFIXES or is_dicom(Path(entry.path)):
                self.files.append((own, Path(entry.path)))
                self.report()
            else:
                self.left_out["files that are no images by their name"].append(name)

    def below(self, parts: tuple[str, ...]) -> set[str]:
        """Names of the folders just below a folder."""
        return {f[-1] for f in self.folders if f[:-1] == parts}


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # links that lead to each other
        return False


def _looks_like_split(name: str) -> bool:
    return any(word in SPLIT_NAMES for word in re.split(r"[^a-z]+", name.casefold()))


def _splits_at_top(folder: Path, found: _Found) -> dict[str, str]:
    """Return which folders at the top are splits; none if they are classes."""
    tops = sorted(found.below(()))
    _refuse_second_copy(folder, tops, found)
    splits = {top: SPLIT_NAMES[top.casefold()] for top in tops if top.casefold() in SPLIT_NAMES}
    doubtful = [top for top in tops if _looks_like_split(top)]
    with_classes = [top for top in doubtful if found.below((top,))]
    if not doubtful or (len(doubtful) == 1 and not with_classes and len(tops) > 1):
        return {}  # a class may be called "train": there is one in every set of vehicles
    if odd := [top for top in doubtful if top not in splits]:
        raise ValueError(
            f"{folder}: {_named(odd)} may be a split or a class. Splits are called train, val and "
            "test: rename it, or leave it out by exclude (--exclude)"
        )
    if bare := [top for top in doubtful if top not in with_classes]:
        raise ValueError(
            f"{folder}: {_named(bare)} is called as splits are, but has no folder for each class. "
            "Sort its images into classes, rename it, or leave it out by exclude (--exclude)"
        )
    if others := [top for top in tops if top not in splits]:
        raise ValueError(
            f"{folder}: {_named(others)} stands beside {_named(sorted(splits))}: is it a class, or "
            "a split? Move it, or leave it out by exclude (--exclude)"
        )
    if len(set(splits.values())) < len(splits):
        raise ValueError(
            f"{folder}: {_named(sorted(splits))} name a split twice: join them, or leave one out "
            "by exclude (--exclude)"
        )
    if "train" not in splits.values():
        raise ValueError(
            f"{folder} has {_named(sorted(splits))}, but no folder train: name the folder of the "
            "training images so"
        )
    return splits


def _refuse_second_copy(folder: Path, tops: list[str], found: _Found) -> None:
    """Kaggle's archives like to hold the whole set once more, one level down."""
    for top in tops:
        again = found.below((top,)) & set(tops)
        if len(again) >= 2:
            raise ValueError(
                f"{folder}: {top!r} holds folders of the same names as those beside it "
                f"({_named(sorted(again))}): a second copy of the set? Leave it out by "
                f"exclude={top!r} (--exclude {top!r})"
            )


def _too_few(folder: Path, classes: list[str], found: _Found) -> str:
    message = f"{folder} needs a subfolder for each of 2 or more classes, found {classes}"
    inner = sorted(found.below((classes[0],))) if len(classes) == 1 else []
    if len(inner) >= 2:
        return f"{message}. It holds {_named(inner)}: did you mean {folder / classes[0]}?"
    return message


def _named(names: list[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(map(repr, names[:5])) + more
