"""Each sample once, whoever loads it; what is left after an interruption; shards that cannot be used."""

from __future__ import annotations

import itertools
import json
import os
import pickle
import shutil
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from sharpkd.data.batch import Batch
from sharpkd.data.benchmark_guard import pixel_hash
from sharpkd.data.degradation import GaussianBlur
from sharpkd.data.folder import FolderDataModule
from sharpkd.data.shards import checked
from sharpkd.data.shards.datamodule import ShardDataModule
from sharpkd.data.shards.images import OPEN_SHARDS, ShardImages
from sharpkd.data.shards.manifest import Shard, ShardError, read_manifest
from sharpkd.data.shards.tar_file import UnsafeShard

from ..conftest import picture
from .conftest import content

Make = Callable[..., Path]
Data = Callable[..., ShardDataModule]


class Trainer(SimpleNamespace):
    """What the data module asks of Lightning's: this process's place among others."""

    def __init__(self, rank: int, world_size: int, first: Any = None) -> None:
        progress = SimpleNamespace(current=SimpleNamespace(ready=0, processed=0))
        super().__init__(
            global_rank=rank,
            world_size=world_size,
            is_global_zero=rank == 0,
            strategy=SimpleNamespace(
                root_device=SimpleNamespace(type="cpu"), broadcast=lambda own: first or own
            ),
            fit_loop=SimpleNamespace(epoch_loop=SimpleNamespace(batch_progress=progress)),
        )


def batches(module: ShardDataModule, rank: int = 0, world_size: int = 1, epoch: int = 0) -> list[Batch]:
    module.trainer = Trainer(rank, world_size)  # type: ignore[assignment]  # as much of one as is asked for
    module.setup("fit")
    loader = module.train_dataloader()
    loader.sampler.set_epoch(epoch)
    return list(loader)


@pytest.mark.parametrize("workers", [0, 1, 2])
@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_each_sample_comes_once_over_all_ranks_and_workers(
    make_shards: Make, data: Data, world_size: int, workers: int
) -> None:
    """23 images in shards of 4 and a last one of 3: what does not fill a batch of all ranks is left out."""
    folder = make_shards(23)
    assert [shard.images for shard in read_manifest(folder).train] == [4, 4, 4, 4, 4, 3]
    seen: Counter[str] = Counter()
    lengths = set()
    for rank in range(world_size):
        own = batches(data(folder, workers=workers), rank, world_size, epoch=1)
        lengths.add(len(own))
        seen.update(name for batch in own for name in batch.name)
    assert len(lengths) == 1, "a rank with fewer batches would leave the others waiting"
    assert set(seen.values()) == {1}
    assert len(seen) == 23 - 23 % (2 * world_size)


def test_a_size_that_divides_leaves_nothing_out(make_shards: Make, data: Data) -> None:
    folder = make_shards(12)
    names = [
        name
        for rank in range(3)
        for batch in batches(data(folder, crops_per_image=2), rank, 3)
        for name in batch.name
    ]
    assert Counter(names) == {f"a{index:02d}": 2 for index in range(12)}


def test_any_number_of_workers_gives_the_same_batches(make_shards: Make, data: Data) -> None:
    folder = make_shards()
    settings = {"crops_per_image": 3, "batch_size": 4}
    expected = {epoch: list(map(content, batches(data(folder, **settings), epoch=epoch))) for epoch in (0, 1)}
    assert expected[0] != expected[1]
    for workers in (1, 2):
        module = data(folder, workers=workers, **settings)
        assert list(map(content, batches(module, epoch=1))) == expected[1]


@pytest.mark.parametrize(("before", "after"), [(0, 2), (2, 0)])
def test_an_interrupted_epoch_goes_on_with_the_samples_that_were_left(
    make_shards: Make, data: Data, before: int, after: int
) -> None:
    folder = make_shards()
    expected = [content(batch) for batch in batches(data(folder), epoch=1)]
    first = data(folder, workers=before).train_dataloader()
    first.sampler.set_epoch(1)
    taken = [content(batch) for batch in itertools.islice(iter(first), 2)]
    state = first.state_dict()
    assert (state["epoch"], state["batches"]) == (1, 2)
    second = data(folder, workers=after).train_dataloader()
    second.load_state_dict(state)
    assert taken + [content(batch) for batch in second] == expected


def test_crops_are_cut_from_the_images(make_shards: Make, data: Data) -> None:
    """With crops as large as the images nothing is left to chance but flips and turns."""
    folder = make_shards(4, shard_images=2)
    for batch in batches(data(folder, crop_size=48, batch_size=1)):
        index = int(batch.name[0][1:])
        crop = (batch.sharp[0].permute(1, 2, 0) * 255).round().byte().numpy()
        image = picture(index)
        windows = [image[:, left : left + 48] for left in range(9)]
        turned = [np.rot90(w, k) for w in windows for k in range(4)]
        assert any(np.array_equal(crop, t) or np.array_equal(crop, t[:, ::-1]) for t in turned)


def test_validation_is_that_of_the_files(make_shards: Make, data: Data, tmp_path: Path) -> None:
    """The shards' own images, bit for bit as data=folder validates on them; or those of another folder."""
    folder = make_shards()
    settings: dict[str, Any] = {
        "degradation": GaussianBlur(),
        "cache_dir": tmp_path / "cache",
        "crop_size": 16,
    }
    files = FolderDataModule(str(tmp_path / "train"), str(tmp_path / "val"), workers=0, **settings)
    expected = [content(batch) for batch in files.val_dataloader()]
    assert [content(batch) for batch in data(folder).val_dataloader()] == expected
    assert [
        content(batch) for batch in data(folder, val_dir=str(tmp_path / "val")).val_dataloader()
    ] == expected
    (limited,) = data(folder, val_limit=1).val_dataloader()
    assert content(limited) == expected[0]
    (cropped,) = data(folder, val_crop=24).val_dataloader()
    assert cropped.sharp.shape == (2, 3, 24, 24)
    assert data(folder).pixel_hashes()[1] == files.pixel_hashes()[1]
    assert sorted(data(folder).pixel_hashes()[0]) == sorted(files.pixel_hashes()[0])


def damage(path: Path) -> None:
    """Change one bit in the middle; size and name stay."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_a_corrupt_shard_is_named_and_left_out(make_shards: Make, data: Data, tmp_path: Path) -> None:
    folder = make_shards()
    damage(folder / "train-000001.tar")
    with pytest.warns(UserWarning, match="training goes on without 1 unusable shard") as caught:
        names = [name for batch in batches(data(folder)) for name in batch.name]
    assert f"{folder / 'train-000001.tar'}: its SHA-256 is " in str(caught[0].message)
    assert len(set(names)) == len(names) == 6
    with pytest.raises(ShardError, match=r"data\.strict=true, and 1 unusable shard\(s\):\n.*train-000001"):
        data(folder, strict=True).setup("fit")


def test_missing_cut_and_mislabelled_shards(make_shards: Make, data: Data) -> None:
    folder = make_shards(20)
    (folder / "train-000000.tar").unlink()
    with (folder / "train-000001.tar").open("r+b") as file:
        file.truncate(5000)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["train"][2]["images"] = 3
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.warns(UserWarning, match="training goes on without 3 unusable shard") as caught:
        names = {name for batch in batches(data(folder)) for name in batch.name}
    message = str(caught[0].message)
    assert "train-000000.tar: No such file or directory" in message
    assert "train-000001.tar: 5,000 bytes, the manifest says " in message
    assert "train-000002.tar: 4 images of at least 48 pixels, the manifest says 3 of at least 48" in message
    assert len(names) == 8
    for path in folder.glob("*.tar"):
        path.unlink()
    with pytest.raises(FileNotFoundError, match=r"no usable shard in .*: the 5 unusable shard\(s\)"):
        data(folder).setup("fit")


def test_shards_are_hashed_once_and_again_when_they_have_changed(
    make_shards: Make, data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_shards()
    read: list[str] = []
    real = checked._read

    def noted(path: Path, shard: Shard) -> tuple[tuple[str, str], ...]:
        read.append(path.name)
        return real(path, shard)

    monkeypatch.setattr(checked, "_read", noted)
    data(folder).setup("fit")
    assert sorted(read) == ["train-000000.tar", "train-000001.tar", "train-000002.tar", "val-000000.tar"]
    data(folder).setup("fit")
    assert len(read) == 4
    os.utime(folder / "train-000002.tar", ns=(1, 1))
    data(folder).setup("fit")
    assert read[4:] == ["train-000002.tar"]


def test_a_checkpoint_of_other_shards_is_refused(make_shards: Make, data: Data) -> None:
    folder = make_shards()
    loader = data(folder).train_dataloader()
    next(iter(loader))
    state = loader.state_dict()
    damage(folder / "train-000001.tar")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="training goes on without")
        later = data(folder).train_dataloader()
    with pytest.raises(ValueError, match=r"made with other shards \(fingerprint \w{16}, now \w{16}\)"):
        later.load_state_dict(state)
    with pytest.raises(ValueError, match=r"made with other shards \(fingerprint None"):
        later.load_state_dict({"epoch": 0, "batches": 1})


def test_ranks_with_other_shards_are_refused(make_shards: Make, data: Data) -> None:
    module = data(make_shards())
    module.trainer = Trainer(1, 2, first=("0" * 16, ["train-000000.tar"]))  # type: ignore[assignment]  # likewise
    with pytest.raises(
        ShardError, match=r"rank 1 cannot use the same .* has: train-000001\.tar, train-000002"
    ):
        module.setup("fit")


def test_an_unsafe_archive_is_refused_even_with_a_right_hash(make_shards: Make, data: Data) -> None:
    folder = make_shards()
    path = folder / "train-000000.tar"
    # only a header's name and its checksum differ: 00000000.npy becomes ../00000.npy
    content = bytearray(path.read_bytes())
    content[:8] = b"../00000"
    content[148:156] = b" " * 8
    content[148:156] = b"%06o\0 " % sum(content[:512])
    path.write_bytes(content)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["train"][0]["sha256"] = checked.hashlib.sha256(content).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(
        UnsafeShard, match=r"train-000000\.tar holds '\.\./00000\.npy', a path that could lead"
    ):
        data(folder).setup("fit")


def test_benchmark_images_are_refused(make_shards: Make, data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_shards()
    twin = {pixel_hash(picture(3)): "Set5/baby.png"}
    monkeypatch.setattr("sharpkd.data.shards.checked.sharpbench_hashes", lambda: twin)
    monkeypatch.setattr("sharpkd.data.benchmark_guard.sharpbench_hashes", lambda: twin)
    with pytest.raises(ValueError, match=r"belong to the benchmark.*a03\.png is Set5/baby\.png"):
        data(folder).setup("fit")


def test_images_that_are_too_small_for_the_crops(make_shards: Make, data: Data) -> None:
    folder = make_shards()
    with pytest.raises(
        ShardError, match=r"at least 64x64 pixels, .* one with a side of 48; .*shards\.min_side=64"
    ):
        data(folder, crop_size=64).setup("fit")
    with pytest.raises(ShardError, match=r"data\.val_crop=32 needs images of at least 32x32"):
        data(folder, val_crop=32).setup("fit")


def test_what_is_said_of_a_wrong_folder(make_shards: Make, data: Data, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"data\.train_dir: there is no folder .*nowhere"):
        data(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"holds no manifest\.json, .* python -m sharpkd\.prepare"):
        data(tmp_path)
    folder = make_shards()
    with pytest.raises(ValueError, match=r"data\.shuffle_buffer must be at least 1, got 0"):
        data(folder, shuffle_buffer=0)
    with pytest.raises(ShardError, match=r"hold images, but no image files: data\.val_dir=FOLDER"):
        data(folder).source.val_files()
    manifest = folder / "manifest.json"
    whole = json.loads(manifest.read_text())
    hostile = {**whole, "train": [{**whole["train"][0], "name": "../train-000000.tar"}]}
    for text, message in {
        '{"format": "sh': r"manifest\.json is damaged",
        "[]": "is not the manifest of shards",
        json.dumps({**whole, "version": 9}): "is of version 9, expected 1",
        json.dumps({**whole, "train": None}): "is damaged .a list of shards is None",
        json.dumps(hostile): r"is damaged .a shard's name is '\.\./train-000000\.tar'",
        json.dumps({**whole, "val": whole["train"]}): "a shard is named twice",
        json.dumps({**whole, "train": [{**whole["train"][0], "images": 0}]}): "images of .* is 0, expected",
    }.items():
        manifest.write_text(text)
        with pytest.raises(ShardError, match=message):
            data(folder)


def test_open_archives_stay_few(make_shards: Make) -> None:
    """Every shard is opened, and no more than some stay so; the smallest shards are the hardest."""
    folder = make_shards(70, shard_images=1)
    images = ShardImages(folder, read_manifest(folder).train)
    assert len(images) == 70 > OPEN_SHARDS
    order = [int(images.files[index].stem[1:]) for index in range(70)]
    for index, number in enumerate(order):
        np.testing.assert_array_equal(images[index], picture(number))
    assert len(images._open) == OPEN_SHARDS
    assert len(pickle.dumps(images)) < 20_000, "no pixels travel to a worker"
    with pytest.raises(IndexError, match="image 70 of 70"):
        images[70]


def test_a_shard_that_vanishes_later_is_named(make_shards: Make) -> None:
    folder = make_shards()
    images = ShardImages(folder, read_manifest(folder).train)
    shutil.rmtree(folder)
    with pytest.raises(ShardError, match=r"train-000000\.tar: there is no such file"):
        images[0]
