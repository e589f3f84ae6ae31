"""What the command says: results and notes on stderr, JSON on stdout, progress on a terminal alone."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TextIO

import typer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

SOME_FAILED, USAGE, INTERRUPTED, TERMINATED = 1, 2, 130, 143


@dataclass(frozen=True)
class Outcome:
    """How one input ended.

    Attributes:
        source: as it was given.
        output: what was written, or None.
        compare: the further file with both side by side, or None.
        seconds: from opening it to closing the result.
        size: width and height of the result in pixels, or None.
        notes: what could not be kept, one sentence each.
        error: one line where it failed, with the file's name, else None.
        chosen: what was done to it and why, with what was measured.
        model: that sharpened it; None where it was left alone.
        unwritten: it failed because its result could not be written, not by the input.
    """

    source: Path
    output: Path | None = None
    compare: Path | None = None
    seconds: float = 0.0
    size: tuple[int, int] | None = None
    notes: tuple[str, ...] = ()
    error: str | None = None
    chosen: str | None = None
    model: str | None = None
    unwritten: bool = False

    def as_json(self) -> str:
        """One line of JSON, in ASCII: no encoding of standard output lacks a character of it."""
        fields = {
            "input": str(self.source),
            "output": None if self.output is None else str(self.output),
            "seconds": round(self.seconds, 3),
            "size": self.size,
            "model": self.model,
            "notes": self.notes,
            "error": self.error,
        }
        if self.compare is not None:
            fields["compare"] = str(self.compare)
        return json.dumps(fields)

    def details(self) -> str:
        """Size, time and what was found, in brackets, for the line that tells of the result."""
        known = [] if self.size is None else [f"{self.size[0]}x{self.size[1]}, {self.seconds:.2f} s"]
        known += [] if self.chosen is None else [self.chosen]
        return f" ({'; '.join(known)})" if known else ""


@dataclass
class Voice:
    """How much is said.

    Attributes:
        verbose: each result with its size and seconds.
        quiet: failures alone.
        json: a line of JSON for each input.
        lost: standard output did not take such a line, as on a full disk; no more are written.
    """

    verbose: bool = False
    quiet: bool = False
    json: bool = False
    lost: bool = False

    def tell(self, outcome: Outcome) -> None:
        """Say how one input ended."""
        if self.json and not self.lost:
            self._write(outcome.as_json())
        if outcome.error is not None:
            say(outcome.error)
            return
        if self.quiet:
            return
        if outcome.output is not None and (self.verbose or console().is_terminal):
            say(f"{outcome.source} -> {outcome.output}{outcome.details() if self.verbose else ''}")
        for note in outcome.notes:
            say(f"{outcome.source}: note: {note}")

    def _write(self, line: str) -> None:
        try:
            sys.stdout.write(line + "\n")
            sys.stdout.flush()
        except OSError as error:
            self.lost = True
            forget(sys.stdout)
            say(f"standard output cannot be written ({error.strerror or error}): it lacks lines of --json")

    @contextmanager
    def counting(self, total: int) -> Iterator[Count]:
        """A progress bar while the block runs, where stderr is a terminal."""
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        err = console()
        columns = (
            TextColumn("{task.fields[files]}"),
            BarColumn(),
            TextColumn("{task.fields[rate]}"),
            TextColumn("ETA"),
            TimeRemainingColumn(),
        )
        shown = err.is_terminal and not self.quiet
        with Progress(*columns, console=err, disable=not shown, transient=True) as progress:
            yield Count(progress, total)


class Count:
    """Pictures done, in tenths of a tile; called from several threads."""

    def __init__(self, progress: Progress, total: int) -> None:
        self._progress, self._total, self._done = progress, total, 0
        self._parts: dict[int, float] = {}
        self._started = time.monotonic()
        self._task = progress.add_task("", total=total, files=f"0/{total}", rate="")

    def part(self, index: int, share: float) -> None:
        """So much of picture ``index``, 0 to 1, is done."""
        self._parts[index] = share
        self._show()

    def finished(self, index: int) -> None:
        """Picture ``index`` is done, or has failed."""
        self._parts.pop(index, None)
        self._done += 1
        self._show()

    def _show(self) -> None:
        passed = time.monotonic() - self._started
        rate = f"{self._done / passed:.2f} images/s" if self._done and passed else ""
        self._progress.update(
            self._task,
            completed=self._done + sum(tuple(self._parts.values())),
            files=f"{self._done}/{self._total}",
            rate=rate,
        )


@cache
def console() -> Console:
    """What lines for people go to: stderr, for stdout may be a picture. One, so that bar and lines agree."""
    from rich.console import Console

    class Lasting(Console):
        """Does not end the program where nobody reads any more."""

        def on_broken_pipe(self) -> None:
            forget(sys.stderr)

    return Lasting(stderr=True, soft_wrap=True)


def say(line: str) -> None:
    """One line, as it is; to nobody where stderr cannot be written, for the work goes on."""
    try:
        console().print(line, markup=False, highlight=False)
    except OSError:
        forget(sys.stderr)


def is_closed(stream: TextIO | None) -> bool:
    """Whether the command was started without ``stream``, as by ``>&-``."""
    return stream is None


def forget(stream: TextIO) -> None:
    """Let what goes to ``stream``, and what it still holds, vanish: else Python complains when it ends."""
    with suppress(OSError):  # it is no file
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def stop(line: str) -> NoReturn:
    """End with a line and the exit code of wrong usage."""
    say(line)
    raise typer.Exit(USAGE)
