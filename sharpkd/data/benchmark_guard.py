"""Keep benchmark images out of training.

The hashes of SharpBench (Set5, Set14, BSD100, Kodak24 and every fourth image of Urban100) are in
``sharpbench_hashes.txt`` beside this file. They are made from decoded pixels, whatever the file format.
The list is rewritten by::

    python -m sharpkd.data.benchmark_guard EVAL_DIR > sharpkd/data/sharpbench_hashes.txt
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable
from functools import cache
from importlib.resources import files
from pathlib import Path

import numpy as np

from sharpkd.data.images import find_images, read_image

SHARPBENCH_SETS = ("Set5", "Set14", "BSD100", "Kodak24", "Urban100_25")


def pixel_hash(image: np.ndarray) -> str:
    """SHA-256 of an image's shape and pixels, ``(H, W, 3)`` uint8, as 64 hexadecimal digits."""
    digest = hashlib.sha256("x".join(map(str, image.shape)).encode())
    digest.update(np.ascontiguousarray(image).data)
    return digest.hexdigest()


@cache
def sharpbench_hashes() -> dict[str, str]:
    """Pixel hash -> ``set/file`` of each benchmark image."""
    text = (files("sharpkd.data") / "sharpbench_hashes.txt").read_text(encoding="utf-8")
    lines = (line for line in text.splitlines() if line and not line.startswith("#"))
    return {digest: name for digest, _, name in (line.partition(" ") for line in lines)}


def refuse_benchmark_images(images: Iterable[tuple[Path, str]]) -> None:
    """Check training images, given as (file, pixel hash).

    Raises:
        ValueError: one of them is a benchmark image; names the file and its twin.
    """
    known = sharpbench_hashes()
    found = [f"{path} is {known[digest]}" for path, digest in images if digest in known]
    if found:
        raise ValueError(
            f"{len(found)} training image(s) belong to the benchmark, so its scores would mean nothing: "
            f"{'; '.join(found)}. Take them out of the training folder."
        )


def main(eval_dir: str) -> None:
    """Print one ``hash set/file`` line for each benchmark image under ``eval_dir``."""
    sys.stdout.write("# python -m sharpkd.data.benchmark_guard EVAL_DIR\n")
    for name in SHARPBENCH_SETS:
        for path in find_images(Path(eval_dir) / name):
            sys.stdout.write(f"{pixel_hash(read_image(path))} {name}/{path.name}\n")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit("usage: python -m sharpkd.data.benchmark_guard EVAL_DIR")
    main(sys.argv[1])
