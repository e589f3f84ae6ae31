"""Which other files an ``.onnx`` file has its weights in, read without running anything and without ``onnx``.

ONNX Runtime opens whatever such a tensor names. Field numbers are those of ``onnx.proto``
(https://github.com/onnx/onnx/blob/main/onnx/onnx.proto), the encoding is protobuf's.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path

from sharpkd.inference.errors import ModelError

DEEPEST = 100
"""Messages inside messages, as protobuf's own readers allow."""
# message -> field number -> the message that lies there
LAYOUT: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "pair"},
    "pair": {},
}


def refuse_files_outside(path: Path) -> None:
    """Hold an ``.onnx`` file to its own folder.

    Raises:
        ModelError: it has weights in a file that lies elsewhere, also by a link, or it is damaged.
    """
    if path.stat().st_size == 0:
        return  # ONNX Runtime says what it thinks of it
    home = path.parent.resolve()
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            names = list(dict.fromkeys(_locations(content, "model", 0, len(content), 0)))
    except (IndexError, ValueError) as error:
        raise ModelError(f"{path}: damaged, or no ONNX file ({error})") from error
    for name in names:
        try:
            inside = (home / name).resolve().is_relative_to(home)
        except (OSError, ValueError):  # a loop of links, a zero byte
            inside = False
        if not inside:
            raise ModelError(f"{path}: has weights in {name!r}, which lies outside its folder; not opened")


def _locations(content: mmap.mmap, kind: str, start: int, end: int, depth: int) -> Iterator[str]:
    """The files that tensors inside one message name."""
    if depth > DEEPEST:
        raise ValueError(f"more than {DEEPEST} messages inside each other")
    inner = LAYOUT[kind]
    found: dict[int, bytes] = {}
    for number, first, last in _fields(content, start, end):
        if kind == "pair" and number in (1, 2):
            found[number] = content[first:last]
        elif number in inner:
            yield from _locations(content, inner[number], first, last, depth + 1)
    if found.get(1) == b"location":
        yield found.get(2, b"").decode("utf-8", "replace")


def _fields(content: mmap.mmap, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Number, start and end of each field that holds bytes."""
    at = start
    while at < end:
        tag, at = _varint(content, at)
        kind = tag & 7
        if kind == 0:
            _, at = _varint(content, at)
        elif kind in (1, 5):
            at += 8 if kind == 1 else 4
        elif kind == 2:
            length, at = _varint(content, at)
            yield tag >> 3, at, at + length
            at += length
        else:
            raise ValueError(f"a field of type {kind}")
        if at > end:
            raise ValueError("a field is longer than what it lies in")


def _varint(content: mmap.mmap, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = content[at]
        at += 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, at
        if shift > 63:
            raise ValueError("a number of more than 64 bits")
