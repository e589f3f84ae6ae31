"""How long a frame takes, uint8 in and uint8 out, beside two references timed in the same run."""

from __future__ import annotations

import logging
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import cv2
import numpy as np
import torch

from sharpkd.evaluation.baselines import looks_at_the_truth
from sharpkd.evaluation.machine import machine
from sharpkd.evaluation.models import BaselineModel, Model, NetModel
from sharpkd.evaluation.protocols import Condition, Pair
from sharpkd.evaluation.rows import INPUT
from sharpkd.inference.errors import first_line
from sharpkd.nets.enhanced_cnn import EnhancedCNN

log = logging.getLogger(__name__)

SIZES = ((480, 640), (720, 1280), (1080, 1920))
UNSHARP = "unsharp"
ENHANCED_CNN = "enhanced_cnn"
REPEATS = 30
"""Frames that SharpBench's protocol asks for."""
LEAST_REPEATS = 3
TOO_SLOW = 3
"""A size is left out when one frame would take longer than this many times the time for all repeats."""
LONGEST = 60.0
"""Seconds: however much time there is, a frame may not take longer; the CNN's a third of it."""

Timing = dict[str, Any]


def measure_speed(
    models: Sequence[Model],
    sizes: Sequence[tuple[int, int]] = SIZES,
    repeats: int = REPEATS,
    seconds: float = 60.0,
    threads: int | None = None,
) -> dict[str, Any]:
    """Median milliseconds a frame, warm, of every model that can be used without the sharp image.

    ``input`` does nothing and oracles look at the sharp image: neither is timed. OpenCV's unsharp mask and
    the 483,587-parameter CNN always are, because absolute times move from run to run while ratios to them
    hardly do. The unsharp mask is timed right before and after each model, as speed moves within a run too.

    Args:
        models: opened; their names must differ.
        sizes: (height, width) of the output, smallest first: an enlarging net reads so much less.
        repeats: timed frames, after one that is not.
        seconds: fewer frames are timed once these have passed, but never less than three. A size is left out
            where a frame would take more than three times as long, or than a minute (the CNN: a third, or
            20 s), by the time that one took at the size before.
        threads: CPU threads; None for as many as torch is set to use.

    Returns:
        ``{"sizes": ["640x480", …], "threads", "cpu", "versions", "models": {name: {"engine", "precision",
        "scale", "sizes": {"640x480": {"ms", "repeats", "left_out", "unsharp_ms", "vs_unsharp",
        "vs_enhanced_cnn"}}}}, "references": {"unsharp": …, "enhanced_cnn": …}}``, where each reference is
        described as a model is. The ``vs_`` are ratios of times, ``unsharp_ms`` is what the unsharp mask took
        beside this model. Where nothing was measured they are None and ``repeats`` is 0; ``left_out`` says
        why, and is None elsewhere.

    Raises:
        ValueError: no size, or numbers that are not positive.
    """
    if not sizes or min(min(size) for size in sizes) < 1:
        raise ValueError(f"speed needs sizes as (height, width) in pixels, got {list(sizes)}")
    if repeats < 1 or not seconds > 0 or (threads is not None and threads < 1):
        raise ValueError(
            "speed needs repeats >= 1, seconds > 0 and threads >= 1, "
            f"got repeats={repeats}, seconds={seconds}, threads={threads}"
        )
    ordered = sorted((int(height), int(width)) for height, width in sizes)
    references = {UNSHARP: BaselineModel(UNSHARP), ENHANCED_CNN: _enhanced_cnn()}
    longest = min(TOO_SLOW * seconds, LONGEST)
    with _threads(threads) as used:
        timed = {
            UNSHARP: _time_sizes(references[UNSHARP], ordered, repeats, seconds, longest),
            ENHANCED_CNN: _time_sizes(
                references[ENHANCED_CNN], ordered, repeats, seconds, min(seconds, LONGEST) / 3
            ),
        }
        results = {
            model.name: _time_sizes(model, ordered, repeats, seconds, longest)
            for model in models
            if _can_be_used(model)
        }
    by_name = {model.name: model for model in models}
    return {
        "sizes": [_name(size) for size in ordered],
        **machine(),
        "threads": used,
        "models": {name: _entry(by_name[name], timings, timed) for name, timings in results.items()},
        "references": {name: _entry(references[name], timings, timed) for name, timings in timed.items()},
    }


def remarks_on(speed: Mapping[str, Any]) -> list[str]:
    """Where fewer frames were timed than the protocol asks for, and where none: sentences for people.

    Args:
        speed: see :func:`measure_speed`.
    """
    timings = {
        f"{name} at {size}": timing
        for entries in (speed["references"], speed["models"])
        for name, entry in entries.items()
        for size, timing in entry["sizes"].items()
    }
    few = [f"{place} {one['repeats']}" for place, one in timings.items() if 0 < one["repeats"] < REPEATS]
    none = [f"{place} ({one['left_out']})" for place, one in timings.items() if one["left_out"]]
    remarks = []
    if few:
        remarks.append(f"Medians of fewer than the protocol's {REPEATS} frames: {', '.join(few)}.")
    if none:
        remarks.append(f"Not timed: {', '.join(none)}.")
    return remarks


def frame_milliseconds(model: Model, size: tuple[int, int], repeats: int = 5) -> float | None:
    """Median milliseconds of a frame of ``size`` (height, width of the output), warm.

    None for a model that cannot be used without the sharp image, and for ``input``.
    """
    if not _can_be_used(model):
        return None
    return round(1000 * statistics.median(_time(_frame(model, size), repeats, seconds=float("inf"))), 2)


def _can_be_used(model: Model) -> bool:
    return model.name != INPUT and not looks_at_the_truth(model.name)


def _enhanced_cnn() -> Model:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return NetModel(ENHANCED_CNN, EnhancedCNN().eval(), channels_last=True)


def _entry(model: Model, timings: dict[str, Timing], references: dict[str, dict[str, Timing]]) -> Timing:
    return {
        "engine": model.engine,
        "precision": model.precision,
        "scale": model.scale,
        "sizes": {
            size: timing
            | {
                f"vs_{UNSHARP}": _ratio(timing["ms"], timing["unsharp_ms"]),
                f"vs_{ENHANCED_CNN}": _ratio(timing["ms"], references[ENHANCED_CNN][size]["ms"]),
            }
            for size, timing in timings.items()
        },
    }


def _ratio(ms: float | None, reference: float | None) -> float | None:
    return None if ms is None or reference is None else ms / reference


def _time_sizes(
    model: Model, sizes: Sequence[tuple[int, int]], repeats: int, seconds: float, longest: float
) -> dict[str, Timing]:
    timings: dict[str, Timing] = {}
    per_pixel = 0.0
    for size in sizes:
        pixels = size[0] * size[1]
        blank: Timing = {"ms": None, "repeats": 0, "left_out": None, "unsharp_ms": None}
        timings[_name(size)] = blank
        if per_pixel * pixels > longest:
            blank["left_out"] = f"a frame would take about {per_pixel * pixels:.2g} s"
            if per_pixel == float("inf"):
                blank["left_out"] = "it failed on a smaller frame"
            continue
        try:
            timings[_name(size)] = timing = _time_beside(model, size, repeats, seconds)
        except Exception as error:  # most likely out of memory, but an engine may fail in any way
            log.warning("%s cannot be timed at %s: %s", model.name, _name(size), error)
            blank["left_out"] = first_line(error)
            per_pixel = float("inf")
            continue
        per_pixel = timing["ms"] / 1000 / pixels
    return timings


def _time_beside(model: Model, size: tuple[int, int], repeats: int, seconds: float) -> Timing:
    unsharp = _frame(BaselineModel(UNSHARP), size)
    beside = _time(unsharp, -(-repeats // 2), seconds)
    times = _time(_frame(model, size), repeats, seconds)
    beside += _time(unsharp, -(-repeats // 2), seconds)
    return {
        "ms": 1000 * statistics.median(times),
        "repeats": len(times),
        "left_out": None,
        "unsharp_ms": 1000 * statistics.median(beside),
    }


def _time(run: Callable[[], Any], repeats: int, seconds: float) -> list[float]:
    run()
    times: list[float] = []
    while len(times) < repeats and (len(times) < LEAST_REPEATS or sum(times) < seconds):
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
    return times


def _frame(model: Model, size: tuple[int, int]) -> Callable[[], Any]:
    """One call of the model on noise: nothing that is timed here depends on what an image shows."""
    generator = np.random.default_rng(0)
    sharp = generator.integers(0, 256, (*size, 3), dtype=np.uint8)
    height, width = (-(-side // model.scale) for side in size)
    if model.scale == 1:
        condition, degraded = Condition("gaussian", "gaussian/1.6", sigma=1.6), sharp
    else:
        condition = Condition("sr", f"sr/{model.scale}", scale=model.scale)
        degraded = np.ascontiguousarray(sharp[:height, :width])
    pair = Pair(degraded, sharp)
    return lambda: model.restore(pair, condition)


def _name(size: tuple[int, int]) -> str:
    return f"{size[1]}x{size[0]}"


@contextmanager
def _threads(wanted: int | None) -> Iterator[int]:
    """Torch and OpenCV (and by torch's number the ONNX sessions) with so many threads."""
    before = torch.get_num_threads(), cv2.getNumThreads()
    used = before[0] if wanted is None else wanted
    torch.set_num_threads(used)
    cv2.setNumThreads(used)
    try:
        yield used
    finally:
        torch.set_num_threads(before[0])
        cv2.setNumThreads(before[1])
