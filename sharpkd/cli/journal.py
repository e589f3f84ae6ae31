"""What became of very many pictures, in files that outlive the processes that write them."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sharpkd.inference.atomic_file import atomic_file, leftovers

MANIFEST = "failed.jsonl"
JOURNALS = ".sharpkd"
ATTEMPTS = 3
"""A picture that failed so often, or killed so many workers, is left out until it changes."""


@dataclass(frozen=True)
class Failure:
    """A line of the manifest.

    Attributes:
        input: absolute path.
        error: the last one, in one line.
        attempts: how often it was tried.
        size, changed: the file's bytes and nanoseconds of its last change then; another file is another try.
    """

    input: str
    error: str
    attempts: int
    size: int
    changed: int

    @classmethod
    def of(cls, source: Path, error: str, before: Failure | None, attempts: int = 1) -> Failure:
        """Of ``attempts`` more, after those of ``before`` if that was about the same file."""
        size, changed = _state(source)
        known = (
            before.attempts if before is not None and (before.size, before.changed) == (size, changed) else 0
        )
        return cls(str(source), error, known + attempts, size, changed)

    def as_line(self) -> bytes:
        """JSON, with the line's end."""
        return json.dumps(vars(self)).encode() + b"\n"

    def is_final(self) -> bool:
        """Whether the file is as it was, and was tried often enough."""
        return self.attempts >= ATTEMPTS and _state(Path(self.input)) == (self.size, self.changed)


def _state(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except OSError:
        return -1, -1
    return found.st_size, found.st_mtime_ns


class Journal:
    """What became of the pictures of one portion, a line for each beginning and each end.

    Lines are appended in one write each, so they outlive the process that wrote them, though not the machine.
    A last line that was cut off counts as not written.

    Args:
        file: of the portion; made with its first line.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self.begun: dict[str, int] = {}
        self.ended: dict[str, dict[str, Any]] = {}
        self.writes: dict[str, list[str]] = {}
        for line in file.read_bytes().split(b"\n")[:-1] if file.is_file() else ():
            entry = json.loads(line)
            if "begins" in entry:
                self.begun[entry["begins"]] = self.begun.get(entry["begins"], 0) + 1
                self.writes[entry["begins"]] = entry["writes"]
            else:
                self.ended[entry["ends"]] = entry["outcome"]

    def begins(self, source: str, writes: Sequence[str] = ()) -> None:
        """Note that a worker is about to touch the picture, and to write these files."""
        self._append({"begins": source, "writes": list(writes), "worker": os.getpid()})

    def ends(self, source: str, outcome: dict[str, Any]) -> None:
        """Note how it ended."""
        self._append({"ends": source, "outcome": outcome})

    def clean(self, source: str) -> None:
        """Remove what a dead worker has left half written."""
        for path in self.writes.get(source, ()):
            for leftover in leftovers(Path(path)):
                leftover.unlink(missing_ok=True)

    def unended(self) -> dict[str, int]:
        """Pictures that were begun and never ended -> how often."""
        return {source: count for source, count in self.begun.items() if source not in self.ended}

    def _append(self, entry: dict[str, Any]) -> None:
        self.file.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(self.file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(handle, json.dumps(entry).encode() + b"\n")
        finally:
            os.close(handle)


class Manifest:
    """The failures below an output folder, kept in `MANIFEST`: a line for each, of which the last counts.

    Args:
        folder: of the results. Journals that a run left there which was killed are read and removed.
    """

    def __init__(self, folder: Path) -> None:
        self.file = folder / MANIFEST
        self.journals = folder / JOURNALS
        self.failures: dict[str, Failure] = {}
        if self.file.is_file():
            # a last line without its end was cut off when the machine stopped
            for line in self.file.read_bytes().split(b"\n")[:-1]:
                failure = Failure(**json.loads(line))
                self.failures[failure.input] = failure
        self.take_over(count_deaths=True)

    def has_given_up(self, source: Path) -> bool:
        """Whether a picture is left out."""
        failure = self.failures.get(str(source))
        return failure is not None and failure.is_final()

    def note(self, plain: dict[str, Any]) -> None:
        """Take a picture in, or out, by how it ended."""
        source = plain["input"]
        if plain["error"] is None:
            self.failures.pop(source, None)
            return
        before = self.failures.get(source)
        failure = Failure.of(Path(source), plain["error"], before, plain["attempts"])
        self.failures[source] = failure
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with self.file.open("ab") as file:
            file.write(failure.as_line())

    def take_over(self, count_deaths: bool) -> None:
        """Learn from journals whose workers are gone, and remove them and what is half written.

        Args:
            count_deaths: a picture that was begun and not ended has killed its worker. False: somebody has
                stopped the worker.
        """
        for file in sorted(self.journals.glob("*.jsonl")):
            journal = Journal(file)
            for plain in journal.ended.values():
                self.note(plain)
            for source, count in journal.unended().items():
                journal.clean(source)
                if count_deaths:
                    self.note({"input": source, "error": f"{source}: its worker died", "attempts": count})
            file.unlink(missing_ok=True)
        with suppress(OSError):  # there is none, or another run's journals are in it
            self.journals.rmdir()

    def write(self) -> None:
        """Write it anew, without what has been mended; without failures there is none."""
        if not self.failures:
            self.file.unlink(missing_ok=True)
            return
        with atomic_file(self.file) as file:
            file.write(b"".join(failure.as_line() for failure in self.failures.values()))
