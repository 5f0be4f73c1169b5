"""The files of a comparison: settings, results of each run, and the table of all."""

from __future__ import annotations

import csv
import errno
import io
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote
from zipfile import BadZipFile

import numpy as np
from filelock import FileLock, Timeout

from tsynd_sk._utils._files import UNFINISHED, write_atomically

Sample = Mapping[str, np.ndarray]

# In the file of a run, beside its row of the table.
_LOSSES = "losses"


@dataclass(frozen=True)
class Outcome:
    """Results of a run: scores, losses of its epochs, predictions for its test images."""

    row: dict[str, Any]
    losses: list[float]
    probabilities: np.ndarray
    #: Synthetic images beside their sources.
    sample: Sample | None = None
    #: Those of its training.
    warnings: Sequence[tuple[type[Warning], str]] = ()


class ResultsFolder:
    """Folder of one comparison, whose files are complete at any time."""

    def __init__(self, path: Path, settings: dict[str, Any]):
        self.path = path
        self.settings = settings
        self._runs = path / "runs"
        self._settings = path / "settings.json"
        try:
            # Before anything is trained, or said to be kept.
            self._runs.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=path):
                pass
        except OSError as error:
            raise OSError(
                f"results cannot be written to out={str(path)!r}: {error}. Choose another folder "
                "(--out)"
            ) from error
        self._check_settings()

    def _check_settings(self) -> None:
        theirs = _read(self._settings)
        if theirs is None and any(self._runs.glob("*.json")):
            raise ValueError(
                f"{self._settings} is missing or damaged, so it is unknown what the runs beside it "
                f"compared. Choose another folder, or remove {self._runs} to start again."
            )
        if theirs is None:
            return
        # Additional seeds and arms change no earlier run.
        ours = dict(self.settings)
        ours["runs"] = ours["runs"][: len(theirs.get("runs", ()))]
        ours["arms"] = {k: arm for k, arm in ours["arms"].items() if k in theirs.get("arms", ())}
        if changed := list(_differences(theirs, ours)):
            raise ValueError(
                f"{self.path} holds a comparison with other settings ({'; '.join(changed)}). "
                "Choose another folder, or use the same settings to continue. You may add seeds "
                "and arms."
            )

    @contextmanager
    def reserved(self) -> Iterator[None]:
        """Lock the folder, and first remove unfinished files of killed processes."""
        try:
            # The operating system releases it even if the process is killed.
            lock = FileLock(self.path / ".lock").acquire(timeout=0)
        except Timeout:
            text = "another process is at work here: wait until it ends, or choose another folder"
            raise BlockingIOError(errno.EWOULDBLOCK, text, str(self.path)) from None
        with lock:
            # Another process may have used the folder since the first check.
            self._check_settings()
            for path in self.path.rglob(f"*{UNFINISHED}"):
                path.unlink()
            if _read(self._settings) != self.settings:
                _write(self._settings, json.dumps(self.settings, indent=2).encode())
            yield

    def load(self, run: int, arm: str) -> Outcome | None:
        """Return the results of a run; None if they are missing or damaged."""
        row = _read(self._path(run, arm, ".json"))
        proba = _arrays(self._path(run, arm, ".npy"))
        if not row or proba is None or (row.get("run"), row.get("arm")) != (run, arm):
            return None
        return Outcome(row, row.pop(_LOSSES, []), proba, _arrays(self._path(run, arm, ".npz")))

    def save(self, outcome: Outcome) -> None:
        """Write the results of a run; its row last, which marks the run as done."""
        place, content = (outcome.row["run"], outcome.row["arm"]), io.BytesIO()
        np.save(content, outcome.probabilities)
        _write(self._path(*place, ".npy"), content.getvalue())
        if outcome.sample is not None:
            content = io.BytesIO()
            np.savez_compressed(content, **outcome.sample)  # type: ignore[arg-type]
            _write(self._path(*place, ".npz"), content.getvalue())
        losses = [float(f"{loss:.4g}") for loss in outcome.losses]
        row = json.dumps({**outcome.row, _LOSSES: losses})
        _write(self._path(*place, ".json"), row.encode())

    def _path(self, run: int, arm: str, suffix: str) -> Path:
        return self._runs / f"run{run}-{quote(arm, safe=' +=,()')}{suffix}"

    def write_table(self, rows: list[dict[str, Any]]) -> None:
        """Write the table of all runs, if there are any."""
        if rows:
            text = io.StringIO(newline="")
            writer = csv.DictWriter(text, fieldnames=list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
            _write(self.path / "results.csv", text.getvalue().encode())


def _differences(theirs: Any, ours: Any, name: str = "") -> Iterator[str]:
    """Yield a line for each value that differs, also in nested dicts."""
    if isinstance(theirs, dict) and isinstance(ours, dict):
        for key in dict.fromkeys((*ours, *theirs)):
            full = f"{name}.{key}" if name else key
            yield from _differences(theirs.get(key), ours.get(key), full)
    elif theirs != ours:
        yield f"{name}: {theirs!r} -> {ours!r}"


def _read(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        # A failing disk, or an incomplete copy.
        return None
    return content if isinstance(content, dict) else None


def _arrays(path: Path) -> Any:
    """Return the array of a file, or those of an archive by name; None if it cannot be read."""
    try:
        content = np.load(path, allow_pickle=False)
        return content if isinstance(content, np.ndarray) else dict(content)
    except (OSError, ValueError, EOFError, BadZipFile):
        return None


def _write(path: Path, content: bytes) -> None:
    write_atomically(path, lambda file: file.write(content))
