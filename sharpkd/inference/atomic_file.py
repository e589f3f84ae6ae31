"""Files that are complete or not there."""

from __future__ import annotations

import glob
import hashlib
import os
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

# Held while a temporary file is made or renamed; `abandon_unfinished` takes it for good.
_gate = threading.Lock()
_unfinished: set[Path] = set()


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """Appears under ``path`` only when the block ends well: written beside it, synced, then renamed.

    Kill -9 and a full disk leave the old file or the new one. The new file has the usual permissions, or the
    old one's where there is one; a symbolic link stays, and what it points to is replaced.
    """
    path = path.resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{_beginning(path)}{uuid.uuid4().hex[:8]}.part")
    with _gate:
        file = temporary.open("xb")
        _unfinished.add(temporary)
    try:
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileNotFoundError):
            temporary.chmod(path.stat().st_mode & 0o777)
        with _gate:
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
        _unfinished.discard(temporary)


def leftovers(path: Path) -> list[Path]:
    """Temporary files of processes that died while they wrote ``path``, or that still write it."""
    path = path.resolve()
    return sorted(path.parent.glob(f"{glob.escape(_beginning(path))}????????.part"))


def _beginning(path: Path) -> str:
    """Of the names of temporary files of ``path``, and of no other file in its folder."""
    whole = hashlib.blake2s(os.fsencode(path.name), digest_size=6).hexdigest()
    # a name may have 255 bytes, a character four
    return f".{path.name[:40]}.{whole}."


def abandon_unfinished() -> None:
    """Remove all temporary files; nothing is written from now on. For a program that is about to end."""
    _gate.acquire()
    for temporary in list(_unfinished):
        # Windows does not remove what another thread still writes.
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
