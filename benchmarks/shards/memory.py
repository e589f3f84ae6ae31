"""Memory of training from shards: ``python benchmarks/shards/memory.py``, on Linux.

For data sets of growing size: shards of 128-pixel tiles are made of random pixels, and a process of its own
loads one epoch of them (96-pixel crops, blurred). What it holds at most while it does is written to
``memory.json``, without the pages of mapped files, which are the system's to take back.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

TILE = 128
SIDE = 16


def anonymous_mb() -> float:
    """Memory of this process that no file backs, in 10^6 bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith("RssAnon"))
    return int(line.split()[1]) * 1024 / 1e6


def make(folder: Path, images: int) -> None:
    """Shards of ``images`` tiles, each data set's own."""
    from sharpkd.data.folder import FolderSource
    from sharpkd.data.shards.writer import ShardWriter

    random = np.random.default_rng(images)
    for part, count in (("train", images // SIDE**2), ("val", 1)):
        (folder / part).mkdir(parents=True)
        for index in range(count):
            pixels = random.integers(0, 256, (SIDE * TILE, SIDE * TILE, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / part / f"{index}.bmp")
    source = FolderSource(str(folder / "train"), str(folder / "val"))
    ShardWriter(tile=TILE, shard_images=SIDE**2).write(source, folder / "shards")


def load(folder: Path) -> dict[str, float]:
    """One epoch; what is held after the first batches, and at most."""
    from sharpkd.data.degradation import GaussianBlur
    from sharpkd.data.shards.datamodule import ShardDataModule

    data = ShardDataModule(
        str(folder / "shards"),
        degradation=GaussianBlur(),
        cache_dir=folder / "cache",
        crop_size=96,
        crops_per_image=1,
        workers=0,
    )
    data.prepare_data()
    data.setup("fit")
    early, most, samples = 0.0, 0.0, 0
    for number, batch in enumerate(data.train_dataloader()):
        samples += len(batch)
        if number == 20:
            early = anonymous_mb()
        if number % 10 == 0:
            most = max(most, anonymous_mb())
    return {"samples": samples, "after_20_batches_mb": round(early, 1), "most_mb": round(most, 1)}


def main() -> None:
    """Print a row for each size, and write them all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[512, 2048, 8192])
    parser.add_argument("--output", type=Path, default=Path(__file__).with_name("memory.json"))
    parser.add_argument("--load", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.load:
        print(json.dumps(load(chosen.load)))
        return
    rows = []
    for images in chosen.sizes:
        with tempfile.TemporaryDirectory() as name:
            make(Path(name), images)
            command = [sys.executable, __file__, "--load", name]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        rows.append({"images": images, **json.loads(done.stdout)})
        print(rows[-1], flush=True)
    chosen.output.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
