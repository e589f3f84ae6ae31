"""How far a folder of shards is: one line of JSON for each finished shard, so that work can go on there."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sharpkd.data.shards.manifest import (
    MANIFEST,
    PARTS,
    Shard,
    ShardError,
    read_manifest,
    write_atomically,
)

PROGRESS = "progress.jsonl"
PLAN = ("settings", "images")
DIGITS = 6
"""Of a shard's number in its name."""


@dataclass(frozen=True)
class Step:
    """A stretch of the images that is done.

    Attributes:
        part: ``train`` or ``val``.
        end: how many images of the part are done after it.
        shard: what it wrote; None where none of its images could be used.
        left_out: images that are in no shard: ``{"path": …, "reason": …}``.
    """

    part: str
    end: int
    shard: Shard | None
    left_out: tuple[Mapping[str, str], ...] = ()

    @classmethod
    def of(cls, content: Any) -> Step:
        """From a line of the file.

        Raises:
            ValueError, KeyError, TypeError: it is something else.
        """
        if content["part"] not in PARTS or type(content["end"]) is not int:
            raise ValueError(f"a step is {content!r}")
        shard = None if content["shard"] is None else Shard.of(content["shard"])
        return cls(content["part"], content["end"], shard, tuple(content["left_out"]))


class Progress:
    """The file ``progress.jsonl``: first the plan, then the steps; it goes when the manifest comes.

    Args:
        folder: of the shards, made when it is missing.
        plan: ``settings`` that decide what is written, and ``images``, a fingerprint of what it is made of.
    """

    def __init__(self, folder: Path, plan: Mapping[str, Any]) -> None:
        self.folder = folder
        self.plan = dict(plan)
        self.steps: list[Step] = []

    @property
    def file(self) -> Path:
        return self.folder / PROGRESS

    def begin(self, overwrite: bool) -> None:
        """Start, or go on with what a run with the same plan has left.

        Raises:
            ShardError: the folder holds finished shards, those of another plan, or other things.
        """
        own = (self.folder / MANIFEST).exists() or self.file.exists()
        if own and overwrite:
            self._clear()
        if (self.folder / MANIFEST).exists():
            images = sum(shard.images for shard in read_manifest(self.folder).train)
            raise ShardError(
                f"{self.folder} holds finished shards ({images:,} images to train on): choose another folder "
                "with output=FOLDER, or replace them with overwrite=true"
            )
        if self.file.exists():
            self._load()
        elif not own and (found := self._visible()):
            raise ShardError(
                f"{self.folder} is not empty (it holds {found[0]}), and holds no shards: choose another "
                "folder with output=FOLDER"
            )
        for path in self.folder.glob("*.part"):
            path.unlink()
        lines = [self.plan, *(_plain(step) for step in self.steps)]
        # in one step: a kill in between would lose what is done
        write_atomically(self.file, "".join(json.dumps(line) + "\n" for line in lines).encode())

    def done(self, part: str) -> int:
        """How many images of a part are done."""
        return max((step.end for step in self.steps if step.part == part), default=0)

    def add(self, step: Step) -> None:
        """Note a finished stretch; on return it is on disk."""
        with self.file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(_plain(step)) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self.steps.append(step)

    def shards(self, part: str) -> list[Shard]:
        """The finished shards of a part."""
        return [step.shard for step in self.steps if step.part == part and step.shard is not None]

    def left_out(self) -> list[Mapping[str, str]]:
        """What is in no shard."""
        return [entry for step in self.steps for entry in step.left_out]

    def _load(self) -> None:
        lines = self.file.read_text(encoding="utf-8").splitlines()
        if not lines:  # the power went before the plan was written
            return
        try:
            before = json.loads(lines[0])
            changed = [name for name in PLAN if before[name] != self.plan[name]]
        except (ValueError, KeyError, TypeError) as error:
            raise ShardError(f"{self.file} is damaged ({error}); overwrite=true starts again") from error
        if changed:
            raise ShardError(
                f"{self.folder} holds unfinished shards of {_difference(before, self.plan)}: put that back "
                "to go on with them, choose another folder with output=FOLDER, or discard them with "
                "overwrite=true"
            )
        for line in lines[1:]:
            try:
                step = Step.of(json.loads(line))
            except (ValueError, KeyError, TypeError):  # the last line of a process that was killed
                return
            if step.shard is not None and not self._is_there(step.shard):
                return
            self.steps.append(step)

    def _is_there(self, shard: Shard) -> bool:
        path = self.folder / shard.name
        return path.is_file() and path.stat().st_size == shard.bytes

    def _visible(self) -> list[str]:
        return sorted(path.name for path in self.folder.iterdir() if not path.name.startswith("."))

    def _clear(self) -> None:
        """Delete what is written here; anything else stays. The manifest first: it says that all is there."""
        for name in (MANIFEST, PROGRESS):
            (self.folder / name).unlink(missing_ok=True)
        for part in PARTS:
            for path in self.folder.glob(f"{part}-{'[0-9]' * DIGITS}.tar"):
                path.unlink()


def _plain(step: Step) -> dict[str, Any]:
    return asdict(step)


def _difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    settings, others = before["settings"], now["settings"]
    keys: Sequence[str] = sorted(settings.keys() | others.keys())
    changed = [
        f"shards.{key}={settings.get(key)} (now {others.get(key)})"
        for key in keys
        if settings.get(key) != others.get(key)
    ]
    return "other settings: " + ", ".join(changed) if changed else "other images, or images that have changed"
