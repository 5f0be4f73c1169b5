"""Groups of image files that belong together: of one patient, slide or camera."""

from __future__ import annotations

import csv
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

#: How names of patients and the like look; what comes before the last number of a name is the last.
_USUAL_PATTERNS = (
    r"(?i)((?:patient|subject|person|case|slide|lesion|sub|pat)[ _-]?\d+)",
    r"([^/]+?)[ _-]+[^/ _-]*\d+[^/ _-]*\.\w+$",
)


def groups_of(
    names: Sequence[str], groups: Any, pattern: str | None
) -> tuple[list[str], str] | None:
    """Return the group of each file and what tells it; None if the user names no groups."""
    if groups is not None and pattern is not None:
        raise ValueError("groups and group_pattern exclude each other: pass one of them")
    if pattern is not None:
        return _by_pattern(names, pattern), f"group_pattern {pattern!r}"
    if groups is None:
        return None
    if isinstance(groups, Mapping):
        return _by_table(names, [(str(k), str(v)) for k, v in groups.items()], "groups"), "groups"
    path = Path(os.fspath(groups)).expanduser()
    return _by_table(names, list(_rows(path)), str(path)), path.name


def _by_pattern(names: Sequence[str], pattern: str) -> list[str]:
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ValueError(
            f"group_pattern must be a regular expression of Python; got {pattern!r}: {error}"
        ) from None
    matches = [compiled.search(name) for name in names]
    if missed := [name for name, match in zip(names, matches, strict=True) if not match]:
        raise ValueError(
            f"group_pattern must match every file, by its path below the folder; {pattern!r} finds "
            f"nothing in {len(missed)} of {len(names)}, such as {', '.join(missed[:3])}"
        )
    return ["|".join(map(str, m.groups() or (m[0],))) for m in matches if m]


def _rows(path: Path) -> Iterator[tuple[str, str]]:
    """Read files and groups from the columns of these names, else from the first two."""
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
            f"{', '.join(missed[:3])}; expected rows of a file (its path below the folder, or its "
            "name) and its group"
        )
    return found


def guessed_pattern(names: Sequence[str], n_classes: int) -> tuple[str, list[str]] | None:
    """Return a pattern that names seem to have groups by, and the groups; None if there is none."""
    for pattern in _USUAL_PATTERNS:
        found = [re.search(pattern, name) for name in names]
        groups = [match[1] for match in found if match]
        n_groups = len(set(groups))
        # Fewer would be classes rather than patients; more, names of single images.
        if len(groups) == len(names) and 2 * n_classes < n_groups <= len(names) / 2:
            return pattern, groups
    return None
