"""One process at a time, where the system has file locks."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

if sys.platform != "win32":
    import fcntl


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock on the file ``path``, made when it is missing; other processes that ask for it wait.

    On Windows nobody waits: whoever uses this may do the same work twice there, but has to do it correctly.
    """
    with path.open("ab") as file:
        if sys.platform != "win32":
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
