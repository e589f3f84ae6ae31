"""Videos for the command line: one after the other, with a progress line; each that fails is named."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sharpkd.inference.errors import first_line
from sharpkd.inference.video.files import VideoError
from sharpkd.inference.video.sharpen import VideoReport, sharpen_video

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from rich.console import Console


@dataclass(frozen=True)
class Ended:
    """How one video ended.

    Attributes:
        source: as it was given.
        target: the file that was to be written.
        seconds: from opening the one to closing the other.
        report: how it went, or None where it failed.
        error: one line where it failed, with the file's name, else None.
    """

    source: Path
    target: Path
    seconds: float
    report: VideoReport | None = None
    error: str | None = None


def sharpen_videos(
    jobs: Sequence[tuple[Path, Path]],
    restore_of: Callable[[], Callable[[NDArray[Any]], NDArray[Any]]],
    console: Console,
    *,
    codec: str | None = None,
    crf: float | None = None,
    preset: str | None = None,
    start: float | None = None,
    end: float | None = None,
    overwrite: bool = False,
    progress_shown: bool = True,
    on_end: Callable[[Ended], None] | None = None,
) -> int:
    """Sharpen all, and say of each that fails why; a line about each that is done where people look on.

    Args:
        jobs: pairs of (video, file to write).
        restore_of: gives the ``restore`` of each video: see `sharpen_video`, as for the other settings.
        console: where lines and progress go; there is no progress where it is no terminal.
        progress_shown: False for none in any case.
        on_end: is told how each ended; None for lines.

    Returns:
        How many failed.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    if on_end is None:
        on_end = partial(_say, console)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}", markup=False),
        TimeRemainingColumn(),
    )
    failed = 0
    shown = console.is_terminal and progress_shown
    with Progress(*columns, console=console, disable=not shown, transient=True) as progress:
        for source, target in jobs:
            task = progress.add_task(source.name, total=None, rate="")

            def on_frame(done: int, total: int | None, task: Any = task) -> None:
                speed = progress.tasks[progress.task_ids.index(task)].speed
                rate = "" if speed is None else f"{speed:.1f} frames/s"
                progress.update(task, completed=done, total=total, rate=rate)

            began, error, report = time.monotonic(), None, None
            try:
                report = sharpen_video(
                    source,
                    target,
                    restore_of(),
                    codec=codec,
                    crf=crf,
                    preset=preset,
                    start=start,
                    end=end,
                    overwrite=overwrite,
                    on_frame=on_frame,
                )
            except VideoError as problem:
                error = str(problem)
            except Exception as problem:  # whatever one provokes in an engine or FFmpeg, the others go on
                error = f"{source}: {first_line(problem)}"
            progress.remove_task(task)
            failed += error is not None
            on_end(Ended(source, target, time.monotonic() - began, report, error))
    return failed


def _say(console: Console, ended: Ended) -> None:
    lines = [] if ended.error is None else [ended.error]
    if ended.report is not None:
        lines += [f"{ended.source}: note: {note}" for note in ended.report.notes]
        if console.is_terminal:
            lines.append(f"{ended.source} -> {ended.target} ({told(ended.report)})")
    for line in lines:
        console.print(line, markup=False, highlight=False)


def told(report: VideoReport) -> str:
    """Frames, their rate and the slowest stage, in a few words."""
    slowest = max(report.shares, key=report.shares.__getitem__)
    return (
        f"{report.frames} frames, {report.frames_per_second:.1f} frames/s, {slowest} working "
        f"{report.shares[slowest]:.0%} of the time"
    )
