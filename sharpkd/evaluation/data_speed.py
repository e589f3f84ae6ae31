"""How many training crops a second the loader makes: from the decoded cache, from shards, and from files."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table

from sharpkd.data.cache import ImageCache
from sharpkd.data.crops import CropDataset, Images
from sharpkd.data.images import read_image
from sharpkd.data.loader import ResumableLoader
from sharpkd.data.sample import SampleSource
from sharpkd.data.sampler import EpochSampler
from sharpkd.data.shards.images import ShardImages
from sharpkd.data.shards.sampler import ShardSampler
from sharpkd.data.shards.writer import Format, ShardWriter
from sharpkd.evaluation.speed_files import write_speed

TILE_CROPS = 4
"""From tiles so many times more crops are timed than from whole files: they are that much quicker."""


@dataclass(frozen=True)
class Speed:
    """Crops a second, after the workers have started.

    Attributes:
        workers: loading processes.
        cached: cut from the decoded cache.
        decoded: with a PNG file read for every crop.
        times_faster: the first over the second.
        shards: cut from shards of decoded pixels (``shards.format=npy``).
        shards_of_tiles: from shards of tiles as PNG files (``shards.format=png``), each decoded for its crop.
    """

    workers: int
    cached: float
    decoded: float
    times_faster: float
    shards: float
    shards_of_tiles: float


class DecodedEveryTime:
    """Images that are read from their files at every access: what the cache is measured against."""

    def __init__(self, files: Sequence[Path]) -> None:
        self.files = files

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> np.ndarray:
        return read_image(self.files[index])


class _Given:
    """Files to train on, such as they are."""

    def __init__(self, files: Sequence[Path]) -> None:
        self.files = list(files)

    def __str__(self) -> str:
        return f"{len(self.files)} files"

    def prepare(self) -> None:
        """Nothing to get."""

    def train_files(self) -> list[Path]:
        return self.files

    def val_files(self) -> list[Path]:
        return []


class DataSpeed:
    """Crops a second, cut from PNG photographs, turned, degraded and collated.

    Args:
        degradation: any albumentations transform.
        workers: numbers of loading processes to measure, each at least 1.
        images: how many photographs (scikit-image's, mirrored up to the size).
        width: of each, in pixels.
        height: likewise.
        crop_size: pixels.
        batch_size: crops in a batch.
        cached_crops: how many crops to time with the cache.
        decoded_crops: how many without it.
        tile: side of the tiles in the shards of PNG files, in pixels.
    """

    def __init__(
        self,
        degradation: Any,
        workers: list[int],
        images: int = 8,
        width: int = 2040,
        height: int = 1356,
        crop_size: int = 128,
        batch_size: int = 8,
        cached_crops: int = 4000,
        decoded_crops: int = 96,
        tile: int = 480,
    ) -> None:
        if not workers or min(workers) < 1:
            raise ValueError(f"what.workers must be numbers of at least 1, got {workers}")
        least = batch_size * (max(workers) + 1)
        for name, crops in (("cached_crops", cached_crops), ("decoded_crops", decoded_crops)):
            if crops < least:
                raise ValueError(
                    f"what.{name} must be at least {least}, one batch of {batch_size} more than "
                    f"{max(workers)} workers take at once, got {crops}"
                )
        self.degradation = degradation
        self.workers = workers
        self.images = images
        self.size = (width, height)
        self.crop_size = crop_size
        self.batch_size = batch_size
        self.cached_crops = cached_crops
        self.decoded_crops = decoded_crops
        self.tile = tile

    def run(self, folder: Path) -> float:
        """Write ``data_speed.json`` and ``data_speed.csv``, print a table.

        Returns:
            How many times faster the cache is, at the number of workers where it gains least.
        """
        with tempfile.TemporaryDirectory() as name:
            files = write_photographs(Path(name), self.images, self.size)
            began = time.perf_counter()
            cache = ImageCache(files, Path(name) / "cache")
            fill_ms = (time.perf_counter() - began) * 1000 / len(files)
            shards = _shards(files, Path(name) / "shards")
            tiles = _shards(files, Path(name) / "tiles", "png", self.tile)
            speeds = [
                self._compare(cache, DecodedEveryTime(files), shards, tiles, workers)
                for workers in self.workers
            ]
        figures = {
            "width": self.size[0],
            "height": self.size[1],
            "crop_size": self.crop_size,
            "degradation": type(self.degradation).__name__,
            "fill_ms_per_image": round(fill_ms, 1),
            "tile": self.tile,
        }
        write_speed(folder, "data_speed", figures, "crops_per_second", speeds)
        _print(speeds, folder)
        return min(speed.times_faster for speed in speeds)

    def _compare(
        self, cached: Images, decoded: Images, shards: ShardImages, tiles: ShardImages, workers: int
    ) -> Speed:
        with_cache = self._measure(cached, workers, self.cached_crops)
        without = self._measure(decoded, workers, self.decoded_crops)
        from_shards = self._measure(shards, workers, self.cached_crops)
        from_tiles = self._measure(tiles, workers, TILE_CROPS * self.decoded_crops)
        return Speed(
            workers,
            round(with_cache, 1),
            round(without, 2),
            round(with_cache / without, 1),
            round(from_shards, 1),
            round(from_tiles, 1),
        )

    def _measure(self, images: Images, workers: int, crops: int) -> float:
        dataset = CropDataset(images, self.degradation, self.crop_size, fixed_crops=crops)
        sampler = EpochSampler(crops, self.batch_size)
        if isinstance(images, ShardImages):
            sampler = ShardSampler(images.counts, crops, self.batch_size)
        batches = iter(ResumableLoader(dataset, sampler, workers))
        # By the time each worker has delivered once, all have started and none is ahead.
        for _ in range(workers):
            next(batches)
        began = time.perf_counter()
        made = sum(len(batch) for batch in batches)
        return made / (time.perf_counter() - began)


def _shards(
    files: Sequence[Path], folder: Path, format: Format = "npy", tile: int | None = None
) -> ShardImages:
    return ShardImages(folder, ShardWriter(format, tile, min_side=1).write(_Given(files), folder).train)


def write_photographs(folder: Path, count: int, size: tuple[int, int]) -> list[Path]:
    """PNG files ``0.png``, ``1.png``, … of ``size`` (width, height): scikit-image's, mirrored up to it."""
    source = SampleSource()
    photographs = [read_image(path) for path in source.train_files() + source.val_files()]
    files = []
    for index in range(count):
        image = photographs[index % len(photographs)]
        missing = [max(0, want - have) for want, have in zip(size[::-1], image.shape[:2], strict=True)]
        large = np.pad(image, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="symmetric")
        files.append(folder / f"{index}.png")
        Image.fromarray(large[: size[1], : size[0]]).save(files[-1])
    return files


def _print(speeds: Sequence[Speed], folder: Path) -> None:
    table = Table(title="Training crops a second", caption=f"written to {folder}")
    columns = ("workers", "cached", "PNG decoded for every crop", "times faster", "shards", "shards of tiles")
    for column in columns:
        table.add_column(column, justify="right")
    for speed in speeds:
        table.add_row(*(str(value) for value in astuple(speed)))
    Console().print(table)
