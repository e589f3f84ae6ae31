"""Decode each image once: a memory-mapped uint8 copy of every file.

One ``.npy`` file an image, with a small ``.json`` record beside it, both named by the image's path. An entry
is valid as long as the image's size and modification time are; an unreadable image's record says why.
Pixels are compared with the record's hash when a process first opens them, and decoded again where they
differ.
Both files are put in place by a rename, and whoever builds holds a lock: processes can share the folder.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import time
from collections.abc import Collection, Sequence
from copy import copy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sharpkd.data.benchmark_guard import pixel_hash
from sharpkd.data.images import UnreadableImage, read_image
from sharpkd.data.parallel import each_once
from sharpkd.functional.file_lock import locked

log = logging.getLogger(__name__)

# Every mapping holds a file descriptor, of which a process often has only 1024.
OPEN_MAPPINGS = 256


@dataclass(frozen=True)
class Skipped:
    """An image that cannot be used, and why."""

    path: Path
    reason: str


@dataclass(frozen=True)
class _Record:
    """What the cache knows of one image; ``error`` is empty for a readable one."""

    path: str
    size: int
    modified_ns: int
    shape: tuple[int, ...] = ()
    pixel_hash: str = ""
    error: str = ""


class ImageCache:
    """Decoded images of a list of files, memory-mapped.

    Args:
        files: the images; those that cannot be read or are too small are listed in ``skipped`` instead.
        cache_dir: folder for the decoded copies (width * height * 3 bytes an image), made when it is missing.
        min_side: the least width and height in pixels; smaller images are skipped.

    Attributes:
        files: the usable images, in the order given.
        shapes: ``(H, W, 3)`` of each.
        pixel_hashes: see :func:`sharpkd.data.benchmark_guard.pixel_hash`.
        skipped: the rest.

    ``cache[i]`` is a read-only uint8 RGB array ``(H, W, 3)``. An entry that is damaged is said to be and made
    again.

    Raises:
        OSError: the folder cannot be written.
    """

    def __init__(self, files: Sequence[Path], cache_dir: str | Path, min_side: int = 1) -> None:
        self.cache_dir = Path(cache_dir)
        self.files: list[Path] = []
        self.shapes: list[tuple[int, ...]] = []
        self.pixel_hashes: list[str] = []
        self.skipped: list[Skipped] = []
        self._mappings: dict[int, np.ndarray] = {}
        self._checked: set[int] = set()
        for path, record in zip(files, self._records(files), strict=True):
            if record.error:
                self.skipped.append(Skipped(path, record.error))
            elif min(record.shape[:2]) < min_side:
                height, width = record.shape[:2]
                self.skipped.append(Skipped(path, f"{width}x{height} is smaller than {min_side}x{min_side}"))
            else:
                self.files.append(path)
                self.shapes.append(record.shape)
                self.pixel_hashes.append(record.pixel_hash)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> np.ndarray:
        if index not in self._mappings:
            if len(self._mappings) >= OPEN_MAPPINGS:
                self._mappings.pop(next(iter(self._mappings)))
            self._mappings[index] = self._opened(index)
        return self._mappings[index]

    def without(self, pixel_hashes: Collection[str]) -> ImageCache:
        """The same images but for those with these pixels; ``skipped`` stays what it is."""
        known = set(pixel_hashes)
        kept = [index for index, digest in enumerate(self.pixel_hashes) if digest not in known]
        fewer = copy(self)
        fewer.files = [self.files[index] for index in kept]
        fewer.shapes = [self.shapes[index] for index in kept]
        fewer.pixel_hashes = [self.pixel_hashes[index] for index in kept]
        fewer._mappings = {}
        fewer._checked = set()
        return fewer

    def _opened(self, index: int) -> np.ndarray:
        """The mapped pixels of an image, checked once in a process and decoded again where they are damaged.

        Raises:
            ValueError: they are damaged, and the image is not any more what it was when it was decoded.
            OSError: the entry cannot be written again.
        """
        path, entry = self.files[index], _entry(self.cache_dir, self.files[index], ".npy")
        try:
            pixels = np.asarray(np.load(entry, mmap_mode="r"))
            if index in self._checked or pixel_hash(pixels) == self.pixel_hashes[index]:
                self._checked.add(index)
                return pixels
            reason = "its pixels have another hash than its record says"
        except (OSError, ValueError, EOFError) as error:
            reason = str(error)
        log.warning("%s is damaged (%s); %s is decoded again", entry, reason, path)
        if _decode(path, self.cache_dir).pixel_hash != self.pixel_hashes[index]:
            raise ValueError(f"{path} has changed since this process looked at it; start again")
        self._checked.add(index)
        return np.asarray(np.load(entry, mmap_mode="r"))

    def __getstate__(self) -> dict[str, Any]:
        # A pickled memory map is a full copy of its pixels; a worker opens its own instead.
        return {**self.__dict__, "_mappings": {}, "_checked": set()}

    def _records(self, files: Sequence[Path]) -> list[_Record]:
        records = [_load_record(self.cache_dir, path) for path in files]
        if None not in records:
            return [record for record in records if record is not None]
        self.cache_dir.mkdir(parents=True, exist_ok=True)
        with locked(self.cache_dir / "lock"):
            missing = [path for path in dict.fromkeys(files) if _load_record(self.cache_dir, path) is None]
            decoded = each_once(lambda path: _decode(path, self.cache_dir), missing, "Decoding images once")
            built = dict(zip(missing, decoded, strict=True))
        loaded = (built.get(path) or _load_record(self.cache_dir, path) for path in files)
        return [record or _decode(path, self.cache_dir) for path, record in zip(files, loaded, strict=True)]


def _entry(cache_dir: Path, path: Path, suffix: str) -> Path:
    return cache_dir / (hashlib.sha256(os.fsencode(path.absolute())).hexdigest()[:32] + suffix)


def _load_record(cache_dir: Path, path: Path) -> _Record | None:
    """The valid record of an image, or None where it has to be decoded."""
    try:
        stat = path.stat()
        record = _Record(**json.loads(_entry(cache_dir, path, ".json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    if (record.size, record.modified_ns) != (stat.st_size, stat.st_mtime_ns):
        return None
    if not record.error and not _entry(cache_dir, path, ".npy").exists():
        return None
    return record


def _decode(path: Path, cache_dir: Path) -> _Record:
    try:
        stat = path.stat()
    except OSError as error:
        return _Record(str(path), 0, 0, error=error.strerror or str(error))
    try:
        image = read_image(path)
    except UnreadableImage as error:
        record = _Record(str(path), stat.st_size, stat.st_mtime_ns, error=error.reason)
    else:
        _write(_entry(cache_dir, path, ".npy"), lambda file: _save(file, image))
        record = _Record(str(path), stat.st_size, stat.st_mtime_ns, image.shape, pixel_hash(image))
    text = json.dumps(asdict(record)).encode()
    _write(_entry(cache_dir, path, ".json"), lambda file: file.write(text))
    return record


def _save(file: Any, image: np.ndarray) -> None:
    """As ``np.save``, which on a full disk does not say that the disk is full."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, np.lib.format.header_data_from_array_1_0(image))
    file.write(header.getvalue())
    file.write(np.ascontiguousarray(image).data)


def _write(path: Path, write: Any) -> None:
    """Write to a file of our own, then rename: readers see the old file or the new one, never half of one."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.{time.monotonic_ns()}.part")
    try:
        with temporary.open("wb") as file:
            write(file)
        temporary.replace(path)
    except OSError as error:
        raise OSError(
            error.errno,
            f"the cache of decoded images in {path.parent} cannot be written ({error.strerror or error}); "
            "make room, or choose another folder with paths.cache_root=FOLDER",
        ) from error
    finally:
        temporary.unlink(missing_ok=True)
