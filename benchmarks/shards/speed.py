"""What a crop costs from shards of each kind: ``python benchmarks/shards/speed.py``.

Seconds of one processor for a 128-pixel crop of 2040x1356 photographs (scikit-image's, mirrored up to that),
cut, turned and blurred, in one process, and the bytes on disk. Processor time, not time: what else runs on
the machine does not count. Written to ``speed.json``; ``python -m sharpkd.benchmark what=data`` measures
crops a second with workers.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import torch
from PIL import Image

from sharpkd.data.cache import ImageCache
from sharpkd.data.crops import CropDataset, Images
from sharpkd.data.degradation import GaussianBlur
from sharpkd.data.folder import FolderSource
from sharpkd.data.loader import ResumableLoader
from sharpkd.data.sampler import EpochSampler
from sharpkd.data.shards.images import ShardImages
from sharpkd.data.shards.sampler import ShardSampler
from sharpkd.data.shards.writer import ShardWriter
from sharpkd.evaluation.data_speed import DecodedEveryTime, write_photographs

SIZE = (2040, 1356)
TILE = 480


def ways(folder: Path, photographs: int) -> Iterator[tuple[str, Images, int, int]]:
    """Name, images, bytes on disk, and how many crops are worth timing."""
    (folder / "png").mkdir()
    (folder / "jpg").mkdir()
    files = write_photographs(folder / "png", photographs, SIZE)
    for path in files:
        Image.open(path).save(folder / "jpg" / f"{path.stem}.jpg", quality=90)
    size = sum(path.stat().st_size for path in files)
    yield "PNG files, decoded for every crop", DecodedEveryTime(files), size, 32
    cache = ImageCache(files, folder / "cache")
    size = sum(path.stat().st_size for path in (folder / "cache").glob("*.npy"))
    yield "the cache of data=folder (beside the files)", cache, size, 2000
    for name, settings, source, crops in (
        ("shards of pixels: format=npy", {}, "png", 2000),
        (f"shards of pixels in tiles: format=npy tile={TILE}", {"tile": TILE}, "png", 2000),
        (f"shards of PNG tiles: format=png tile={TILE}", {"format": "png", "tile": TILE}, "png", 300),
        ("shards of whole PNG files: format=original", {"format": "original"}, "png", 32),
        ("shards of whole JPEG files: format=original", {"format": "original"}, "jpg", 64),
    ):
        output = folder / f"shards{len(list(folder.iterdir()))}"
        writer = ShardWriter(**settings)  # type: ignore[arg-type]  # a mixture of types, each its own setting's
        manifest = writer.write(FolderSource(str(folder / source), str(folder / source)), output)
        size = sum(shard.bytes for shard in manifest.train)
        yield name, ShardImages(output, manifest.train), size, crops


def milliseconds(images: Images, crops: int) -> float:
    """Processor time for a crop, after some that open and map what there is."""
    dataset = CropDataset(images, GaussianBlur(sigma=(0.3, 3.2)), 128, fixed_crops=crops)
    sampler = EpochSampler(crops, 8)
    if isinstance(images, ShardImages):
        sampler = ShardSampler(images.counts, crops, 8)
    batches = iter(ResumableLoader(dataset, sampler))
    next(batches)
    began = time.process_time()
    made = sum(len(batch) for batch in batches)
    return (time.process_time() - began) * 1000 / made


def main() -> None:
    """Print a row for each way, and write them all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photographs", type=int, default=8)
    parser.add_argument("--output", type=Path, default=Path(__file__).with_name("speed.json"))
    chosen = parser.parse_args()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    rows = []
    with tempfile.TemporaryDirectory() as name:
        for way, images, size, crops in ways(Path(name), chosen.photographs):
            row = {"way": way, "ms_per_crop": round(milliseconds(images, crops), 2)}
            rows.append({**row, "mb_per_photograph": round(size / chosen.photographs / 1e6, 2)})
            print(rows[-1], flush=True)
    chosen.output.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
