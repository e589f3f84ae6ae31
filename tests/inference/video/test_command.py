from __future__ import annotations

import io
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from sharpkd.cli import main
from sharpkd.inference.sharpener import Sharpener
from sharpkd.inference.video.command import sharpen_videos
from sharpkd.inference.video.sharpen import sharpen_video


@pytest.mark.parametrize("terminal", [False, True])
def test_each_that_fails_is_named_and_the_rest_done(terminal: bool, tmp_path: Path, make_clip: Any) -> None:
    good = make_clip(tmp_path / "good.mp4", codec="libx264")
    (tmp_path / "bad.mp4").write_text("no video")
    jobs = [(tmp_path / name, tmp_path / f"out_{name}") for name in ("bad.mp4", "none.mp4", "good.mp4")]
    said = io.StringIO()
    console = Console(file=said, force_terminal=terminal, width=200, color_system=None, soft_wrap=True)
    assert sharpen_videos(jobs, lambda: lambda image: image, console, preset="ultrafast") == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.mp4", "good.mp4", "out_good.mp4"]
    lines = said.getvalue()
    assert f"{tmp_path / 'bad.mp4'}: is not a video that FFmpeg reads" in lines
    assert f"{tmp_path / 'none.mp4'}: no such file\n" in lines
    assert (f"{good} -> {tmp_path / 'out_good.mp4'} (8 frames, " in lines) == terminal
    if not terminal:
        assert lines.count("\n") == 2


def test_notes_and_a_function_that_breaks(tmp_path: Path, make_clip: Any) -> None:
    source = make_clip(
        tmp_path / "in.mp4", codec="libx264", time_base=Fraction(1, 30000), pts=[1001 * n for n in range(4)]
    )
    said = io.StringIO()
    console = Console(file=said, width=200, soft_wrap=True)
    jobs = [(source, tmp_path / "out.mkv")]
    assert sharpen_videos(jobs, lambda: lambda image: image, console) == 0
    assert said.getvalue().startswith(f"{source}: note: timestamps moved by up to 0.367 ms")

    def broken(image: Any) -> Any:
        raise RuntimeError("no memory\nfor this")

    assert sharpen_videos(jobs, lambda: broken, console, overwrite=True) == 1
    assert said.getvalue().endswith(f"{source}: no memory\n")


def test_the_command_line_sharpens_videos_beside_pictures(
    call: Any, tmp_path: Path, make_clip: Any, look: Any, student_onnx: Path
) -> None:
    from PIL import Image

    folder = tmp_path / "in"
    folder.mkdir()
    source = make_clip(folder / "clip.mkv", pts=(0, 40, 80))
    Image.new("RGB", (20, 16), (90, 10, 200)).save(folder / "photo.png")
    settings = ("--model", str(student_onnx), "--strength", "0.5")
    done = call(main, "sharpen", str(folder), "-o", str(tmp_path / "out"), *settings)
    assert (done.code, done.out, done.err) == (0, "", "")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["clip.mkv", "photo.png"]
    sharpen = Sharpener(student_onnx)
    sharpen_video(source, tmp_path / "expected.mkv", lambda image: sharpen(image, 0.5))
    for one, other in zip(
        look(tmp_path / "out" / "clip.mkv").planes, look(tmp_path / "expected.mkv").planes, strict=True
    ):
        np.testing.assert_array_equal(one[0], other[0])
    again = call(main, "sharpen", str(source), "-o", str(tmp_path / "out" / "clip.mkv"), *settings)
    assert again.code == 1
    assert again.err == f"{source}: {tmp_path / 'out' / 'clip.mkv'} exists; --overwrite replaces it\n"
    video = ("--codec", "libx264", "--crf", "30", "--preset", "ultrafast", "--start", "0.04", "--end", "0.08")
    assert call(main, "sharpen", str(source), "-o", str(tmp_path / "a.mp4"), *settings, *video).code == 0
    assert look(tmp_path / "a.mp4").times == [0]
    assert call(main, "sharpen", str(source), "--model", str(student_onnx), "--crf", "fine").code == 2
