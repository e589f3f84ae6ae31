"""What a folder of shards says about itself: ``manifest.json``, put in place last and by a rename."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

MANIFEST = "manifest.json"
FORMAT = "sharpkd shards"
VERSION = 1
PARTS = ("train", "val")
AGAIN = "make the shards again with python -m sharpkd.prepare overwrite=true"

# Nothing that leads out of the folder.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*\.tar")
_SHA256 = re.compile(r"[0-9a-f]{64}")


class ShardError(ValueError):
    """Shards that cannot be used; the message names the file, what was found and what was expected."""


@dataclass(frozen=True)
class Shard:
    """One archive.

    Attributes:
        name: of the file, in the manifest's folder.
        sha256: of the whole file, 64 hexadecimal digits.
        bytes: of the whole file.
        images: how many it holds, at least 1.
        smallest_side: the least width or height among them, in pixels.
    """

    name: str
    sha256: str
    bytes: int
    images: int
    smallest_side: int

    @classmethod
    def of(cls, entry: Any) -> Shard:
        """From an entry of the manifest.

        Raises:
            ValueError: a field is missing, is no such value, or the name leads out of the folder.
        """
        if not isinstance(entry, dict) or entry.keys() != cls.__dataclass_fields__.keys():
            raise ValueError(f"a shard is {entry!r}, expected {', '.join(cls.__dataclass_fields__)}")
        for name, pattern in (("name", _NAME), ("sha256", _SHA256)):
            if not isinstance(entry[name], str) or not pattern.fullmatch(entry[name]):
                raise ValueError(f"a shard's {name} is {entry[name]!r}")
        for name in ("bytes", "images", "smallest_side"):
            if type(entry[name]) is not int or entry[name] < 1:
                raise ValueError(f"{name} of {entry['name']} is {entry[name]!r}, expected a number above 0")
        return cls(**entry)


@dataclass(frozen=True)
class Manifest:
    """A finished folder of shards.

    Attributes:
        train: shards to train on.
        val: shards to validate on; none of their images is in ``train``.
        plan: what they were made of and how, see :class:`sharpkd.data.shards.progress.Progress`.
        left_out: images that are in no shard: ``{"path": …, "reason": …}``.
    """

    train: tuple[Shard, ...]
    val: tuple[Shard, ...]
    plan: Mapping[str, Any] = field(default_factory=dict)
    left_out: tuple[Mapping[str, str], ...] = ()

    def write(self, folder: Path) -> None:
        """Write ``manifest.json`` into the folder."""
        content = {"format": FORMAT, "version": VERSION, **asdict(self)}
        write_atomically(folder / MANIFEST, (json.dumps(content, indent=1) + "\n").encode())


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a folder.

    Raises:
        FileNotFoundError: the folder has none.
        ShardError: it is damaged, or of another version.
    """
    path = folder / MANIFEST
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{folder} holds no {MANIFEST}, so it holds no finished shards: python -m sharpkd.prepare "
            "data=folder data.train_dir=PHOTOS output=SHARDS makes them, or goes on with them"
        ) from None
    except (ValueError, RecursionError) as error:
        raise ShardError(f"{path} is damaged ({error}); {AGAIN}") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ShardError(f"{path} is not the manifest of shards that python -m sharpkd.prepare makes")
    if content.get("version") != VERSION:
        raise ShardError(f"{path} is of version {content.get('version')!r}, expected {VERSION}; {AGAIN}")
    try:
        train, val = (_shards(content.get(part)) for part in PARTS)
        names = [shard.name for shard in (*train, *val)]
        if len(set(names)) != len(names):
            raise ValueError("a shard is named twice")
    except ValueError as error:
        raise ShardError(f"{path} is damaged ({error}); {AGAIN}") from error
    return Manifest(train, val, content.get("plan") or {}, tuple(content.get("left_out") or ()))


def _shards(entries: Any) -> tuple[Shard, ...]:
    if not isinstance(entries, Sequence) or isinstance(entries, str):
        raise ValueError(f"a list of shards is {entries!r}")
    return tuple(Shard.of(entry) for entry in entries)


def write_atomically(path: Path, content: bytes) -> None:
    """Write to a file of our own, then rename: readers see the old file or the new one, never half of one."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
