"""Videos among the inputs: one after the other, told of as pictures are."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sharpkd.cli.console import Outcome, Voice, console
from sharpkd.cli.plan import Job
from sharpkd.cli.run import Settings, leave, sigterm_as_interrupt

if TYPE_CHECKING:
    from sharpkd.inference.automatic import Choice, Chooser
    from sharpkd.inference.video.command import Ended


@dataclass(frozen=True)
class Encoding:
    """What is asked for of videos alone; see `sharpkd.inference.video.sharpen.sharpen_video`."""

    codec: str | None = None
    crf: float | None = None
    preset: str | None = None
    start: float | None = None
    end: float | None = None


def refuse(jobs: Sequence[Job], option: str, voice: Voice) -> int:
    """Say of each video that it fails for an option that is for pictures; how many they are."""
    for job in jobs:
        voice.tell(Outcome(job.source, error=f"{job.source}: {option} is for pictures, and this is a video"))
    return len(jobs)


def run_videos(
    jobs: Sequence[Job], chooser: Chooser, settings: Settings, encoding: Encoding, voice: Voice
) -> int:
    """Sharpen all, and tell how each ended, in their order. Ctrl-C and SIGTERM leave nothing half-written.

    Returns:
        How many failed.
    """
    failed = done = 0
    try:
        with sigterm_as_interrupt():
            for job in jobs:
                if settings.skip_existing and os.path.exists(job.target):
                    voice.tell(Outcome(job.source, notes=(f"skipped: {job.target} exists",)))
                else:
                    failed += _sharpen(job, chooser, settings, encoding, voice)
                done += 1
    except KeyboardInterrupt as interrupt:
        leave(interrupt, f"{done - failed} of {len(jobs)} videos done")
    return failed


def _sharpen(job: Job, chooser: Chooser, settings: Settings, encoding: Encoding, voice: Voice) -> int:
    from sharpkd.inference.video.command import sharpen_videos

    chosen: list[Choice] = []

    def tell(ended: Ended) -> None:
        voice.tell(_outcome(ended, chosen[0] if chosen else None, settings.strength))

    return sharpen_videos(
        [(job.source, job.target)],
        lambda: chooser.for_scene(settings.strength, chosen.append),
        console(),
        overwrite=settings.overwrite,
        progress_shown=not voice.quiet,
        on_end=tell,
        **asdict(encoding),
    )


def _outcome(ended: Ended, choice: Choice | None, strength: float) -> Outcome:
    from sharpkd.inference.video.command import told

    if ended.report is None:
        return Outcome(ended.source, seconds=ended.seconds, error=ended.error)
    found = []
    if choice is not None:
        why = f": {choice.reason}" if choice.reason else ""
        found = [f"{choice.model} at strength {strength * choice.strength:.2f}{why}"]
    return Outcome(
        ended.source,
        ended.target,
        seconds=ended.seconds,
        size=_size(ended.target),
        notes=ended.report.notes,
        chosen="; ".join((*found, told(ended.report))),
        model=choice.model if choice is not None else None,
    )


def _size(video: Path) -> tuple[int, int] | None:
    from sharpkd.inference.video.facts import facts_of
    from sharpkd.inference.video.files import VideoError

    try:
        facts = facts_of(video)
    except VideoError:  # it was there: somebody has taken it away since
        return None
    return facts.width, facts.height
