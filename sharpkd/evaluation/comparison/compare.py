"""Finished evaluations lined up: paired image by image, with the interval of each mean difference."""

from __future__ import annotations

import csv
import html
import io
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from statistics import fmean
from typing import Any

from sharpkd.evaluation.baselines import BASELINES
from sharpkd.evaluation.benchmark.summary import METRICS, SHARP, track_of
from sharpkd.evaluation.comparison.finished import (
    Contestant,
    Finished,
    Result,
    Test,
    contestants_of,
    read_finished,
)
from sharpkd.evaluation.pages.page import fill, replace_file, script_json
from sharpkd.evaluation.rows import INPUT, lpips_name
from sharpkd.evaluation.statistics import MeanInterval, mean_interval
from sharpkd.functional.psnr import PSNR_CAP

# The same bytes measured on two machines differ by less; another degradation or image by far more
SAME_INPUT_DB = 1e-3
COLUMNS = (
    "first", "second", "track", "condition", "metric", "first_mean", "second_mean",
    "difference", "low", "high", "images", "only_first", "only_second", "other_input",
)  # fmt: skip
NAMED = 10


@dataclass(frozen=True)
class Difference:
    """Two contestants on the tests that both have taken.

    Attributes:
        first: a contestant's label, or ``input``.
        second: another's.
        track: that the tests are from; of ``sr`` a scale, such as ``sr x2``.
        condition: likewise; empty for all of the track's.
        metric: ``psnr``, ``ssim``, ``psnr_y`` (higher is better) or LPIPS (lower is better), which has its
            backbone's name with it: ``lpips-squeeze``.
        first_mean: of the shared images.
        second_mean: likewise.
        interval: second minus first. Its values are one an image: where a track has several conditions, an
            image's differences are averaged first, because they are not independent.
        only_first: tests (an image under a condition) that the second has not taken.
        only_second: tests that the first has not taken.
        other_input: tests of both that are left out because their inputs differ.
    """

    first: str
    second: str
    track: str
    condition: str
    metric: str
    first_mean: float
    second_mean: float
    interval: MeanInterval
    only_first: int
    only_second: int
    other_input: int

    def row(self) -> tuple[str | float | int | None, ...]:
        """The cells under :data:`COLUMNS`."""
        found = self.interval
        return (
            self.first, self.second, self.track, self.condition, self.metric, self.first_mean,
            self.second_mean, found.mean, found.low, found.high, found.n, self.only_first, self.only_second,
            self.other_input,
        )  # fmt: skip


@dataclass(frozen=True)
class ComparedFolders:
    """What :func:`compare_folders` found.

    Attributes:
        contestants: labels, in the order of the folders.
        differences: of every two contestants, the later minus the earlier, and of each to ``input`` (not on
            ``sharp``, where the input is the truth).
        notes: what could not be compared, and what is the same everywhere.
        page: ``comparison.html``.
    """

    contestants: list[str]
    differences: list[Difference]
    notes: list[str]
    page: Path

    def rows(self) -> list[tuple[str | float | int | None, ...]]:
        """One a difference, under :data:`COLUMNS`; what a dashboard's table shows."""
        return [difference.row() for difference in self.differences]


def compare_folders(folders: Sequence[str | Path], out_dir: Path) -> ComparedFolders:
    """Line up finished evaluations; write ``comparison.csv`` and ``comparison.html`` into ``out_dir``.

    Tests are paired by set, image and condition; those whose inputs have another PSNR are not the same test
    and left out. LPIPS of different or unknown backbones is not compared. Images that are not in every
    evaluation are counted, named in the notes, and all listed in ``unpaired.csv``.

    Args:
        folders: written by ``python -m sharpkd.evaluate``, on SharpBench or on a folder of images.
        out_dir: created; files in it are replaced.

    Raises:
        ValueError: no folder, one given twice, no model in them, no test in common, or an unreadable file.
        FileNotFoundError: a folder without ``per_image.csv``.
    """
    finished = read_finished(folders)
    contestants = contestants_of(finished)
    if not contestants:
        raise ValueError(f"{finished[0].path} holds no model but {INPUT!r}: there is nothing to compare")
    differences = [found for one in contestants for found in _differences(_inputs_of(one), one)]
    between = [found for pair in combinations(contestants, 2) for found in _differences(*pair)]
    if len(finished) > 1 and not _linked(contestants, between):
        raise ValueError(_nothing_shared(finished))
    differences += between
    if not differences:
        raise ValueError(
            f"{finished[0].path} holds one model, on {SHARP!r} alone: there is nothing to compare"
        )
    unpaired = _unpaired(finished)
    notes = [*_same_notes(finished, contestants), *_unpaired_notes(unpaired), *_difference_notes(contestants)]
    out_dir.mkdir(parents=True, exist_ok=True)
    replace_file(out_dir / "comparison.csv", _csv(COLUMNS, [found.row() for found in differences]))
    if unpaired:
        lines = [(label, *image) for label, images in unpaired.items() for image in images]
        replace_file(out_dir / "unpaired.csv", _csv(("only_in", "set", "image"), lines))
    else:
        (out_dir / "unpaired.csv").unlink(missing_ok=True)
    page = out_dir / "comparison.html"
    replace_file(page, _page(finished, contestants, differences, notes))
    return ComparedFolders([one.label for one in contestants], differences, notes, page)


def _linked(contestants: Sequence[Contestant], between: Sequence[Difference]) -> bool:
    """Whether anything was compared across evaluations."""
    folders = {one.label: set(one.folders) for one in contestants}
    across = any(not folders[found.first] & folders[found.second] for found in between)
    return across or any(len(one) > 1 for one in folders.values())


def _inputs_of(one: Contestant) -> Contestant:
    """The input as this contestant's own evaluation saw it; not where it is the truth."""
    before = {
        test: Result(result.before, result.before)
        for test, result in one.results.items()
        if result.row.track != SHARP
    }
    return Contestant(INPUT, INPUT, one.folders, before, one.lpips)


def _differences(first: Contestant, second: Contestant) -> list[Difference]:
    scopes: dict[tuple[str, str], list[Test]] = defaultdict(list)
    for test, result in {**first.results, **second.results}.items():
        track = track_of(result.row)
        scopes[track, ""].append(test)
        scopes[track, result.row.condition].append(test)
    conditions: dict[str, int] = defaultdict(int)
    for track, condition in scopes:
        conditions[track] += bool(condition)
    found = []
    for (track, condition), tests in scopes.items():
        # a track's only condition says no more than the track
        if not condition or conditions[track] > 1:
            found += _on(first, second, track, condition, tests)
    return found


def _on(
    first: Contestant, second: Contestant, track: str, condition: str, tests: Sequence[Test]
) -> list[Difference]:
    shared = [test for test in tests if test in first.results and test in second.results]
    same = [test for test in shared if _same_input(first.results[test], second.results[test])]
    only_first = sum(test not in second.results for test in tests)
    only_second = sum(test not in first.results for test in tests)
    found = []
    for metric in METRICS:
        if metric != "lpips":
            name = metric
        elif first.lpips is not None and first.lpips == second.lpips:
            name = lpips_name(first.lpips)
        else:
            continue
        values: dict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)
        for test in same:
            pair = [getattr(one.results[test].row, metric) for one in (first, second)]
            if None not in pair:
                values[test[:2]].append((pair[0], pair[1]))
        if not values:
            continue
        before, after = (
            [fmean(pair[which] for pair in pairs) for pairs in values.values()] for which in (0, 1)
        )
        interval = mean_interval(b - a for a, b in zip(before, after, strict=True))
        means = fmean(before), fmean(after)
        left_out = only_first, only_second, len(shared) - len(same)
        found.append(
            Difference(first.label, second.label, track, condition, name, *means, interval, *left_out)
        )
    return found


def _same_input(first: Result, second: Result) -> bool:
    return abs(first.before.psnr - second.before.psnr) <= SAME_INPUT_DB


def _unpaired(finished: Sequence[Finished]) -> dict[str, list[tuple[str, str]]]:
    """Images that some other evaluation lacks, by the label of the one that has them."""
    everywhere = set(finished[0].images).intersection(*(one.images for one in finished))
    alone = {one.label: [image for image in one.images if image not in everywhere] for one in finished}
    return {label: images for label, images in alone.items() if images}


def _unpaired_notes(unpaired: dict[str, list[tuple[str, str]]]) -> list[str]:
    return [
        f"{_count(len(images), 'image', label)} not in every evaluation: "
        f"{_listed('/'.join(image) for image in images)}"
        for label, images in unpaired.items()
    ]


def _same_notes(finished: Sequence[Finished], contestants: Sequence[Contestant]) -> list[str]:
    shared = [one.label for one in contestants if len(one.folders) > 1]
    if not shared:
        return []
    return [f"the same numbers in several evaluations, shown once: {', '.join(shared)}"]


def _difference_notes(contestants: Sequence[Contestant]) -> list[str]:
    notes = []
    for first, second in combinations(contestants, 2):
        shared = [test for test in first.results if test in second.results]
        other = [test for test in shared if not _same_input(first.results[test], second.results[test])]
        if other:
            name, image, condition = other[0]
            one, two = (which.results[other[0]].before.psnr for which in (first, second))
            both = f"{first.label} and {second.label}"
            notes.append(
                f"{_count(len(other), 'test', both)} left out, because "
                f"the input was another one: {name}/{image}, {condition}, had {one:.2f} and {two:.2f} dB"
            )
    return [*notes, *_lpips_notes(contestants)]


def _lpips_notes(contestants: Sequence[Contestant]) -> list[str]:
    with_lpips = [one for one in contestants if _has_lpips(one)]
    backbones: dict[str, list[str]] = {}
    for one in with_lpips:
        backbones.setdefault(one.lpips or "", []).append(one.label)
    nameless = backbones.pop("", [])
    notes = []
    if len(backbones) > 1:
        listed = "; ".join(f"{lpips_name(name)}: {_listed(backbones[name])}" for name in sorted(backbones))
        notes.append(f"LPIPS is compared only where its backbone is the same; here are {listed}")
    if nameless:
        notes.append(f"LPIPS is left out where no metrics.json names its backbone: {_listed(nameless)}")
    return notes


def _has_lpips(one: Contestant) -> bool:
    return any(result.row.lpips is not None for result in one.results.values())


def _nothing_shared(finished: Sequence[Finished]) -> str:
    listed = []
    for one in finished:
        tests = one.models[INPUT]
        sets, conditions = (_listed(dict.fromkeys(test[at] for test in tests)) for at in (0, 2))
        listed.append(f"{one.label} has {sets} under {conditions}")
    return f"no two models were measured on the same input: {'; '.join(listed)}"


def _listed(names: Iterable[str]) -> str:
    all_names = list(names)
    rest = len(all_names) - NAMED
    return ", ".join(all_names[:NAMED]) + (f" and {rest} more" if rest > 0 else "")


def _count(number: int, noun: str, of: str) -> str:
    return f"1 {noun} of {of} is" if number == 1 else f"{number} {noun}s of {of} are"


def _csv(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return buffer.getvalue()


def _page(
    finished: Sequence[Finished],
    contestants: Sequence[Contestant],
    differences: Sequence[Difference],
    notes: Sequence[str],
) -> str:
    everywhere = tuple(one.label for one in finished)
    own = [one.label for one in contestants if one.folders != everywhere and one.model not in BASELINES]
    data = {
        "contestants": [INPUT, *(one.label for one in contestants)],
        "reference": own[0] if len(own) > 1 else INPUT,
        "columns": COLUMNS,
        "cap": PSNR_CAP,
        "differences": [found.row() for found in differences],
    }
    folders = [
        f"<li><b>{html.escape(one.label)}</b> <code>{html.escape(str(one.path))}</code></li>"
        for one in finished
    ]
    parts = {
        "title": html.escape(
            " and ".join(everywhere) if len(everywhere) < 3 else f"{len(everywhere)} evaluations"
        ),
        "folders": "".join(folders),
        "notes": "".join(f"<li>{html.escape(note[0].upper() + note[1:])}.</li>" for note in notes),
        "data": script_json(data),
    }
    return fill("comparison/page.html", parts)
