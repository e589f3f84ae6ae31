"""Memory of a large picture: ``python benchmarks/inference/memory.py student.safetensors --megapixels 100``.

Sharpens random pixels and prints the peak of the whole process, imports, input and output included.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time

import numpy as np

from sharpkd import Sharpener


def main() -> None:
    """Print one line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", help="fast, balanced, quality, or a file")
    parser.add_argument("--megapixels", type=float, default=100)
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--threads", type=int)
    chosen = parser.parse_args()
    height = int((chosen.megapixels * 1e6 * 3 / 4) ** 0.5)
    width = int(chosen.megapixels * 1e6 / height)
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    sharpen = Sharpener(chosen.model, chosen.engine, threads=chosen.threads, precision=chosen.precision)
    start, used = time.perf_counter(), time.process_time()
    result = sharpen(image)
    seconds, used = time.perf_counter() - start, time.process_time() - used
    assert result.shape == image.shape
    # kilobytes, but bytes on macOS
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    print(
        f"{chosen.model} {sharpen.engine} {sharpen.precision}: {width}x{height} in {seconds:.1f} s "
        f"({used:.1f} s of processors), {peak / 1e9:.2f} GB at most"
    )


if __name__ == "__main__":
    main()
