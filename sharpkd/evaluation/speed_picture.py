"""Milliseconds a frame as a picture: a bar for every model, a panel for every size."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

REAL_TIME = 1000 / 30
"""Milliseconds: 30 frames a second."""
COLOURS = {
    "openvino": "#1b6ca8",
    "onnxruntime": "#e08e0b",
    "torch": "#b3392f",
    "opencv": "#666666",
}


class Timed(Protocol):
    """What of a row is drawn; see `sharpkd.evaluation.engine_speed.EngineSpeedRow`."""

    @property
    def model(self) -> str: ...
    @property
    def engine(self) -> str: ...
    @property
    def precision(self) -> str: ...
    @property
    def pixels(self) -> str: ...
    @property
    def size(self) -> str: ...
    @property
    def ms(self) -> float: ...


def draw_speed(path: Path, rows: Sequence[Timed]) -> None:
    """Write a PNG: milliseconds on a logarithmic axis, the fastest on top, 30 frames a second marked.

    Args:
        path: of the picture.
        rows: at least one.
    """
    sizes = list(dict.fromkeys(row.size for row in rows))
    panels = [sorted((row for row in rows if row.size == size), key=lambda row: row.ms) for size in sizes]
    tallest = max(len(panel) for panel in panels)
    figure = Figure(figsize=(5.2 * len(sizes), 1.2 + 0.24 * tallest), layout="constrained")
    FigureCanvasAgg(figure)
    for number, (size, panel) in enumerate(zip(sizes, panels, strict=True)):
        axes = figure.add_subplot(1, len(sizes), number + 1)
        places = range(len(panel))
        axes.barh(places, [row.ms for row in panel], color=[COLOURS[row.engine] for row in panel])
        labels = [f"{row.model} {row.pixels}, {row.engine} {row.precision}" for row in panel]
        axes.set_yticks(places, labels, fontsize=7)
        axes.invert_yaxis()
        axes.set_xscale("log")
        axes.set_xlim(right=3 * panel[-1].ms)
        axes.axvline(REAL_TIME, color="black", linewidth=0.8, linestyle="--")
        for place, row in zip(places, panel, strict=True):
            room = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}
            axes.text(row.ms * 1.1, place, f"{row.ms:.3g}", va="center", fontsize=7, bbox=room)
        axes.set_title(f"{size}: ms a frame (dashed: 30 a second)", fontsize=9)
        axes.tick_params(axis="x", labelsize=7)
    figure.savefig(path, dpi=110)
