"""What decides beside SharpKD's own code what a model makes of an image: its files, and a user's code."""

from __future__ import annotations

import hashlib
import inspect
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError, Message
from torch import nn

from sharpkd.checkpoint import file_sha256

KNOWN_BY_VERSION = ("sharpkd", "torch")
"""Packages whose classes need no hash of their own here."""


def hash_of_model(path: Path) -> str:
    """SHA-256 of a model's file; of one that keeps tensors in other files, of it and of these.

    ONNX names them; OpenVINO's IR has a ``.bin`` beside it.

    Raises:
        FileNotFoundError: one of them is not there.
    """
    own = file_sha256(path)
    suffix = path.suffix.lower()
    others = external_files(path) if suffix == ".onnx" else []
    if suffix == ".xml":
        others = [path.with_suffix(".bin")]
    if not others:
        return own
    for other in others:
        if not other.is_file():
            raise FileNotFoundError(f"{path} keeps tensors in {other}, which is not there")
    parts = [own, *(f"{other.name} {file_sha256(other)}" for other in others)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def external_files(path: Path) -> list[Path]:
    """The files that an ONNX file keeps tensors in; none of a damaged one, which is for its engine to say."""
    import onnx

    try:
        model = onnx.load(path, load_external_data=False)
    except DecodeError:
        return []
    names = {
        entry.value
        for tensor in _tensors(model)
        if tensor.data_location == onnx.TensorProto.EXTERNAL
        for entry in tensor.external_data
        if entry.key == "location"
    }
    return [path.parent / name for name in sorted(names)]


def _tensors(message: Message) -> Iterator[Any]:
    """Every tensor in a message of ONNX's, those of nodes and of graphs in nodes too."""
    if message.DESCRIPTOR.name == "TensorProto":
        yield message
        return
    for field, value in message.ListFields():
        if field.message_type is not None:
            for part in [value] if isinstance(value, Message) else value:
                yield from _tensors(part)


def hash_of_code(net: nn.Module, trusted: Sequence[str] = ()) -> str:
    """SHA-256 over the Python files behind a net's classes; empty for a net of SharpKD's own.

    Args:
        net: its class and those of its parts count.
        trusted: packages: all files of the one that a class lies in count, else those of the class's package.
    """
    modules = sorted({type(part).__module__ for part in net.modules()})
    hashes = [
        _hash_of_sources(module, _package_of(module, trusted))
        for module in modules
        if module in sys.modules and module.partition(".")[0] not in KNOWN_BY_VERSION
    ]
    return hashlib.sha256("\n".join(hashes).encode()).hexdigest() if hashes else ""


def _package_of(module: str, trusted: Sequence[str]) -> str:
    for package in trusted:
        if f"{module}.".startswith(f"{package}.") and hasattr(sys.modules.get(package), "__path__"):
            return package
    return sys.modules[module].__package__ or module


@cache
def _hash_of_sources(module: str, package: str) -> str:
    """Taken once a process, as code is imported once."""
    digest = hashlib.sha256()
    source = inspect.getsourcefile(sys.modules[module])
    files = {Path(source).name: Path(source)} if source else {}
    for folder in getattr(sys.modules.get(package), "__path__", ()):
        # an editor's lock is a link to nowhere
        found = [path for path in Path(folder).rglob("*.py") if path.is_file()]
        files |= {path.relative_to(folder).as_posix(): path for path in found}
    for name, path in sorted(files.items()):
        content = path.read_bytes()
        digest.update(f"{name} {len(content)}\n".encode() + content)
    return digest.hexdigest()
