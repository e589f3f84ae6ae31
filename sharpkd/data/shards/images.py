"""Images inside shards, read one at a time; what is held in memory does not depend on how many there are."""

from __future__ import annotations

import hashlib
import mmap
import re
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np

from sharpkd.data.cache import Skipped
from sharpkd.data.images import UnreadableImage, decode_image
from sharpkd.data.shards.manifest import Shard
from sharpkd.data.shards.tar_file import RAW, Record, samples_of

OPEN_SHARDS = 64
"""An order that mixes more shards than these opens the same ones again and again."""

# What numpy.save writes before uint8 pixels. Read with nothing cleverer: a header is a Python expression.
_NPY = re.compile(
    rb"\x93NUMPY\x01\x00(..)\{'descr': '\|u1', 'fortran_order': False, 'shape': \((\d+), (\d+), 3\), \} *\n",
    re.DOTALL,
)
_NPY_HEADER = 256


class _OpenShard:
    """One archive, mapped: its headers are read once, its pixels when they are asked for."""

    def __init__(self, path: Path) -> None:
        found = samples_of(path)
        self.raw = [sample.ending == RAW for sample in found]
        self.table = np.array([(s.offset, s.size, s.record_offset, s.record_size) for s in found], np.int64)
        with path.open("rb") as file:
            # The mapping has a descriptor of its own, and no position that forked processes would share.
            self.bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    def record(self, index: int) -> Record:
        _, _, offset, size = self.table[index]
        return Record.of(self.bytes[offset : offset + size])

    def pixels(self, index: int, where: Path) -> np.ndarray:
        offset, size, _, _ = (int(number) for number in self.table[index])
        if self.raw[index]:
            return raw_image(self.bytes, offset, size, where)
        return decode_image(self.bytes[offset : offset + size], where)


class ShardImages:
    """Images of some shards of a folder, for :class:`sharpkd.data.crops.CropDataset` and its like.

    ``images[i]`` is a read-only uint8 RGB array ``(H, W, 3)``, the shards one after the other. Raw pixels are
    mapped, so that a crop reads only its own part; files are decoded at every access.

    Args:
        folder: where the shards lie.
        shards: those to use, checked before (:func:`sharpkd.data.shards.checked.usable_shards`).
        skipped: those that cannot be used, for messages.

    Attributes:
        files: a path for each image: that of the shard, then the image's own in the folder it came from.
        counts: images of each shard.

    Raises (on access):
        ShardError: an archive is not what it was when it was checked.
        UnreadableImage: an image is damaged.
    """

    def __init__(self, folder: Path, shards: Sequence[Shard], skipped: Sequence[Skipped] = ()) -> None:
        self.folder = folder
        self.shards = tuple(shards)
        self.skipped = list(skipped)
        self.counts = [shard.images for shard in self.shards]
        self._ends = np.cumsum(self.counts, dtype=np.int64)
        self._open: OrderedDict[int, _OpenShard] = OrderedDict()

    def __len__(self) -> int:
        return int(self._ends[-1]) if self.shards else 0

    def __getitem__(self, index: int) -> np.ndarray:
        shard, within = self._place(index)
        record = shard.record(within)
        where = self._label(index, record)
        image = shard.pixels(within, where)
        if image.shape[:2] != (record.height, record.width):
            found = f"{image.shape[1]}x{image.shape[0]}"
            raise UnreadableImage(where, f"{found} pixels, its record says {record.width}x{record.height}")
        return image

    @property
    def files(self) -> Sequence[Path]:
        return _Files(self)

    @property
    def pixel_hashes(self) -> list[str]:
        """Of every image, or of the one that a tile was cut from; reads every record."""
        return [self.record(index).pixel_hash for index in range(len(self))]

    @property
    def fingerprint(self) -> str:
        """Which shards these are, in 16 hexadecimal digits."""
        text = "\n".join(f"{shard.name} {shard.sha256} {shard.images}" for shard in self.shards)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def record(self, index: int) -> Record:
        """What the shard says of an image."""
        shard, within = self._place(index)
        return shard.record(within)

    def path(self, index: int) -> Path:
        """See ``files``."""
        return self._label(index, self.record(index))

    def chosen(self, indices: Sequence[int]) -> ChosenImages:
        """Some of them, in the order given."""
        return ChosenImages(self, indices)

    def __getstate__(self) -> dict[str, Any]:
        # A mapping cannot be sent to another process; a worker makes its own.
        return {**self.__dict__, "_open": OrderedDict()}

    def _label(self, index: int, record: Record) -> Path:
        return self.folder / self.shards[self._shard(index)].name / record.name.lstrip("/")

    def _shard(self, index: int) -> int:
        if not 0 <= index < len(self):
            raise IndexError(f"image {index} of {len(self)}")
        return int(np.searchsorted(self._ends, index, side="right"))

    def _place(self, index: int) -> tuple[_OpenShard, int]:
        number = self._shard(index)
        if number not in self._open:
            if len(self._open) >= OPEN_SHARDS:
                self._open.popitem(last=False)
            self._open[number] = _OpenShard(self.folder / self.shards[number].name)
        self._open.move_to_end(number)
        return self._open[number], index - int(self._ends[number]) + self.counts[number]


class ChosenImages:
    """Some images of others, with the same contract."""

    def __init__(self, images: ShardImages, indices: Sequence[int]) -> None:
        self.images = images
        self.indices = list(indices)
        self.skipped = images.skipped
        self.files = [images.path(index) for index in self.indices]

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> np.ndarray:
        return self.images[self.indices[index]]

    @property
    def pixel_hashes(self) -> list[str]:
        return [self.images.record(index).pixel_hash for index in self.indices]


class _Files(Sequence[Path]):
    """Paths of images, made when they are asked for."""

    def __init__(self, images: ShardImages) -> None:
        self._images = images

    def __len__(self) -> int:
        return len(self._images)

    @overload
    def __getitem__(self, index: int) -> Path: ...

    @overload
    def __getitem__(self, index: slice) -> list[Path]: ...

    def __getitem__(self, index: int | slice) -> Path | list[Path]:
        if isinstance(index, slice):
            return [self._images.path(one) for one in range(*index.indices(len(self)))]
        return self._images.path(index)


def raw_image(content: mmap.mmap | bytes, offset: int, size: int, where: Path) -> np.ndarray:
    """The pixels of a ``.npy`` file inside an archive, ``(H, W, 3)`` uint8, read-only and not copied.

    Args:
        content: the archive.
        offset: where the file begins.
        size: its bytes.
        where: for the message.

    Raises:
        UnreadableImage: it is no such file, or has another size.
    """
    header = _NPY.match(content[offset : offset + min(size, _NPY_HEADER)])
    if header is None or int.from_bytes(header[1], "little") + 10 != header.end():
        raise UnreadableImage(where, "no .npy file of uint8 pixels (H, W, 3)")
    height, width = int(header[2]), int(header[3])
    if height * width * 3 != size - header.end():
        raise UnreadableImage(where, f"{width}x{height} pixels in {size:,} bytes: truncated")
    pixels = np.frombuffer(content, np.uint8, size - header.end(), offset + header.end())
    return pixels.reshape(height, width, 3)
