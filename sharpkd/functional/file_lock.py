"""Files that one process at a time holds, and that are free again when it ends, however it ends."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

if sys.platform != "win32":
    import fcntl

POLL = 0.1
"""Seconds between two looks at a file that somebody holds."""


class InUseError(RuntimeError):
    """Another process holds the file; the message is one line that names it."""


@contextmanager
def held(path: Path, patience: float = 0.0) -> Iterator[None]:
    """Hold ``path``, made when it is missing, while the block runs; the block may remove it.

    The lock belongs to the process: it is gone with it, also after kill -9. On Windows, and on file systems
    without locks, nobody is kept out.

    Args:
        path: in a folder that exists.
        patience: seconds to wait for whoever holds it.

    Raises:
        InUseError: it is held for longer than that.
        OSError: it cannot be opened or made.
    """
    if sys.platform == "win32":
        yield
        return
    until = time.monotonic() + patience
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            taken = _is_taken(handle)
            if taken and _is_of(handle, path):
                yield
                return
        finally:
            os.close(handle)
        if not taken:
            if time.monotonic() >= until:
                raise InUseError(f"{path}: another process holds it")
            time.sleep(POLL)


def _is_taken(handle: int) -> bool:
    if sys.platform != "win32":
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:
            return True  # this file system has no locks
    return True


def _is_of(handle: int, path: Path) -> bool:
    """Whether ``path`` still is the opened file, and was not removed by who held it before."""
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def locked(path: Path) -> AbstractContextManager[None]:
    """Hold ``path`` as `held` does, however long others do.

    Where nobody is kept out, whoever uses this may do the same work twice, but has to do it correctly.
    """
    return held(path, math.inf)
