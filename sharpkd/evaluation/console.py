"""The results of an evaluation as tables in a terminal."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from rich.console import Console
from rich.table import Table

from sharpkd.evaluation.baselines import BASELINES
from sharpkd.evaluation.benchmark.summary import SHARP
from sharpkd.evaluation.comparison.compare import ComparedFolders
from sharpkd.evaluation.folder.figures import table_of
from sharpkd.evaluation.folder.report import format_value
from sharpkd.evaluation.rating.bradley_terry import BradleyTerry
from sharpkd.evaluation.rows import INPUT, META, decibels

_NOT_SHOWN = BASELINES.keys() - {INPUT}
WIDE = 200
"""Columns where there is no terminal: a log has room for every figure."""


def console_of_results() -> Console:
    """Standard output, as wide as the terminal; wide enough for every figure where there is none."""
    console = Console()
    return console if console.is_terminal else Console(width=WIDE)


def print_results(results: Mapping[str, Any], console: Console) -> None:
    """An evaluation on a folder; the columns on luma are left to the files.

    Where the task enlarges, those on luma are shown, as papers have them, and the others left out.
    """
    luma = results[META].get("scale", 1) > 1
    rows = [
        {title: value for title, value in row.items() if _is_shown(title, luma)} for row in table_of(results)
    ]
    cells = [[format_value(column, value) for column, value in row.items()] for row in rows]
    _print(list(rows[0]), cells, console)
    console.print(f"{len(results[META]['images'])} images, each measured on 8-bit output", highlight=False)


def _is_shown(title: str, luma: bool) -> bool:
    return not title.startswith(("PSNR", "SSIM")) or ("-Y" in title) == luma


def print_benchmark(results: Mapping[str, Any], console: Console) -> None:
    """An evaluation on the benchmark: PSNR by track with the gain over the input, and the harm done."""
    models = results["models"]
    tracks = list(models[INPUT]["tracks"])
    cells = [
        [
            name,
            *(_track_cell(entry["tracks"].get(track), track) for track in tracks),
            _harm(entry["conditions"]),
        ]
        for name, entry in models.items()
    ]
    _print(["model", *tracks, "harmed"], cells, console)
    console.print(
        f"{results[META]['images']} images; PSNR in dB (on luma for sr), gain over the input in brackets; "
        "harmed: the share of results worse than the input, over all conditions but sharp and sr",
        highlight=False,
    )


def print_comparison(compared: ComparedFolders, console: Console) -> None:
    """Mean differences over whole tracks, with their confidence intervals.

    Those of baselines are left to the files, where there are other models, and so is PSNR on luma: of two
    evaluations of ten models all would be hundreds.
    """
    whole = [found for found in compared.differences if not found.condition]
    plain = [found for found in whole if not {_model(found.first), _model(found.second)} & _NOT_SHOWN]
    shown = [found for found in plain or whole if found.metric != "psnr_y"]
    cells = [
        [
            f"{found.second} - {found.first}",
            found.track,
            found.metric,
            _signed(found.interval.mean),
            "-" if found.interval.low is None or found.interval.high is None
            else f"{_signed(found.interval.low)} … {_signed(found.interval.high)}",
            str(found.interval.n),
        ]
        for found in shown
    ]  # fmt: skip
    _print(["difference", "track", "metric", "mean", "95 %", "images"], cells, console)
    if len(shown) < len(compared.differences):
        console.print(
            f"{len(shown)} of {len(compared.differences)} differences; single conditions, PSNR on luma and "
            f"baselines: {compared.page.with_suffix('.csv')}",
            highlight=False,
            soft_wrap=True,
        )
    for note in compared.notes:
        console.print(note, highlight=False)


def print_opinions(found: BradleyTerry, console: Console) -> None:
    """People's scores, best first, and how often each model was preferred to the input."""
    cells = []
    for model, (score, low, high) in found.scores.items():
        preferred = "-"
        if INPUT in found.scores and model != INPUT:
            preferred = "{:.0%} ({:.0%} … {:.0%})".format(*found.preference(model, INPUT))
        cells.append([model, _signed(score), f"{_signed(low)} … {_signed(high)}", preferred])
    _print(["model", "opinion score", f"{found.confidence:.0%}", "preferred to the input"], cells, console)
    console.print(f"{found.pairs} choices, {found.ties} without a preference", highlight=False)
    if found.regularised:
        console.print(
            "some models always won or always lost: how far apart they are is a guess yet",
            highlight=False,
        )


def _model(label: str) -> str:
    """The model's name, without the folder that tells two of one name apart."""
    return label.partition(" (")[0]


def mean_gain(results: Mapping[str, Any]) -> float:
    """Mean over the tracks of the last model's gain in PSNR (dB); 0 where there is only ``input``.

    ``sr`` is one track, whose gain is the mean over its scales. ``sharp`` does not count: there is nothing to
    gain.
    """
    tracks = results["models"][list(results["models"])[-1]]["tracks"]
    gains = defaultdict(list)
    for column, figures in tracks.items():
        # "sr x2" is a scale of sr
        track, _, _ = column.partition(" ")
        if track != SHARP:
            gains[track].append(figures["gain_psnr"])
    return fmean(fmean(ones) for ones in gains.values()) if gains else 0.0


def _track_cell(figures: Mapping[str, Any] | None, track: str) -> str:
    if figures is None:
        return "-"
    gain = figures.get("gain_psnr")
    if gain is None or track == SHARP:
        return decibels(figures["psnr"])
    return f"{decibels(figures['psnr'])} ({_signed(gain, 2)})"


def harmed_share(conditions: Mapping[str, Mapping[str, Any]]) -> float | None:
    """Share of results worse than the input, over all images and conditions but ``sharp`` and ``sr``."""
    counted = [
        (figures["harmed_share"], figures["images"])
        for condition, figures in conditions.items()
        if condition.partition("/")[0] not in (SHARP, "sr")
    ]
    images = sum(count for _, count in counted)
    return sum(share * count for share, count in counted) / images if images else None


def _harm(conditions: Mapping[str, Mapping[str, Any]]) -> str:
    share = harmed_share(conditions)
    return "-" if share is None else f"{share:.0%}"


def _signed(value: float, digits: int = 3) -> str:
    return f"{value:+.{digits}f}"


def _print(columns: Sequence[str], rows: Sequence[Sequence[str]], console: Console) -> None:
    table = Table()
    for column in columns:
        table.add_column(column, justify="left" if column == columns[0] else "right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    console.print(table)
