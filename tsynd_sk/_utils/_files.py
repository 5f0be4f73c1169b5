"""Write files as a whole or not at all, whatever happens meanwhile."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

#: How names of files end that are not whole yet.
UNFINISHED = ".part"


def write_atomically(path: str | os.PathLike[str], write: Callable[[BinaryIO], object]) -> None:
    """Put a file in its place, or that of a link, once it is written and safe on the disk.

    Whoever reads `path`, even after a power failure, finds the old file or the new one. A killed
    process may leave a file beside it whose name ends in `UNFINISHED`.
    """
    target = Path(os.path.realpath(path))
    unfinished = target.with_name(f"{target.name}.{secrets.token_hex(4)}{UNFINISHED}")
    try:
        try:
            with unfinished.open("xb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(target)
        except BaseException:
            with suppress(OSError):
                unfinished.unlink()
            raise
        # The new name outlives a power failure, too, where folders can be opened.
        with suppress(OSError):
            descriptor = os.open(target.parent, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
    except OSError as error:
        # A full disk is reported without a name, a missing folder with that of the part.
        raise type(error)(error.errno, error.strerror or str(error), os.fspath(path)) from error


def content_hash(path: str | os.PathLike[str]) -> str:
    """Hash what is in a file, by SHA-256."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
