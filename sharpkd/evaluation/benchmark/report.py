"""SharpBench's report: one HTML file that needs no network, with every figure and the worst pictures."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sharpkd.evaluation.baselines import BASELINES, looks_at_the_truth
from sharpkd.evaluation.benchmark.example_pictures import show_examples
from sharpkd.evaluation.benchmark.summary import GROUPS, SHARP, track_of
from sharpkd.evaluation.pages.examples import Example
from sharpkd.evaluation.pages.page import asset, fill, plotly_script, replace_file, script_json, thinned
from sharpkd.evaluation.rows import INPUT, Row, lpips_name
from sharpkd.evaluation.sweeps.jobs import read_series, shown_first
from sharpkd.functional.psnr import PSNR_CAP

if TYPE_CHECKING:
    from sharpkd.evaluation.benchmark.edges import EdgeScore

LIMIT_BYTES = 14_500_000
"""A page of more than 15 MB is not opened from a mail or on a phone; pictures give way first."""
POINTS = 400
METRICS = ("psnr", "ssim", "lpips")
DIGITS = {"psnr": 3, "ssim": 5, "lpips": 5}
OPINIONS = re.compile(r'(<script id="opinions" type="application/json">).*?(</script>)', re.DOTALL)
SCRIPTS = ("figures.js", "tables.js", "charts.js", "pictures.js")


def write_benchmark_report(
    path: Path,
    summary: Mapping[str, Any],
    rows: Sequence[Row],
    examples: Sequence[Example],
    speed: Mapping[str, Any] | None,
    edges: Mapping[str, Sequence[EdgeScore]] | None,
    curves: Sequence[tuple[str, Path]],
    notes: Sequence[str],
) -> None:
    """Write the page, at most ``LIMIT_BYTES`` long: the last examples are left out where that is needed.

    Args:
        path: of the HTML file; its folder is created.
        summary: see :func:`sharpkd.evaluation.benchmark.summary.summarise`. From ``_meta``, where it is
            there, come ``lpips`` (the metric's name, such as ``lpips-squeeze``), ``cpu`` and ``versions``.
        rows: those that the summary was made from.
        examples: the worst case first.
        speed: see :func:`sharpkd.evaluation.speed.measure_speed`; None leaves the chart out.
        edges: of each model, its results on synthetic edges.
        curves: caption and ``metrics.csv`` of the trainings behind the models.
        notes: paragraphs of plain text at the end.

    Raises:
        ValueError: a row has no ``input`` beside it, or the summary names no model.
        FileNotFoundError: a training's file does not exist.
    """
    if not summary["models"]:
        raise ValueError("the summary names no model; expected at least 'input'")
    meta = summary.get("_meta", {})
    data: dict[str, Any] = {
        "cap": PSNR_CAP,
        "lpips": lpips_name(meta.get("lpips")),
        "models": [_model(name, entry) for name, entry in summary["models"].items()],
        "conditions": _conditions(rows),
        "speed": speed,
        "edges": {name: [vars(score) for score in scores] for name, scores in (edges or {}).items()},
        "curves": _curves(curves),
        "images": [],
        "values": {},
        "examples": [],
    }
    notes = list(notes)
    for metrics in (METRICS, METRICS[:1], ()):
        images, values = _values(rows, metrics)
        text = _page(data | {"images": images, "values": values}, rows, meta, notes)
        if len(text.encode()) <= LIMIT_BYTES:
            break
    else:
        raise ValueError(
            f"{path}: the page has {len(text.encode()):,} bytes without a picture; expected at most "
            f"{LIMIT_BYTES:,}; evaluate fewer models at once"
        )
    if metrics != METRICS:
        notes.append(
            "Some values of single images were left out to keep this page small; per_image.csv has them."
        )
    data |= {"images": images, "values": values}
    suspects = _suspects(data["models"])
    shown = show_examples(examples, rows, suspects, LIMIT_BYTES - len(text.encode()) - 2000)
    if len(shown) < len(examples):
        notes.append(
            f"The last {len(examples) - len(shown)} of {len(examples)} examples were left out to keep this "
            f"page below {LIMIT_BYTES / 1e6:g} MB."
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, _page(data | {"examples": shown}, rows, meta, notes))


def add_opinions(path: Path, opinions: Mapping[str, Any]) -> None:
    """Put people's opinions, which come after the evaluation, beside the figures of a page that is there.

    Args:
        path: a page of :func:`write_benchmark_report`; opinions that are in it already are replaced.
        opinions: see :func:`sharpkd.evaluation.rating.opinions.opinions_of`.

    Raises:
        ValueError: the page has no place for them.
    """
    text = path.read_text(encoding="utf-8")
    if not OPINIONS.search(text):
        raise ValueError(f"{path} has no place for opinions; evaluate again, then score the answers")
    shown = script_json(opinions)
    replace_file(path, OPINIONS.sub(lambda found: found[1] + shown + found[2], text, count=1))


def _page(data: Mapping[str, Any], rows: Sequence[Row], meta: Mapping[str, Any], notes: Sequence[str]) -> str:
    parts = {
        "lead": html.escape(_lead(rows, meta)),
        "css": asset("benchmark/page/page.css"),
        "data": script_json(data),
        "opinions": script_json(None),
        "plotly": plotly_script(),
        "js": "\n".join(asset(f"benchmark/page/{name}") for name in SCRIPTS),
        "notes": "\n".join(f"<p>{html.escape(note)}</p>" for note in notes),
        "notes_hidden": "" if notes else "hidden",
    }
    return fill("benchmark/page/page.html", parts)


def _lead(rows: Sequence[Row], meta: Mapping[str, Any]) -> str:
    images = len({(row.set, row.image) for row in rows})
    sets = list(dict.fromkeys(row.set for row in rows))
    conditions = len({row.condition for row in rows})
    parts = [f"{_count(images, 'image')} of {', '.join(sets)}; {_count(conditions, 'condition')}."]
    version = meta.get("versions", {}).get("sharpkd")
    parts += [f"SharpKD {version}."] if version else []
    parts += [f"Measured on {meta['cpu']}."] if meta.get("cpu") else []
    return " ".join(parts)


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _model(name: str, entry: Mapping[str, Any]) -> dict[str, Any]:
    baseline = BASELINES.get(name)
    facts = {
        key: value
        for key, value in entry.items()
        if key not in (*GROUPS, "kind") and isinstance(value, str | int | float)
    }
    if baseline is not None:
        facts["source"] = baseline.source
    return {
        "name": name,
        "kind": "input"
        if name == INPUT
        else entry.get("kind") or ("model" if baseline is None else "baseline"),
        # it knows what no user knows: the blur, or even the sharp image
        "told": baseline is not None and (baseline.told_blur or looks_at_the_truth(name)),
        "facts": facts,
        **{group: entry.get(group, {}) for group in GROUPS},
    }


def _suspects(models: Sequence[Mapping[str, Any]]) -> list[str]:
    """Whose failures are shown: the models that people bring, else the baselines."""
    baselines = [model["name"] for model in models if model["kind"] == "baseline"]
    return [model["name"] for model in models if model["kind"] not in ("baseline", "input")] or baselines


def _conditions(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Conditions by track, in the rows' order; within a track by number."""
    tracks = list(dict.fromkeys(track_of(row) for row in rows))
    named = {row.condition: track_of(row) for row in rows}
    order = sorted(named, key=lambda name: (tracks.index(named[name]), _number(name) or 0.0))
    return [{"name": name, "track": named[name], "number": _number(name)} for name in order]


def _number(condition: str) -> float | None:
    found = re.search(r"/\D*([\d.]+)$", condition)
    return float(found[1]) if found else None


def _values(rows: Sequence[Row], metrics: Sequence[str]) -> tuple[list[str], dict[str, Any]]:
    """Names of all images, and condition -> metric -> model -> for each of those that the condition has
    (``at``), the gain over the input; on ``sharp``, whose input is the truth, the value itself."""
    images = list(dict.fromkeys(f"{row.set}/{row.image}" for row in rows))
    index = {name: number for number, name in enumerate(images)}
    before = {(row.set, row.image, row.condition): row for row in rows if row.model == INPUT}
    values: dict[str, Any] = {}
    for row in rows:
        reference = before.get((row.set, row.image, row.condition))
        if reference is None:
            raise ValueError(
                f"there is a row of {row.model!r} on {row.set}/{row.image}, {row.condition} and none of "
                f"{INPUT!r}: every gain is measured against it"
            )
        if row.model == INPUT:
            continue
        table = values.setdefault(row.condition, {})
        for metric in metrics:
            value, start = getattr(row, metric), getattr(reference, metric)
            if value is None or (start is None and row.track != SHARP):
                continue
            one = table.setdefault(metric, {}).setdefault(row.model, {"at": [], "value": []})
            one["at"].append(index[f"{row.set}/{row.image}"])
            one["value"].append(round(value if row.track == SHARP else value - start, DIGITS[metric]))
    return images, values


def _curves(curves: Sequence[tuple[str, Path]]) -> dict[str, list[dict[str, Any]]]:
    """Logged quantity -> one thinned line for each training that has it."""
    read = []
    for caption, path in curves:
        if not path.is_file():
            raise FileNotFoundError(f"the training curve of {caption!r} is missing: {path}")
        read.append((caption, read_series(path)))
    names = shown_first((name for _, series in read for name in series), "val/psnr")
    return {
        name: [
            {"name": caption, **thinned(*series[name], POINTS)} for caption, series in read if name in series
        ]
        for name in names
    }
