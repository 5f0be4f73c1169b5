"""The steps of loading a folder: look, choose one reading, group, read."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from tsynd_sk.datasets._equal_images import digest_of
from tsynd_sk.datasets._folder_layout import ImageFile, Layout
from tsynd_sk.datasets._groups import (
    groups_of,
    guessed_pattern,
    refuse_on_two_sides,
    spread_over,
)
from tsynd_sk.datasets._image_facts import FileFault, ImageFacts
from tsynd_sk.datasets._many_files import in_threads, n_threads, refusal
from tsynd_sk.datasets._pixel_scale import scale_of
from tsynd_sk.datasets._read_image import look, quiet_readers, read_page
from tsynd_sk.datasets._reading import as_read, reading_of

# How names of masks end, which often stand beside their images.
_MASK = re.compile(r"(?i)[ _.-](mask|seg|segmentation|annotation)s?([ _-]?\d+)?\.\w+$")


class FolderLoad:
    """One load of a folder, step by step."""

    def __init__(self, layout: Layout, folder: Path, on_error: str, bar: Any):
        self.layout = layout
        self.files = layout.files
        self.left_out = layout.left_out
        self.notes: list[str] = []
        self.warnings: list[str] = []
        self.folder = folder
        self._on_error = on_error
        self._bar = bar

    def _without_faults(self, files: list[ImageFile], results: list) -> list:
        """Return the results that are none of the faults, which are counted or raised."""
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
        return [result for result in results if not isinstance(result, FileFault)]

    def look(self) -> None:
        """Ask every file what it is."""
        with quiet_readers():
            looked = in_threads(
                lambda file: look(file.path), self.files, n_threads(), self._bar.update
            )
        found = self._without_faults(self.files, looked)
        self.facts: dict[str, ImageFacts] = {
            file.name: facts for file, facts in zip(self.files, found, strict=True)
        }
        self._refuse_empty_classes()

    def _refuse_empty_classes(self) -> None:
        filled = {file.class_name for file in self.files}
        if empty := [name for name in self.layout.class_names if name not in filled]:
            lost = f"; left out: {counted(self.left_out)}" if self.left_out else ""
            raise ValueError(
                f"No image that can be read for {empty} in {self.folder}{lost}: add images, or "
                "leave the folder out by exclude (--exclude)"
            )

    def choose_reading(self, size, fit, grayscale, window, pages) -> None:
        """Choose one scale and one size for all files."""
        deep = [file for file in self.files if self.facts[file.name].deep]
        ranges: list = []
        if deep and window is None:
            threads = n_threads(self.facts[file.name] for file in deep)
            self._bar.total += len(deep)
            with quiet_readers():
                found = in_threads(
                    lambda file: _range(file, self.facts[file.name], pages),
                    deep,
                    threads,
                    self._bar.update,
                )
            ranges = self._without_faults(deep, found)
            self._refuse_empty_classes()
        facts = [self.facts[file.name] for file in self.files]
        names = [f.name for f in self.files if self.facts[f.name].deep]
        if not facts:
            raise ValueError(f"{self.folder} must hold images that can be read; all were left out")
        scale = scale_of(facts, ranges, names, window)
        try:
            self.reading, note = reading_of(
                facts,
                [file.name for file in self.files],
                scale,
                size=size,
                fit=fit,
                grayscale=grayscale,
                pages=pages,
            )
        except ValueError as error:
            raise ValueError(f"{self.folder}: {error}") from None
        self.notes += [note, *([scale.note] if scale.note else [])]
        if scale.is_guess:
            self.warnings.append(f"{self.folder}: {scale.note}")
        self._note_losses(facts)
        if masks := [file.name for file in self.files if _MASK.search(file.name)]:
            self.notes.append(
                f"names: {len(masks)} images, such as {masks[0]}, look like masks of others; leave "
                "such out by exclude (--exclude '*_mask*', say)"
            )

    def _note_losses(self, facts: list[ImageFacts]) -> None:
        n_paged = sum(fact.n_pages > 1 for fact in facts)
        if n_paged and self.reading.pages == "first":
            self.left_out['further pages of files, which pages="all" (--pages all) reads'] = [
                file.name for file, fact in zip(self.files, facts, strict=True) if fact.n_pages > 1
            ]
        if n_cut := sum(fact.loses_bits for fact in facts):
            note = (
                f"values: of {n_cut} PNG files with 16 bits a colour, Pillow reads the upper 8; "
                "save them as TIFF to keep all"
            )
            self.notes.append(note)
            self.warnings.append(f"{self.folder}: {note}")

    def group(self, groups, pattern: str | None, pages: str) -> str:
        """Find the group of each file; return what tells it."""
        names = [file.name for file in self.files]
        self.groups: dict[str, str] | None = None
        splits = np.array([file.split for file in self.files])
        if (told := groups_of(names, groups, pattern)) is not None:
            found, by = told
            refuse_on_two_sides(np.array(found), splits, by)
        else:
            patients = [self.facts[name].patient for name in names]
            if any(patients) and (not all(patients) or len(set(patients)) == 1):
                self.notes.append("groups: none, for PatientID is empty or everywhere the same")
                patients = []
            if all(patients) and patients:
                found, by = patients, "PatientID"
                if spread := spread_over(np.array(found), splits):
                    self.warnings.append(
                        f"{self.folder}: images of {len(spread)} patients (PatientID) are in "
                        f"several splits, such as those of {next(iter(spread))!r}"
                    )
            elif pages == "all" and any(fact.n_pages > 1 for fact in self.facts.values()):
                found, by = names, "file"
            else:
                self._hint_at_groups(names)
                return ""
        self.groups = dict(zip(names, found, strict=True))
        self.notes.append(f"groups: {len(set(found))} by {by}; none has images on two sides")
        return by

    def _hint_at_groups(self, names: list[str]) -> None:
        if guess := guessed_pattern(names, len(self.layout.class_names)):
            pattern, groups = guess
            some = ", ".join(list(dict.fromkeys(groups))[:3])
            spread = spread_over(np.array(groups), np.array([file.split for file in self.files]))
            split = f", {len(spread)} of them in several splits" if spread else ""
            self.notes.append(
                f"groups: none. Names look like patients, or the like: {some} "
                f"({len(set(groups))} in all{split}). If they are, keep each on one side by "
                f"group_pattern={pattern!r} (--group-pattern)"
            )

    def read(self, files: list[ImageFile]) -> dict[str, Any]:
        """Read the pixels of files; those that fail leave no gap."""
        reading, facts = self.reading, self.facts
        n_pages = {f.name: facts[f.name].n_pages if reading.pages == "all" else 1 for f in files}
        rows = [(file, page) for file in files for page in range(n_pages[file.name])]
        shape = (len(rows), *reading.size, *(() if reading.grayscale else (3,)))
        X = np.empty(shape, dtype=np.uint8)

        def read(place: int) -> bytes:
            file, page = rows[place]
            fact = facts[file.name]
            pixels = read_page(file.path, fact, page)
            X[place] = as_read(reading, pixels, fact)
            return digest_of(pixels, fact.white_is_zero)

        with quiet_readers():
            threads = n_threads(facts[file.name] for file in files)
            results = in_threads(read, range(len(rows)), threads, self._bar.update)
        self._without_faults([file for file, _ in rows], results)
        # A file with a page that fails is left out as a whole.
        left = {file.name for file in self.files}
        kept = [row for row, (file, _) in enumerate(rows) if file.name in left]
        self._refuse_empty_classes()
        return {
            "X": moved_up(X, kept),
            "files": [rows[row][0] for row in kept],
            "digests": [results[row] for row in kept],
        }


def _range(file: ImageFile, facts: ImageFacts, pages: str) -> tuple[float, float]:
    n_pages = facts.n_pages if pages == "all" else 1
    read = [read_page(file.path, facts, page) for page in range(n_pages)]
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
    parts = []
    for reason, names in left_out.items():
        more = ", ..." if len(names) > 3 else ""
        parts.append(f"{reason}: {len(names)} ({', '.join(names[:3])}{more})")
    return "; ".join(parts)
