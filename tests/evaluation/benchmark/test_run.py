"""One evaluation on SharpBench: what is said early, and what is written when."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image

from sharpkd.checkpoint import CheckpointError
from sharpkd.evaluation.benchmark.run import SharpBench
from sharpkd.evaluation.benchmark.runner import LPIPSSettings, open_model
from sharpkd.evaluation.rows import read_rows

RUN = "sharpkd.evaluation.benchmark.run"


@pytest.fixture
def benchmark(tmp_path: Path) -> SharpBench:
    """Two pictures, one condition, a frame size and an edge."""
    (tmp_path / "Set5").mkdir()
    for index, name in enumerate(("baby", "bird")):
        coarse = np.random.default_rng(index).integers(0, 256, (8, 7, 3), dtype=np.uint8)
        picture = Image.fromarray(coarse).resize((84, 96), Image.Resampling.BICUBIC)
        picture.save(tmp_path / "Set5" / f"{name}.png")
    return SharpBench(
        root=str(tmp_path),
        sets=["Set5"],
        tracks=["noisy"],
        baselines=["unsharp"],
        workers=0,
        cache_dir=str(tmp_path / "cache"),
        speed={"sizes": [(16, 24)], "repeats": 1},
        edges=[1.2],
        examples=2,
    )


def run(benchmark: SharpBench, folder: Path, model: Any = None) -> dict[str, Any]:
    return benchmark.run(benchmark.specs(model), folder, LPIPSSettings())


def test_a_file_that_says_wrong_things_of_itself_is_named_first(
    benchmark: SharpBench, student_onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Path(shutil.copy(student_onnx, tmp_path / "foreign.onnx"))
    model = onnx.load(path)
    next(pair for pair in model.metadata_props if pair.key == "net").value = "elsewhere.Net"
    onnx.save(model, path)
    monkeypatch.setattr(f"{RUN}.measure", lambda *_, **__: pytest.fail("measured first"))
    with pytest.raises(CheckpointError, match=r"foreign.onnx: the net is 'elsewhere.Net'.*trusted_packages"):
        run(benchmark, tmp_path / "out", str(path))


def test_scores_of_images_are_written_before_anything_else_is_measured(
    benchmark: SharpBench,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    folder = tmp_path / "out"
    with caplog.at_level(logging.INFO):
        run(benchmark, folder)
    told = [record.message for record in caplog.records if record.levelno == logging.INFO]
    assert [message.partition(":")[0] for message in told] == [
        "measured; scores of single images",
        "timing frames",
        "Medians of fewer than the protocol's 30 frames",
        "measuring synthetic edges",
        "writing the report",
    ]
    assert "the protocol&#x27;s 30 frames: " in (folder / "report.html").read_text()
    rows = read_rows(folder / "per_image.csv")
    (folder / "per_image.csv").unlink()
    monkeypatch.setattr(f"{RUN}.measure_speed", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(benchmark, folder)
    assert read_rows(folder / "per_image.csv") == rows
    # what an earlier evaluation found is not taken for this one's
    assert not (folder / "metrics.json").exists()


def test_an_image_that_vanishes_before_the_report_is_not_shown(
    benchmark: SharpBench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def lose(*_: Any) -> list[Any]:
        (tmp_path / "Set5" / "bird.png").unlink(missing_ok=True)
        return []

    monkeypatch.setattr(f"{RUN}.measure_edges", lose)
    results = run(benchmark, tmp_path / "out")
    assert json.loads((tmp_path / "out" / "metrics.json").read_text()) == results
    assert (tmp_path / "out" / "report.html").is_file()
    assert "Set5/bird is not shown: " in caplog.text


def test_an_image_that_vanishes_while_measuring_is_one_line_of_the_report(
    benchmark: SharpBench, tmp_path: Path
) -> None:
    def lose(*_: Any) -> None:
        (tmp_path / "Set5" / "bird.png").unlink(missing_ok=True)

    folder = tmp_path / "out"
    results = benchmark.run(benchmark.specs(None), folder, LPIPSSettings(), progress=lose)
    assert len(results["_meta"]["failures"]) == 2
    report = (folder / "report.html").read_text()
    assert report.count("failed on Set5/bird") == 1
    assert "<p>input, unsharp failed on Set5/bird, noisy: FileNotFoundError: " in report


def test_what_cannot_be_shown_is_not_rated(
    benchmark: SharpBench, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    specs = benchmark.specs(None)
    assert [one.image for one in benchmark.rating_examples(specs, 2)] == ["Set5/baby", "Set5/bird"]
    (tmp_path / "Set5" / "baby.png").write_bytes(b"torn")
    assert [one.image for one in benchmark.rating_examples(specs, 2)] == ["Set5/bird"]
    assert "Set5/baby is not shown: " in caplog.text
    monkeypatch.setattr(open_model(specs[-1]), "restore", lambda *_: 1 / 0)
    assert benchmark.rating_examples(specs, 2) == []
