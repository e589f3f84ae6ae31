"""What folding costs under OpenVINO: ``python benchmarks/inference/compilation.py``.

Three ways to serve an image's condition with one student: weights as constants of a graph that is compiled
for every image; weights as inputs of one graph; scale and shift as inputs after every layer of one graph.
Times are of the process on one thread, not of the clock, so that other work on the machine counts less.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import openvino as ov
from openvino import opset13 as op

SHAPES = {"small": (4, 32, 4), "medium": (4, 48, 6), "large": (2, 64, 8)}
SIDE, CHANNELS = 512, 3


def graph(unshuffle: int, width: int, depth: int, way: str) -> tuple[Any, list[Any]]:
    """The student's graph on cells of 8-bit pixels, and what it is given beside them."""
    random = np.random.default_rng(0)
    inside, deep = unshuffle**2 * CHANNELS, unshuffle * CHANNELS
    cells = op.parameter([1, -1, unshuffle, -1, deep], ov.Type.u8)
    inputs, given = [cells], []

    def told(array: Any, as_input: bool) -> Any:
        if not as_input:
            return op.constant(array)
        inputs.append(op.parameter(list(array.shape), ov.Type.f32))
        given.append(array)
        return inputs[-1]

    swapped = op.constant(np.array([0, 1, 3, 2, 4]))
    node = op.reshape(op.transpose(cells, swapped), op.constant(np.array([0, 0, 0, inside])), True)
    picture = node = op.convert(op.transpose(node, op.constant(np.array([0, 3, 1, 2]))), "f32")
    for i in range(depth):
        first, last = i == 0, i == depth - 1
        shape = (inside if last else width, inside if first else width, 3, 3)
        gain = 0.05 / (255 if first else 1) * (255 if last else 1)
        weight = (random.standard_normal(shape) * gain).astype(np.float32)
        bias = np.zeros((1, shape[0], 1, 1), np.float32)
        node = op.convolution(node, told(weight, way == "weights"), [1, 1], [1, 1], [1, 1], [1, 1])
        node = op.add(node, told(bias, way == "weights"))
        if way == "modulation" and not last:
            node = op.add(op.multiply(node, told(bias + 1, True)), told(bias, True))
        if not last:
            node = op.prelu(node, op.constant(np.full(width, 0.1, np.float32)))
    node = op.convert(op.clamp(op.round(op.add(node, picture), "half_to_even"), 0.0, 255.0), "u8")
    node = op.transpose(node, op.constant(np.array([0, 2, 3, 1])))
    node = op.reshape(node, op.constant(np.array([0, 0, 0, unshuffle, deep])), True)
    return ov.Model([op.transpose(node, swapped)], inputs), given


def milliseconds(work: Callable[[], object], times: int) -> float:
    """Median time of this process."""
    found = []
    for _ in range(times):
        start = time.process_time()
        work()
        found.append(time.process_time() - start)
    return 1e3 * float(np.median(found))


def measured(shape: tuple[int, int, int], way: str, precision: str, times: int) -> list[float]:
    """Milliseconds to build and compile, of the first picture, and of those after it."""
    core = ov.Core()
    settings: dict[str, Any] = {
        "INFERENCE_PRECISION_HINT": precision,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": 1,
        "NUM_STREAMS": 1,
    }
    unshuffle, cell = shape[0], SIDE // shape[0]
    size = (1, cell, unshuffle, cell, unshuffle * CHANNELS)
    picture = np.random.default_rng(1).integers(0, 256, size, dtype=np.uint8)
    model, given = graph(*shape, way)
    request = core.compile_model(model, "CPU", settings).create_infer_request()

    def compiling() -> None:
        core.compile_model(graph(*shape, way)[0], "CPU", settings)

    def infer() -> None:
        request.infer([picture, *given], share_inputs=True, share_outputs=True)

    return [milliseconds(compiling, times), milliseconds(infer, 1), milliseconds(infer, times)]


def main() -> None:
    """Print one line for each shape and way."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--precision", default="bf16", choices=["bf16", "f16", "f32"])
    parser.add_argument("--times", type=int, default=9)
    chosen = parser.parse_args()
    print(f"{'student':10}{'told by':14}{'compile':>9}{'first':>9}{'then':>9}   ms, {chosen.precision}")
    for name, shape in SHAPES.items():
        for way in ("constants", "weights", "modulation"):
            found = measured(shape, way, chosen.precision, chosen.times)
            print(f"{name:10}{way:14}" + "".join(f"{one:9.1f}" for one in found), flush=True)


if __name__ == "__main__":
    main()
