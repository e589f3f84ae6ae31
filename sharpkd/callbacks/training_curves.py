"""Training curves as a picture, for those who look at a run's folder and not at a dashboard."""

from __future__ import annotations

import logging
import time
from pathlib import Path

import pytorch_lightning as pl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from sharpkd.callbacks.lpips_label import lpips_label
from sharpkd.loggers.csv import read_series

log = logging.getLogger(__name__)

Series = dict[str, tuple[list[int], list[float]]]

NOT_LOSSES = ("train/lr", "train/grad_norm")


class TrainingCurves(pl.Callback):
    """Writes ``<run_dir>/curves.png`` from ``<run_dir>/logs/metrics.csv`` after validations and at the end.

    Args:
        run_dir: folder of the run.
        redraw_every: seconds at least between two drawings (one takes about half a second); the last one is
            made in any case.
    """

    def __init__(self, run_dir: str, redraw_every: float = 120.0) -> None:
        self.run_dir = Path(run_dir)
        self.redraw_every = redraw_every
        self._drawn_at = time.monotonic()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draw, unless the last drawing is recent."""
        if not trainer.sanity_checking and time.monotonic() - self._drawn_at >= self.redraw_every:
            self._draw(trainer, pl_module)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draw the whole run."""
        self._draw(trainer, pl_module)

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Draw what there is: curves are most wanted when a run has failed."""
        self._draw(trainer, pl_module)

    def _draw(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        series = read_series(self.run_dir / "logs" / "metrics.csv")
        if trainer.is_global_zero and series:
            try:
                draw_curves(series, self.run_dir / "curves.png", lpips_label(pl_module))
            except OSError as error:
                log.warning(
                    "curves.png cannot be written (%s); the training goes on", error.strerror or error
                )
            self._drawn_at = time.monotonic()


def draw_curves(series: Series, path: Path, lpips: str = "lpips") -> None:
    """Draw loss terms, PSNR, SSIM / LPIPS and the learning rate over the optimizer's steps.

    Args:
        series: as :func:`sharpkd.loggers.csv.read_series` returns it.
        path: of the PNG to write.
        lpips: what LPIPS is called: its backbone's name goes with it.
    """
    series = {f"val/{lpips}" if key == "val/lpips" else key: series[key] for key in series}
    panels = {
        "training loss and its terms, unweighted": _chosen(series, "train/", without=NOT_LOSSES),
        "validation PSNR (dB)": _chosen(series, "val/psnr"),
        f"validation SSIM, {lpips}": _chosen(series, "val/ssim") | _chosen(series, "val/lpips"),
        "learning rate": _chosen(series, "train/lr"),
    }
    figure = Figure(figsize=(11, 7), layout="constrained")
    canvas = FigureCanvasAgg(figure)
    for (title, lines), axes in zip(panels.items(), figure.subplots(2, 2).flat, strict=True):
        _panel(axes, title, lines)
    temporary = path.with_suffix(".part.png")
    canvas.print_png(str(temporary))
    temporary.replace(path)


def _chosen(series: Series, prefix: str, without: tuple[str, ...] = ()) -> Series:
    return {key: series[key] for key in series if key.startswith(prefix) and key not in without}


def _panel(axes: Axes, title: str, lines: Series) -> None:
    axes.set_title(title)
    axes.set_xlabel("step")
    axes.grid(alpha=0.3)
    for key, (steps, values) in lines.items():
        # with one term in it, the total lies under that term
        width = 3.5 if key == "train/loss" else 1.2
        axes.plot(steps, values, label=key, linewidth=width, marker="o" if len(steps) < 3 else None)
    if lines:
        axes.legend(fontsize="small")
    else:
        axes.text(0.5, 0.5, "not logged", ha="center", va="center", transform=axes.transAxes, color="grey")
    if "loss" in title and any(value > 0 for _, values in lines.values() for value in values):
        axes.set_yscale("log")
