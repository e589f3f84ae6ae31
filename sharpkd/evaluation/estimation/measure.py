"""How well blur is estimated: errors by set and condition, beside the known method, and milliseconds."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.table import Table
from torch import Tensor

from sharpkd.checkpoint import file_sha256, load_estimator, shipped_estimator
from sharpkd.data.camera import Camera
from sharpkd.data.crops import to_tensor
from sharpkd.data.degradation import degrade, name_seed
from sharpkd.data.images import check_folders, find_images, read_image
from sharpkd.estimation.reblur import reblur_sigma
from sharpkd.evaluation.console import console_of_results
from sharpkd.evaluation.estimation.fit import MEASURED_FROM, WITHIN_95
from sharpkd.evaluation.machine import machine
from sharpkd.evaluation.speed_files import write_speed
from sharpkd.evaluation.statistics import percentile
from sharpkd.metrics.latency import measure_latency

OURS = "estimator"
KNOWN = "zhuo-sim"
NOISE = "noise"


@dataclass(frozen=True)
class SigmaError:
    """One method on one set under one condition at one sigma.

    Attributes:
        set: the folder's name.
        condition: ``clean``, ``noise 2`` (8-bit levels) or ``jpeg 75`` (quality).
        sigma: true blur in pixels.
        method: ``estimator`` or ``zhuo-sim``.
        images: how many were answered.
        unanswered: how many had no edge for the method.
        median_error: of ``|estimate - sigma| / sigma``; in pixels where sigma is 0. None without answers.
        p90_error: its 90th percentile.
        bias: mean of ``(estimate - sigma) / sigma``; in pixels where sigma is 0.
        inside_95: share of the images whose sigma lies in the 95 % interval; None for a method without one.
        above_cautious: share whose sigma is at least the estimate less one standard deviation, likewise.
        noise_error: median of ``|estimate - noise|`` in 8-bit levels; None for a method without one.
    """

    set: str
    condition: str
    sigma: float
    method: str
    images: int
    unanswered: int
    median_error: float | None
    p90_error: float | None
    bias: float | None
    inside_95: float | None = None
    above_cautious: float | None = None
    noise_error: float | None = None


class EstimationAccuracy:
    """Blurs the images of some folders by known amounts, and asks for the amount.

    Every image is degraded as :class:`Camera` does (blur, then noise or JPEG), seeded by its name.

    Args:
        eval_dirs: folder of images, or several; each is a set by its name.
        model: weight file of an estimator; None for the one that comes with the package.
        sigmas: true blurs in pixels.
        noise: levels of the noisy conditions, in 8-bit levels.
        quality: of the JPEG conditions.
        limit: so many images of each set, the first by name; None for all.
        speed_sizes: (height, width) of the images that both methods are timed on.
        repeats: timed calls of each.

    Raises:
        FileNotFoundError: a folder or the weight file is missing.
        ValueError: there is nothing to measure, or a folder has no images.
    """

    def __init__(
        self,
        eval_dirs: str | list[str],
        model: str | None = None,
        sigmas: Sequence[float] = (0.0, 0.5, 0.8, 1.2, 1.6, 2.4, 3.0),
        noise: Sequence[float] = (2.0,),
        quality: Sequence[int] = (75,),
        limit: int | None = None,
        speed_sizes: Sequence[Sequence[int]] = ((720, 1280), (3000, 4000)),
        repeats: int = 20,
    ) -> None:
        if not sigmas:
            raise ValueError("sigmas is empty: give blurs in pixels to measure at")
        if limit is not None and limit < 1:
            raise ValueError(f"limit must be at least 1 or null, got {limit}")
        folders = check_folders(eval_dirs, "eval_dirs")
        self.sets = {folder.name: find_images(folder)[:limit] for folder in folders}
        empty = [name for name, files in self.sets.items() if not files]
        if empty:
            raise ValueError(f"eval_dirs: no images in {', '.join(empty)}")
        self.model = shipped_estimator() if model is None else Path(model).expanduser()
        self.estimator = load_estimator(self.model)
        self.sigmas = list(sigmas)
        self.settings: dict[str, dict[str, Any]] = {"clean": {"noise": 0.0, "quality_p": 0.0}}
        self.settings |= {f"noise {level:g}": {"noise": level, "quality_p": 0.0} for level in noise}
        self.settings |= {f"jpeg {q}": {"noise": 0.0, "quality": q, "quality_p": 1.0} for q in quality}
        self.sizes = [(int(height), int(width)) for height, width in speed_sizes]
        self.repeats = repeats

    def run(self, folder: Path) -> float:
        """Write ``estimation.json`` and ``estimation.csv``, print a table.

        Returns:
            Median over the sets of the estimator's median relative error on clean images, for sigma of at
            least 0.8 pixels; NaN where no such sigma was measured.
        """
        rows = []
        for name, files in self.sets.items():
            for condition in self.settings:
                for sigma in self.sigmas:
                    rows += self._measure(name, files, condition, sigma)
        figures: dict[str, Any] = {
            "model_sha256": file_sha256(self.model),
            "images": {name: len(files) for name, files in self.sets.items()},
            "milliseconds": self._milliseconds(),
            "machine": machine(),
        }
        write_speed(folder, "estimation", figures, "rows", rows)
        _print(rows, figures["milliseconds"], folder)
        found = [
            row.median_error
            for row in rows
            if row.method == OURS and row.condition == "clean" and row.sigma >= MEASURED_FROM
            if row.median_error is not None
        ]
        return percentile(found, 50) if found else math.nan

    def _measure(self, name: str, files: Sequence[Path], condition: str, sigma: float) -> list[SigmaError]:
        camera = Camera(sigma=sigma, sigma_p=1.0, noise_p=1.0, **self.settings[condition])
        ours, spread, known, noise = [], [], [], []
        with torch.inference_mode():
            for file in files:
                degraded, _ = degrade(camera, read_image(file), name_seed(file.stem))
                image = to_tensor(degraded)
                estimate = self.estimator(image)
                ours.append(float(estimate.condition[0, 0]))
                spread.append(float(estimate.uncertainty[0, 0]))
                known.append(float(reblur_sigma(image)))
                if NOISE in self.estimator.conditions:
                    column = self.estimator.conditions.index(NOISE)
                    noise.append(abs(float(estimate.condition[0, column]) - self.settings[condition][NOISE]))
        error, width = np.asarray(ours) - sigma, np.asarray(spread)
        own = replace(
            summary(name, condition, sigma, OURS, ours),
            inside_95=round(float((np.abs(error) <= WITHIN_95 * width).mean()), 4),
            above_cautious=round(float((error <= width).mean()), 4),
            noise_error=round(percentile(noise, 50), 4) if noise else None,
        )
        return [own, summary(name, condition, sigma, KNOWN, known)]

    def _milliseconds(self) -> list[dict[str, Any]]:
        generator = torch.Generator().manual_seed(0)
        methods: dict[str, Callable[[Tensor], Any]] = {OURS: self.estimator, KNOWN: reblur_sigma}
        times = []
        for height, width in self.sizes:
            image = torch.rand(1, 3, height, width, generator=generator)
            for name, method in methods.items():
                taken = measure_latency(method, image, repeats=self.repeats)
                times.append(
                    {
                        "method": name,
                        "height": height,
                        "width": width,
                        "median_ms": round(taken.median_ms, 1),
                        "min_ms": round(taken.min_ms, 1),
                    }
                )
        return times


def summary(name: str, condition: str, sigma: float, method: str, estimates: Sequence[float]) -> SigmaError:
    """Errors of some images' estimates, NaN where a method gave none."""
    given = np.asarray([value for value in estimates if not math.isnan(value)])
    missing = len(estimates) - len(given)
    if not len(given):
        return SigmaError(name, condition, sigma, method, 0, missing, None, None, None)
    error = (given - sigma) / (sigma or 1.0)
    return SigmaError(
        name,
        condition,
        sigma,
        method,
        len(given),
        missing,
        median_error=round(percentile(np.abs(error), 50), 4),
        p90_error=round(percentile(np.abs(error), 90), 4),
        bias=round(float(error.mean()), 4),
    )


def _print(rows: Sequence[SigmaError], times: Sequence[dict[str, Any]], folder: Path) -> None:
    sigmas = sorted({row.sigma for row in rows})
    table = Table(title="Median error of sigma, relative (in pixels at 0)", caption=f"written to {folder}")
    for column in ("set", "condition", "method", *(f"{sigma:g}" for sigma in sigmas), "inside 95 %"):
        table.add_column(column, justify="right")
    for key in dict.fromkeys((row.set, row.condition, row.method) for row in rows):
        own = {row.sigma: row for row in rows if (row.set, row.condition, row.method) == key}
        cells = [_cell(own[sigma]) for sigma in sigmas]
        shares = [row.inside_95 for row in own.values() if row.inside_95 is not None]
        table.add_row(*key, *cells, f"{sum(shares) / len(shares):.0%}" if shares else "")
    console = console_of_results()
    console.print(table)
    for entry in times:
        console.print("{method} {height}×{width}: {median_ms} ms (least {min_ms})".format(**entry))


def _cell(row: SigmaError) -> str:
    if row.median_error is None:
        return "-"
    return f"{row.median_error:.1%}" if row.sigma else f"{row.median_error:.2f}"
