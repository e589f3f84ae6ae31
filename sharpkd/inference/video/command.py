"""Videos for the command line: one after the other, with a progress line; each that fails is named."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sharpkd.inference.video.files import VideoError, first_line
from sharpkd.inference.video.sharpen import VideoReport, sharpen_video

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from rich.console import Console


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
) -> int:
    """Sharpen all, and say of each that fails why; a line about each that is done where people look on.

    Args:
        jobs: pairs of (video, file to write).
        restore_of: gives the ``restore`` of each video: see `sharpen_video`, as for the other settings.
        console: where lines and progress go; there is no progress where it is no terminal.

    Returns:
        How many failed.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    def say(line: str) -> None:
        console.print(line, markup=False, highlight=False)

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}", markup=False),
        TimeRemainingColumn(),
    )
    failed = 0
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        for source, target in jobs:
            task = progress.add_task(source.name, total=None, rate="")

            def on_frame(done: int, total: int | None, task: Any = task) -> None:
                speed = progress.tasks[progress.task_ids.index(task)].speed
                rate = "" if speed is None else f"{speed:.1f} frames/s"
                progress.update(task, completed=done, total=total, rate=rate)

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
            except VideoError as error:
                failed += 1
                say(str(error))
            except (OSError, ValueError, MemoryError, RuntimeError) as error:
                failed += 1
                say(f"{source}: {first_line(error)}")
            else:
                for note in report.notes:
                    say(f"{source}: note: {note}")
                if console.is_terminal:
                    say(f"{source} -> {target} ({_told(report)})")
            progress.remove_task(task)
    return failed


def _told(report: VideoReport) -> str:
    slowest = max(report.shares, key=report.shares.__getitem__)
    return (
        f"{report.frames} frames, {report.frames_per_second:.1f} frames/s, {slowest} working "
        f"{report.shares[slowest]:.0%} of the time"
    )
