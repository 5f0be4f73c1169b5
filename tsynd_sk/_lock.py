"""Keep other processes out of a folder, in a way that does not outlive the one that does."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO


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
