"""From a picture's pixels to the result, by engine: ``python benchmarks/inference/once.py``.

Every picture is another one, so that its blur is measured and a net made for it. ``auto`` takes ONNX Runtime
for small pictures (`sharpkd.inference.engine.MACS_ONCE`). Milliseconds of the clock, medians.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from scipy.ndimage import gaussian_filter
from skimage import data

from sharpkd.inference.sharpener import Sharpener

SIZES = ((120, 160), (240, 320), (480, 640), (720, 960), (960, 1280))
ENGINES = ("openvino", "onnxruntime", "auto")


def milliseconds(model: str, engine: str, size: tuple[int, int], times: int) -> float:
    """Median over pictures, behind one that is not counted."""
    soft = np.tile(gaussian_filter(data.astronaut(), (1.5, 1.5, 0)), (3, 3, 1))
    sharpen = Sharpener(model, engine)
    found = []
    for number in range(times + 1):
        window = np.ascontiguousarray(soft[number : number + size[0], number : number + size[1]])
        began = time.perf_counter()
        sharpen(window)
        found.append(time.perf_counter() - began)
    return 1e3 * float(np.median(found[1:]))


def main() -> None:
    """Print one line for each model and size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=7)
    chosen = parser.parse_args()
    print(f"{'model':10}{'size':>11}" + "".join(f"{engine:>13}" for engine in ENGINES) + "   ms")
    for model in ("fast", "balanced", "quality"):
        for size in SIZES:
            found = [milliseconds(model, engine, size, chosen.times) for engine in ENGINES]
            label = f"{model:10}{f'{size[1]}x{size[0]}':>11}"
            print(label + "".join(f"{one:13.0f}" for one in found), flush=True)


if __name__ == "__main__":
    main()
