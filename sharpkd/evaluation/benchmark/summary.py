"""From one row an image to the figures of a table: means, gains over the input, harm done."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from sharpkd.evaluation.rows import INPUT, Row
from sharpkd.evaluation.statistics import percentile

SHARP = "sharp"
"""The track whose input is the truth: what counts there is to leave it alone."""
HARMLESS_DB = 40.0
SR = "sr"
"""The track that is told apart by scale: a net enlarges so many times and is measured on nothing else."""
METRICS = ("psnr", "ssim", "psnr_y", "lpips")
GAINS = ("psnr", "ssim", "lpips")
GROUPS = ("tracks", "conditions", "sets", "domains")
"""What a model's entry holds beside its facts."""

Figures = dict[str, float | int | None]


@dataclass(frozen=True)
class _Measured:
    """A row and the input's on the same image under the same condition."""

    row: Row
    before: Row

    @property
    def image(self) -> tuple[str, str]:
        return self.row.set, self.row.image

    @property
    def loss_db(self) -> float:
        """How far the output is below the input; 0 where it is not."""
        return max(0.0, self.before.psnr - self.row.psnr)


def summarise(rows: Sequence[Row], facts: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Every figure of the benchmark, from its rows.

    Args:
        rows: in the order in which tracks, conditions, sets and models are to be listed; the model
            ``input`` has one for every image and condition.
        facts: further entries of each model (parameters, hash, ...); the models' order follows it.

    Returns:
        ``{"models": {name: {**facts, "tracks": {track: F}, "conditions": {condition: F},
        "sets": {condition: {set: F}}, "domains": {track: {domain: F}}}}}``, where the track is that of
        :func:`track_of` and the figures F are

        - ``images``: how many different ones.
        - ``psnr`` ``ssim`` ``psnr_y`` ``lpips``: means per image (dB, 0 to 1, dB, lower is better); of a
          track, the mean over its conditions. None where no image has the value.
        - ``gain_psnr`` ``gain_ssim`` ``gain_lpips``: mean difference to the input, image by image; negative
          is better for LPIPS alone. None on ``sharp``, where the input is the truth.
        - ``harmed_share``: of all pairs of image and condition, the share with a PSNR below the input's;
          ``harm_p95_db``: 95th percentile of that loss over all pairs, 0 where nothing is lost. None on
          ``sharp``.
        - ``share_under_40``: on ``sharp``, the share of images with less than 40 dB to the input; else None.

    Raises:
        ValueError: a row has no ``input`` beside it, or there are two for one test; names it.
    """
    measured = _measured(rows)
    models = [name for name in dict.fromkeys([*facts, *measured]) if name != INPUT]
    if INPUT in facts or INPUT in measured:
        models.insert(0, INPUT)
    return {"models": {name: {**facts.get(name, {}), **_tables(measured.get(name, []))} for name in models}}


def track_of(row: Row) -> str:
    """What a row's figures are listed under: the track; of ``sr`` a scale, such as ``sr x2``.

    All models in one column have then met the same conditions.
    """
    scale = row.condition.partition("/")[2]
    return f"{SR} x{scale}" if row.track == SR and scale else row.track


def flatten(summary: Mapping[str, Any]) -> dict[str, float]:
    """What a dashboard compares: ``model/track/figure`` for every figure of every track that has a value."""
    return {
        f"{model}/{track}/{name}": value
        for model, entry in summary["models"].items()
        for track, figures in entry["tracks"].items()
        for name, value in figures.items()
        if value is not None
    }


def _measured(rows: Iterable[Row]) -> dict[str, list[_Measured]]:
    by_model: dict[str, dict[tuple[str, str, str], Row]] = defaultdict(dict)
    for row in rows:
        key = row.set, row.image, row.condition
        if key in by_model[row.model]:
            raise ValueError(f"there are two rows of {_name(row)}; expected one")
        by_model[row.model][key] = row
    inputs = by_model.get(INPUT, {})
    for model_rows in by_model.values():
        for key, row in model_rows.items():
            if key not in inputs:
                raise ValueError(
                    f"there is a row of {_name(row)} and none of {INPUT!r}: every gain is measured against it"
                )
    return {
        model: [_Measured(row, inputs[key]) for key, row in model_rows.items()]
        for model, model_rows in by_model.items()
    }


def _name(row: Row) -> str:
    return f"{row.model!r} on {row.set}/{row.image}, {row.condition}"


def _tables(measured: Sequence[_Measured]) -> dict[str, Any]:
    conditions = _grouped(measured, lambda one: one.row.condition)
    tracks = _grouped(measured, lambda one: track_of(one.row))
    return {
        "tracks": {track: _over_conditions(ones) for track, ones in tracks.items()},
        "conditions": {condition: _figures(ones) for condition, ones in conditions.items()},
        "sets": {
            condition: {
                name: _figures(some) for name, some in _grouped(ones, lambda one: one.row.set).items()
            }
            for condition, ones in conditions.items()
        },
        "domains": {
            track: {
                domain: _over_conditions(some)
                for domain, some in _grouped(ones, lambda one: one.row.domain).items()
                if domain
            }
            for track, ones in tracks.items()
        },
    }


def _grouped(measured: Iterable[_Measured], key: Callable[[_Measured], str]) -> dict[str, list[_Measured]]:
    groups: dict[str, list[_Measured]] = defaultdict(list)
    for one in measured:
        groups[key(one)].append(one)
    return dict(groups)


def _over_conditions(measured: Sequence[_Measured]) -> Figures:
    """Means over the conditions' means; harm over all pairs."""
    parts = [_figures(ones) for ones in _grouped(measured, lambda one: one.row.condition).values()]
    means = {name: _mean(part[name] for part in parts) for name in parts[0] if _is_mean(name)}
    return {"images": _images(measured), **means, **_harm(measured)}


def _is_mean(name: str) -> bool:
    return name in METRICS or name.startswith("gain_")


def _figures(measured: Sequence[_Measured]) -> Figures:
    figures: Figures = {"images": _images(measured)}
    for name in METRICS:
        figures[name] = _mean(getattr(one.row, name) for one in measured)
    for name in GAINS:
        figures[f"gain_{name}"] = _mean(
            _difference(getattr(one.row, name), getattr(one.before, name))
            for one in measured
            if not _sharp(one)
        )
    return figures | _harm(measured)


def _harm(measured: Sequence[_Measured]) -> Figures:
    losses = [one.loss_db for one in measured if not _sharp(one)]
    untouched = [float(one.row.psnr < HARMLESS_DB) for one in measured if _sharp(one)]
    return {
        "harmed_share": _mean(float(loss > 0) for loss in losses),
        "harm_p95_db": percentile(losses, 95) if losses else None,
        "share_under_40": _mean(untouched),
    }


def _images(measured: Iterable[_Measured]) -> int:
    return len({one.image for one in measured})


def _sharp(one: _Measured) -> bool:
    return one.row.track == SHARP


def _difference(after: float | None, before: float | None) -> float | None:
    return None if after is None or before is None else after - before


def _mean(values: Iterable[float | int | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None
