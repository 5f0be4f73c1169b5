"""The files of a comparison: its settings, a result for each run, and the table of them all."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from tsynd_sk._skorch._net_state import net_state, restored_net
from tsynd_sk._utils._files import remove_unfinished, write_atomically
from tsynd_sk._utils._tensor_file import Refused, field, read_tensors, write_tensors


class ResultsFolder:
    """Folder of one comparison, whose files are whole at any moment.

    Parameters
    ----------
    path : Path
        The folder.
    settings : dict
        What determines the numbers in it, as JSON has it.

    Raises
    ------
    ValueError
        If it holds a comparison with other settings, or one whose settings are lost.
    """

    def __init__(self, path: Path, settings: dict[str, Any]):
        self.path = path
        self.settings = settings
        self._runs = path / "runs"
        self._autoencoders = path / "autoencoders"
        self._settings = path / "settings.json"
        self._lock = path / "lock"
        self._check_settings()

    def _check_settings(self) -> None:
        ours, theirs = self.settings, _read(self._settings)
        if theirs is None:
            if any(self._runs.glob("*.json")):
                raise ValueError(
                    f"{self._settings} is missing or damaged, so that nobody knows what the runs "
                    f"beside it have compared. Choose another folder, or remove {self._runs} to "
                    "begin anew."
                )
            return
        if changed := list(_differences("", _grown(theirs, ours), ours)):
            raise ValueError(
                f"{self.path} holds a comparison with other settings ({'; '.join(changed)}). "
                "Choose another folder, or the same settings to go on with it. More seeds and "
                "further arms may join."
            )

    @contextmanager
    def reserved(self) -> Iterator[None]:
        """Write to the folder alone, and tidy it up first after processes that were killed.

        Raises
        ------
        BlockingIOError
            If another process does.
        """
        self._runs.mkdir(parents=True, exist_ok=True)
        with locked(self._lock):
            # Since the first look another job may have begun here, and ended.
            self._check_settings()
            self.progress.unlink(missing_ok=True)
            remove_unfinished(self._runs, "*.json")
            remove_unfinished(self._autoencoders, "*.safetensors")
            for path in (self._settings, self.table, self.picture):
                remove_unfinished(self.path, path.name)
            if _read(self._settings) != self.settings:
                _write(self._settings, json.dumps(self.settings, indent=2).encode())
            yield

    @property
    def table(self) -> Path:
        """Results of all runs that are done."""
        return self.path / "results.csv"

    @property
    def picture(self) -> Path:
        """Synthetic images of one run."""
        return self.path / "synthesis.png"

    @property
    def progress(self) -> Path:
        """Where processes tell how far they are."""
        return self.path / "progress.txt"

    def autoencoder_path(self, seed: int, kind: dict[str, Any] | None = None) -> Path:
        """File with the weights of an autoencoder of a seed, if not the usual one, of a kind."""
        suffix = "" if kind is None else f"-{_digest(kind)}"
        return self._autoencoders / f"seed{seed}{suffix}.safetensors"

    def run_path(self, seed: int, arm: str) -> Path:
        """File with the result of a run."""
        return self._runs / f"seed{seed}-{arm}.json"

    def row(self, seed: int, arm: str) -> dict[str, Any] | None:
        """Give the result of a run; None if there is none that anybody could read."""
        row = _read(self.run_path(seed, arm))
        return row if row and (row.get("seed"), row.get("arm")) == (seed, arm) else None

    def save(self, row: dict[str, Any]) -> None:
        """Keep the result of a run."""
        _write(self.run_path(row["seed"], row["arm"]), json.dumps(row).encode())

    def is_finished(self, rows: list[dict[str, Any]]) -> bool:
        """Tell whether nobody is at work, nor was killed at it, and the table is that of `rows`."""
        return not self._lock.exists() and self._holds_table(rows)

    def _holds_table(self, rows: list[dict[str, Any]]) -> bool:
        return self.table.exists() and self.table.read_bytes() == _csv(rows)

    def write_table(self, rows: list[dict[str, Any]]) -> None:
        """Collect results, if there are any."""
        if rows and not self._holds_table(rows):
            _write(self.table, _csv(rows))


def checked_rows(
    rows: Iterable[dict[str, Any]],
    columns: Sequence[str],
    common: dict[str, Any],
    pairs: Sequence[tuple[int, str]],
) -> list[dict[str, Any]]:
    """Check results that were made elsewhere, and put them into the form of those made here.

    Parameters
    ----------
    rows : iterable of dict
        Results of runs.
    columns : sequence of str
        Columns that they are to have.
    common : dict
        Columns in which they have to agree with the comparison.
    pairs : sequence of tuple
        Seeds and arms that are compared.
    """
    checked = []
    for row in rows:
        if odd := row.keys() ^ set(columns):
            raise ValueError(
                f"a row lacks, or has besides, the columns {', '.join(map(str, sorted(odd)))}: "
                f"rows of this comparison have {', '.join(columns)}"
            )
        for name, value in common.items():
            if row[name] != value:
                raise ValueError(f"a row has {name}={row[name]!r}, but this comparison {value!r}")
        if (row["seed"], row["arm"]) not in pairs:
            raise ValueError(
                f"a row is of seed {row['seed']!r} and arm {row['arm']!r}, which are not compared "
                "here"
            )
        checked.append(_as_json({name: row[name] for name in columns}))
    return checked


def _as_json(row: dict[str, Any]) -> dict[str, Any]:
    """Give a row as it is read back; NumPy's numbers become Python's."""
    try:
        return json.loads(json.dumps(row, default=lambda number: number.item()))
    except (TypeError, AttributeError) as error:
        raise ValueError(f"a row holds what JSON cannot: {error}; got {row!r}") from error


def _grown(theirs: dict[str, Any], ours: dict[str, Any]) -> dict[str, Any]:
    """Let seeds and arms join, for that leaves the runs that are there what they are."""
    grown = dict(theirs)
    seeds, arms = theirs.get("seeds"), theirs.get("arms")
    if isinstance(seeds, int):
        grown["seeds"] = max(seeds, ours["seeds"])
    if isinstance(arms, dict) and arms.keys() <= ours["arms"].keys():
        grown["arms"] = {name: arms.get(name, arm) for name, arm in ours["arms"].items()}
    return grown


def _differences(name: str, theirs: Any, ours: Any) -> Iterator[str]:
    """Name what differs, in dicts within dicts too."""
    if not (isinstance(theirs, dict) and isinstance(ours, dict)):
        if theirs != ours:
            yield f"{name}: {theirs!r} -> {ours!r}"
        return
    keys = dict.fromkeys((*ours, *theirs))
    # Of arms that were not compared the name says enough.
    if name == "arms" and list(theirs) != list(ours):
        yield from _differences(name, list(theirs), list(ours))
        keys = dict.fromkeys(key for key in ours if key in theirs)
    for key in keys:
        yield from _differences(f"{name}.{key}" if name else key, theirs.get(key), ours.get(key))


def _digest(kind: dict[str, Any]) -> str:
    text = json.dumps(kind, sort_keys=True).encode()
    return hashlib.md5(text, usedforsecurity=False).hexdigest()[:8]


def _read(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        # A disk that fails, or a copy that was cut short.
        return None
    return content if isinstance(content, dict) else None


def _write(path: Path, content: bytes) -> None:
    write_atomically(path, lambda file: file.write(content))


def _csv(rows: list[dict[str, Any]]) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, fieldnames=list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock that the operating system gives back even if the process is killed.

    A file system that knows no locks, as on some clusters, keeps nobody out.

    Parameters
    ----------
    path : Path
        File to lock, made if need be. One that stays behind locks nothing.

    Raises
    ------
    BlockingIOError
        If another process holds the lock.
    """
    with _acquired(path):
        try:
            yield
        finally:
            # Still under the lock, for later it may be somebody else's. Windows keeps the file.
            with suppress(OSError):
                path.unlink()


def _acquired(path: Path) -> BinaryIO:
    while True:
        file = path.open("ab")
        try:
            try:
                _lock(file.fileno())
            except (BlockingIOError, PermissionError) as error:
                text = "another process is at work here"
                raise BlockingIOError(error.errno, text, str(path.parent)) from None
            # Its holder may have removed it meanwhile; nobody else would find that one.
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                    return file
        except BaseException:
            file.close()
            raise
        file.close()


if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int) -> None:
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def _lock(descriptor: int) -> None:
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            raise
        except OSError:
            pass


_KIND = "AutoencoderNet"


def keep_autoencoder(path: Path, net: Any, seconds: float) -> None:
    """Write the weights of an autoencoder, and what their training took."""
    tensors, fields = net_state(net, net, "autoencoder")
    # A full disk must not cost the training; without the file there is another one at a restart.
    with suppress(OSError):
        path.parent.mkdir(exist_ok=True)
        write_tensors(path, _KIND, tensors, {"net": fields, "seconds": seconds})


def kept_autoencoder(path: Path, blank: Any) -> tuple[Any, float] | None:
    """Give an autoencoder with the weights in a file; None if there are none that fit.

    Parameters
    ----------
    path : Path
        File that `keep_autoencoder` may have written.
    blank : skorch net
        Unfitted, with the parameters of the one that was kept.
    """
    try:
        contents = read_tensors(path)
        fields = field(contents.body, "net", dict)
        net = restored_net(blank, contents.tensors, fields, "autoencoder", None)
        return net, float(field(contents.body, "seconds", float, int))
    except (FileNotFoundError, Refused):
        return None
