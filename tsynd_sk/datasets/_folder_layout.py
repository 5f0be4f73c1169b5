"""Which files of a folder are images, of which class and which split, and what is left out."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from tsynd_sk.datasets._read_image import SUFFIXES, is_dicom

SPLITS = ("train", "val", "test")

_SPLIT_NAMES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
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
    #: The folder's own splits; none if classes stand at the top.
    splits: tuple[str, ...]
    #: Names of what is left out, by reason.
    left_out: dict[str, list[str]]


def layout_of(folder: Path, exclude: Iterable[str], report: Callable[[], object]) -> Layout:
    """Find the image files of a folder; raise ValueError if it is unclear what a folder means."""
    files, folders, left_out = _walk(folder, exclude, report)
    splits = _splits_at_top(folder, folders)
    depth = 1 if splits else 0
    images = []
    for name, path in files:
        parts = name.split("/")
        if len(parts) < depth + 2:
            left_out["files outside of the classes' folders"].append(name)
        else:
            split = splits[parts[0]] if splits else ""
            images.append(ImageFile(path, name, parts[depth], split))
    classes = sorted({parts[depth] for parts in folders if len(parts) == depth + 1})
    if len(classes) < 2:
        inner = _below(folders, classes[0]) if classes else []
        meant = f". Did you mean {folder / classes[0]}?" if len(inner) >= 2 else ""
        raise ValueError(
            f"{folder} needs a subfolder for each of 2 or more classes, found {classes}{meant}"
        )
    images.sort(key=lambda f: (SPLITS.index(f.split) if f.split else 0, f.class_name, f.name))
    own = tuple(split for split in SPLITS if split in splits.values())
    return Layout(images, classes, own, {why: sorted(names) for why, names in left_out.items()})


def _walk(
    folder: Path, exclude: Iterable[str], report: Callable[[], object]
) -> tuple[list[tuple[str, Path]], set[tuple[str, ...]], defaultdict[str, list[str]]]:
    """Return image files by name, folders by the parts of their names, and what is left out."""
    files: list[tuple[str, Path]] = []
    folders: set[tuple[str, ...]] = set()
    left_out: defaultdict[str, list[str]] = defaultdict(list)
    # For each folder, it and those that it lies in, for links that lead back.
    above = {folder: [os.path.realpath(folder)]}
    for at, inside, others in os.walk(folder, onerror=_raise, followlinks=True):
        for entry in [*inside, *others]:
            path = Path(at, entry)
            # Names that are not UTF-8 cannot be printed as they are.
            name = path.relative_to(folder).as_posix().encode("utf-8", "backslashreplace").decode()
            if any(fnmatchcase(text, glob) for glob in exclude for text in (name, entry)):
                reason = "excluded by name"
            elif entry.startswith((".", "~$")) or entry.casefold() in _SYSTEM:
                reason = "hidden files and those of the system"
            elif entry in inside:
                real = os.path.realpath(path)
                if real in above[Path(at)]:
                    raise ValueError(
                        f"{path} is a link to a folder that it lies in ({real}): remove it, or "
                        "leave it out by exclude (--exclude)"
                    )
                above[path] = [*above[Path(at)], real]
                folders.add(tuple(name.split("/")))
                continue
            elif not path.is_file():
                reason = "broken links and what is no file"
            elif path.suffix.lower() in SUFFIXES or is_dicom(path):
                files.append((name, path))
                report()
                continue
            else:
                reason = "files that are no images by their name"
            left_out[reason].append(name)
            if entry in inside:
                inside.remove(entry)
    return files, folders, left_out


def _raise(error: OSError) -> None:
    raise error


def _below(folders: set[tuple[str, ...]], *parts: str) -> list[str]:
    """List the folders just below a folder."""
    return sorted(each[-1] for each in folders if each[:-1] == parts)


def _splits_at_top(folder: Path, folders: set[tuple[str, ...]]) -> dict[str, str]:
    """Return which folders at the top are which splits; none if they are classes."""
    tops = _below(folders)
    for top in tops:
        # Archives of Kaggle like to hold the whole set once more, one level down.
        again = [name for name in _below(folders, top) if name in tops]
        if len(again) >= 2:
            raise ValueError(
                f"{folder}: {top!r} holds folders of the same names as those beside it "
                f"({_named(again)}): a second copy of the set? Leave it out by exclude={top!r} "
                f"(--exclude {top!r})"
            )
    like_splits = [
        top for top in tops if set(re.split(r"[^a-z]+", top.casefold())) & set(_SPLIT_NAMES)
    ]
    with_classes = [top for top in like_splits if _below(folders, top)]
    if not with_classes and (not like_splits or len(like_splits) == 1 < len(tops)):
        return {}  # a class may be called "train": there is one in every set of vehicles
    splits = {top: _SPLIT_NAMES.get(top.casefold(), "") for top in tops}
    found = sorted(splits.values())
    if with_classes != tops or "train" not in found or found != sorted(set(found) & set(SPLITS)):
        raise ValueError(
            f"{folder}: it is unclear whether {_named(tops)} are splits or classes. Splits are "
            "called train, val and test; there is each once, train at least, with a folder for "
            "each class, and nothing beside them. Rename or move folders, or leave some out by "
            "exclude (--exclude)"
        )
    return splits


def _named(names: list[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(map(repr, names[:5])) + more
