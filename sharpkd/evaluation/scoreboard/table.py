"""From the scores of every student to what a method gains over none: the rows of a scoreboard."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sharpkd.evaluation.rows import INPUT
from sharpkd.evaluation.scoreboard.methods import SCRATCH
from sharpkd.evaluation.statistics import MeanInterval, mean_interval, paired

ALL = "all"
TEACHER = "teacher"
WORTH_KEEPING_DB = 1.0

ImageScores = Mapping[str, Mapping[str, Mapping[str, float | None]]]
"""Set, image, metric (``psnr`` in dB; ``ssim``, None on an image too small for it)."""


@dataclass(frozen=True)
class Trained:
    """A finished cell: its scores per image and the seconds that training took."""

    method: str
    seed: int
    scores: ImageScores
    seconds: float


@dataclass(frozen=True)
class Line:
    """One method on one set of images, or on all of them.

    Attributes:
        method: its name; ``input`` and ``teacher`` come first.
        set: name of the images' folder, or ``all``.
        seeds: how many students were trained; ``gain.n`` of them have a twin from scratch.
        psnr: dB, mean over images, then over seeds.
        ssim: likewise; None where every image is too small.
        gain: dB more than ``scratch``, one difference a seed, with its 95 % interval; None without a twin.
        ssim_gain: likewise.
        gains: the differences in dB, by seed.
        kept: share of the teacher's gain over the input, one a seed; None where it would mean nothing.
        note: why it is None.
        seconds: of training, mean over seeds.
        cost: times the seconds of ``scratch`` with the same seeds.
    """

    method: str
    set: str
    seeds: int
    psnr: float
    ssim: float | None
    gain: MeanInterval | None = None
    ssim_gain: MeanInterval | None = None
    gains: Mapping[int, float] = field(default_factory=dict)
    kept: MeanInterval | None = None
    note: str = ""
    seconds: float | None = None
    cost: float | None = None


def lines_of(
    trained: Sequence[Trained],
    methods: Sequence[str],
    reference: Mapping[str, ImageScores],
    own_teachers: Mapping[str, str] | None = None,
) -> list[Line]:
    """The scoreboard: per set the input, the teacher and every method that has a finished student.

    Differences are taken between students of one seed, and the interval is Student's t over these
    differences, not over images.

    Args:
        trained: the finished cells.
        methods: names, in the order of the rows.
        reference: scores of ``input`` and ``teacher``.
        own_teachers: method -> its teacher, where that is not the one of ``reference``.
    """
    own = own_teachers or {}
    lines = []
    for name in sets_of(reference[INPUT]):
        for who in (INPUT, TEACHER):
            psnr, ssim = (mean_score(reference[who], metric, name) for metric in ("psnr", "ssim"))
            assert psnr is not None
            lines.append(Line(who, name, 0, psnr, ssim))
        before, best = lines[-2].psnr, lines[-1].psnr
        by_method = {method: [cell for cell in trained if cell.method == method] for method in methods}
        for method, cells in by_method.items():
            if cells:
                line = _line(method, name, cells, by_method[SCRATCH], (before, best))
                if method in own:
                    line = replace(line, kept=None, note=f"{method} has another teacher, {own[method]}")
                lines.append(line)
    return lines


def sets_of(scores: ImageScores) -> list[str]:
    """What there are rows for: all images together, then each set, or the only one."""
    return [ALL, *scores] if len(scores) > 1 else list(scores)


def mean_score(scores: ImageScores, metric: str, name: str | None = None) -> float | None:
    """Mean of a metric over the images of a set, or over all images; None where no image has it."""
    groups = list(scores.values()) if name is None or name not in scores else [scores[name]]
    known = [image[metric] for group in groups for image in group.values()]
    values = [value for value in known if value is not None]
    return sum(values) / len(values) if values else None


def write_lines(path: Path, lines: Sequence[Line]) -> None:
    """Write ``scoreboard.csv``; what does not apply is an empty cell."""
    _write(path, [_row(line) for line in lines])


def write_cells(path: Path, trained: Sequence[Trained]) -> None:
    """Write ``cells.csv``: every finished student on every set."""
    rows = [
        {
            "method": cell.method,
            "seed": cell.seed,
            "set": name,
            **{metric: mean_score(cell.scores, metric, name) for metric in ("psnr", "ssim")},
            "seconds": round(cell.seconds, 2),
        }
        for cell in trained
        for name in sets_of(cell.scores)
    ]
    _write(path, rows)


def _line(
    method: str,
    name: str,
    cells: Sequence[Trained],
    scratch: Sequence[Trained],
    bounds: tuple[float, float],
) -> Line:
    psnr, ssim = _by_seed(cells, name, "psnr"), _by_seed(cells, name, "ssim")
    twin_psnr, twin_ssim = _by_seed(scratch, name, "psnr"), _by_seed(scratch, name, "ssim")
    seconds, twin_seconds = ({cell.seed: cell.seconds for cell in group} for group in (cells, scratch))
    gains = {} if method == SCRATCH else paired(twin_psnr, psnr).differences
    ssim_gains = {} if method == SCRATCH else paired(twin_ssim, ssim).differences
    both = [seed for seed in seconds if seed in twin_seconds]
    spent = sum(twin_seconds[seed] for seed in both)
    before, best = bounds
    note = _why_no_share(before, best, twin_psnr)
    return Line(
        method=method,
        set=name,
        seeds=len(cells),
        psnr=mean_interval(psnr.values()).mean,
        ssim=mean_interval(ssim.values()).mean if ssim else None,
        gain=mean_interval(gains.values()) if gains else None,
        ssim_gain=mean_interval(ssim_gains.values()) if ssim_gains else None,
        gains=gains,
        kept=None if note else mean_interval((value - before) / (best - before) for value in psnr.values()),
        note=note,
        seconds=mean_interval(seconds.values()).mean,
        cost=sum(seconds[seed] for seed in both) / spent if spent else None,
    )


def _why_no_share(before: float, best: float, scratch: Mapping[int, float]) -> str:
    """Why the share of the teacher's gain is left blank; empty where it is not."""
    if not scratch:
        return f"no finished {SCRATCH} to hold the teacher against"
    ahead = best - mean_interval(scratch.values()).mean
    if best <= before:
        return f"the teacher does not beat the input ({best - before:+.2f} dB)"
    if ahead < WORTH_KEEPING_DB:
        return f"the teacher is {ahead:+.2f} dB from {SCRATCH}; a share needs {WORTH_KEEPING_DB:+.0f} dB"
    return ""


def _by_seed(cells: Sequence[Trained], name: str, metric: str) -> dict[int, float]:
    means = {cell.seed: mean_score(cell.scores, metric, name) for cell in cells}
    return {seed: value for seed, value in means.items() if value is not None}


def _row(line: Line) -> dict[str, Any]:
    return {
        "method": line.method,
        "set": line.set,
        "seeds": line.seeds or None,
        "pairs": line.gain.n if line.gain else None,
        "psnr": line.psnr,
        "ssim": line.ssim,
        **_cells("psnr_gain", line.gain),
        **_cells("ssim_gain", line.ssim_gain),
        **_cells("gain_kept", line.kept),
        "gain_kept_note": line.note,
        "seconds": line.seconds,
        "times_scratch": line.cost,
    }


def _cells(name: str, interval: MeanInterval | None) -> dict[str, float | None]:
    if interval is None:
        return {name: None, f"{name}_low": None, f"{name}_high": None}
    return {name: interval.mean, f"{name}_low": interval.low, f"{name}_high": interval.high}


def _write(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    if not rows:
        path.unlink(missing_ok=True)
        return
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
