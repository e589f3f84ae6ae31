"""Images by key, on disk: a folder that several processes share, bounded in size.

Each image is a file of its own, ``<folder>/<owner>/<two digits>/<key>``, with its shape, its length and a
CRC-32 in front. It is written under another name and then renamed, so that readers see all of it or nothing;
what a crash leaves behind (half a file, or after a power cut a whole one with holes) fails the check and
counts as missing. Whoever writes holds a lock and keeps the size of the folder in a file, so nobody ever has
to scan it but once, when it is opened, which also sweeps up what killed writers left.

A full folder is not written to any more, and nothing in it is deleted. Epochs go round: with room for a part
of one, replacing the least recently used image would always throw out the one that is needed next, and
nothing would ever be found, while keeping what is there finds that part every time. Which owners are no
longer needed only people know: they delete their folders.
"""

from __future__ import annotations

import logging
import math
import os
import re
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sharpkd.functional.file_lock import locked

log = logging.getLogger(__name__)

FORMATS: dict[str, np.dtype[Any]] = {"fp16": np.dtype("<f2"), "uint8": np.dtype("u1")}
BYTES_PER_GB = 10**9
# what it is, format, checksum; then the shape, which the checksum covers too
HEADER = struct.Struct("<4sBxxxI")
SHAPE = struct.Struct("<III")
MAGIC = b"SKDA"
PART = ".part"


class AnswerStore:
    """Images ``(3, H, W)`` by key.

    Args:
        folder: made when it is missing; several owners may share it.
        owner: name of the part of it that is read and written here.
        max_bytes: bound on the files of all owners together. Where there is more already it stays, and
            nothing is added.
        kept_as: ``fp16`` (11 significant bits), or ``uint8``: clamped to [0, 1] and rounded to 256 levels.

    Raises:
        ValueError: the format is unknown, or the bound is not above 0.
        OSError: the folder cannot be written.
    """

    def __init__(
        self, folder: str | Path, owner: str, max_bytes: float = 10 * BYTES_PER_GB, kept_as: str = "fp16"
    ) -> None:
        if kept_as not in FORMATS:
            raise ValueError(f"teacher.cache_format is {kept_as!r}; expected {' or '.join(FORMATS)}")
        if not max_bytes > 0:
            raise ValueError(f"teacher.cache_gb is {max_bytes / BYTES_PER_GB:g}; expected more than 0")
        self.folder = Path(folder)
        self.owner = self.folder / re.sub(r"[^\w.+-]+", "-", owner)
        self.max_bytes = max_bytes
        self.kept_as = kept_as
        self._writing = True
        try:
            self.owner.mkdir(parents=True, exist_ok=True)
            with locked(self._lock):
                self._set_used(self._scan())
        except OSError as error:
            raise OSError(
                error.errno, f"teacher.cache={folder} cannot be written ({error.strerror or error})"
            ) from error

    def get(self, key: str) -> Tensor | None:
        """The image kept under this key as float32, or None. A damaged file is deleted, and said to be."""
        path = self._path(key)
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            log.warning("%s cannot be read (%s); computed again", path, error.strerror or error)
            return None
        try:
            return self._decoded(content)
        except ValueError as error:
            log.warning("%s is damaged (%s); computed again", path, error)
            self._discard(path)
            return None

    def put(self, key: str, image: Tensor) -> Tensor:
        """Keep an image ``(3, H, W)``, float32 on the CPU, if there is room.

        Returns:
            What ``get`` would return: the image rounded to the format, kept or not. So whoever goes on with
            it computes the same whether it was there or not. An image that is not finite, or not in fp16,
            comes back as it is and is not kept.
        """
        rounded = (
            image.half() if self.kept_as == "fp16" else (image.clamp(0, 1) * 255).round().to(torch.uint8)
        )
        if not (torch.isfinite(image).all() and torch.isfinite(rounded).all()):
            return image
        pixels = np.ascontiguousarray(rounded.numpy(), FORMATS[self.kept_as])
        if self._writing:
            self._write(self._path(key), self._encoded(pixels))
        return _as_image(pixels)

    @property
    def _lock(self) -> Path:
        return self.folder / "lock"

    @property
    def _size(self) -> Path:
        return self.folder / "size"

    def _path(self, key: str) -> Path:
        return self.owner / key[:2] / key

    def _write(self, path: Path, content: bytes) -> None:
        try:
            with locked(self._lock):
                if path.exists():  # another process was faster
                    return
                total = self._used() + len(content)
                if total > self.max_bytes:
                    self._stop(f"it is full (teacher.cache_gb={self.max_bytes / BYTES_PER_GB:g})")
                    return
                path.parent.mkdir(parents=True, exist_ok=True)
                _replace(path, content)
                self._set_used(total)
        except OSError as error:
            self._stop(f"it cannot be written ({error.strerror or error})")

    def _stop(self, why: str) -> None:
        self._writing = False
        log.warning(
            "teacher.cache=%s: %s; what is there goes on being used, the rest is computed every time. Raise "
            "teacher.cache_gb, or make room: delete those folders in it whose teachers you need no longer",
            self.folder,
            why,
        )

    def _discard(self, path: Path) -> None:
        try:
            with locked(self._lock):
                size = path.stat().st_size
                path.unlink()
                self._set_used(max(0, self._used() - size))
        except OSError:
            return  # another process was faster, or the folder is read-only

    def _used(self) -> int:
        """Bytes of all owners' files, as the last writer counted them; for the holder of the lock."""
        try:
            return int(self._size.read_text(encoding="ascii"))
        except (FileNotFoundError, ValueError):
            return self._scan()

    def _scan(self) -> int:
        """Bytes of all owners' files. Half-written ones are deleted: whoever wrote them held the lock."""
        total = 0
        for parent, _, names in os.walk(self.folder):
            for name in names:
                file = Path(parent, name)
                if name.endswith(PART):
                    file.unlink()
                elif file not in (self._lock, self._size):
                    total += file.stat().st_size
        return total

    def _set_used(self, total: int) -> None:
        _replace(self._size, str(total).encode("ascii"))

    def _encoded(self, pixels: np.ndarray) -> bytes:
        content = SHAPE.pack(*pixels.shape) + pixels.tobytes()
        return HEADER.pack(MAGIC, _code(self.kept_as), zlib.crc32(content)) + content

    def _decoded(self, content: bytes) -> Tensor:
        start = HEADER.size + SHAPE.size
        if len(content) < start:
            raise ValueError(f"{len(content)} bytes")
        magic, code, checksum = HEADER.unpack_from(content)
        shape, dtype = SHAPE.unpack_from(content, HEADER.size), FORMATS[self.kept_as]
        if magic != MAGIC or code != _code(self.kept_as):
            raise ValueError("no teacher's output of this format")
        if len(content) != (expected := start + math.prod(shape) * dtype.itemsize):
            raise ValueError(f"{len(content)} of {expected} bytes")
        if zlib.crc32(memoryview(content)[HEADER.size :]) != checksum:
            raise ValueError("its checksum is wrong")
        return _as_image(np.frombuffer(content, dtype, offset=start).reshape(shape))


def _code(kept_as: str) -> int:
    return list(FORMATS).index(kept_as)


def _as_image(pixels: np.ndarray) -> Tensor:
    image = torch.from_numpy(pixels.astype(np.float32))
    return image.div_(255) if pixels.dtype == FORMATS["uint8"] else image


def _replace(path: Path, content: bytes) -> None:
    temporary = path.with_name(f"{path.name}.{os.getpid()}{PART}")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
