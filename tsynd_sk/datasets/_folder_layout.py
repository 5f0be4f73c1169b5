"""What names in a folder tell: which files are images, of which class, split and group."""

from __future__ import annotations

import csv
import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any

from tsynd_sk.datasets._read_image import SUFFIXES, is_dicom

SPLITS = ("train", "val", "test")

_SPLIT_NAMES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
#: How names of patients and the like look: at last, what comes before the last number.
_USUAL_PATTERNS = (
    r"(?i)((?:patient|subject|person|case|slide|lesion|sub|pat)[ _-]?\d+)",
    r"([^/]+?)[ _-]+[^/ _-]*\d+[^/ _-]*\.\w+$",
)
# How names of masks end, which often stand beside their images.
_MASK = re.compile(r"(?i)[ _.-](mask|seg|segmentation|annotation)s?([ _-]?\d+)?\.\w+$")
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
    """Image files, sorted by split, class and name, and what lies beside them."""

    files: list[ImageFile]
    class_names: list[str]
    #: The folder's own splits.
    splits: tuple[str, ...]
    #: Names of what is left out, by reason.
    left_out: dict[str, list[str]]


def layout_of(folder: Path, exclude: Iterable[str], report: Callable[[], object]) -> Layout:
    """Find the image files of a folder."""
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
    # Of each folder, it and those that it lies in, for links that lead back.
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
                        f"{path} is a link to a folder that it lies in: remove it, or leave it out "
                        "by exclude (--exclude)"
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
    """Return which folder at the top is which split; none if they are classes."""
    tops = _below(folders)
    for top in tops:
        # Archives of Kaggle often hold the whole set once more, one level down.
        again = [name for name in _below(folders, top) if name in tops]
        if len(again) >= 2:
            raise ValueError(
                f"{folder}: {top!r} holds folders called as those beside it ({_named(again)}): is "
                f"it a second copy of the set? Leave it out by exclude={top!r} (--exclude {top!r})"
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
            f"{folder}: it is unclear whether {_named(tops)} are splits or classes. Expected train "
            "and val, test or both, with a folder for each class, and nothing beside them: rename "
            "or move folders, or leave some out by exclude (--exclude)"
        )
    return splits


def _named(names: list[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(map(repr, names[:5])) + more


def wanted_splits(split, splits: tuple[str, ...], folder: Path) -> list[str]:
    """Return which splits to return; none for all images."""
    if split is None:
        return []
    asked = [split] if isinstance(split, str) else list(split)
    wanted = [name for name in asked if name in splits]
    missing = not wanted and (splits or isinstance(split, str))
    if missing or not set(asked) <= set(SPLITS):
        raise ValueError(
            f"split must be one of those that {folder} has, {list(splits) or 'none'}; got {split!r}"
        )
    return wanted


def counted(left_out: dict[str, list[str]]) -> str:
    """Return what is left out, by reason."""
    return "; ".join(
        f"{reason}: {len(names)} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
        for reason, names in left_out.items()
    )


def groups_of(
    names: Sequence[str], groups: Any, pattern: str | None
) -> tuple[list[str], str] | None:
    """Return the group of each file and what tells it; None if the user gives none."""
    if groups is not None and pattern is not None:
        raise ValueError("groups and group_pattern exclude each other: pass one of them")
    if pattern is not None:
        return _by_pattern(names, pattern), f"group_pattern {pattern!r}"
    if groups is None:
        return None
    if isinstance(groups, Mapping):
        return _by_table(names, [(str(k), str(v)) for k, v in groups.items()], "groups"), "groups"
    path = Path(os.fspath(groups)).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"groups: there is no file {str(path)!r}; expected a CSV file")
    return _by_table(names, list(_rows(path)), str(path)), path.name


def _by_pattern(names: Sequence[str], pattern: str) -> list[str]:
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ValueError(
            f"group_pattern must be a regular expression; got {pattern!r}: {error}"
        ) from None
    matches = [compiled.search(name) for name in names]
    if missed := [name for name, match in zip(names, matches, strict=True) if not match]:
        raise ValueError(
            f"group_pattern must match the path of every file below the folder; {pattern!r} finds "
            f"nothing in {len(missed)} of {len(names)}, such as {', '.join(missed[:3])}"
        )
    return ["|".join(map(str, m.groups() or (m[0],))) for m in matches if m]


def _rows(path: Path) -> Iterator[tuple[str, str]]:
    """Read the columns "file" and "group", else the first two."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not text in UTF-8: {error}; save it as CSV UTF-8") from None
    first = text.partition("\n")[0]
    rows = list(csv.reader(text.splitlines(), delimiter=max(",;\t", key=first.count)))
    rows = [row for row in rows if row]
    columns = [cell.strip().casefold() for cell in rows[0]] if rows else []
    at = (0, 1)
    if {"file", "group"} <= set(columns):
        at = (columns.index("file"), columns.index("group"))
    for number, row in enumerate(rows, start=1):
        if len(row) <= max(at):
            raise ValueError(
                f"{path}: row {number} is {row}; expected a file and its group in each row"
            )
        yield row[at[0]].strip(), row[at[1]].strip()


def _by_table(names: Sequence[str], rows: list[tuple[str, str]], source: str) -> list[str]:
    table: dict[str, str] = {}
    for file, group in rows:
        path = file.replace("\\", "/").removeprefix("./")
        if table.setdefault(path, group) != group:
            raise ValueError(
                f"{source} has two groups for {path!r}, {table[path]!r} and {group!r}: keep one"
            )
    found: list[str] = []
    missed: list[str] = []
    shared = Counter(PurePosixPath(name).name for name in names)
    for name in names:
        short = PurePosixPath(name)
        key = next((k for k in (name, short.name, short.stem) if k in table), None)
        if key is None or not table[key]:
            missed.append(name)
        elif key != name and shared[short.name] > 1:
            raise ValueError(
                f"{source} has {key!r}, but {shared[short.name]} files are called {short.name!r}: "
                f"name them by their path, such as {name!r}"
            )
        else:
            found.append(table[key])
    if missed:
        raise ValueError(
            f"{source} has no group for {len(missed)} of {len(names)} files, such as "
            f"{', '.join(missed[:3])}; expected the path or name of each, and its group"
        )
    return found


def group_hint(names: Sequence[str], n_classes: int) -> list[str]:
    """Tell of groups that names seem to have."""
    for pattern in _USUAL_PATTERNS:
        found = [match[1] for name in names if (match := re.search(pattern, name))]
        groups = list(dict.fromkeys(found))
        # Fewer would be classes rather than patients; more, names of single images.
        if len(found) == len(names) and 2 * n_classes < len(groups) <= len(names) / 2:
            return [
                f"groups: none. Names look like patients, or the like: {', '.join(groups[:3])} "
                f"({len(groups)} in all). If they are, keep each on one side by "
                f"group_pattern={pattern!r} (--group-pattern)"
            ]
    return []


def mask_hint(names: Sequence[str]) -> list[str]:
    """Tell of images that look like masks."""
    if masks := [name for name in names if _MASK.search(name)]:
        return [
            f"names: {len(masks)} images, such as {masks[0]}, look like masks; leave them out by "
            "exclude (--exclude '*_mask*', say)"
        ]
    return []
