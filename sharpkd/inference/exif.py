"""EXIF blocks, changed in place where the picture has changed; all else stays as the camera wrote it."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

PREFIX = b"Exif\x00\x00"
ORIENTATION, EXIF_FOLDER, WIDTH, HEIGHT = 0x0112, 0x8769, 0xA002, 0xA003
SHORT, LONG = 3, 4


@dataclass(frozen=True)
class _Entry:
    tag: int
    kind: int
    value_at: int


class _Block:
    """A TIFF structure that can be changed in place."""

    def __init__(self, data: bytes) -> None:
        self.data = bytearray(data)
        self.endian = {b"II": "<", b"MM": ">"}[bytes(data[:2])]

    def number(self, kind: str, at: int) -> int:
        return int(struct.unpack_from(self.endian + kind, self.data, at)[0])

    def put(self, kind: str, at: int, value: int) -> None:
        struct.pack_into(self.endian + kind, self.data, at, value)

    def entries(self, at: int) -> Iterator[_Entry]:
        for index in range(self.number("H", at)):
            place = at + 2 + 12 * index
            yield _Entry(self.number("H", place), self.number("H", place + 2), place + 8)

    def end_of(self, at: int) -> int:
        """Where a directory's pointer to the next one lies."""
        return at + 2 + 12 * self.number("H", at)

    def set_number(self, entry: _Entry, value: int) -> None:
        if entry.kind == SHORT and value <= 0xFFFF:
            self.put("H", entry.value_at, value)
        elif entry.kind == LONG:
            self.put("I", entry.value_at, value)


def upright_exif(exif: bytes, width: int, height: int) -> bytes:
    """``exif`` for a picture that was turned upright and now has ``width`` x ``height`` pixels.

    The orientation becomes 1, the size that the camera noted becomes the new one, and the thumbnail (of the
    old picture, perhaps lying on its side) is no longer pointed to. Every other byte stays, maker notes too.

    Args:
        exif: with or without the six bytes that a JPEG puts before it.

    Raises:
        ValueError: it cannot be followed.
    """
    start = len(PREFIX) if exif.startswith(PREFIX) else 0
    try:
        block = _Block(exif[start:])
        first = block.number("I", 4)
        for entry in block.entries(first):
            if entry.tag == ORIENTATION:
                block.set_number(entry, 1)
            elif entry.tag == EXIF_FOLDER:
                for inner in block.entries(block.number("I", entry.value_at)):
                    if inner.tag in (WIDTH, HEIGHT):
                        block.set_number(inner, width if inner.tag == WIDTH else height)
        if block.end_of(first) + 4 <= len(block.data):
            block.put("I", block.end_of(first), 0)
    except (KeyError, struct.error) as error:
        raise ValueError(f"EXIF cannot be followed ({error})") from error
    return PREFIX + bytes(block.data)
