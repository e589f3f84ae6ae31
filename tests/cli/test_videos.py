"""Videos by the command line: told of as pictures are, also among them."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import Result

av = pytest.importorskip("av")

Run = Callable[..., Result]


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """Three frames of 64x48 pixels."""
    path = tmp_path / "in" / "clip.mkv"
    path.parent.mkdir(exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for index in range(3):
            pixels = np.random.default_rng(index).integers(0, 256, (48, 64, 3), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, "rgb24")))
        container.mux(stream.encode(None))
    return path


def test_verbose_tells_what_was_chosen(sharpkd: Run, clip: Path, student_onnx: Path) -> None:
    told = f"{clip} -> {clip.with_name('clip_sharp.mkv')} (64x48, "
    result = sharpkd("sharpen", clip, "-v", "--strength", 0.5)
    assert result.exit_code == 0
    assert result.stdout == ""
    found = re.fullmatch(
        re.escape(told) + r"\d+\.\d\d s; balanced at strength 0\.50: 0\.00307 megapixels; "
        r"3 frames, \d+\.\d frames/s, \w+ working \d+% of the time\)\n",
        result.stderr,
    )
    assert found is not None, result.stderr
    result = sharpkd("sharpen", clip, "-v", "--overwrite", "--model", student_onnx)
    assert f" s; {student_onnx.stem} at strength 1.00; 3 frames, " in result.stderr
    skipped = f"{clip}: note: skipped: {clip.with_name('clip_sharp.mkv')} exists\n"
    result = sharpkd("sharpen", clip, "-v", "--skip-existing", "--model", student_onnx)
    assert (result.exit_code, result.output) == (0, skipped)
    result = sharpkd("sharpen", clip, "-q", "--skip-existing", "--model", student_onnx)
    assert (result.exit_code, result.output) == (0, "")


def test_json_has_a_line_for_each_video(sharpkd: Run, clip: Path, photo: Path, tmp_path: Path) -> None:
    bad = clip.with_name("bad.mp4")
    bad.write_text("no video")
    out = tmp_path / "out"
    result = sharpkd("sharpen", clip.parent, "-o", out, "--json", "--model", "fast")
    assert result.exit_code == 1
    lines = {Path(line["input"]).name: line for line in map(json.loads, result.stdout.splitlines())}
    assert list(lines) == [photo.name, "bad.mp4", "clip.mkv"]
    keys = {"input", "output", "seconds", "size", "model", "notes", "error"}
    assert all(line.keys() == keys for line in lines.values())
    found = lines["clip.mkv"]
    assert 0 < found.pop("seconds") < 60
    assert found == {
        "input": str(clip),
        "output": str(out / "clip.mkv"),
        "size": [64, 48],
        "model": "fast",
        "notes": [],
        "error": None,
    }
    assert lines["bad.mp4"]["output"] is None
    assert lines["bad.mp4"]["error"].startswith(f"{bad}: is not a video that FFmpeg reads")
    assert result.stderr == lines["bad.mp4"]["error"] + "\n"
    result = sharpkd("sharpen", clip, "-o", out / "clip.mkv", "--skip-existing", "--json", "--model", "fast")
    assert json.loads(result.stdout)["notes"] == [f"skipped: {out / 'clip.mkv'} exists"]


def test_the_longest_name(sharpkd: Run, clip: Path, tmp_path: Path, student_onnx: Path) -> None:
    target = tmp_path / f"{'漢' * 83}.mkv"
    result = sharpkd("sharpen", clip, "-o", target, "--model", student_onnx)
    assert (result.exit_code, result.output) == (0, "")
    assert target.is_file()


@pytest.mark.parametrize("option", [("--compare",), ("--format", "png")])
def test_what_is_for_pictures_fails_videos_alone(
    option: tuple[str, ...], sharpkd: Run, clip: Path, photo: Path, student_onnx: Path, tmp_path: Path
) -> None:
    model = ("--model", student_onnx)
    result = sharpkd("sharpen", clip.parent, "-o", tmp_path / "out", *option, *model)
    line = f"{clip}: {option[0]} is for pictures, and this is a video\n"
    assert (result.exit_code, result.output) == (1, line)
    assert (tmp_path / "out" / photo.name).is_file()
    assert not (tmp_path / "out" / clip.name).exists()
    line = f"{option[0]} is for pictures, and {clip} is a video: leave one of them out\n"
    result = sharpkd("sharpen", clip, *option, *model)
    assert (result.exit_code, result.output) == (2, line)


def test_any_fault_of_an_engine_stops_no_other_video(
    sharpkd: Run, clip: Path, tmp_path: Path, student_onnx: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class FaultError(Exception):
        """Of ONNX Runtime's, say, which share no base class."""

    def fails(self: object, frame: object) -> None:
        raise FaultError("first line\nsecond line")

    monkeypatch.setattr("sharpkd.inference.scene.Scenes.__call__", fails)
    (clip.parent / "twin.mkv").write_bytes(clip.read_bytes())
    result = sharpkd("sharpen", clip.parent, "-o", tmp_path / "out", "--model", student_onnx)
    assert result.exit_code == 1
    assert result.output == f"{clip}: first line\n{clip.parent / 'twin.mkv'}: first line\n"
    assert list((tmp_path / "out").iterdir()) == []


MAIN = (
    "import os, signal, sys, time\n"
    # Who starts the tests in the background may have had Ctrl-C ignored.
    "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    "from sharpkd.cli import main\n"
    "from sharpkd.inference.scene import Scenes\n"
    "def call(self, frame):\n"
    "    os.write(1, b'now\\n'); time.sleep(600)\n"
    "Scenes.__call__ = call\n"
    "main()\n"
)


@pytest.mark.parametrize(
    ("number", "code", "line"),
    [
        (signal.SIGTERM, 143, "stopped: 0 of 1 videos done\n"),
        (signal.SIGINT, 130, "interrupted: 0 of 1 videos done\n"),
    ],
)
def test_a_signal_leaves_nothing_half_written(
    number: signal.Signals, code: int, line: str, clip: Path, student_onnx: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-c", MAIN, "sharpen", clip.parent, "-o", out, "--model", student_onnx]
    process = subprocess.Popen(
        [*map(str, command)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=os.sep
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "now\n"
    assert [path.suffix for path in out.iterdir()] == [".part"]
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (code, line)
    assert list(out.iterdir()) == []
