"""Measure models on SharpBench: every image of every set under every condition, in parallel, resumable."""

from __future__ import annotations

import hashlib
import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import cv2
import torch

from sharpkd.data.benchmark_guard import pixel_hash, sharpbench_hashes
from sharpkd.data.images import UnreadableImage, read_image
from sharpkd.evaluation.benchmark.image_sets import BenchmarkImage
from sharpkd.evaluation.benchmark.row_cache import RowCache, Scores, hash_of_sources, key_of
from sharpkd.evaluation.machine import machine
from sharpkd.evaluation.models import Model, ModelSpec
from sharpkd.evaluation.protocols import Condition, make_pair
from sharpkd.evaluation.rows import INPUT, Row
from sharpkd.evaluation.scores import score_pair
from sharpkd.metrics.lpips import LPIPS, SMALLEST_SIDE, maybe_lpips

log = logging.getLogger(__name__)

SOURCES = (
    "data/degradation",
    "data/degradation_maths",
    "data/images",
    "evaluation/protocols",
    "evaluation/scores",
    "functional",
    "metrics",
)
"""What decides the pixels that a model gets and the numbers that its output gives."""

NET_SOURCES = ("nets", "estimation", "evaluation/models", "evaluation/blind", "inference/engine")
"""What decides beside its weights what a net makes of those pixels."""

NO_LPIPS = "none"
"""Fingerprint of the settings where the column stays blank."""

Progress = Callable[[int, int, str], None]
"""Called with (pairs done, pairs in all, what is measured)."""


@dataclass(frozen=True)
class LPIPSSettings:
    """Backbone and its weight file; without the file the column stays blank.

    Raises:
        ValueError: an unknown backbone.
    """

    backbone: str = "squeeze"
    weights: str | None = None

    def __post_init__(self) -> None:
        if self.backbone not in SMALLEST_SIDE:
            known = ", ".join(SMALLEST_SIDE)
            raise ValueError(f"LPIPS backbone {self.backbone!r} is unknown; choose from {known}")

    def build(self) -> LPIPS | None:
        """The metric, or None where the weights are not there."""
        return maybe_lpips(self.backbone, self.weights)

    @cached_property
    def fingerprint(self) -> str:
        """Tells apart what gives other numbers."""
        path = Path(self.weights) if self.weights else None
        if path is None or not path.is_file():
            return NO_LPIPS
        return f"{self.backbone} {hashlib.sha256(path.read_bytes()).hexdigest()}"


@dataclass(frozen=True)
class Failure:
    """A model could not be measured on one pair."""

    model: str
    set: str
    image: str
    condition: str
    reason: str


def told_by_image(failures: Sequence[Failure]) -> list[str]:
    """One line for each image and reason, whatever number of models and conditions it has befallen."""
    together: dict[tuple[str, str, str], list[Failure]] = {}
    for failure in failures:
        together.setdefault((failure.set, failure.image, failure.reason), []).append(failure)
    return [
        f"{_listed('models', [one.model for one in ones])} failed on {name}/{image}, "
        f"{_listed('conditions', [one.condition for one in ones])}: {reason}"
        for (name, image, reason), ones in together.items()
    ]


def _listed(what: str, names: Iterable[str]) -> str:
    different = list(dict.fromkeys(names))
    return ", ".join(different) if len(different) <= 3 else f"{len(different)} {what}"


@dataclass(frozen=True)
class Measured:
    """Every row that could be measured, and what could not.

    Attributes:
        rows: conditions and images in the benchmark's order.
        failures: models on pairs.
        unreadable: files, each with the reason.
        altered: images whose pixels are not those of the benchmark's own copy.
    """

    rows: list[Row]
    failures: list[Failure]
    unreadable: list[str]
    altered: list[str]


@dataclass(frozen=True)
class _Task:
    image: BenchmarkImage
    condition: Condition
    models: tuple[ModelSpec, ...]
    lpips: LPIPSSettings


Finished = Generator[tuple[_Task, Mapping[str, Scores | str]], None, None]
"""Tasks as they are done, each with scores or the reason why there are none, by model."""


def measure(
    models: Sequence[ModelSpec],
    images: Sequence[BenchmarkImage],
    conditions: Sequence[Condition],
    cache_dir: Path,
    *,
    lpips: LPIPSSettings | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Measured:
    """Scores of every model on every image under every condition that it is made for.

    Args:
        models: names must differ.
        images: of the benchmark's sets.
        conditions: see :func:`sharpkd.evaluation.protocols.conditions`.
        cache_dir: scores measured before are read from here, new ones added at once.
        lpips: without it the LPIPS column stays blank.
        workers: processes; None for one a core, 0 for none beside this one.
        progress: told after each pair.

    Raises:
        ValueError: no image can be read, or the weights of LPIPS do not fit its backbone.
        ChildProcessError: a worker was killed; what is measured is kept.
    """
    lpips = lpips or LPIPSSettings()
    settings = f"{hash_of_sources(SOURCES)} {lpips.fingerprint} {machine()['versions']}"
    net_settings = hash_of_sources(NET_SOURCES)
    caches = {spec.name: RowCache(cache_dir, spec.fingerprint) for spec in models}
    hashes, unreadable = _hashes(images)
    opened = {spec.name: open_model(spec) for spec in models}

    def key(spec: ModelSpec, image: BenchmarkImage, condition: Condition) -> str:
        code = "" if spec.kind == "baseline" else net_settings + opened[spec.name].code
        return key_of(settings, code, hashes[image], image.name, repr(condition))

    wanted = [
        (spec, image, condition)
        for condition in conditions
        for image in hashes
        for spec in models
        if opened[spec.name].applies_to(condition)
    ]
    tasks: dict[tuple[BenchmarkImage, Condition], list[ModelSpec]] = {}
    for spec, image, condition in wanted:
        if caches[spec.name].get(key(spec, image, condition)) is None:
            tasks.setdefault((image, condition), []).append(spec)
    # here, before hours of measuring; and once, not by every worker
    if tasks and _lpips(lpips) is None and lpips.weights:
        log.warning("LPIPS is left blank: no weight file at %s", lpips.weights)
    failures: list[Failure] = []
    todo = [_Task(image, condition, tuple(specs), lpips) for (image, condition), specs in tasks.items()]
    # closed at once: an interrupted run leaves no worker behind
    with closing(_run(todo, workers)) as finished:
        for done, (task, outcomes) in enumerate(finished, start=1):
            for name, outcome in outcomes.items():
                if isinstance(outcome, str):
                    place = task.image.set, task.image.name, task.condition.name
                    failures.append(Failure(name, *place, outcome))
                else:
                    (spec,) = (spec for spec in task.models if spec.name == name)
                    caches[name].keep(key(spec, task.image, task.condition), outcome)
            if progress is not None:
                progress(done, len(todo), f"{task.image.set}/{task.image.name}, {task.condition.name}")
    for line in told_by_image(failures):
        log.warning("%s", line)
    rows = _with_input(
        _row(spec.name, image, condition, scores)
        for spec, image, condition in wanted
        if (scores := caches[spec.name].get(key(spec, image, condition))) is not None
    )
    known = sharpbench_hashes()
    altered = [f"{image.set}/{image.name}" for image, digest in hashes.items() if digest not in known]
    if altered:
        log.warning("%d image(s) are not the benchmark's own, starting with %s", len(altered), altered[0])
    return Measured(rows, failures, unreadable, altered)


def _hashes(images: Iterable[BenchmarkImage]) -> tuple[dict[BenchmarkImage, str], list[str]]:
    """Pixel hash of every readable image, and why the others cannot be read."""
    hashes, unreadable = {}, []
    for image in images:
        try:
            hashes[image] = pixel_hash(read_image(image.path))
        except UnreadableImage as error:
            log.warning("left out: %s", error)
            unreadable.append(str(error))
    if not hashes:
        raise ValueError(f"no benchmark image can be read, starting with {(unreadable or ['none given'])[0]}")
    return hashes, unreadable


def _with_input(rows: Iterable[Row]) -> list[Row]:
    """Without what was measured before on pairs on which ``input`` has failed now: no gain can be told."""
    rows = list(rows)
    if not any(row.model == INPUT for row in rows):
        return rows
    pairs = {(row.set, row.image, row.condition) for row in rows if row.model == INPUT}
    return [row for row in rows if (row.set, row.image, row.condition) in pairs]


def _row(model: str, image: BenchmarkImage, condition: Condition, scores: Scores) -> Row:
    names = {"set": image.set, "image": image.name, "domain": image.domain or ""}
    return Row(
        model=model,
        track=condition.track,
        condition=condition.name,
        psnr=_known(scores["psnr"]),
        ssim=scores["ssim"],
        psnr_y=_known(scores["psnr_y"]),
        lpips=scores["lpips"],
        **names,
    )


def _known(value: float | None) -> float:
    if value is None:
        raise ValueError("a kept score has no PSNR; remove the cache folder and measure again")
    return value


def _run(tasks: Sequence[_Task], workers: int | None) -> Finished:
    count = min(available_cores() if workers is None else workers, len(tasks))
    if count == 0:
        for task in tasks:
            yield task, _measure(task)
        return
    yield from _run_in_processes(tasks, count)


def _run_in_processes(tasks: Sequence[_Task], count: int) -> Finished:
    # spawned: a forked child of a process that has run torch's threads can hang
    context = multiprocessing.get_context("spawn")
    executor = ProcessPoolExecutor(count, mp_context=context, initializer=_start_worker)
    waiting = iter(tasks)
    running: dict[Future[Mapping[str, Scores | str]], _Task] = {}
    try:
        while True:
            # few at a time: an interrupted run then has little to give up
            for task in waiting:
                with _children_ignore_interrupts():
                    running[executor.submit(_measure, task)] = task
                if len(running) >= 2 * count:
                    break
            if not running:
                break
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                yield running.pop(future), future.result()
    except BrokenProcessPool as error:
        raise ChildProcessError(
            "a worker was killed, perhaps for want of memory; what was measured is kept, "
            "and the same command goes on from there (benchmark.workers=1 needs less memory)"
        ) from error
    finally:
        processes = list((executor._processes or {}).values()) if running else []
        executor.shutdown(wait=not running, cancel_futures=True)
        for process in processes:
            process.terminate()


@contextmanager
def _children_ignore_interrupts() -> Iterator[None]:
    """Ctrl-C reaches every process of the terminal; the parent alone decides what it means.

    A process that is started meanwhile keeps the signal blocked, from its first moment on.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start_worker() -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _end_with_parent() -> None:
    """A parent that is killed cannot tell its workers, which would wait for their next task for ever."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    parent.join()
    os._exit(1)


def _measure(task: _Task) -> dict[str, Scores | str]:
    """Scores by model, or in their place the reason why there are none."""
    try:
        pair = make_pair(task.condition, read_image(task.image.path), task.image.name)
    except Exception as error:  # the image may be gone by now, or smaller than the condition's scale
        return {spec.name: _reason(error) for spec in task.models}
    outcomes: dict[str, Scores | str] = {}
    for spec in task.models:
        try:
            output = open_model(spec).restore(pair, task.condition)
            outcomes[spec.name] = score_pair(task.condition, output, pair.sharp, _lpips(task.lpips))
        except Exception as error:  # a net or its engine may fail in any way
            outcomes[spec.name] = _reason(error)
    return outcomes


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]


def open_model(spec: ModelSpec) -> Model:
    """The model, opened once a process; anew where its file has changed since."""
    return _opened(spec, spec.fingerprint)


@cache
def _opened(spec: ModelSpec, fingerprint: str) -> Model:
    return spec.open()


def _lpips(settings: LPIPSSettings) -> LPIPS | None:
    return None if settings.fingerprint == NO_LPIPS else _built(settings, settings.fingerprint)


@cache
def _built(settings: LPIPSSettings, fingerprint: str) -> LPIPS | None:
    return settings.build()


def available_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
