from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sharpkd.data import cache as cache_module
from sharpkd.data.cache import ImageCache
from sharpkd.data.images import read_image

from ..conftest import fill
from .conftest import picture


@pytest.fixture
def decodings(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Every file that is decoded from now on."""
    decoded: list[Path] = []

    def counting(path: Path) -> np.ndarray:
        decoded.append(path)
        return read_image(path)

    monkeypatch.setattr(cache_module, "read_image", counting)
    return decoded


def test_images_are_those_that_were_saved(make_folder: Callable[..., Path], tmp_path: Path) -> None:
    files = sorted(make_folder(count=3).iterdir())
    cache = ImageCache(files, tmp_path / "cache")
    assert len(cache) == 3
    assert cache.files == files
    for index in range(3):
        np.testing.assert_array_equal(cache[index], picture(index))
        assert tuple(cache.shapes[index]) == (48, 56, 3)
    with pytest.raises(ValueError, match="read-only"):
        cache[0][0, 0, 0] = 1


def test_each_file_is_decoded_once(
    make_folder: Callable[..., Path], tmp_path: Path, decodings: list[Path]
) -> None:
    files = sorted(make_folder(count=4).iterdir())
    for _ in range(3):
        cache = ImageCache(files, tmp_path / "cache")
        assert [cache[i].shape for i in range(4)] == [(48, 56, 3)] * 4
    assert sorted(decodings) == files


def test_a_changed_file_is_decoded_again(
    make_folder: Callable[..., Path], tmp_path: Path, decodings: list[Path]
) -> None:
    files = sorted(make_folder(count=2).iterdir())
    ImageCache(files, tmp_path / "cache")
    decodings.clear()
    before = files[1].stat()
    Image.fromarray(picture(9)).save(files[1])
    os.utime(files[1], ns=(before.st_atime_ns, before.st_mtime_ns + 1_000_000))
    cache = ImageCache(files, tmp_path / "cache")
    np.testing.assert_array_equal(cache[1], picture(9))
    assert decodings == [files[1]]


def test_bad_images_are_listed_and_remembered(
    make_folder: Callable[..., Path], tmp_path: Path, decodings: list[Path]
) -> None:
    folder = make_folder(count=2)
    (folder / "b_empty.png").write_bytes(b"")
    (folder / "b_truncated.png").write_bytes((folder / "a00.png").read_bytes()[:2000])
    (folder / "b_text.jpg").write_text("not an image")
    files = sorted(folder.iterdir())
    first = ImageCache(files, tmp_path / "cache")
    assert [entry.path.name for entry in first.skipped] == ["b_empty.png", "b_text.jpg", "b_truncated.png"]
    assert all(entry.reason for entry in first.skipped)
    assert "empty" in first.skipped[0].reason
    assert [path.name for path in first.files] == ["a00.png", "a01.png"]
    decodings.clear()
    again = ImageCache(files, tmp_path / "cache")
    assert again.skipped == first.skipped
    assert decodings == []


def test_a_repaired_image_is_used(make_folder: Callable[..., Path], tmp_path: Path) -> None:
    file = make_folder(count=1) / "a00.png"
    good = file.read_bytes()
    file.write_bytes(good[:1000])
    assert len(ImageCache([file], tmp_path / "cache")) == 0
    file.write_bytes(good)
    np.testing.assert_array_equal(ImageCache([file], tmp_path / "cache")[0], picture(0))


def test_small_images_are_skipped(make_folder: Callable[..., Path], tmp_path: Path) -> None:
    make_folder(count=1, height=31, width=200)
    folder = make_folder(count=1, first=1, height=32, width=32)
    cache = ImageCache(sorted(folder.iterdir()), tmp_path / "cache", min_side=32)
    assert [(entry.path.name, entry.reason) for entry in cache.skipped] == [
        ("a00.png", "200x31 is smaller than 32x32")
    ]
    assert [path.name for path in cache.files] == ["a01.png"]


def test_a_file_that_vanished_is_skipped(make_folder: Callable[..., Path], tmp_path: Path) -> None:
    folder = make_folder(count=1)
    cache = ImageCache([folder / "a00.png", folder / "gone.png"], tmp_path / "cache")
    assert [(entry.path.name, entry.reason) for entry in cache.skipped] == [
        ("gone.png", "No such file or directory")
    ]


def test_a_half_written_entry_is_made_again(make_folder: Callable[..., Path], tmp_path: Path) -> None:
    file = make_folder(count=1) / "a00.png"
    ImageCache([file], tmp_path / "cache")
    (record,) = (tmp_path / "cache").glob("*.json")
    for damage in ("", "{", json.dumps({"path": "x"})):
        record.write_text(damage)
        np.testing.assert_array_equal(ImageCache([file], tmp_path / "cache")[0], picture(0))
    (pixels,) = (tmp_path / "cache").glob("*.npy")
    pixels.unlink()
    np.testing.assert_array_equal(ImageCache([file], tmp_path / "cache")[0], picture(0))


def test_nothing_but_entries_stays(make_folder: Callable[..., Path], tmp_path: Path) -> None:
    ImageCache(sorted(make_folder(count=3).iterdir()), tmp_path / "cache")
    suffixes = sorted(path.suffix for path in (tmp_path / "cache").iterdir())
    assert suffixes == ["", *[".json"] * 3, *[".npy"] * 3]


def test_a_pickled_cache_has_no_pixels_and_works(make_folder: Callable[..., Path], tmp_path: Path) -> None:
    cache = ImageCache(sorted(make_folder(count=3).iterdir()), tmp_path / "cache")
    assert cache[1].nbytes == 48 * 56 * 3
    pickled = pickle.dumps(cache)
    assert len(pickled) < 48 * 56 * 3
    np.testing.assert_array_equal(pickle.loads(pickled)[1], picture(1))


def test_more_images_than_open_mappings(
    make_folder: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_module, "OPEN_MAPPINGS", 2)
    cache = ImageCache(sorted(make_folder(count=5).iterdir()), tmp_path / "cache")
    for index in (0, 1, 2, 3, 4, 0, 2):
        np.testing.assert_array_equal(cache[index], picture(index))
    assert len(cache._mappings) == 2


def test_pixel_hashes_are_sha256_of_shape_and_pixels(
    make_folder: Callable[..., Path], tmp_path: Path
) -> None:
    cache = ImageCache(sorted(make_folder(count=1).iterdir()), tmp_path / "cache")
    assert cache.pixel_hashes == [hashlib.sha256(b"48x56x3" + picture(0).tobytes()).hexdigest()]


def test_a_folder_that_cannot_be_written_is_named(make_folder: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match="file"):
        ImageCache(sorted(make_folder(count=1).iterdir()), tmp_path / "file" / "cache")


def test_a_full_disk_says_what_to_do(
    make_folder: Callable[..., Path], tmp_path: Path, small_disk: Path
) -> None:
    """What is there stays and is used; with room the rest is decoded."""
    files = sorted(make_folder(count=3, height=300, width=300).iterdir())
    ImageCache(files[:1], small_disk / "cache")
    filler = fill(small_disk, left=290_000)
    with pytest.raises(OSError, match=r"No space left on device.*paths\.cache_root=FOLDER") as said:
        ImageCache(files, small_disk / "cache")
    assert "\n" not in str(said.value)
    assert list((small_disk / "cache").glob("*.part")) == []
    np.testing.assert_array_equal(ImageCache(files[:1], small_disk / "cache")[0], picture(0, 300, 300))
    filler.unlink()
    cache = ImageCache(files, small_disk / "cache")
    for index in range(3):
        np.testing.assert_array_equal(cache[index], picture(index, 300, 300))


@pytest.mark.parametrize("damage", ["one bit", "half", "nothing left", "gone", "not an array"])
def test_damaged_pixels_are_decoded_again(
    damage: str,
    make_folder: Callable[..., Path],
    tmp_path: Path,
    decodings: list[Path],
    caplog: pytest.LogCaptureFixture,
) -> None:
    files = sorted(make_folder(count=2).iterdir())
    ImageCache(files, tmp_path / "cache")
    decodings.clear()
    cache = ImageCache(files, tmp_path / "cache")
    entry = cache_module._entry(tmp_path / "cache", files[1], ".npy")
    content = bytearray(entry.read_bytes())
    content[len(content) // 2] ^= 1
    harmed = {"one bit": bytes(content), "half": bytes(content[:4000]), "nothing left": b""}
    if damage == "gone":
        entry.unlink()
    else:
        entry.write_bytes(harmed.get(damage, b"not an array"))
    np.testing.assert_array_equal(cache[1], picture(1))
    assert decodings == [files[1]]
    (told,) = caplog.messages
    assert told.startswith(f"{entry} is damaged (")
    assert told.endswith(f"); {files[1]} is decoded again")
    caplog.clear()
    again = ImageCache(files, tmp_path / "cache")
    np.testing.assert_array_equal(again[1], picture(1))
    np.testing.assert_array_equal(again[0], picture(0))
    assert decodings == [files[1]]
    assert caplog.messages == []


def test_damaged_pixels_of_an_image_that_was_replaced_are_not_mixed_up(
    make_folder: Callable[..., Path], tmp_path: Path
) -> None:
    (file,) = make_folder(count=1).iterdir()
    cache = ImageCache([file], tmp_path / "cache")
    Image.fromarray(picture(7)).save(file)
    cache_module._entry(tmp_path / "cache", file, ".npy").write_bytes(b"")
    with pytest.raises(ValueError, match=r"a00\.png has changed since this process looked at it; start"):
        cache[0]


def test_entries_are_numpy_files(make_folder: Callable[..., Path], tmp_path: Path) -> None:
    """Byte for byte what ``np.save`` writes."""
    (file,) = make_folder(count=1).iterdir()
    ImageCache([file], tmp_path / "cache")
    np.save(tmp_path / "expected.npy", picture(0))
    (entry,) = (tmp_path / "cache").glob("*.npy")
    assert entry.read_bytes() == (tmp_path / "expected.npy").read_bytes()


def _open_in_a_process(files: list[Path], cache_dir: Path, start: object, results: object) -> None:
    start.wait()  # type: ignore[attr-defined]  # they travel as plain objects
    cache = ImageCache(files, cache_dir)
    results.put([int(cache[i].sum()) for i in range(len(cache))])  # type: ignore[attr-defined]  # they travel as plain objects


def test_two_processes_can_build_one_cache(make_folder: Callable[..., Path], tmp_path: Path) -> None:
    files = sorted(make_folder(count=12, height=200, width=200).iterdir())
    context = multiprocessing.get_context("fork")
    start, results = context.Barrier(2), context.Queue()
    processes = [
        context.Process(target=_open_in_a_process, args=(files, tmp_path / "cache", start, results))
        for _ in range(2)
    ]
    for process in processes:
        process.start()
    expected = [int(picture(i, 200, 200).sum()) for i in range(12)]
    assert [results.get(timeout=60) for _ in processes] == [expected, expected]
    for process in processes:
        process.join()
        assert process.exitcode == 0
