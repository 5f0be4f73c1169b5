"""The files of a comparison: results of runs, their table, and what they were made with."""

from __future__ import annotations

import csv
import errno
import hashlib
import inspect
import io
import json
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote
from zipfile import BadZipFile

import numpy as np
import torch
from filelock import FileLock, Timeout
from torch import nn

from tsynd_sk._utils._by_name import file_of
from tsynd_sk._utils._files import UNFINISHED, content_hash, write_atomically
from tsynd_sk.autoencoders import AutoencoderNet, PatchAutoencoder, PatchPCA
from tsynd_sk.classifiers import ConvNet, NetClassifier, Pretrained
from tsynd_sk.synthesis import AugmentedClassifier, TargetedSynthesizer

Sample = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Outcome:
    """Results of a run: scores, losses of epochs, predictions for test images, synthetic images."""

    row: dict[str, Any]
    losses: list[float]
    probabilities: np.ndarray
    sample: Sample | None = None
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
                f"{self._settings} is missing or damaged, so nothing says what the runs beside it "
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
                "Choose another folder, or continue with the same settings. You may add seeds and "
                "arms."
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
                _write(self._settings, json.dumps(self.settings, indent=2))
            yield

    def load(self, run: int, arm: str) -> Outcome | None:
        """Return the results of a run; None if missing or damaged."""
        row = _read(self._path(run, arm, ".json"))
        proba = _arrays(self._path(run, arm, ".npy"))
        if not row or proba is None or (row.get("run"), row.get("arm")) != (run, arm):
            return None
        return Outcome(row, row.pop("losses", []), proba, _arrays(self._path(run, arm, ".npz")))

    def save(self, outcome: Outcome) -> None:
        """Write the results of a run; its row last, which marks the run as done."""
        place, sample = (outcome.row["run"], outcome.row["arm"]), outcome.sample
        proba = outcome.probabilities
        write_atomically(self._path(*place, ".npy"), lambda file: np.save(file, proba))
        if sample is not None:
            save: Any = np.savez_compressed
            write_atomically(self._path(*place, ".npz"), lambda file: save(file, **sample))
        losses = [float(f"{loss:.4g}") for loss in outcome.losses]
        _write(self._path(*place, ".json"), json.dumps({**outcome.row, "losses": losses}))

    def _path(self, run: int, arm: str, suffix: str) -> Path:
        return self._runs / f"run{run}-{quote(arm, safe=' +=,()')}{suffix}"

    def write_table(self, rows: list[dict[str, Any]]) -> None:
        if rows:
            text = io.StringIO(newline="")
            writer = csv.DictWriter(text, fieldnames=list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
            _write(self.path / "results.csv", text.getvalue())


def _differences(theirs: Any, ours: Any, name: str = "") -> Iterator[str]:
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
        return None
    return content if isinstance(content, dict) else None


def _arrays(path: Path) -> Any:
    """Return an array, or those of an archive by name; None if damaged."""
    try:
        content = np.load(path, allow_pickle=False)
        return content if isinstance(content, np.ndarray) else dict(content)
    except (OSError, ValueError, EOFError, BadZipFile):
        return None


def _write(path: Path, text: str) -> None:
    write_atomically(path, lambda file: file.write(text.encode()))


def definition_of(value: Any, within: tuple[int, ...] = ()) -> Any:
    """Describe a value in types of JSON; equal descriptions mean equal results.

    Files and the user's code are told by their contents. `within` are ids of what holds the value.
    """
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str | Path):
        return _text(value)
    if isinstance(value, np.generic):
        return value.item()
    if id(value) in within:
        return "itself"
    tell = partial(definition_of, within=(*within, id(value)))
    if isinstance(value, Mapping):
        return {str(key): tell(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [*map(tell, value)]
    if isinstance(value, set | frozenset):
        # Sorted by text, because their own order differs between processes.
        return sorted(map(tell, value), key=str)
    if isinstance(value, partial):
        return tell([value.func, value.args, value.keywords])
    if isinstance(value, nn.Module):
        return {"module": repr(value), "weights": _hash_of(value.state_dict().values())}
    if isinstance(value, np.ndarray | torch.Tensor):
        return _hash_of([torch.as_tensor(value)])
    if hasattr(value, "get_params") and not isinstance(value, type):
        return {type(value).__name__: tell(value.get_params(deep=False))}
    if callable(value) and hasattr(value, "__qualname__"):
        return _code(value, tell)
    shown, own = repr(value), _own_code(type(value))
    # The repr of classes of packages mostly shows what they hold.
    is_seen = not hasattr(value, "__dict__") or not (own or " object at 0x" in shown)
    return {"repr": _lasting(shown), **own, **({} if is_seen else {"state": tell(vars(value))})}


def _lasting(text: str) -> str:
    """Leave out addresses in memory and the path of the user's file."""
    return re.sub(r"_tsynd_sk_(\w+)_[0-9a-f]{12}", r"\1", re.sub(r" at 0x[0-9a-f]+", "", text))


def _text(text: str | Path) -> Any:
    """Tell a text that names a file by the contents of the file, which may be moved."""
    file, path = file_of(str(text)), Path(text).expanduser()
    with suppress(OSError):
        if file and file.is_file():
            return [f"{file.name}:{str(text).rpartition(':')[2]}", content_hash(file)]
        if path.is_file():
            return content_hash(path)
    return str(text)


def _code(value: Any, tell: Callable[[Any], Any]) -> Any:
    """Tell a function or class by name; the user's also by its file and closure."""
    name = _lasting(f"{getattr(value, '__module__', '')}.{value.__qualname__}")
    if not (own := _own_code(value)):
        return name
    enclosed = [cell.cell_contents for cell in getattr(value, "__closure__", None) or ()]
    enclosed += [value.__self__] if inspect.ismethod(value) else []
    return {"name": name, **own, **({"enclosed": tell(enclosed)} if enclosed else {})}


def _own_code(value: Any) -> dict[str, str]:
    """Return the hash of the file that defines something, unless it was installed."""
    try:
        file = Path(inspect.getsourcefile(value) or "")
    except (OSError, TypeError):
        return {}
    package = Path(__file__).parents[1]
    installed = "site-packages" in file.parts or file.is_relative_to(sys.base_prefix)
    if installed or file.is_relative_to(package) or not file.is_file():
        return {}
    return {"file": content_hash(file)}


def _hash_of(tensors: Any) -> str:
    sha256 = hashlib.sha256()
    for tensor in tensors:
        sha256.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return sha256.hexdigest()


def part_defaults() -> dict[str, str]:
    """Return the defaults of parts of arms, which may change between versions."""
    parts = (
        *(TargetedSynthesizer, AugmentedClassifier, NetClassifier, ConvNet, Pretrained),
        *(AutoencoderNet, PatchPCA, PatchAutoencoder),
    )
    return {
        f"{part.__name__}.{name}": getattr(parameter.default, "__name__", repr(parameter.default))
        for part in parts
        for name, parameter in inspect.signature(part).parameters.items()
        if parameter.default is not parameter.empty
    }
