"""How long a frame takes under every engine and in every precision, from integer pixels to integer pixels.

In the same run: OpenCV's unsharp mask, and the 483,587-parameter CNN of the second report under each engine
in each precision. Absolute times move from machine to machine and from minute to minute; ratios to them
hardly do.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from sharpkd.evaluation.console import console_of_results
from sharpkd.evaluation.large_cnn import LargeCNN
from sharpkd.evaluation.machine import machine
from sharpkd.evaluation.speed_files import write_speed
from sharpkd.evaluation.speed_picture import draw_speed
from sharpkd.inference.blur import Estimate
from sharpkd.inference.engine import EngineName, PrecisionName
from sharpkd.inference.openvino_student import INT8, fast_precisions
from sharpkd.inference.sharpener import Sharpener

Pixels = NDArray[Any]

SIZES = ((480, 640), (720, 1280), (1080, 1920))
ENGINES: tuple[EngineName, ...] = ("openvino", "onnxruntime", "torch")
PHOTOGRAPH = (3000, 4000)
UNSHARP, CNN = "unsharp", "enhanced_cnn"
LEAST_REPEATS = 3
AMOUNT, MASK_SIGMA = 1.0, 1.5
"""Of the unsharp mask: what it costs does not depend on them."""


@dataclass(frozen=True)
class EngineSpeedRow:
    """One model under one engine in one precision, at one size.

    Attributes:
        model: its name, "unsharp" or "enhanced_cnn".
        engine: "openvino", "onnxruntime", "torch" or "opencv".
        precision: "bf16", "fp16", "fp32" or "uint8".
        pixels: "rgb", or "luma" of nets that look at luma alone: one plane, as of video.
        size: width x height.
        ms: median milliseconds a frame, warm, uint8 in and out, the blur known.
        frames_per_second: 1000 / ms.
        repeats: timed frames.
        first_ms: milliseconds of the first one: blur measured, net folded and compiled.
        vs_unsharp: ms over the unsharp mask's at this size.
        vs_enhanced_cnn: the CNN's milliseconds over ms, at this size, under this engine in this precision:
            how many times faster; None where the CNN was not timed.
    """

    model: str
    engine: str
    precision: str
    pixels: str
    size: str
    ms: float
    frames_per_second: float
    repeats: int
    first_ms: float
    vs_unsharp: float | None = None
    vs_enhanced_cnn: float | None = None


class EngineSpeed:
    """Times models under the engines, end to end.

    Args:
        models: names of the package's students, or files of students.
        engines: of "openvino", "onnxruntime" and "torch".
        sizes: (height, width) in pixels.
        repeats: timed frames, after two that are not.
        least_seconds: more frames are timed until these have passed, so that a moment's other work on the
            machine does not decide the median.
        seconds: fewer frames are timed once these have passed, but at least three.
        cnn: time the large CNN too, which takes most of the time.
        photograph: (height, width) of what is sharpened once, with measuring and compiling, under the first
            engine; None for none.
        threads: of the CPU; None leaves the choice to the engines.

    Raises:
        ValueError: nothing to measure, or a number that is not positive.
        ModelError: a model cannot be opened, or is no student.
    """

    def __init__(
        self,
        models: Sequence[str] = ("fast", "balanced", "quality"),
        engines: Sequence[EngineName] = ENGINES,
        sizes: Sequence[Sequence[int]] = SIZES,
        repeats: int = 30,
        least_seconds: float = 3.0,
        seconds: float = 20.0,
        cnn: bool = True,
        photograph: Sequence[int] | None = PHOTOGRAPH,
        threads: int | None = None,
    ) -> None:
        if not models or not engines or not sizes or min(min(size) for size in sizes) < 1:
            raise ValueError(
                "models, engines and sizes in pixels are needed, got "
                f"{list(models)}, {list(engines)} and {[list(size) for size in sizes]}"
            )
        if repeats < 1 or not seconds > 0:
            raise ValueError(
                f"repeats and seconds must be above 0, got repeats={repeats}, seconds={seconds:g}"
            )
        if least_seconds < 0:
            raise ValueError(f"least_seconds must be at least 0, got {least_seconds:g}")
        self.models, self.engines, self.threads, self.cnn = list(models), list(engines), threads, cnn
        self.sizes = sorted((int(height), int(width)) for height, width in sizes)
        self.repeats, self.least_seconds, self.seconds = repeats, least_seconds, seconds
        self.photograph = None if photograph is None else (int(photograph[0]), int(photograph[1]))

    def run(self, folder: Path) -> float:
        """Write ``speed.json``, ``speed.csv`` and ``speed.png``, print a table.

        Returns:
            Milliseconds a frame of the first model under the first engine at the largest size.
        """
        with tempfile.TemporaryDirectory() as name:
            rows = compared([*self._unsharp(), *self._nets(Path(name))])
            photographs = self._photographs()
        figures = machine() | {"engine_threads": self.threads, "photograph": photographs}
        write_speed(folder, "speed", figures, "rows", rows)
        draw_speed(folder / "speed.png", rows)
        _print(rows, photographs, folder)
        return next(row.ms for row in reversed(rows) if row.model == self.models[0])

    def _unsharp(self) -> Iterator[EngineSpeedRow]:
        def unsharp(frame: Pixels) -> Pixels:
            blurred = cv2.GaussianBlur(frame, (0, 0), MASK_SIGMA)
            return cv2.addWeighted(frame, 1 + AMOUNT, blurred, -AMOUNT, 0)

        with _opencv_threads(self.threads):
            for size in self.sizes:
                yield self._timed((UNSHARP, "opencv", "uint8", "rgb"), size, lambda: unsharp)

    def _nets(self, work: Path) -> Iterator[EngineSpeedRow]:
        cnn = LargeCNN(work, self.threads)
        for engine in self.engines:
            for precision in precisions_of(engine):
                for model in self.models:
                    for kind, size, opened in self._openings(model, engine, precision):
                        yield self._timed((Path(model).name, engine, precision, kind), size, opened)
                if self.cnn and precision != INT8:
                    for size in self.sizes:
                        opened = partial(cnn.open, engine, precision)
                        yield self._timed((CNN, engine, precision, "rgb"), size, opened)

    def _openings(
        self, model: str, engine: EngineName, precision: PrecisionName
    ) -> Iterator[tuple[str, tuple[int, int], Callable[[], Callable[[Pixels], Pixels]]]]:
        for kind in ("rgb", "luma") if Sharpener(model).info.args.get("luma_only") else ("rgb",):

            def opened(luma: bool = kind == "luma") -> Callable[[Pixels], Pixels]:
                sharpener = Sharpener(model, engine, 0, self.threads, precision=precision)
                known: list[Estimate] = []

                def restore(frame: Pixels) -> Pixels:
                    plane = frame[..., 1] if luma else frame
                    if sharpener.is_aware and not known:
                        known.append(sharpener.measure(frame))
                    estimate = known[0] if known else None
                    return (sharpener.plane if luma else sharpener)(plane, estimate=estimate)

                return restore

            for size in self.sizes:
                yield kind, size, opened

    def _photographs(self) -> dict[str, dict[str, Any]]:
        """Seconds that each model takes for one photograph, nothing of it known, in 1024-pixel tiles."""
        if self.photograph is None:
            return {}
        frame, found = _noise(self.photograph), {}
        for model in self.models:
            sharpener = Sharpener(model, self.engines[0], threads=self.threads)
            began = time.perf_counter()
            sharpener(frame)
            found[Path(model).name] = {
                "size": f"{frame.shape[1]}x{frame.shape[0]}",
                "engine": sharpener.engine,
                "precision": sharpener.precision,
                "seconds": round(time.perf_counter() - began, 3),
            }
        return found

    def _timed(
        self,
        labels: tuple[str, str, str, str],
        size: tuple[int, int],
        opened: Callable[[], Callable[[Pixels], Pixels]],
    ) -> EngineSpeedRow:
        frame, restore = _noise(size), opened()
        began = time.perf_counter()
        restore(frame)
        first = time.perf_counter() - began
        restore(frame)
        times: list[float] = []
        while not self._enough(len(times), sum(times)):
            began = time.perf_counter()
            restore(frame)
            times.append(time.perf_counter() - began)
        middle = statistics.median(times)
        return EngineSpeedRow(
            *labels,
            size=f"{size[1]}x{size[0]}",
            ms=round(1000 * middle, 3),
            frames_per_second=round(1 / middle, 2),
            repeats=len(times),
            first_ms=round(1000 * first, 1),
        )

    def _enough(self, frames: int, seconds: float) -> bool:
        if seconds >= self.seconds:
            return frames >= LEAST_REPEATS
        return frames >= self.repeats and seconds >= self.least_seconds


def precisions_of(engine: EngineName) -> list[PrecisionName]:
    """What students are computed in under an engine: under OpenVINO whatever this CPU is fast in."""
    return [*fast_precisions(), INT8] if engine == "openvino" else ["fp32"]  # type: ignore[list-item]  # they are PrecisionName's names


def compared(rows: Sequence[EngineSpeedRow]) -> list[EngineSpeedRow]:
    """The rows with their ratios to the unsharp mask and the CNN, of the same size, engine and precision."""
    unsharp = {row.size: row.ms for row in rows if row.model == UNSHARP}
    cnn = {(row.size, row.engine, row.precision): row.ms for row in rows if row.model == CNN}

    def one(row: EngineSpeedRow) -> EngineSpeedRow:
        mask, large = unsharp.get(row.size), cnn.get((row.size, row.engine, row.precision))
        return replace(
            row,
            vs_unsharp=None if mask is None else round(row.ms / mask, 3),
            vs_enhanced_cnn=None if large is None else round(large / row.ms, 3),
        )

    return [one(row) for row in rows]


def _noise(size: tuple[int, int]) -> Pixels:
    """Nothing that is timed here depends on what a frame shows."""
    return np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)


@contextmanager
def _opencv_threads(wanted: int | None) -> Iterator[None]:
    before = cv2.getNumThreads()
    cv2.setNumThreads(before if wanted is None else wanted)
    try:
        yield
    finally:
        cv2.setNumThreads(before)


def _print(
    rows: Sequence[EngineSpeedRow], photographs: Mapping[str, Mapping[str, Any]], folder: Path
) -> None:
    table = Table(title="Milliseconds a frame, uint8 to uint8, the blur known")
    for column in ("model", "engine", "precision", "pixels", "size"):
        table.add_column(column)
    for column in ("ms", "frames/s", "first, ms", "x unsharp", "x faster than CNN"):
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(
            row.model,
            row.engine,
            row.precision,
            row.pixels,
            row.size,
            f"{row.ms:.1f}",
            f"{row.frames_per_second:.1f}",
            f"{row.first_ms:.0f}",
            "" if row.vs_unsharp is None else f"{row.vs_unsharp:.3g}",
            "" if row.vs_enhanced_cnn is None else f"{row.vs_enhanced_cnn:.3g}",
        )
    console = console_of_results()
    console.print(table)
    for model, one in photographs.items():
        console.print(f"{model}, a picture of {one['size']}, measured and sharpened: {one['seconds']:.2f} s")
    console.print(f"written to {folder}")
