"""What a shard holds and where, by reading its headers; nothing is ever unpacked.

The layout is WebDataset's: files of one sample stand together and share their name up to the first dot. Here
a sample is an image (``00000012.npy``, ``.png``, ``.jpg``, …) and ``00000012.json``, which says what it is.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from sharpkd.data.images import EXTENSIONS
from sharpkd.data.shards.manifest import ShardError

RAW = ".npy"
RECORD = ".json"
IMAGE_ENDINGS = (RAW, *EXTENSIONS)
MAX_MEMBERS = 2_000_000
MAX_RECORD_BYTES = 65_536


class UnsafeShard(ShardError):  # noqa: N818  # it says itself what is wrong
    """An archive does what a set of images never does; it is refused, whatever is done with damaged ones."""


class DamagedShard(ShardError):  # noqa: N818  # likewise
    """An archive is cut short, changed, or no archive.

    Attributes:
        reason: what is wrong, without the file's name.
    """

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.reason = reason


@dataclass(frozen=True)
class Sample:
    """Where one image and its record lie in the archive, in bytes from its beginning."""

    ending: str
    offset: int
    size: int
    record_offset: int
    record_size: int


@dataclass(frozen=True)
class Record:
    """What a sample's ``.json`` says.

    Attributes:
        name: path of the image's file below the folder that it came from; a label, never opened.
        width: of what the archive holds, in pixels.
        height: likewise.
        pixel_hash: of the whole image, see :func:`sharpkd.data.benchmark_guard.pixel_hash`.
        tile: left and top of a tile in its image; None for the whole image.
    """

    name: str
    width: int
    height: int
    pixel_hash: str
    tile: tuple[int, int] | None = None

    def to_bytes(self) -> bytes:
        """As JSON."""
        content: dict[str, Any] = {"name": self.name, "width": self.width, "height": self.height}
        content["pixel_hash"] = self.pixel_hash
        if self.tile is not None:
            content["tile"] = list(self.tile)
        return json.dumps(content).encode()

    @classmethod
    def of(cls, data: bytes) -> Record:
        """From JSON.

        Raises:
            ValueError: it is something else.
        """
        try:
            content = json.loads(data)
        except RecursionError:
            raise ValueError("a sample's record is nested too deeply") from None
        if not isinstance(content, dict):
            raise ValueError("a sample's record is no JSON object")
        fields: list[Any] = [content.get(key) for key in cls.__dataclass_fields__]
        name, width, height, pixel_hash, tile = fields
        if not (isinstance(name, str) and name and isinstance(pixel_hash, str)):
            raise ValueError("a sample's record lacks its name or its hash")
        if not name.isprintable():
            raise ValueError(f"a sample's record has the name {name!r}, expected printable characters")
        if not all(type(side) is int and side > 0 for side in (width, height)):
            raise ValueError(f"the record of {name!r} says {width!r}x{height!r} pixels")
        if tile is None:
            return cls(name, width, height, pixel_hash)
        if not (isinstance(tile, list) and len(tile) == 2 and all(type(at) is int for at in tile)):
            raise ValueError(f"the record of {name!r} says that its tile is at {tile!r}")
        return cls(name, width, height, pixel_hash, (tile[0], tile[1]))


def samples_of(path: Path) -> list[Sample]:
    """Every sample of an archive, in its order.

    Raises:
        UnsafeShard: a name is absolute, leads out of the folder or has a backslash, colon or control
            character; a member is a link, a device or a sparse file; there are too many.
        DamagedShard: it is no uncompressed tar archive, is cut short, or its files are not pairs of an image
            and a record.
    """
    found: list[Sample] = []
    waiting: dict[str, tuple[str, int, int]] = {}
    key = ""
    for member in _members(path):
        own, dot, rest = PurePosixPath(member.name).name.partition(".")
        ending = f"{dot}{rest.lower()}"
        if not own or ending not in (RECORD, *IMAGE_ENDINGS):
            raise DamagedShard(path, f"it holds {member.name!r}, expected an image or {RECORD}")
        name = str(PurePosixPath(member.name).with_name(own))
        if waiting and name != key:
            raise DamagedShard(path, f"{key} is not an image with its {RECORD}")
        key = name
        kind = RECORD if ending == RECORD else "image"
        if kind in waiting:
            raise DamagedShard(path, f"{key} has two files of one kind")
        waiting[kind] = (ending, member.offset_data, member.size)
        if len(waiting) == 2:
            (_, record_offset, record_size) = waiting[RECORD]
            if record_size > MAX_RECORD_BYTES:
                raise DamagedShard(path, f"the record of {key} has {record_size:,} bytes")
            found.append(Sample(*waiting["image"], record_offset, record_size))
            waiting.clear()
    if waiting:
        raise DamagedShard(path, f"{key} is not an image with its {RECORD}")
    return found


def _members(path: Path) -> Iterator[tarfile.TarInfo]:
    """The files of an archive, each checked."""
    try:
        size = path.stat().st_size
        with tarfile.open(path, "r:") as archive:
            number = 0
            while (member := archive.next()) is not None:
                number += 1
                if number > MAX_MEMBERS:
                    raise UnsafeShard(f"{path} holds more than {MAX_MEMBERS:,} entries")
                _check(path, member)
                # tarfile keeps every member that it has read
                archive.members.clear()  # type: ignore[attr-defined]  # missing in its stub
                if member.isdir():
                    continue
                if not 0 <= member.size <= size - member.offset_data:
                    raise DamagedShard(path, f"{member.name!r} reaches beyond the end of the file")
                yield member
    except FileNotFoundError:
        raise DamagedShard(path, "there is no such file") from None
    except OSError as error:
        raise DamagedShard(path, error.strerror or str(error)) from error
    except (tarfile.TarError, ValueError, EOFError) as error:
        if isinstance(error, ShardError):
            raise
        raise DamagedShard(path, f"no usable tar archive ({error})") from error


def _check(path: Path, member: tarfile.TarInfo) -> None:
    name = member.name
    if name.startswith("/") or any(sign in name for sign in "\\:") or ".." in PurePosixPath(name).parts:
        raise UnsafeShard(f"{path} holds {name!r}, a path that could lead out of the folder")
    if not name.isprintable():
        raise UnsafeShard(f"{path} holds the name {name!r}, expected printable characters")
    if member.issym() or member.islnk():
        raise UnsafeShard(
            f"{path} holds the link {name!r} to {member.linkname!r}, expected only files and folders"
        )
    if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.DIRTYPE) or member.issparse():
        raise UnsafeShard(f"{path} holds {name!r}, which is neither a file nor a folder")
