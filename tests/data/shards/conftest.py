"""Small shards to read."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sharpkd.data.batch import Batch
from sharpkd.data.degradation import GaussianBlur
from sharpkd.data.folder import FolderSource
from sharpkd.data.shards.datamodule import ShardDataModule
from sharpkd.data.shards.writer import ShardWriter


def content(batch: Batch) -> str:
    """What the batch holds, short enough for a failure's message."""
    pixels = batch.sharp.numpy().tobytes() + batch.degraded.numpy().tobytes()
    return " ".join([*batch.name, hashlib.sha256(pixels).hexdigest()[:12]])


@pytest.fixture
def make_shards(make_folder: Callable[..., Path], tmp_path: Path) -> Callable[..., Path]:
    """``make_shards(count, **settings)``: shards of four of ``count`` 48 x 56 images; 2 for validation."""

    def make(count: int = 10, name: str = "shards", **settings: Any) -> Path:
        train, val = make_folder("train", count), make_folder("val", 2, first=90, height=30, width=40)
        writer = ShardWriter(**{"min_side": 16, "shard_images": 4, "workers": 2, **settings})
        writer.write(FolderSource(str(train), str(val)), tmp_path / name)
        return tmp_path / name

    return make


@pytest.fixture
def data(tmp_path: Path) -> Callable[..., ShardDataModule]:
    """``data(folder, **settings)``: one crop of 16 pixels from each image, two in a batch."""

    def make(folder: Path, **settings: Any) -> ShardDataModule:
        usual = {"degradation": GaussianBlur(), "cache_dir": tmp_path / "cache", "workers": 0}
        sizes = {"batch_size": 2, "crop_size": 16, "crops_per_image": 1, "shuffle_buffer": 6}
        return ShardDataModule(str(folder), **{**usual, **sizes, **settings})

    return make
