"""The work: every job read, sharpened and written, several at a time; one that fails stops no other."""

from __future__ import annotations

import io
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

from sharpkd.cli.console import INTERRUPTED, TERMINATED, Count, Outcome, Voice, forget, is_closed, say
from sharpkd.cli.plan import FORMATS, STREAM, Job

if TYPE_CHECKING:
    from sharpkd.inference.automatic import Chooser
    from sharpkd.inference.files import OnTile
    from sharpkd.inference.image_io import ImageFile

LARGEST_STREAM = 2 << 30
PATIENCE = 3.0
"""Seconds that workers have to stop by themselves after Ctrl-C."""
POLL = 0.1
"""Seconds: Windows delivers no Ctrl-C to a thread that waits for ever."""


@dataclass(frozen=True)
class Settings:
    """What is done to every file.

    Attributes:
        strength: of the sharpening; see `sharpkd.inference.sharpener.Sharpener`.
        quality: of lossy results, 1 to 100; None: no coarser than the input.
        format: of what goes to standard output; None: the input's.
        overwrite: existing files are replaced.
        skip_existing: existing results are left as they are, and their inputs unread.
        measure: measure the blur in any case, to tell of it.
    """

    strength: float = 1.0
    quality: int | None = None
    format: str | None = None
    overwrite: bool = False
    skip_existing: bool = False
    measure: bool = False


class Stopped(BaseException):
    """Ctrl-C was pressed: a worker gives up what it does."""


class Terminated(KeyboardInterrupt):
    """SIGTERM, which is handled as Ctrl-C is."""


def run(jobs: Sequence[Job], chooser: Chooser, settings: Settings, workers: int, voice: Voice) -> int:
    """Do all jobs and tell how each ended, in their order.

    Workers are threads: the net, the codecs and zlib compute outside Python's lock, all share one net in
    memory, and there is nothing to start. Each picture is computed as if it were alone, so the results do not
    depend on their number.

    Returns:
        How many failed.
    """
    crew = _Crew(jobs, chooser, settings)
    failed = 0
    try:
        with sigterm_as_interrupt(), voice.counting(len(jobs)) as count:
            crew.start(min(workers, len(jobs)), count)
            for index in range(len(jobs)):
                outcome = crew.outcome(index)
                failed += outcome.error is not None
                voice.tell(outcome)
    except KeyboardInterrupt as interrupt:
        leave(interrupt, f"{crew.stop()} of {len(jobs)} done")
    return failed


def leave(interrupt: KeyboardInterrupt, done: str) -> NoReturn:
    """End now: a worker may be in the middle of a computation that cannot be stopped.

    Args:
        interrupt: Ctrl-C, or SIGTERM.
        done: how far it came, for the last line.
    """
    from sharpkd.inference.atomic_file import abandon_unfinished

    abandon_unfinished()
    terminated = isinstance(interrupt, Terminated)
    say(f"{'stopped' if terminated else 'interrupted'}: {done}")
    code = TERMINATED if terminated else INTERRUPTED
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):  # a full disk changes nothing about the end
            if not is_closed(stream):
                stream.flush()
    os._exit(code)


@contextmanager
def sigterm_as_interrupt() -> Iterator[None]:
    """SIGTERM raises `Terminated` while the block runs, in the main thread; a further one does nothing."""

    def handle(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise Terminated

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class _Crew:
    """Threads that take jobs in order."""

    def __init__(self, jobs: Sequence[Job], chooser: Chooser, settings: Settings) -> None:
        self._jobs, self._chooser, self._settings = jobs, chooser, settings
        self._waiting = iter(range(len(jobs)))
        self._outcomes: dict[int, Outcome] = {}
        self._done = 0
        self._changed = threading.Condition()
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self, workers: int, count: Count) -> None:
        self._threads = [
            threading.Thread(target=self._work, args=(count,), daemon=True) for _ in range(workers)
        ]
        for thread in self._threads:
            thread.start()

    def outcome(self, index: int) -> Outcome:
        """That of one job, once it is there; asked for once, for of very many none is kept."""
        with self._changed:
            while index not in self._outcomes:
                self._changed.wait(POLL)
            return self._outcomes.pop(index)

    def stop(self) -> int:
        """Have the workers give up; how many jobs are done."""
        for name in (signal.SIGINT, signal.SIGTERM):
            with suppress(ValueError):  # not the main thread
                signal.signal(name, signal.SIG_IGN)
        self._stopping.set()
        until = time.monotonic() + PATIENCE
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))
        return self._done

    def _work(self, count: Count) -> None:
        while not self._stopping.is_set():
            with self._changed:
                index = next(self._waiting, None)
            if index is None:
                return

            def on_tile(done: int, total: int, index: int = index) -> None:
                if self._stopping.is_set():
                    raise Stopped
                count.part(index, done / total)

            try:
                outcome = sharpen_one(self._jobs[index], self._chooser, self._settings, on_tile)
            except Stopped:
                return
            count.finished(index)
            with self._changed:
                self._outcomes[index] = outcome
                self._done += outcome.error is None
                self._changed.notify_all()


def sharpen_one(job: Job, chooser: Chooser, settings: Settings, on_tile: OnTile) -> Outcome:
    """Read, sharpen and write one file; what goes wrong is in the outcome, in one line."""
    from sharpkd.inference.image_io import ImageFileError, UnwrittenError

    started = time.monotonic()
    unwritten = False
    try:
        return _sharpen(job, chooser, settings, on_tile, started)
    except ImageFileError as error:
        line, unwritten = str(error), isinstance(error, UnwrittenError)
    except Exception as error:  # whatever one file provokes in an engine or a codec, the others go on
        line = f"{job.source}: {(str(error) or type(error).__name__).splitlines()[0]}"
    return Outcome(job.source, seconds=time.monotonic() - started, error=line, unwritten=unwritten)


def _sharpen(job: Job, chooser: Chooser, settings: Settings, on_tile: OnTile, started: float) -> Outcome:
    from sharpkd.inference.files import sharpened, side_by_side
    from sharpkd.inference.image_io import write_image

    existing = [path for path in (job.target, job.compare) if path is not None and _is_there(path)]
    if existing and settings.skip_existing:
        return Outcome(job.source, notes=(f"skipped: {existing[0]} exists",))
    if existing and not settings.overwrite:
        _refuse(job.source, existing[0])
    before = _read(job.source)
    chosen = chooser.chosen_for(before, measured=settings.measure)
    after = sharpened(before, chosen, settings.strength, on_tile)
    on_tile(1, 1)  # the last chance to stop before something is written
    notes = [*before.notes]
    if job.target == STREAM:
        notes += _write_stream(after, settings)
    else:
        notes += write_image(job.target, after, settings.quality)
    if job.compare is not None:
        notes += write_image(job.compare, side_by_side(before, after), settings.quality)
    height, width = after.pictures[0].pixels.shape[:2]
    return Outcome(
        job.source,
        job.target,
        job.compare,
        time.monotonic() - started,
        (width, height),
        tuple(dict.fromkeys(notes)),
        chosen=str(chosen),
        model=chosen.choice.model if chosen.choice.strength else None,
    )


def _is_there(target: Path) -> bool:
    from sharpkd.inference.image_io import UnwrittenError

    try:
        return target != STREAM and target.exists()
    except OSError as error:
        raise UnwrittenError(target, error) from error


def _refuse(source: Path, existing: Path) -> None:
    from sharpkd.inference.image_io import ImageFileError

    same = source.exists() and existing.samefile(source)
    raise ImageFileError(
        source, ("would overwrite itself" if same else f"{existing} exists") + "; --overwrite replaces it"
    )


def _read(source: Path) -> ImageFile:
    from sharpkd.inference.image_io import ImageFileError, read_image

    if source != STREAM:
        return read_image(source)
    if is_closed(sys.stdin):
        raise ImageFileError(source, "standard input is closed")
    data = sys.stdin.buffer.read(LARGEST_STREAM + 1)
    if len(data) > LARGEST_STREAM:
        raise ImageFileError(source, f"is more than {LARGEST_STREAM >> 30} GB")
    return read_image(source, io.BytesIO(data))


def _write_stream(file: ImageFile, settings: Settings) -> tuple[str, ...]:
    from sharpkd.inference.image_io import ImageFileError, encoded, kind_of

    kind = file.kind if settings.format is None else kind_of(Path(f"a{FORMATS[settings.format]}"))
    data, notes = encoded(STREAM, file, kind, settings.quality)
    try:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        forget(sys.stdout)
        raise ImageFileError(STREAM, "standard output was closed before all was written") from None
    except OSError as error:
        forget(sys.stdout)
        raise ImageFileError(STREAM, f"standard output cannot be written ({error.strerror})") from None
    return notes
