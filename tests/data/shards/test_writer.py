from __future__ import annotations

import errno
import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import webdataset
from PIL import Image

from sharpkd.data.benchmark_guard import pixel_hash
from sharpkd.data.folder import FolderSource
from sharpkd.data.images import UnreadableImage, read_image
from sharpkd.data.shards import writer as writing
from sharpkd.data.shards.images import ShardImages, decode_image, raw_image
from sharpkd.data.shards.manifest import Manifest, ShardError, read_manifest
from sharpkd.data.shards.progress import PROGRESS
from sharpkd.data.shards.writer import ShardWriter

from ..conftest import picture

Make = Callable[..., Path]


def write(folder: Path, output: Path, overwrite: bool = False, **settings: Any) -> Manifest:
    """Shards of three images, from a folder that holds out its first and its sixth."""
    writer = ShardWriter(**{"min_side": 16, "shard_images": 3, "workers": 2, **settings})
    return writer.write(FolderSource(str(folder), str(folder / "val")), output, overwrite)


@pytest.fixture
def photos(make_folder: Make) -> Path:
    """Ten images to train on, which also hold those to validate on: 12 files."""
    folder = make_folder(count=10)
    make_folder("photos/val", 2, first=50)
    return folder


def images_of(output: Path, part: str = "train") -> dict[str, np.ndarray]:
    shards = getattr(read_manifest(output), part)
    images = ShardImages(output, shards)
    return {images.files[index].stem: images[index] for index in range(len(images))}


@pytest.mark.parametrize("format", ["npy", "png", "original"])
def test_every_image_is_in_one_shard(photos: Path, tmp_path: Path, format: str) -> None:
    manifest = write(photos, tmp_path / "shards", format=format)
    assert [shard.images for shard in manifest.train] == [3, 3, 3, 3]
    assert manifest == read_manifest(tmp_path / "shards")
    assert not (tmp_path / "shards" / PROGRESS).exists()
    held = images_of(tmp_path / "shards")
    assert sorted(held) == [*(f"a{index:02d}" for index in range(10)), "a50", "a51"]
    for name, image in held.items():
        np.testing.assert_array_equal(image, picture(int(name[1:])))
        assert not image.flags.writeable or format != "npy"
    assert list(images_of(tmp_path / "shards", "val")) == ["a50", "a51"]
    order = list(held)
    assert order != sorted(order), "neighbours in a folder are no neighbours in a shard"


# WebDataset leaves the last archive of an iteration to the garbage collector.
@pytest.mark.filterwarnings(
    "ignore:Exception ignored in. <_io.FileIO:pytest.PytestUnraisableExceptionWarning"
)
def test_webdataset_reads_them(photos: Path, tmp_path: Path) -> None:
    """The layout is WebDataset's own: its reader finds the same images with its own decoders."""
    for format in ("npy", "png"):
        output = tmp_path / format
        manifest = write(photos, output, format=format)
        urls = [str(output / shard.name) for shard in manifest.train]
        found = 0
        for sample in webdataset.WebDataset(urls, shardshuffle=False).decode("rgb8"):
            number = int(Path(sample["json"]["name"]).stem[1:])
            np.testing.assert_array_equal(sample[format], picture(number))
            assert sample["json"]["pixel_hash"] == pixel_hash(picture(number))
            found += 1
        assert found == 12


def test_the_same_images_make_the_same_bytes(photos: Path, tmp_path: Path) -> None:
    first, second = (write(photos, tmp_path / name, workers=n) for name, n in (("a", 1), ("b", 4)))
    assert first.train == second.train
    assert write(photos, tmp_path / "c", seed=1).train != first.train


def test_tiles_cover_each_training_image(make_folder: Make, tmp_path: Path) -> None:
    folder = make_folder(count=2, height=50, width=40)
    make_folder("photos/val", 1, first=50, height=50, width=40)
    write(folder, tmp_path / "shards", tile=24)
    shards = ShardImages(tmp_path / "shards", read_manifest(tmp_path / "shards").train)
    covered = {name: np.zeros((50, 40), bool) for name in ("a00", "a01", "a50")}
    for index in range(len(shards)):
        record = shards.record(index)
        assert record.tile is not None
        left, top = record.tile
        name = Path(record.name).stem
        whole = picture(int(name[1:]), 50, 40)
        np.testing.assert_array_equal(shards[index], whole[top : top + 24, left : left + 24])
        assert record.pixel_hash == pixel_hash(whole)
        assert shards[index].shape == (24, 24, 3)
        covered[name][top : top + 24, left : left + 24] = True
    assert all(mask.all() for mask in covered.values())
    assert len(shards) == 3 * 3 * 2
    assert images_of(tmp_path / "shards", "val")["a50"].shape == (50, 40, 3)


def test_a_shard_is_closed_when_it_is_large_enough(photos: Path, tmp_path: Path) -> None:
    size = 48 * 56 * 3 + 128
    manifest = write(photos, tmp_path / "shards", shard_images=100, shard_mb=4.5 * size / 1e6)
    assert [shard.images for shard in manifest.train] == [5, 5, 2]


class StoppedError(RuntimeError):
    """The process ended here."""


@pytest.fixture
def stops_after(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """``stops_after(n)``: the process ends while it writes shard n, counted from 0; -1 lets it go on."""
    real = writing._add
    count = {"calls": 0, "limit": -1}

    def limit(shards: int) -> None:
        count.update(calls=0, limit=shards * 6 + 3)

    def add(*arguments: Any) -> None:
        count["calls"] += 1
        if count["calls"] == count["limit"]:
            raise StoppedError
        real(*arguments)

    monkeypatch.setattr(writing, "_add", add)
    return limit


def test_work_goes_on_where_it_stopped(
    photos: Path, tmp_path: Path, stops_after: Callable[[int], None]
) -> None:
    """Twice interrupted: finished shards are not written again, and all is as if nothing had happened."""
    output, whole = tmp_path / "shards", write(photos, tmp_path / "whole")
    for shards, left in ((2, 2), (1, 3)):
        stops_after(shards)
        with pytest.raises(StoppedError):
            write(photos, output)
        assert len(list(output.glob("train-*.tar"))) == left
        assert not (output / "manifest.json").exists()
        assert not list(output.glob("*.part"))
    kept = {path: path.stat().st_mtime_ns for path in output.glob("*.tar")}
    stops_after(-1)
    resumed = write(photos, output)
    assert (resumed.train, resumed.val) == (whole.train, whole.val)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    for shard in whole.train:
        assert (output / shard.name).read_bytes() == (tmp_path / "whole" / shard.name).read_bytes()


def test_what_a_killed_process_leaves_is_cleared_away(
    photos: Path, tmp_path: Path, stops_after: Callable[[int], None]
) -> None:
    output, whole = tmp_path / "shards", write(photos, tmp_path / "whole")
    stops_after(2)
    with pytest.raises(StoppedError):
        write(photos, output)
    stops_after(-1)
    (output / "train-000002.tar.part").write_bytes(b"half")
    with (output / PROGRESS).open("a") as file:
        file.write('{"part": "train", "en')
    (output / "train-000001.tar").write_bytes(b"cut short by the disk")
    assert write(photos, output).train == whole.train
    assert (output / "train-000001.tar").read_bytes() == (tmp_path / "whole/train-000001.tar").read_bytes()


def test_nothing_is_overwritten_unasked(
    photos: Path, tmp_path: Path, stops_after: Callable[[int], None]
) -> None:
    output = tmp_path / "shards"
    stops_after(2)
    with pytest.raises(StoppedError):
        write(photos, output)
    stops_after(-1)
    with pytest.raises(ShardError, match=r"unfinished shards of other settings: shards\.seed=0 \(now 1\)"):
        write(photos, output, seed=1)
    Image.fromarray(picture(99)).save(photos / "a99.png")
    with pytest.raises(ShardError, match="unfinished shards of other images, or images that have changed"):
        write(photos, output)
    (output / "mine.txt").write_text("kept")
    finished = write(photos, output, overwrite=True)
    assert sum(shard.images for shard in finished.train) == 13
    with pytest.raises(ShardError, match=r"holds finished shards \(13 images .*overwrite=true"):
        write(photos, output)
    again = write(photos, output, overwrite=True, shard_images=100)
    assert [path.name for path in output.glob("train-*.tar")] == [again.train[0].name]
    assert (output / "mine.txt").read_text() == "kept"
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letter.txt").write_text("dear")
    with pytest.raises(ShardError, match=r"is not empty \(it holds letter\.txt\), and holds no shards"):
        write(photos, tmp_path / "other")
    with pytest.raises(NotADirectoryError, match=r"letter\.txt is a file, expected a folder"):
        write(photos, tmp_path / "other" / "letter.txt")


def test_images_that_cannot_be_used_are_named(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (photos / "b_empty.png").write_bytes(b"")
    (photos / "b_text.jpg").write_text("hello")
    Image.fromarray(picture(0, 15, 90)).save(photos / "b_small.png")
    monkeypatch.setattr(writing, "sharpbench_hashes", lambda: {pixel_hash(picture(4)): "Set5/baby.png"})
    manifest = write(photos, tmp_path / "shards")
    assert {entry["path"]: entry["reason"] for entry in manifest.left_out} == {
        "b_empty.png": "unreadable: the file is empty (0 bytes)",
        "b_text.jpg": "unreadable: not a PNG, JPEG, WebP, TIFF or BMP image, or cut short",
        "b_small.png": "small: 90x15 pixels, less than 16x16",
        "a04.png": "it belongs to the benchmark: Set5/baby.png",
    }
    assert sum(shard.images for shard in manifest.train) == 11


def test_nothing_usable(make_folder: Make, tmp_path: Path) -> None:
    folder = make_folder(count=0)
    make_folder("photos/val", 0)
    with pytest.raises(FileNotFoundError, match="no image in "):
        write(folder, tmp_path / "shards")
    (folder / "bad.png").write_text("hello")
    with pytest.raises(FileNotFoundError, match=r"of 1 none can be trained on, such as bad\.png: unreadable"):
        write(folder, tmp_path / "shards")


def test_a_full_disk_is_said_and_costs_no_finished_shard(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def full(*arguments: Any) -> None:
        calls.append(arguments)
        if len(calls) > 8:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(*arguments)

    real = writing._add
    with monkeypatch.context() as patch:
        patch.setattr(writing, "_add", full)
        with pytest.raises(OSError, match=r"cannot be written to .* \(No space left on device\); make room"):
            write(photos, tmp_path / "shards")
    assert [path.name for path in (tmp_path / "shards").glob("train*")] == ["train-000000.tar"]
    assert sum(shard.images for shard in write(photos, tmp_path / "shards").train) == 12


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"format": "zip"}, r"shards\.format is 'zip'; expected npy, png, original"),
        ({"min_side": 0}, r"shards\.min_side must be at least 1, got 0"),
        ({"shard_images": 0}, r"shards\.shard_images must be at least 1, got 0"),
        ({"workers": 0}, r"shards\.workers must be at least 1, got 0"),
        ({"shard_mb": 0.0}, r"shards\.shard_mb must be above 0, got 0\.0"),
        ({"tile": 100}, r"shards\.tile must be at least shards\.min_side \(128\), or null, got 100"),
        ({"tile": 480, "format": "original"}, r"shards\.tile cuts pixels, not files"),
    ],
)
def test_settings_out_of_range(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ShardWriter(**settings)


def test_original_files_are_read_as_from_a_folder(tmp_path: Path) -> None:
    """16 bits, palettes, orientation and damage: what `read_image` says of the file."""
    deep = np.random.default_rng(0).integers(0, 65536, (40, 40), dtype=np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    Image.fromarray(picture(0)).convert("P").save(tmp_path / "palette.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(picture(1)).save(tmp_path / "turned.jpg", exif=exif)
    for path in sorted(tmp_path.iterdir()):
        np.testing.assert_array_equal(decode_image(path.read_bytes(), path), read_image(path))
    whole = (tmp_path / "turned.jpg").read_bytes()
    for name, data in {"cut.jpg": whole[:900], "text.jpg": b"hello", "cut.png": b"\x89PNG\r\n\x1a\n"}.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(UnreadableImage) as expected:
            read_image(tmp_path / name)
        with pytest.raises(UnreadableImage) as found:
            decode_image(data, tmp_path / name)
        assert str(found.value) == str(expected.value)


def test_the_manifest_says_what_it_was_made_of(photos: Path, tmp_path: Path) -> None:
    write(photos, tmp_path / "shards", tile=40)
    content = json.loads((tmp_path / "shards" / "manifest.json").read_text())
    assert content["plan"]["settings"]["tile"] == 40
    assert str(tmp_path) not in json.dumps(content), "a folder of shards may be given away"


def npy(array: np.ndarray, **settings: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array, **settings)
    return file.getvalue()


class Intruder:
    """Pickled as a call that would be seen."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, ("intruder",)


def test_raw_pixels_are_read_and_nothing_else_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    whole = npy(picture(3))
    found = raw_image(b"before" + whole + b"behind", 6, len(whole), tmp_path)
    np.testing.assert_array_equal(found, picture(3))
    bad = [
        npy(np.array([Intruder()], object), allow_pickle=True),
        npy(picture(3).astype(np.uint16)),
        npy(np.asfortranarray(picture(3))),
        npy(picture(3)[..., :2]),
        npy(picture(3)[..., 0]),
        whole[:-1],
        whole + b"x",
        whole[:60],
        whole.replace(b"(48, 56, 3)", b"(-4, 56, 3)"),
        whole.replace(b"(48, 56, 3)", b"(4*8,6, 3)"),
        whole.replace(b"(48, 56, 3)", b"(96, 28, 3)")[:-3],
        b"",
    ]
    for data in bad:
        with pytest.raises(UnreadableImage, match=r"no \.npy file of uint8 pixels|truncated"):
            raw_image(data, 0, len(data), tmp_path)
    assert not (tmp_path / "intruder").exists()


def test_odd_names_are_made_printable(make_folder: Make, tmp_path: Path) -> None:
    folder = make_folder(count=1)
    (folder / "a00.png").rename(folder / "a\x1b[2J\n.png")
    make_folder("photos/val", 1, first=50)
    write(folder, tmp_path / "shards")
    assert sorted(images_of(tmp_path / "shards")) == ["a50", "a?[2J?"]
