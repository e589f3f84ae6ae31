"""Speed under the engines: ratios, what is timed, and the large CNN, which is the same net under each."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sharpkd.benchmark import Benchmark
from sharpkd.evaluation.engine_speed import EngineSpeed, EngineSpeedRow, compared, precisions_of
from sharpkd.evaluation.large_cnn import LargeCNN
from sharpkd.inference.errors import ModelError


def row(model: str, engine: str, precision: str, ms: float, size: str = "640x480") -> EngineSpeedRow:
    return EngineSpeedRow(model, engine, precision, "rgb", size, ms, 1000 / ms, 3, ms)


def test_ratios_are_those_of_the_same_size_engine_and_precision() -> None:
    rows = compared(
        [
            row("unsharp", "opencv", "uint8", 2),
            row("unsharp", "opencv", "uint8", 5, "1280x720"),
            row("fast", "openvino", "bf16", 10),
            row("fast", "openvino", "bf16", 30, "1280x720"),
            row("fast", "torch", "fp32", 40),
            row("enhanced_cnn", "openvino", "bf16", 800),
            row("enhanced_cnn", "torch", "fp32", 2000),
        ]
    )
    ratios = [(one.vs_unsharp, one.vs_enhanced_cnn) for one in rows]
    assert ratios == [(1, None), (1, None), (5, 80), (6, None), (20, 50), (400, 1), (1000, 1)]


def test_every_engine_is_timed_end_to_end_and_pictured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    benchmark: Benchmark = EngineSpeed(
        ["fast", "quality"], sizes=[[24, 40]], repeats=2, least_seconds=0, photograph=[30, 50], threads=1
    )
    fastest = benchmark.run(tmp_path)
    figures = json.loads((tmp_path / "speed.json").read_text())
    rows: list[dict[str, Any]] = figures["rows"]
    expected = [("unsharp", "opencv", "uint8", "rgb")]
    for engine in ("openvino", "onnxruntime", "torch"):
        for precision in precisions_of(engine):
            expected += [
                (model, engine, precision, kind) for model in ("fast", "quality") for kind in ("rgb", "luma")
            ]
            if precision != "int8":
                expected.append(("enhanced_cnn", engine, precision, "rgb"))
    assert [(one["model"], one["engine"], one["precision"], one["pixels"]) for one in rows] == expected
    for one in rows:
        assert one["size"] == "40x24"
        assert one["repeats"] >= 2
        assert one["frames_per_second"] == pytest.approx(1000 / one["ms"], rel=0.02)
        assert one["first_ms"] > 0
        # what has no model has no CNN of its engine beside it
        assert (one["vs_enhanced_cnn"] is None) == (one["precision"] in ("uint8", "int8"))
    # 42 times the multiplications
    cnn, student = rows[5], rows[2]
    assert cnn["ms"] > student["ms"]
    assert fastest == [one["ms"] for one in rows if one["model"] == "fast"][-1]
    assert figures["photograph"]["quality"]["size"] == "50x30"
    assert figures["photograph"]["quality"]["seconds"] > 0
    with (tmp_path / "speed.csv").open() as file:
        assert [one["model"] for one in csv.DictReader(file)] == [one["model"] for one in rows]
    with Image.open(tmp_path / "speed.png") as picture:
        assert len(set(picture.convert("RGB").get_flattened_data())) > 50
    out = capsys.readouterr().out
    assert "Milliseconds a frame" in out
    assert "quality, a picture of 50x30" in out


def test_the_large_cnn_is_one_net_under_every_engine(tmp_path: Path) -> None:
    frame = np.random.default_rng(1).integers(0, 256, (17, 23, 3), dtype=np.uint8)
    cnn = LargeCNN(tmp_path, threads=1)
    first, *others = (
        cnn.open(engine, "fp32")(frame).astype(int) for engine in ("torch", "onnxruntime", "openvino")
    )
    assert first.shape == frame.shape
    assert first.std() > 1
    for other in others:
        assert np.abs(other - first).max() <= 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"models": []}, "models, engines and sizes in pixels are needed, got [], "),
        ({"sizes": [[0, 9]]}, "and [[0, 9]]"),
        ({"repeats": 0}, "repeats and seconds must be above 0, got repeats=0, seconds=20"),
        ({"least_seconds": -1}, "least_seconds must be at least 0, got -1"),
        ({"seconds": 0}, "repeats and seconds must be above 0, got repeats=30, seconds=0"),
    ],
)
def test_settings_that_measure_nothing(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        EngineSpeed(**settings)


def test_a_model_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="nowhere"):
        EngineSpeed(["nowhere.onnx"], sizes=[[8, 8]]).run(tmp_path)
