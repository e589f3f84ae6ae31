"""Tells the loggers of an evaluation what it found: the same figures as in its files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sharpkd.config import instantiate
from sharpkd.evaluation.benchmark.summary import METRICS, flatten
from sharpkd.evaluation.comparison.compare import COLUMNS, ComparedFolders
from sharpkd.evaluation.rows import META, lpips_name

if TYPE_CHECKING:  # loggers bring Lightning: only for those who asked for one
    from sharpkd.loggers.base import RunLogger

TRACK_COLUMNS = ("model", "track")


def publish_summary(loggers: Mapping[str, Any] | None, summary: Mapping[str, Any]) -> None:
    """Send what :func:`sharpkd.evaluation.benchmark.summary.summarise` made.

    Args:
        loggers: the ``logger`` group of the configuration; nothing happens without one.
        summary: ``{"models": ...}``; its figures become ``model/track/figure`` and the table ``tracks``, with
            one row for each model and track. LPIPS has its backbone's name with it, where ``_meta`` tells.
    """
    meta = summary.get(META, {})
    names = list(dict.fromkeys(name for _, _, figures in _tracks(summary) for name in figures))
    rows = [
        [model, track, *(figures.get(name) for name in names)] for model, track, figures in _tracks(summary)
    ]
    flat = {_named(key, meta): value for key, value in flatten(summary).items()}
    columns = [*TRACK_COLUMNS, *(_named(name, meta) for name in names)]
    _publish(loggers, flat, "tracks", columns, rows)


def publish_folder_results(loggers: Mapping[str, Any] | None, results: Mapping[str, Any]) -> None:
    """Send what an evaluation on a folder of images found: ``model/metric``, and the table ``models``.

    Args:
        loggers: as for :func:`publish_summary`.
        results: of :func:`sharpkd.evaluation.folder.evaluation.evaluate_folder`.
    """
    meta = results.get(META, {})
    models = {name: entry for name, entry in results.items() if name != META}
    names = [*METRICS, "ssim_y", "parameters", "macs_per_pixel", "ms_per_image"]
    flat = {
        f"{model}/{_named(name, meta)}": entry[name]
        for model, entry in models.items()
        for name in names
        if entry.get(name) is not None
    }
    rows = [[model, *(entry.get(name) for name in names)] for model, entry in models.items()]
    _publish(loggers, flat, "models", ["model", *(_named(name, meta) for name in names)], rows)


def publish_comparison(loggers: Mapping[str, Any] | None, compared: ComparedFolders) -> None:
    """Send a comparison: ``second - first/track/metric`` (mean difference), and the table ``comparison``.

    Args:
        loggers: as for :func:`publish_summary`.
        compared: finished evaluations, lined up.
    """
    flat = {
        f"{found.second} - {found.first}/{found.track}/{found.metric}": found.interval.mean
        for found in compared.differences
        if not found.condition
    }
    _publish(loggers, flat, "comparison", COLUMNS, compared.rows())


def _named(key: str, meta: Mapping[str, Any]) -> str:
    """The key of a figure; of LPIPS, of this backbone's LPIPS: dashboards lay runs beside each other."""
    rest = key.removesuffix("lpips")
    return key if rest == key else rest + lpips_name(meta.get("lpips"))


def _tracks(summary: Mapping[str, Any]) -> list[tuple[str, str, Mapping[str, Any]]]:
    return [
        (model, track, figures)
        for model, entry in summary["models"].items()
        for track, figures in entry["tracks"].items()
    ]


def _publish(
    loggers: Mapping[str, Any] | None,
    figures: Mapping[str, float],
    title: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[Any]],
) -> None:
    for config in (loggers or {}).values():
        if config is None:
            continue
        logger: RunLogger = instantiate(config)
        exit_code = 1
        try:
            logger.log_summary(figures)
            logger.log_table(title, columns, rows)
            exit_code = 0
        finally:
            logger.finish(exit_code)
