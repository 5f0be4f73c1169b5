"""The steps of loading a folder: look, choose one reading, group, read."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from tsynd_sk.datasets._folder_layout import ImageFile, Layout
from tsynd_sk.datasets._groups import groups_of, guessed_pattern
from tsynd_sk.datasets._image_facts import FileFault, ImageFacts, in_threads, n_threads, refusal
from tsynd_sk.datasets._read_image import look, read_page
from tsynd_sk.datasets._reading import as_read, pages_of, reading_of, scale_of, shape_of

# How names of masks end, which often stand beside their images.
_MASK = re.compile(r"(?i)[ _.-](mask|seg|segmentation|annotation)s?([ _-]?\d+)?\.\w+$")


class FolderLoad:
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
            file.name: result
            for file, result in zip(files, results, strict=True)
            if isinstance(result, FileFault)
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
        facts = [self.facts[file.name] for file in self.files]
        scale = scale_of(facts, ranges, [file.name for file in deep], window)
        self.reading, note = reading_of(
            facts,
            [file.name for file in self.files],
            scale,
            size=size,
            fit=fit,
            grayscale=grayscale,
            pages=pages,
        )
        self.notes += [note, *([scale.note] if scale.note else [])]
        if scale.is_guess:
            self.warnings.append(f"{self.folder}: {scale.note}")
        if pages == "first" and (paged := [n for n, f in self.facts.items() if f.n_pages > 1]):
            self.left_out['further pages of files, which pages="all" (--pages all) reads'] = paged
        if n_cut := sum(fact.loses_bits for fact in facts):
            self.warnings.append(
                f"values: of {n_cut} PNG files with 16 bits a colour, Pillow reads the upper 8; "
                "save them as TIFF to keep all"
            )
        if masks := [file.name for file in self.files if _MASK.search(file.name)]:
            self.notes.append(
                f"names: {len(masks)} images, such as {masks[0]}, look like masks; leave them "
                "out by exclude (--exclude '*_mask*', say)"
            )

    def group(self, groups, pattern: str | None) -> str:
        """Find the group of each file; return what tells it."""
        names = [file.name for file in self.files]
        self.groups: dict[str, str] | None = None
        told = groups_of(names, groups, pattern)
        patients = [self.facts[name].patient for name in names]
        if not told and any(patients) and (not all(patients) or len(set(patients)) == 1):
            self.notes.append("groups: none, for PatientID is empty or everywhere the same")
            patients = [""]
        if told:
            found, by = told
            if spread := self._spread(found):
                some = [f"{group!r} ({', '.join(where)})" for group, where in spread.items()]
                raise ValueError(
                    f"{len(spread)} groups by {by} have images in several splits: "
                    f"{', '.join(some[:3])}. Move each to one split, or put all images in one "
                    "folder, from which whole groups are held out"
                )
        elif all(patients):
            found, by = patients, "PatientID"
            if spread := self._spread(found):
                self.warnings.append(
                    f"{self.folder}: images of {len(spread)} patients (PatientID) are in several "
                    f"splits, such as those of {next(iter(spread))!r}"
                )
        elif self.reading.pages == "all" and any(fact.n_pages > 1 for fact in self.facts.values()):
            found, by = names, "file"
        else:
            if guess := guessed_pattern(names, len(self.class_names)):
                pattern, found = guess
                some = list(dict.fromkeys(found))
                spread = self._spread(found)
                split = f", {len(spread)} of them in several splits" if spread else ""
                self.notes.append(
                    f"groups: none. Names look like patients, or the like: {', '.join(some[:3])} "
                    f"({len(some)} in all{split}). If they are, keep each on one side by "
                    f"group_pattern={pattern!r} (--group-pattern)"
                )
            return ""
        self.groups = dict(zip(names, found, strict=True))
        self.notes.append(f"groups: {len(set(found))} by {by}, each kept on one side of a split")
        return by

    def _spread(self, groups: list[str]) -> dict[str, list[str]]:
        """Return the splits of the groups that are in several."""
        where: dict[str, list[str]] = {}
        for group, file in zip(groups, self.files, strict=True):
            if file.split not in where.setdefault(group, []):
                where[group].append(file.split)
        return {group: splits for group, splits in where.items() if len(splits) > 1}

    def read(self, files: list[ImageFile]) -> tuple[np.ndarray, list[ImageFile], list[bytes]]:
        """Return images, their files, and hashes of their pixels; those that fail leave no gap."""
        facts = [self.facts[file.name] for file in files]
        reading = self.reading
        rows = [(f, k) for f in files for k in pages_of(self.facts[f.name], reading.pages)]
        X = np.empty((len(rows), *shape_of(reading)), dtype=np.uint8)

        def read(row: int) -> bytes:
            file, page = rows[row]
            fact = self.facts[file.name]
            pixels = read_page(file.path, fact, page)
            X[row] = as_read(reading, pixels, fact)
            # Of pixels as they are stored, before any scale or size.
            digest = hashlib.blake2b(repr((pixels.shape, fact.white_is_zero)).encode())
            digest.update(np.ascontiguousarray(pixels).data)
            return digest.digest()

        digests = self._each([file for file, _ in rows], read, facts)
        # A file with a page that fails is left out as a whole.
        left = {file.name for file in self.files}
        kept = [row for row, (file, _) in enumerate(rows) if file.name in left]
        return moved_up(X, kept), [rows[k][0] for k in kept], [digests[k] for k in kept]


def _range(file: ImageFile, facts: ImageFacts, pages: str) -> tuple[float, float]:
    read = [read_page(file.path, facts, page) for page in pages_of(facts, pages)]
    return float(min(p.min() for p in read)), float(max(p.max() for p in read))


def moved_up(X: np.ndarray, kept: list[int]) -> np.ndarray:
    """Return some rows, in ascending order, without a second array."""
    if len(kept) == len(X):
        return X
    for place, row in enumerate(kept):
        X[place] = X[row]
    return X[: len(kept)]


def counted(left_out: dict[str, list[str]]) -> str:
    """Return what is left out, by reason."""
    return "; ".join(
        f"{reason}: {len(names)} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
        for reason, names in left_out.items()
    )
