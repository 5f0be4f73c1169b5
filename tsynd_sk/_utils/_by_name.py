"""Objects that users name by text: "package.module:name", or "file.py:name"."""

from __future__ import annotations

import hashlib
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

from tsynd_sk._utils._files import content_hash


def object_of(text: str, what: str) -> Any:
    """Return the object that a text names; `what` is what the user calls the text."""
    where, _, name = text.rpartition(":")
    if not where or not name:
        raise ValueError(
            f"{what}={text!r} names nothing: expected 'package.module:name' or 'file.py:name'"
        )
    if where.endswith(".py"):
        module = module_of_file(where, what)
    else:
        try:
            with _found_beside(Path.cwd()):
                module = import_module(where)
        except ModuleNotFoundError as error:
            raise ImportError(f"{what}={text!r}: {error}") from error
    found: Any = module
    for part in name.split("."):
        if not hasattr(found, part):
            raise ValueError(
                f"{what}={text!r}: there is no {part!r} in {where}: expected a name that it defines"
            )
        found = getattr(found, part)
    return found


_PACKAGE = str(Path(__file__).parents[1])


@contextmanager
def users_code(what: str) -> Iterator[None]:
    """Let an error in the user's code name what asked for the code, and the line."""
    try:
        yield
    except Exception as error:
        # The user's line, and not the one in a library that this line called.
        frames = traceback.extract_tb(error.__traceback__)
        theirs = [f for f in frames if not f.filename.startswith((_PACKAGE, "<frozen"))] or frames
        last = [f for f in theirs if f.filename == theirs[0].filename][-1]
        file, line = last.filename, last.lineno
        if isinstance(error, SyntaxError):
            file, line = error.filename or file, error.lineno
        raise ValueError(
            f"{what} fails at line {line} of {file}: {type(error).__name__}: {error}"
        ) from error


def module_of_file(path: str | Path, what: str = "file") -> Any:
    """Run a file of Python code as a module, once for its contents, and return it.

    Its name depends on the file alone, by which other processes find what was pickled here.
    """
    path = Path(path).expanduser().resolve()
    if not path.is_file():
        raise FileNotFoundError(f"{what}: there is no file {str(path)!r}: expected a path")
    digest = hashlib.sha256(f"{path}{content_hash(path)}".encode()).hexdigest()[:12]
    name = f"_tsynd_sk_{path.stem}_{digest}"
    if name not in sys.modules:
        spec = spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        module = sys.modules[name] = module_from_spec(spec)
        try:
            with users_code(what), _found_beside(path.parent):
                spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
        _let_joblib_pickle(module)
    return sys.modules[name]


def _let_joblib_pickle(module: Any) -> None:
    """Let joblib hand what a module defines to its processes."""
    try:
        from joblib.externals import cloudpickle
    except ImportError:  # joblib from 1.6 on brings none of its own
        import cloudpickle  # type: ignore[import-untyped]
    cloudpickle.register_pickle_by_value(module)


def file_of(text: str) -> Path | None:
    """Return the file that a text such as "file.py:name" names, if it does."""
    where = text.rpartition(":")[0]
    return Path(where).expanduser() if where.endswith(".py") else None


@contextmanager
def _found_beside(folder: Path) -> Iterator[None]:
    """Let modules in a folder be imported."""
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
