"""A sweep on one page: ``sweep.csv`` for programs, ``sweep.html`` for people.

The page is one file and needs no network: plotly.js, data and thumbnails are inside.
"""

from __future__ import annotations

import base64
import csv
import html
import io
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import quote

from PIL import Image

from sharpkd.evaluation.pages.page import fill, plotly_script, replace_file, script_json, thinned
from sharpkd.evaluation.sweeps.jobs import (
    LPIPS,
    ORDER,
    Job,
    Value,
    rank_jobs,
    read_jobs,
    read_series,
    same_for_all,
    shown_first,
    with_backbone,
)

__all__ = ["write_sweep_report"]

CURVE_POINTS = 200_000
POINTS_PER_CURVE = (30, 400)
THUMBNAIL_BYTES = 1_500_000
THUMBNAIL_STEPS = ((1600, 88), (1400, 80), (1100, 75), (800, 70), (500, 60))
MANY_VALUES = 12


def write_sweep_report(
    sweep_dir: str | Path, metric: str = "val/psnr", mode: str = "max", ended: bool = False
) -> Path:
    """Collect a sweep's jobs into ``sweep.csv`` and ``sweep.html`` in its folder, best first.

    Args:
        sweep_dir: folder of the sweep; each job's folder below it holds ``status.json`` and, where the job
            got that far, ``logs/metrics.csv`` and ``images/*.png``.
        metric: what the jobs are ranked by.
        mode: "max" where more of it is better, "min" where less is.
        ended: no job is running any more: one that says so died.

    Returns:
        The path of ``sweep.html``, below 15 MB. Both files are replaced at once, never half written.

    Raises:
        FileNotFoundError: no such folder. ValueError: no job in it, or an unknown ``mode``.
    """
    folder = Path(sweep_dir)
    if mode not in ("max", "min"):
        raise ValueError(f"mode is {mode!r}, expected max or min")
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such sweep folder")
    jobs = rank_jobs(read_jobs(folder, ended), metric, mode)
    if not jobs:
        raise ValueError(f"{folder} holds no job: expected folders with a status.json")
    replace_file(folder / "sweep.csv", _csv(jobs, metric))
    page = folder / "sweep.html"
    replace_file(page, _page(folder, *_with_backbone(jobs, metric), mode))
    return page


def _with_backbone(jobs: Sequence[Job], metric: str) -> tuple[list[Job], str]:
    """The jobs and the monitored metric as people read them: LPIPS with its backbone, if there is but one."""
    names = {with_backbone(LPIPS, job.folder) for job in jobs if LPIPS in job.metrics}
    lpips = names.pop() if len(names) == 1 else LPIPS

    def shown(name: str) -> str:
        return lpips if name == LPIPS else name

    renamed = [replace(job, metrics={shown(key): job.metrics[key] for key in job.metrics}) for job in jobs]
    return renamed, shown(metric)


def _csv(jobs: Sequence[Job], metric: str) -> str:
    overrides = list(dict.fromkeys(key for job in jobs for key in job.overrides))
    metrics = shown_first((name for job in jobs for name in job.metrics), metric)
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["rank", "job", "state", *overrides, *metrics, "error"])
    for rank, job in enumerate(jobs, start=1):
        settings = [_exact(job.overrides.get(key)) for key in overrides]
        numbers = [job.metrics.get(name, "") for name in metrics]
        writer.writerow([rank, job.name, job.state, *settings, *numbers, job.error])
    return buffer.getvalue()


def _exact(value: Value | None) -> str:
    if value is None:
        return ""
    whole = isinstance(value, float) and value.is_integer() and abs(value) < 1e15
    return str(int(value) if whole else value)


def _short(value: Value | None) -> str:
    """At most five digits: what a table cell shows."""
    if not isinstance(value, float | int):
        return value or ""
    if math.isfinite(value) and value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:,.0f}" if math.isfinite(value) and abs(value) >= 1e4 else f"{value:.5g}"


def _page(folder: Path, jobs: Sequence[Job], metric: str, mode: str) -> str:
    settings = list(dict.fromkeys(key for job in jobs for key in job.overrides))
    swept = [key for key in settings if not same_for_all([job.overrides.get(key) for job in jobs])]
    names = shown_first((name for job in jobs for name in job.metrics), metric)
    done = [job for job in jobs if job.state == "finished"]
    columns = [n for n in names if n == metric or not same_for_all([job.metrics.get(n) for job in done])]
    constant: dict[str, Value] = {key: jobs[0].overrides[key] for key in settings if key not in swept}
    constant |= {name: jobs[0].metrics[name] for name in names if name not in columns}
    counts = Counter(job.state for job in jobs)
    parts = {
        "title": html.escape(folder.name.replace(",", ", ")),
        "summary": _summary(jobs, counts, metric, mode),
        "constant": _constants(constant),
        "cards": _cards(jobs, swept, metric),
        "table": _table(jobs, swept, columns, metric, mode),
        "pictures": _pictures(folder, jobs, metric),
        "data": _data(jobs, swept, metric, mode),
        "plotly": plotly_script(),
    }
    return fill("sweeps/page.html", parts)


def _summary(jobs: Sequence[Job], counts: Counter[str], metric: str, mode: str) -> str:
    states = ", ".join(f"{counts[state]} {state}" for state in ORDER if counts[state])
    noun = "job" if len(jobs) == 1 else "jobs"
    better = "higher" if mode == "max" else "lower"
    return f"{len(jobs)} {noun}: {states}. Ranked by <code>{html.escape(metric)}</code>, {better} is better."


def _constants(constant: dict[str, Value]) -> str:
    if not constant:
        return ""
    listed = " ".join(
        f"<code>{html.escape(name)}={html.escape(_short(value))}</code>" for name, value in constant.items()
    )
    return f'<p class="constant"><span>The same for every job</span> {listed}</p>'


def _scored(jobs: Sequence[Job]) -> list[Job]:
    return [job for job in jobs if job.state == "finished" and job.score is not None]


def _cards(jobs: Sequence[Job], swept: Sequence[str], metric: str) -> str:
    scored = _scored(jobs)
    if not scored:
        return f'<p class="empty">No finished job has reported <code>{html.escape(metric)}</code> yet.</p>'
    cards = [("Best", scored[0])]
    if len(scored) > 1:
        cards.append(("Worst", scored[-1]))
    shown = "".join(
        f'<div class="card {title.lower()}"><span class="label">{title}</span>'
        f'<span class="figure">{_short(job.score)}</span>{_chips(job, swept)}</div>'
        for title, job in cards
    )
    if len(scored) > 1 and scored[0].score is not None and scored[-1].score is not None:
        spread = abs(scored[0].score - scored[-1].score)
        shown += (
            '<div class="card"><span class="label">Best to worst</span>'
            f'<span class="figure">{spread:.3g}</span><span class="note">in {html.escape(metric)}, '
            f"over {len(scored)} finished jobs</span></div>"
        )
    return f'<div class="cards">{shown}</div>'


def _chips(job: Job, swept: Sequence[str]) -> str:
    chips = [
        f"<li><code>{html.escape(key)}</code> <b>{html.escape(_short(job.overrides[key]))}</b></li>"
        for key in swept
        if key in job.overrides
    ]
    return f'<ul class="chips">{"".join(chips)}</ul>' if chips else ""


def _table(jobs: Sequence[Job], swept: Sequence[str], metrics: Sequence[str], metric: str, mode: str) -> str:
    # What is compared comes first: a phone shows three columns
    others = [name for name in metrics if name != metric]
    has_error = any(job.error for job in jobs)
    titles = ["rank", "state", metric, *swept, *(["error"] if has_error else []), *others, "folder"]
    head = ""
    for title in titles:
        first = "descending" if title == metric and mode == "max" else "ascending"
        kind = ' class="monitored"' if title == metric else ""
        sort = ' aria-sort="ascending"' if title == "rank" else ""
        button = f'<button type="button" data-first="{first}">{html.escape(title)}</button>'
        head += f'<th scope="col"{kind}{sort}>{button}</th>'
    scores = [job.score for job in jobs if job.score is not None]
    body = ""
    for rank, job in enumerate(jobs, start=1):
        name, link = html.escape(job.name), quote(job.name)
        cells = [
            _cell(rank, "number"),
            f'<td data-value="{job.state}"><span class="state {job.state}">{job.state}</span></td>',
            _score_cell(job, metric, scores),
            *(_cell(job.overrides.get(key)) for key in swept),
            *([_error_cell(job.error)] if has_error else []),
            *(_cell(job.metrics.get(other), "number") for other in others),
            f'<td class="job" data-value="{name}"><a href="{link}/" title="{name}">{name}</a></td>',
        ]
        body += f'<tr data-job="{rank - 1}">{"".join(cells)}</tr>\n'
    return f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody>"


def _cell(value: Value | None, kind: str = "") -> str:
    kind = kind or ("number" if isinstance(value, float) else "")
    exact = "" if value is None or value != value else html.escape(str(value))
    return f'<td class="{kind}" data-value="{exact}">{html.escape(_short(value))}</td>'


def _score_cell(job: Job, metric: str, scores: Sequence[float]) -> str:
    cell = _cell(job.metrics.get(metric), "number")
    if job.score is None or min(scores) == max(scores):
        return cell
    share = (job.score - min(scores)) / (max(scores) - min(scores))
    return cell.replace('class="number"', f'class="number monitored" style="--share:{share:.3f}"')


def _error_cell(error: str) -> str:
    first, _, rest = error.strip().partition("\n")
    escaped = html.escape(first)
    if not rest and len(first) <= 90:
        return f'<td class="error" data-value="{escaped}">{escaped}</td>'
    whole = html.escape(error.strip())
    return (
        f'<td class="error" data-value="{escaped}"><details><summary>{html.escape(first[:90])}</summary>'
        f"<pre>{whole}</pre></details></td>"
    )


def _pictures(folder: Path, jobs: Sequence[Job], metric: str) -> str:
    scored = _scored(jobs)
    wanted = [("Best", scored[0])] if scored else []
    wanted += [("Worst", scored[-1])] if len(scored) > 1 else []
    figures = ""
    for title, job in wanted:
        grids = sorted((job.folder / "images").glob("*.png"))
        if not grids:
            continue
        target = quote(grids[-1].relative_to(folder).as_posix())
        caption = f"<b>{title}</b> {html.escape(metric)} {_short(job.score)} "
        caption += f"<span>{html.escape(job.name)}</span>"
        alt = f"Last image grid of the {title.lower()} job, {job.name}"
        figures += (
            f'<figure><figcaption>{caption}</figcaption><a href="{target}"><img loading="lazy" '
            f'alt="{html.escape(alt)}" src="data:image/jpeg;base64,{_thumbnail(grids[-1])}"></a></figure>'
        )
    if not figures:
        return ""
    return (
        f'<section id="pictures"><h2>What it looks like</h2><div class="pictures">{figures}</div></section>'
    )


def _thumbnail(path: Path) -> str:
    with Image.open(path) as image:
        whole = image.convert("RGB")
    encoded = b""
    for side, quality in THUMBNAIL_STEPS:
        small = whole.copy()
        small.thumbnail((side, side), Image.Resampling.LANCZOS)
        buffer = io.BytesIO()
        small.save(buffer, "JPEG", quality=quality, optimize=True)
        encoded = buffer.getvalue()
        if len(encoded) <= THUMBNAIL_BYTES:
            break
    return base64.b64encode(encoded).decode("ascii")


def _data(jobs: Sequence[Job], swept: Sequence[str], metric: str, mode: str) -> str:
    series = [read_series(job.folder / "logs" / "metrics.csv") for job in jobs]
    names = shown_first((name for one in series for name in one), metric)
    count = sum(len(one) for one in series)
    low, high = POINTS_PER_CURVE
    points = min(high, max(low, CURVE_POINTS // max(1, count)))
    data: dict[str, Any] = {
        "metric": metric,
        "mode": mode,
        "jobs": [{"name": job.name, "state": job.state, "score": job.score} for job in jobs],
        "params": [_axis(key, jobs) for key in swept],
        "curves": {
            name: [{"job": i, **thinned(*one[name], points)} for i, one in enumerate(series) if name in one]
            for name in names
        },
    }
    return script_json(data)


def _axis(key: str, jobs: Sequence[Job]) -> dict[str, Any]:
    """A swept setting and the axis that shows it best: evenly spaced names, linear, or logarithmic."""
    values = [job.overrides.get(key) for job in jobs]
    given = {value for value in values if value is not None}
    numbers = sorted(value for value in given if isinstance(value, float))
    kind = "linear"
    if len(numbers) < len(given):
        kind = "category"
    elif _crowded(numbers):
        kind = "log" if numbers[0] > 0 else "category" if len(numbers) <= MANY_VALUES else "linear"
    order = [_short(value) for value in numbers] + sorted(value for value in given if isinstance(value, str))
    shown: list[Any] = [value if kind != "category" or value is None else _short(value) for value in values]
    lined = len(given) <= MANY_VALUES
    return {"key": key, "kind": kind, "values": shown, "order": order, "lined": lined}


def _crowded(numbers: Sequence[float]) -> bool:
    """Whether a linear axis would lay some of these sorted values on top of each other: 0, 0.01, 1."""
    if len(numbers) > MANY_VALUES:
        return 0 < 20 * numbers[0] < numbers[-1]
    gaps = [high - low for low, high in pairwise(numbers)]
    return bool(gaps) and min(gaps) < sum(gaps) / len(gaps) / 4
