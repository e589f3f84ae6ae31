from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from sharpkd.inference.video.files import VideoError
from sharpkd.inference.video.pixels import LumaPixels
from sharpkd.inference.video.sharpen import VideoReport, sharpen_video
from sharpkd.inference.video.target import Moments, VideoTarget

SLOW = 0.02


def _stages() -> list[str]:
    return [one.name for one in threading.enumerate() if one.name in ("_decode", "_encode")]


def test_the_slowest_stage_alone_sets_the_pace(
    tmp_path: Path, make_clip: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = make_clip(tmp_path / "in.mkv", pts=range(0, 800, 40))
    shown, write = LumaPixels.shown, LumaPixels.write

    def slowly(function: Any) -> Any:
        def slow(*arguments: Any) -> Any:
            time.sleep(SLOW)
            return function(*arguments)

        return slow

    monkeypatch.setattr(LumaPixels, "shown", slowly(shown))
    monkeypatch.setattr(LumaPixels, "write", slowly(write))
    report = sharpen_video(source, tmp_path / "out.mkv", slowly(lambda image: image))
    assert report.frames == 20
    assert all(seconds >= 20 * SLOW for seconds in report.busy.values())
    assert report.seconds < 0.65 * sum(report.busy.values())


def test_report() -> None:
    report = VideoReport(30, 2.0, {"decode": 0.5, "sharpen": 1.9, "encode": 1.0}, "libx264", ())
    assert report.frames_per_second == 15
    assert report.shares == {"decode": 0.25, "sharpen": 0.95, "encode": 0.5}


def test_progress_counts_every_frame(tmp_path: Path, make_clip: Any) -> None:
    source = make_clip(tmp_path / "in.mp4", codec="libx264", pts=range(0, 320, 40))
    told: list[tuple[int, int | None]] = []
    sharpen_video(
        source, tmp_path / "out.mp4", lambda image: image, on_frame=lambda *numbers: told.append(numbers)
    )
    assert told == [(done, 8) for done in range(1, 9)]


class Broken(Exception):  # noqa: N818  # a test's own
    pass


@pytest.mark.parametrize("stage", ["decode", "sharpen", "encode", "progress", "interrupt"])
def test_an_error_in_any_stage_ends_all_and_leaves_nothing(
    stage: str, tmp_path: Path, make_clip: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = make_clip(tmp_path / "in.mkv", pts=range(0, 2000, 40))
    target = tmp_path / "out.mkv"
    target.write_bytes(b"old")
    error = KeyboardInterrupt if stage == "interrupt" else Broken
    calls = {"decode": 0, "sharpen": 0, "encode": 0, "progress": 0, "interrupt": 0}

    def count(name: str) -> None:
        calls[name] += 1
        if stage == name and calls[name] == 7:
            raise error(f"in {name}")

    def counted(name: str, function: Any) -> Any:
        def call(*arguments: Any) -> Any:
            count(name)
            return function(*arguments)

        return call

    monkeypatch.setattr(LumaPixels, "shown", counted("decode", LumaPixels.shown))
    monkeypatch.setattr(VideoTarget, "encode", counted("encode", VideoTarget.encode))

    def restore(image: Any) -> Any:
        count("sharpen")
        count("interrupt")
        return image

    began = time.perf_counter()
    with pytest.raises(error, match=f"in {stage}"):
        sharpen_video(source, target, restore, overwrite=True, on_frame=lambda done, total: count("progress"))
    assert time.perf_counter() - began < 3
    assert calls["sharpen"] < 30
    assert _stages() == []
    assert target.read_bytes() == b"old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.mkv", "out.mkv"]


def test_an_answer_of_another_shape_or_type_is_refused(tmp_path: Path, make_clip: Any) -> None:
    source = make_clip(tmp_path / "in.mkv")
    message = (
        "the restoring function returned uint8 (96, 64) for uint8 (48, 64); a video keeps its size and type"
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        sharpen_video(source, tmp_path / "out.mkv", lambda image: image.repeat(2, axis=0))
    with pytest.raises(ValueError, match="returned float64"):
        sharpen_video(source, tmp_path / "out.mkv", lambda image: image / 2)
    assert list(tmp_path.iterdir()) == [source]


CHILD = """
import os, signal, sys, time
from sharpkd.inference.video.sharpen import sharpen_video
# who starts the tests in the background may have had Ctrl-C ignored
signal.signal(signal.SIGINT, signal.default_int_handler)
count = 0
def restore(image):
    global count
    count += 1
    if count == 20 and sys.argv[3] == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if count == 20:
        print("twenty", flush=True)
    time.sleep(0 if sys.argv[3] == "kill" else 0.02)
    return image
try:
    sharpen_video(sys.argv[1], sys.argv[2], restore, overwrite=True)
except KeyboardInterrupt:
    sys.exit(130)
"""


@pytest.mark.parametrize("old", [b"", b"old"])
def test_kill_9_leaves_no_half_file_under_the_final_name(old: bytes, tmp_path: Path, make_clip: Any) -> None:
    source, target = make_clip(tmp_path / "in.mkv", pts=range(0, 4000, 40)), tmp_path / "out.mkv"
    if old:
        target.write_bytes(old)
    done = subprocess.run([sys.executable, "-c", CHILD, str(source), str(target), "kill"])
    assert done.returncode == -signal.SIGKILL
    assert (target.read_bytes() if target.exists() else b"") == old
    assert list(tmp_path.glob(".out.mkv.*.part"))


def test_ctrl_c_ends_at_once_and_leaves_nothing(tmp_path: Path, make_clip: Any) -> None:
    source, target = make_clip(tmp_path / "in.mkv", pts=range(0, 40000, 40)), tmp_path / "out.mkv"
    command = [sys.executable, "-c", CHILD, str(source), str(target), "interrupt"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "twenty\n"
        os.kill(process.pid, signal.SIGINT)
        began = time.perf_counter()
        assert process.wait(timeout=10) == 130
    assert time.perf_counter() - began < 3
    assert list(tmp_path.iterdir()) == [source]


def test_times_are_compared_in_their_order_whatever_they_are_counted_in() -> None:
    milliseconds, ninetieths = Moments(Fraction(1, 1000)), Moments(Fraction(1, 90000))
    for number in (0, 2, 1, 4):
        at = number * Fraction(1, 30)
        milliseconds.add(at)
        ninetieths.add(at)
    assert len(milliseconds) == len(ninetieths) == 4
    # 1/30 s is 33 1/3 ms
    assert milliseconds.furthest_from(ninetieths) == Fraction(1, 3000)
    assert ninetieths.furthest_from(ninetieths) == 0
    assert Moments(Fraction(1)).furthest_from(Moments(Fraction(1, 2))) == 0


def test_frames_that_go_missing_are_noticed(
    tmp_path: Path, make_clip: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = make_clip(tmp_path / "in.mkv")
    encode = VideoTarget.encode

    def forgetful(target: VideoTarget, frame: Any) -> None:
        if frame is not None and len(target.written) == 4:
            target.written.add(Fraction(1, 5))
        else:
            encode(target, frame)

    monkeypatch.setattr(VideoTarget, "encode", forgetful)
    target = tmp_path / "out.mkv"
    with pytest.raises(VideoError, match=re.escape(f"{target}: holds 7 frames of 8: it was not kept")):
        sharpen_video(source, target, lambda image: image)
    assert not target.exists()
