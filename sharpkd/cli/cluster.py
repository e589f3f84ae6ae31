"""Very many pictures on the machines of a Ray cluster, without losing one and without trying one for ever.

Pictures go in portions to workers, which are processes. What a worker begins and ends it appends to the
portion's journal, so whoever takes a dead worker's portion goes on where it stopped, and a picture that kills
its workers is known. What failed is in a manifest beside the results.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import typer

from sharpkd.cli.console import SOME_FAILED, Outcome, Voice, say, stop
from sharpkd.cli.journal import ATTEMPTS, JOURNALS, Journal, JournalError, Manifest, kept, only_command
from sharpkd.cli.plan import Job
from sharpkd.cli.run import Settings, leave, sharpen_one, sigterm_as_interrupt
from sharpkd.functional.file_lock import InUseError, held
from sharpkd.inference.automatic import AutoSharpener, Chooser, OneModel
from sharpkd.inference.engine import CPU, EngineName, PrecisionName
from sharpkd.inference.sharpener import Sharpener

PORTION = 16
"""Pictures that a worker takes at once."""
PATIENCE = 120.0
"""Seconds until a worker that is gone with its machine holds nothing any more: NFS takes 90 for it."""
STOPPING = 10.0
"""Seconds that Ray may take to end its workers."""
BLOCKS = 10_000
"""Parts at most that Ray keeps an account of."""


@dataclass(frozen=True)
class Model:
    """What a worker opens; see `sharpkd.inference.sharpener.Sharpener`.

    Attributes:
        path: of the model, or a packaged one's name; None: one is chosen for each picture.
        engine, tile, precision, budget_ms, device: see there, and
            `sharpkd.inference.automatic.AutoSharpener`.
    """

    path: Path | None
    engine: EngineName = "auto"
    tile: int | None = None
    precision: PrecisionName = "auto"
    budget_ms: float | None = None
    device: str = CPU

    def open(self, threads: int | None = None) -> Chooser:
        """The net, or nets, in this process.

        Raises:
            ModelError: there is no such model, or no engine runs it here.
        """
        if self.path is None:
            return AutoSharpener(
                self.engine,
                self.tile,
                self.precision,
                threads,
                budget_ms=self.budget_ms,
                device=self.device,
            )
        return OneModel(
            Sharpener(
                self.path, self.engine, self.tile, threads, precision=self.precision, device=self.device
            )
        )


class Worker:
    """What runs in each process of the cluster: one net, and portions of pictures one after another.

    Args:
        model: to open.
        settings: what is done to every picture.
    """

    def __init__(self, model: Model, settings: Settings) -> None:
        # Ray runs a worker on each core
        self._chooser = model.open(threads=1)
        self._settings = settings

    def __call__(self, portions: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
        """``portion``: JSON of the journal and the pictures -> ``outcomes``: JSON of how each ended.

        Where the journal cannot be kept, ``error`` says so, and the outcomes are fewer; else it is empty.
        """
        done = [self._portion(json.loads(text)) for text in portions["portion"]]
        return {key: [row[key] for row in done] for key in ("outcomes", "journal", "error")}

    def _portion(self, portion: dict[str, Any]) -> dict[str, str]:
        journal, outcomes, error = Path(portion["journal"]), [], ""
        try:
            with kept(journal), held(journal, PATIENCE):
                for outcome in self._do(portion):
                    outcomes.append(outcome)
        except (JournalError, InUseError) as problem:
            error = str(problem)
        return {"outcomes": json.dumps(outcomes), "journal": str(journal), "error": error}

    def _do(self, portion: dict[str, Any]) -> Iterator[dict[str, Any]]:
        journal = Journal(Path(portion["journal"]))
        for paths in portion["jobs"]:
            source_path, target, compare = paths
            job = Job(Path(source_path), Path(target), None if compare is None else Path(compare))
            source = str(job.source)
            if source in journal.ended:
                yield journal.ended[source]
                continue
            died = journal.begun.get(source, 0)
            journal.clean(source)
            if died >= ATTEMPTS:
                line = f"{job.source}: its worker died {died} times"
                outcome = _plain(Outcome(job.source, error=line), died)
            else:
                journal.begins(source, [path for path in paths[1:] if path is not None])
                ended = sharpen_one(job, self._chooser, self._settings, _ignore)
                outcome = _plain(ended, died + (not ended.unwritten))
            journal.ends(source, outcome)
            yield outcome


def _ignore(done: int, total: int) -> None:
    """Nobody watches a worker's tiles."""


def _plain(outcome: Outcome, attempts: int) -> dict[str, Any]:
    return {
        **json.loads(outcome.as_json()),
        "chosen": outcome.chosen,
        "compare": None if outcome.compare is None else str(outcome.compare),
        "attempts": attempts,
    }


def _outcome(plain: dict[str, Any]) -> Outcome:
    output, compare, size = plain["output"], plain["compare"], plain["size"]
    return Outcome(
        Path(plain["input"]),
        None if output is None else Path(output),
        None if compare is None else Path(compare),
        plain["seconds"],
        None if size is None else (size[0], size[1]),
        tuple(plain["notes"]),
        plain["error"],
        plain["chosen"],
        plain["model"],
    )


class Counts:
    """How the pictures of a run ended, told as they come in."""

    def __init__(self, voice: Voice) -> None:
        self.done = self.skipped = self.failed = 0
        self._voice = voice
        self._started = time.monotonic()

    def add(self, outcome: Outcome) -> None:
        """One more."""
        if outcome.error is not None:
            self.failed += 1
        elif outcome.output is None:
            self.skipped += 1
            return
        else:
            self.done += 1
        self._voice.tell(outcome)

    def tell(self, given_up: int, manifest: Path) -> None:
        """The sum, and where failures are listed."""
        if not self._voice.quiet:
            passed = time.monotonic() - self._started
            there = f", {self.skipped} were there" if self.skipped else ""
            say(f"{self.done} sharpened ({self.done / passed:.1f} a second){there}, {self.failed} failed")
        if given_up:
            say(f"{given_up} left out: they failed {ATTEMPTS} times; delete {manifest} to try them again")
        elif self.failed:
            say(f"failures are listed in {manifest}")


def run_on_ray(
    jobs: Sequence[Job], folder: Path, model: Model, settings: Settings, workers: int | None, voice: Voice
) -> int:
    """Do all jobs on the Ray cluster of ``$RAY_ADDRESS``, or on this machine, and tell how each ended.

    Results that exist are left alone, unless ``settings.overwrite``. Outcomes come in no particular order.

    Args:
        jobs: pictures, on a file system that all machines see.
        folder: of the results; holds the manifest.
        model: for all of them.
        settings: what is done to every picture.
        workers: processes; None takes one for each core of the cluster.
        voice: how much is said.

    Returns:
        How many have no result.

    Raises:
        Exit: another command, or a worker of an earlier one, writes to the folder; or the disk refuses the
            notes of what was done. One line says so.
    """
    folder = folder.absolute()
    try:
        with only_command(folder / JOURNALS) as free:
            return _run_alone(jobs, folder, model, settings, workers, voice, free)
    except InUseError as error:
        stop(str(error))
    except JournalError as error:
        say(str(error))
        raise typer.Exit(SOME_FAILED) from None


def _run_alone(
    jobs: Sequence[Job],
    folder: Path,
    model: Model,
    settings: Settings,
    workers: int | None,
    voice: Voice,
    free: Callable[[], None],
) -> int:
    manifest = _manifest(folder)
    if manifest.unreadable:
        say(f"note: {manifest.file}: lines that cannot be read are left out: {manifest.unreadable}")
    manifest.write()
    todo = [job for job in map(_absolute, jobs) if not manifest.has_given_up(job.source)]
    settings = replace(settings, skip_existing=not settings.overwrite)
    counts = Counts(voice)
    # before signals are ours: Ray takes SIGTERM
    ray = started_ray()
    try:
        with (
            sigterm_as_interrupt(),
            voice.counting(len(todo)) as count,
            closing(_outcomes(ray, todo, manifest, model, settings, workers)) as outcomes,
        ):
            for number, outcome in enumerate(outcomes):
                counts.add(outcome)
                count.finished(number)
    except (KeyboardInterrupt, JournalError) as end:
        with suppress(JournalError):  # what is left to do, the next run does
            manifest.take_over(count_deaths=False, patience=STOPPING)
            manifest.write()
        if isinstance(end, JournalError):
            raise
        free()
        leave(end, f"{counts.done} of {len(jobs)} done")
    manifest.write()
    counts.tell(len(jobs) - len(todo), manifest.file)
    return counts.failed + len(jobs) - len(todo)


def _manifest(folder: Path) -> Manifest:
    """That of the folder, as soon as no worker of an earlier run writes there."""
    try:
        return Manifest(folder)
    except InUseError:
        say(f"waiting for workers of an earlier run in {folder}")
        return Manifest(folder, PATIENCE)


def _absolute(job: Job) -> Job:
    return Job(job.source.absolute(), job.target.absolute(), job.compare and job.compare.absolute())


def _portions(jobs: Sequence[Job], journals: Path) -> Iterator[str]:
    """JSON of `PORTION` jobs at a time, and of the journal to keep."""
    for start in range(0, len(jobs), PORTION):
        paths = [
            [None if path is None else str(path) for path in (job.source, job.target, job.compare)]
            for job in jobs[start : start + PORTION]
        ]
        yield json.dumps({"journal": str(journals / f"{start:09d}.jsonl"), "jobs": paths})


def _outcomes(
    ray: Any,
    jobs: Sequence[Job],
    manifest: Manifest,
    model: Model,
    settings: Settings,
    workers: int | None,
) -> Generator[Outcome, None, None]:
    """How each job ended, as soon as its portion is done and noted; then its journal goes."""
    try:
        if not jobs:
            return
        journals = manifest.new_journals()
        portions = [{"portion": text} for text in _portions(jobs, journals)]
        workers = workers or max(1, int(ray.cluster_resources().get("CPU", 1)))
        done = ray.data.from_items(portions, override_num_blocks=min(len(portions), BLOCKS)).map_batches(
            Worker,
            fn_constructor_args=(model, settings),
            batch_size=1,
            concurrency=min(workers, len(portions)),
            num_cpus=1,
        )
        for row in done.iter_rows():
            ended = json.loads(row["outcomes"])
            for plain in ended:
                manifest.note(plain)
            with kept(Path(row["journal"])):
                Path(row["journal"]).unlink(missing_ok=True)
            yield from map(_outcome, ended)
            if row["error"]:
                raise JournalError(row["error"])
        with suppress(OSError):  # the next run removes it, too
            journals.rmdir()
    finally:
        ray.shutdown()


def started_ray() -> Any:
    """The module ``ray``, connected to the cluster of ``$RAY_ADDRESS``, else to one of this machine's own.

    Raises:
        SystemExit: it is not installed.
    """
    # nothing is reported to anybody, and remarks meant for Ray's developers are not shown
    for name, value in (("RAY_USAGE_STATS_ENABLED", "0"), ("RAY_BACKEND_LOG_LEVEL", "fatal")):
        os.environ.setdefault(name, value)
    try:
        import ray
        import ray.data
    except ImportError:
        stop("--cluster ray needs Ray on every machine: install it with  pip install 'sharpkd[ray]'")
    address = os.environ.get("RAY_ADDRESS", "local")
    own = {"include_dashboard": False} if address == "local" else {}
    ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **own)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    return ray
