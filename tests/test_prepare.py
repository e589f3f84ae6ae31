"""`python -m sharpkd.prepare`: what it prints, and one line for each mistake."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sharpkd.data.shards.manifest import read_manifest
from sharpkd.prepare import main


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    random = np.random.default_rng(0)
    for index in range(8):
        Image.fromarray(random.integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(folder / f"{index}.png")
    (folder / "broken.png").write_bytes(b"no image")
    return folder


def test_shards_of_a_folder(call: Callable[..., Any], photos: Path, tmp_path: Path) -> None:
    settings = ["data=folder", f"data.train_dir={photos}", "data.val_fraction=0.3", "shards.min_side=32"]
    done = call(main, *settings, "output=shards", "shards.shard_images=3")
    manifest = read_manifest(tmp_path / "shards")
    train, val = (sum(shard.images for shard in part) for part in (manifest.train, manifest.val))
    assert train + val == 8
    assert val >= 1
    assert done.code == 0
    assert f"shards: {train} images to train on in {len(manifest.train)} shard(s) and {val}" in done.out
    assert "1 left out, 1 of them unreadable" in done.out
    assert "left out broken.png: unreadable: not a PNG, JPEG, WebP, TIFF or BMP image" in done.err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 2, "output: none given, expected output=FOLDER for the shards"),
        (["output=out", "data=folder", "data.train_dir=nowhere"], 1, "data.train_dir: there is no folder "),
        (["output=out", "data=folder"], 2, "no value for data.train_dir: set data.train_dir=VALUE"),
        (["output=photos/0.png", "data=folder", "data.train_dir=photos"], 1, "is a file, expected a folder"),
        (
            ["output=photos", "data=folder", "data.train_dir=photos"],
            1,
            "photos is not empty (it holds 0.png), and holds no shards",
        ),
        (
            ["output=out", "data=folder", "data.train_dir=photos", "data.crop_size=64"],
            2,
            "data.crop_size decides nothing about shards",
        ),
        (["output=out", "shards.format=zip"], 2, "shards.format: expected 'npy' or 'png' or 'original'"),
        (["output=out", "shards.tiles=480"], 2, "there is no setting 'shards.tiles'. did you mean 'tile'?"),
        (["output=out", "data=shards", "data.train_dir=out"], 2, "data=shards are shards already"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_one_line(
    call: Callable[..., Any], photos: Path, tmp_path: Path, arguments: list[str], code: int, message: str
) -> None:
    done = call(main, *arguments)
    assert message in done.err
    assert done.err.startswith("error: ")
    assert len(done.err.splitlines()) == 1
    assert done.code == code
    assert not list(tmp_path.glob("out/*.tar"))
