from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from sharpkd.benchmark import Benchmark
from sharpkd.evaluation.video_speed import VideoSpeed
from sharpkd.inference.sharpener import Sharpener


def test_clips_are_measured_by_stage_and_a_static_scene_for_flicker(
    student_onnx: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    benchmark: Benchmark = VideoSpeed(
        str(student_onnx), sizes=[[48, 64], [96, 130]], frames=6, still_size=[48, 64], preset="ultrafast"
    )
    rate = benchmark.run(tmp_path)
    figures = json.loads((tmp_path / "video_speed.json").read_text())
    rows = figures["clips"]
    assert [(row["size"], row["mode"], row["frames"]) for row in rows] == [
        (size, mode, 6) for size in ("64x48", "130x96") for mode in ("luma", "rgb")
    ]
    assert rate == rows[2]["frames_per_second"] > 0
    for row in rows:
        slowest = max(row["decode_ms"], row["sharpen_ms"], row["encode_ms"])
        assert 0 < slowest <= 1000 / row["frames_per_second"] + 0.01
    with (tmp_path / "video_speed.csv").open() as file:
        assert [row["size"] for row in csv.DictReader(file)] == [row["size"] for row in rows]
    flicker = figures["flicker"]
    assert [(row["codec"], row["noise"], row["mode"]) for row in flicker] == [
        (codec, noise, mode)
        for codec in ("ffv1", "libx264")
        for noise in (0, 1, 2)
        for mode in ("luma", "rgb")
    ]
    for row in flicker[:2]:
        assert row["before"] == row["sharpened"] == row["copied"] == row["after"] == 0
    for row in flicker[2:6]:
        assert row["before"] == row["copied"] > 0.5
        assert row["sharpened"] == row["after"] > 0.5
    quality = {row["mode"]: row for row in figures["quality"]}
    assert quality["luma"]["before"] == quality["rgb"]["before"]
    assert 20 < quality["luma"]["before"] < 50
    assert quality["luma"]["after"] != quality["luma"]["before"]
    assert "Frames a second" in capsys.readouterr().out


@pytest.mark.real_data
def test_a_clip_of_the_users_is_measured_at_its_own_size(
    student_onnx: Path, tmp_path: Path, sharpkd_data: Path
) -> None:
    clip = sharpkd_data / "video" / "again.mkv"
    VideoSpeed(
        str(student_onnx), str(clip), frames=3, modes=["luma"], still_size=[48, 64], preset="ultrafast"
    ).run(tmp_path)
    (row,) = json.loads((tmp_path / "video_speed.json").read_text())["clips"]
    assert (row["size"], row["mode"], row["encoder"]) == ("640x480", "luma", "libx264")
    assert 2 <= row["frames"] <= 4


def test_frames_are_sharpened_by_what_the_first_of_their_scene_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[int] = []
    measure = Sharpener.measure

    def counted(self: Sharpener, image: Any) -> Any:
        measured.append(1)
        return measure(self, image)

    monkeypatch.setattr(Sharpener, "measure", counted)
    VideoSpeed(
        "fast", sizes=[[48, 64]], frames=4, modes=["luma"], still_size=[48, 64], preset="ultrafast"
    ).run(tmp_path)
    # a clip, a static scene in two codecs and three noises, each sharpened twice, and one for quality
    assert len(measured) == 14


def test_settings_that_measure_nothing(student_onnx: Path) -> None:
    with pytest.raises(ValueError, match="model=FILE names the net that sharpens"):
        VideoSpeed(None)
    with pytest.raises(ValueError, match=r"frames >= 2, modes and sizes are needed, got 1, "):
        VideoSpeed(str(student_onnx), frames=1)
