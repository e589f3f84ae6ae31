from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageSequence

from sharpkd.inference.files import sharpened
from sharpkd.inference.image_io import ImageFileError, read_image, write_image
from sharpkd.inference.sharpener import Sharpener

DURATIONS = [50, 100, 70, 30]


def _frames(transparent: bool) -> list[NDArray[np.uint8]]:
    """Four frames ``(20, 24, 4)`` of few colours; with transparent parts that move."""
    generator = np.random.default_rng(0)
    frames = []
    for _ in DURATIONS:
        frame = np.full((20, 24, 4), 255, np.uint8)
        frame[..., :3] = generator.integers(0, 5, (20, 24, 3)) * 60
        if transparent:
            hidden = generator.random((20, 24)) < 0.3
            frame[hidden] = 0
        frames.append(frame)
    return frames


def _shown(path: Path) -> tuple[list[NDArray[Any]], list[float], object]:
    """What Pillow shows of a file: frames, durations, and how often it runs."""
    with Image.open(path) as image:
        frames, durations = [], []
        for frame in ImageSequence.Iterator(image):
            pixels = np.array(frame.convert("RGBA"))
            pixels[pixels[..., 3] == 0] = 0
            frames.append(pixels)
            durations.append(float(frame.info["duration"]))
        return frames, durations, image.info.get("loop")


def _save(path: Path, frames: list[NDArray[np.uint8]], **options: Any) -> None:
    images = [Image.fromarray(frame if (frame[..., 3] == 0).any() else frame[..., :3]) for frame in frames]
    images[0].save(path, save_all=True, append_images=images[1:], duration=DURATIONS, **options)


@pytest.mark.parametrize("transparent", [False, True])
@pytest.mark.parametrize(
    ("suffix", "options"),
    [
        *((suffix, {"disposal": disposal}) for suffix in (".gif", ".png") for disposal in (0, 1, 2)),
        (".webp", {"lossless": True}),
    ],
)
def test_frames_timing_and_loop_stay(
    suffix: str, options: dict[str, Any], transparent: bool, tmp_path: Path, identity_onnx: Path
) -> None:
    path = tmp_path / f"a{suffix}"
    _save(path, _frames(transparent), loop=3, **options)
    before = _shown(path)
    assert len(before[0]) == 4
    file = read_image(path)
    assert file.notes == ()
    result = sharpened(file, Sharpener(identity_onnx, threads=1))
    assert write_image(tmp_path / f"out{suffix}", result) == ()
    frames, durations, loop = _shown(tmp_path / f"out{suffix}")
    assert (durations, loop) == before[1:]
    for found, wanted in zip(frames, before[0], strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_every_frame_is_sharpened(tmp_path: Path, student_onnx: Path) -> None:
    _save(tmp_path / "a.png", _frames(False))
    sharpen = Sharpener(student_onnx, threads=1)
    write_image(tmp_path / "b.png", sharpened(read_image(tmp_path / "a.png"), sharpen))
    for before, after in zip(_frames(False), _shown(tmp_path / "b.png")[0], strict=True):
        np.testing.assert_array_equal(after[..., :3], sharpen(np.ascontiguousarray(before[..., :3])))


def test_a_gif_that_runs_once_runs_once(tmp_path: Path) -> None:
    _save(tmp_path / "a.gif", _frames(False))
    assert write_image(tmp_path / "b.gif", read_image(tmp_path / "a.gif")) == ()
    assert _shown(tmp_path / "b.gif")[2] is None
    write_image(tmp_path / "b.webp", read_image(tmp_path / "a.gif"))
    assert _shown(tmp_path / "b.webp")[2] == 1


def test_equal_neighbours_become_one_frame_of_the_same_time(tmp_path: Path) -> None:
    frames = _frames(False)
    frames[2] = frames[1]
    for suffix in (".gif", ".png", ".webp"):
        _save(tmp_path / "a.png", frames)
        file = read_image(tmp_path / "a.png")
        doubled = replace(file, pictures=(file.pictures[0], *file.pictures[1:2] * 2, file.pictures[2]))
        assert file.timing is not None
        timed = replace(doubled, timing=replace(file.timing, durations=(50.0, 100.0, 70.0, 30.0)))
        write_image(tmp_path / f"b{suffix}", timed)
        assert sum(_shown(tmp_path / f"b{suffix}")[1]) == sum(DURATIONS)


def test_colours_that_a_gif_cannot_hold_are_the_nearest_ones(tmp_path: Path) -> None:
    rows, columns = np.mgrid[:60, :80]
    pixels = np.stack((rows * 4, columns * 3, rows + columns), axis=2).astype(np.uint8)
    alpha = np.where(columns < 20, 0, 255).astype(np.uint8)
    Image.fromarray(np.dstack((pixels, alpha))).save(tmp_path / "a.png")
    notes = write_image(tmp_path / "b.gif", read_image(tmp_path / "a.png"))
    assert notes == ("GIF has 256 colours: others became the nearest ones",)
    with Image.open(tmp_path / "b.gif") as image:
        found = np.array(image.convert("RGBA"))
    np.testing.assert_array_equal(found[..., 3], alpha)
    assert np.abs(found[..., :3].astype(int) - pixels)[alpha > 0].mean() < 8


def test_formats_that_cannot_hold_frames_or_pages_say_so(tmp_path: Path) -> None:
    _save(tmp_path / "a.png", _frames(False))
    moving = read_image(tmp_path / "a.png")
    for name in ("b.jpg", "b.tif"):
        kind = {"b.jpg": "JPEG", "b.tif": "TIFF"}[name]
        message = f"{tmp_path / name}: {kind} cannot hold an animation of 4 frames; use gif, png or webp"
        with pytest.raises(ImageFileError, match=re.escape(message)):
            write_image(tmp_path / name, moving)
    message = f"{tmp_path / 'b.png'}: PNG cannot hold 4 pages; use tif"
    with pytest.raises(ImageFileError, match=re.escape(message)):
        write_image(tmp_path / "b.png", replace(moving, timing=None))
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
