"""What became of very many pictures, in files that outlive the processes that write them."""

from __future__ import annotations

import errno
import json
import os
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sharpkd.functional.file_lock import InUseError, held
from sharpkd.inference.atomic_file import atomic_file, leftovers

MANIFEST = "failed.jsonl"
JOURNALS = ".sharpkd"
LOCK = "lock"
ATTEMPTS = 3
"""A picture that failed so often, or killed so many workers, is left out until it changes."""


class JournalError(RuntimeError):
    """A journal or the manifest cannot be kept; the message is one line with the file and the reason."""


@contextmanager
def kept(path: Path) -> Iterator[None]:
    """What the disk refuses while the block runs is a `JournalError` of ``path``."""
    try:
        yield
    except OSError as error:
        raise JournalError(f"{path}: cannot be written ({error.strerror or error})") from error


@contextmanager
def only_command(journals: Path) -> Iterator[Callable[[], None]]:
    """Keep other commands from the same results while the block runs.

    Args:
        journals: the folder of their journals; made when it is missing.

    Yields:
        What lets them in before the block ends.

    Raises:
        InUseError: another command runs.
        JournalError: the disk refuses.
    """
    lock = journals / LOCK

    def free() -> None:
        with suppress(OSError):  # the folder holds journals of workers that still run
            lock.unlink(missing_ok=True)
            journals.rmdir()

    with ExitStack() as stack:
        with kept(lock):
            journals.mkdir(parents=True, exist_ok=True)
            try:
                stack.enter_context(held(lock))
            except InUseError:
                raise InUseError(f"{journals.parent}: another command writes its results here") from None
        try:
            yield free
        finally:
            free()


def _append(path: Path, line: bytes, keep: int | None = None) -> int:
    """Append a whole line or, where the disk refuses, nothing.

    Args:
        path: made when it is missing. A last line that was cut off stays one of its own.
        line: with its end.
        keep: bytes to which the file is cut where the disk refuses; None: as many as it has.

    Returns:
        The bytes that it had.
    """
    with kept(path), path.open("a+b", buffering=0) as file:
        size = file.seek(0, os.SEEK_END)
        if size:
            file.seek(-1, os.SEEK_END)
            line = line if file.read(1) == b"\n" else b"\n" + line
        try:
            if file.write(line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError:
            file.truncate(size if keep is None else keep)
            raise
    return size


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

    @classmethod
    def read(cls, line: bytes) -> Failure:
        """One of its lines.

        Raises:
            ValueError: it is none.
        """
        fields = json.loads(line)
        kinds = {"input": str, "error": str, "attempts": int, "size": int, "changed": int}
        if not isinstance(fields, dict) or {name: type(value) for name, value in fields.items()} != kinds:
            raise ValueError("not a line of the manifest")
        return cls(**fields)

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
    A line that was cut off counts as not written. Whoever writes holds the file; see `held`.

    Args:
        file: of the portion; made with its first line, in a folder that exists.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self.begun: dict[str, int] = {}
        self.ended: dict[str, dict[str, Any]] = {}
        self.writes: dict[str, list[str]] = {}
        self._before: int | None = None
        with kept(file):
            lines = file.read_bytes().split(b"\n")[:-1] if file.is_file() else []
        for line in lines:
            with suppress(ValueError, KeyError, TypeError):  # it was cut off
                self._take(json.loads(line))

    def _take(self, entry: dict[str, Any]) -> None:
        if "begins" in entry:
            source, writes = entry["begins"], entry["writes"]
            self.begun[source] = self.begun.get(source, 0) + 1
            self.writes[source] = writes
        else:
            self.ended[entry["ends"]] = entry["outcome"]

    def begins(self, source: str, writes: Sequence[str] = ()) -> None:
        """Note that a worker is about to touch the picture, and to write these files.

        Raises:
            JournalError: the disk refuses.
        """
        entry = {"begins": source, "writes": list(writes), "worker": os.getpid()}
        self._before = _append(self.file, _line(entry))

    def ends(self, source: str, outcome: dict[str, Any]) -> None:
        """Note how the picture ended that was begun last.

        Raises:
            JournalError: the disk refuses; then the picture counts as not begun, for it has killed nobody.
        """
        before, self._before = self._before, None
        _append(self.file, _line({"ends": source, "outcome": outcome}), before)

    def clean(self, source: str) -> None:
        """Remove what a dead worker has left half written."""
        for path in self.writes.get(source, ()):
            for leftover in leftovers(Path(path)):
                leftover.unlink(missing_ok=True)

    def unended(self) -> dict[str, int]:
        """Pictures that were begun and never ended -> how often."""
        return {source: count for source, count in self.begun.items() if source not in self.ended}


def _line(entry: dict[str, Any]) -> bytes:
    return json.dumps(entry).encode() + b"\n"


class Manifest:
    """The failures below an output folder, kept in `MANIFEST`: a line for each, of which the last counts.

    Args:
        folder: of the results. Journals that a run left there which was killed are read and removed.
        patience: seconds to wait for workers of that run which still write.

    Attributes:
        unreadable: lines that are no failures, and left out.

    Raises:
        InUseError: workers write for longer than that.
        JournalError: the disk refuses.
    """

    def __init__(self, folder: Path, patience: float = 0.0) -> None:
        self.file = folder / MANIFEST
        self.journals = folder / JOURNALS
        self.failures: dict[str, Failure] = {}
        self.unreadable = 0
        with kept(self.file):
            # a last line without its end was cut off when the machine stopped
            lines = self.file.read_bytes().split(b"\n")[:-1] if self.file.is_file() else []
        for line in lines:
            try:
                failure = Failure.read(line)
            except ValueError:
                self.unreadable += bool(line)
            else:
                self.failures[failure.input] = failure
        if not self.take_over(count_deaths=True, patience=patience):
            raise InUseError(
                f"{folder}: workers of an earlier run still write here; begin again when they have ended,"
                f" or delete {self.journals} where they ended with their machine"
            )

    def has_given_up(self, source: Path) -> bool:
        """Whether a picture is left out."""
        failure = self.failures.get(str(source))
        return failure is not None and failure.is_final()

    def note(self, plain: dict[str, Any]) -> None:
        """Take a picture in, or out, by how it ended.

        Raises:
            JournalError: the disk refuses.
        """
        source = plain["input"]
        if plain["error"] is None:
            self.failures.pop(source, None)
            return
        before = self.failures.get(source)
        failure = Failure.of(Path(source), plain["error"], before, plain["attempts"])
        self.failures[source] = failure
        _append(self.file, failure.as_line())

    def new_journals(self) -> Path:
        """A folder for the journals of one run, which is gone when the next run takes it over.

        So no worker that outlives its run can begin a further portion.
        """
        folder = self.journals / uuid.uuid4().hex[:8]
        with kept(folder):
            folder.mkdir(parents=True)
        return folder

    def take_over(self, count_deaths: bool, patience: float = 0.0) -> bool:
        """Learn from journals whose workers are gone, and remove them and what is half written.

        Args:
            count_deaths: a picture that was begun and not ended has killed its worker. False: somebody has
                stopped the worker.
            patience: seconds to wait for workers that still write.

        Returns:
            Whether all were gone.

        Raises:
            JournalError: the disk refuses; not while the run is being stopped, when failures are tried again.
        """
        until = time.monotonic() + patience
        runs = [path for path in self.journals.glob("*") if path.is_dir()]
        taken = [self._take_folder(folder, count_deaths, until) for folder in [*runs, self.journals]]
        return all(taken)

    def _take_folder(self, folder: Path, count_deaths: bool, until: float) -> bool:
        in_use = False
        while not in_use:
            for file in sorted(folder.glob("*.jsonl")):
                try:
                    with kept(file), held(file, until - time.monotonic()):
                        self._learn(Journal(file), count_deaths)
                        file.unlink(missing_ok=True)
                except InUseError:
                    in_use = True
            with suppress(OSError):  # something is in it
                folder.rmdir()
            # as long as it was there, a worker may have begun a further journal
            if not any(folder.glob("*.jsonl")):
                return True
        return False

    def _learn(self, journal: Journal, count_deaths: bool) -> None:
        learnt = list(journal.ended.values())
        for source, count in journal.unended().items():
            journal.clean(source)
            if count_deaths:
                learnt.append({"input": source, "error": f"{source}: its worker died", "attempts": count})
        for plain in learnt:
            try:
                self.note(plain)
            except JournalError:
                if count_deaths:
                    raise

    def write(self) -> None:
        """Write it anew, without what has been mended; without failures there is none.

        Raises:
            JournalError: the disk refuses; the old one is still there.
        """
        with kept(self.file):
            if not self.failures:
                self.file.unlink(missing_ok=True)
                return
            with atomic_file(self.file) as file:
                file.write(b"".join(failure.as_line() for failure in self.failures.values()))
