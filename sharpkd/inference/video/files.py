"""Video files: which they are, why one is refused, and how one comes to be."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

FORMAT_OF_SUFFIX = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm"}
"""The containers that are read and written, by FFmpeg's names."""


class VideoError(ValueError):
    """A video cannot be read, kept or written; the message is one line with the file and the reason."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


def is_video(path: Path) -> bool:
    """Whether the suffix of ``path`` is that of a container in `FORMAT_OF_SUFFIX`."""
    return path.suffix.lower() in FORMAT_OF_SUFFIX


def format_of(path: Path) -> str:
    """FFmpeg's name of the container that the suffix of ``path`` stands for.

    Raises:
        VideoError: any other suffix.
    """
    try:
        return FORMAT_OF_SUFFIX[path.suffix.lower()]
    except KeyError:
        suffix = path.suffix or "a name without suffix"
        raise VideoError(path, f"{suffix} is no video; use {', '.join(FORMAT_OF_SUFFIX)}") from None


def check_installed(path: Path) -> None:
    """Say how to get PyAV where it is missing.

    Raises:
        VideoError: it cannot be imported.
    """
    if find_spec("av") is None:
        raise VideoError(path, "videos need PyAV: pip install 'sharpkd[video]'")


@contextmanager
def temporary_beside(target: Path) -> Iterator[Path]:
    """A name in the folder of ``target``, whose file is renamed to it when the block ends well.

    Whatever ends the block otherwise leaves ``target`` as it was; kill -9 leaves a ``.part`` file beside it.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    # a name may have 255 bytes, a character four
    temporary = target.with_name(f".{target.name[:40]}.{uuid.uuid4().hex[:8]}.part")
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
