"""The table of errors of the estimated blur."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data

from sharpkd.checkpoint import file_sha256, load_estimator, shipped_estimator
from sharpkd.data.crops import to_tensor
from sharpkd.data.degradation import Noisy, degrade, name_seed
from sharpkd.data.degradation_maths import gaussian_blur, jpeg
from sharpkd.estimation.reblur import reblur_sigma
from sharpkd.evaluation.estimation.measure import EstimationAccuracy, summary


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sets") / "Two"
    folder.mkdir()
    Image.fromarray(data.astronaut()[:200, :260]).save(folder / "a.png")
    Image.fromarray(data.coffee()[100:300, 100:350]).save(folder / "b.png")
    return folder


def test_summary_is_numpys() -> None:
    row = summary("s", "clean", 2.0, "zhuo-sim", [2.2, 1.0, math.nan, 2.0])
    assert (row.images, row.unanswered, row.inside_95) == (3, 1, None)
    relative = np.abs(np.array([0.1, -0.5, 0.0]))
    assert row.median_error == pytest.approx(np.median(relative), abs=1e-4)
    assert row.p90_error == pytest.approx(np.percentile(relative, 90), abs=1e-4)
    assert row.bias == pytest.approx(-0.4 / 3, abs=1e-4)
    in_pixels = summary("s", "clean", 0.0, "estimator", [0.1, 0.3])
    assert (in_pixels.median_error, in_pixels.bias) == (0.2, 0.2)
    nothing = summary("s", "clean", 1.0, "zhuo-sim", [math.nan])
    assert (nothing.images, nothing.unanswered, nothing.median_error) == (0, 1, None)


def test_figures_are_those_of_the_images(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    benchmark = EstimationAccuracy(str(pictures), sigmas=[0.0, 1.6], speed_sizes=[[60, 80]], repeats=2)
    headline = benchmark.run(tmp_path)
    figures = json.loads((tmp_path / "estimation.json").read_text())
    rows = figures["rows"]
    assert len(rows) == 3 * 2 * 2
    with (tmp_path / "estimation.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [(row["condition"], float(row["sigma"]), row["method"]) for row in table] == [
        (row["condition"], row["sigma"], row["method"]) for row in rows
    ]
    assert figures["model_sha256"] == file_sha256(shipped_estimator())
    assert figures["images"] == {"Two": 2}
    assert [(time["method"], time["height"]) for time in figures["milliseconds"]] == [
        ("estimator", 60),
        ("zhuo-sim", 60),
    ]

    def made(name: str, condition: str) -> torch.Tensor:
        sharp = np.asarray(Image.open(pictures / f"{name}.png"))
        blurred = gaussian_blur(sharp, 1.6)
        noisy = degrade(Noisy(1.6, 2.0), sharp, name_seed(name))[0]
        return to_tensor({"clean": blurred, "noise 2": noisy, "jpeg 75": jpeg(blurred, 75)}[condition])

    def found(condition: str, method: str) -> dict[str, Any]:
        (row,) = (r for r in rows if (r["condition"], r["method"], r["sigma"]) == (condition, method, 1.6))
        return row

    estimator = load_estimator()
    for condition in ("clean", "noise 2", "jpeg 75"):
        images = [made(name, condition) for name in ("a", "b")]
        with torch.inference_mode():
            estimates = [estimator(image) for image in images]
        sigmas = np.array([float(estimate.condition[0, 0]) for estimate in estimates])
        spread = np.array([float(estimate.uncertainty[0, 0]) for estimate in estimates])
        ours = found(condition, "estimator")
        assert ours["median_error"] == pytest.approx(np.median(np.abs(sigmas / 1.6 - 1)), abs=1e-3)
        assert ours["bias"] == pytest.approx((sigmas / 1.6 - 1).mean(), abs=1e-3)
        assert ours["inside_95"] == (np.abs(sigmas - 1.6) <= 1.96 * spread).mean()
        assert ours["above_cautious"] == (sigmas - spread <= 1.6).mean()
        noise = np.array([float(estimate.condition[0, 1]) for estimate in estimates])
        expected = np.median(np.abs(noise - (2 if condition == "noise 2" else 0)))
        assert ours["noise_error"] == pytest.approx(expected, abs=1e-3)
        known = np.array([float(reblur_sigma(image)) for image in images])
        theirs = found(condition, "zhuo-sim")
        assert theirs["median_error"] == pytest.approx(np.median(np.abs(known / 1.6 - 1)), abs=1e-3)
        assert theirs["inside_95"] is None
    assert headline == found("clean", "estimator")["median_error"]
    assert "Median error of sigma" in capsys.readouterr().out


def test_the_committed_figures_are_those_of_the_weights_that_ship(project_root: Path) -> None:
    figures = json.loads((project_root / "benchmarks" / "estimation" / "estimation.json").read_text())
    assert figures["model_sha256"] == file_sha256(shipped_estimator())
    card = shipped_estimator().with_suffix(".md").read_text(encoding="utf-8")
    for name in figures["images"]:
        for condition in ("clean", "noise 2", "jpeg 75"):
            errors = [
                f"{row['median_error']:.1%}" if row["sigma"] else f"{row['median_error']:.2f}"
                for row in figures["rows"]
                if (row["set"], row["condition"], row["method"]) == (name, condition, "estimator")
            ]
            assert f"| {name}, {condition.replace('jpeg', 'JPEG')} | {' | '.join(errors)} |" in card


def test_a_limit_takes_the_first_images(pictures: Path) -> None:
    benchmark = EstimationAccuracy(str(pictures), limit=1)
    assert [file.name for file in benchmark.sets["Two"]] == ["a.png"]


def test_nothing_to_measure_is_said(pictures: Path, tmp_path: Path) -> None:
    empty = tmp_path / "Empty"
    empty.mkdir()
    with pytest.raises(ValueError, match=r"^eval_dirs: no images in Empty$"):
        EstimationAccuracy([str(pictures), str(empty)])
    with pytest.raises(ValueError, match=r"^sigmas is empty: give blurs in pixels to measure at$"):
        EstimationAccuracy(str(pictures), sigmas=[])
    with pytest.raises(ValueError, match=r"^limit must be at least 1 or null, got 0$"):
        EstimationAccuracy(str(pictures), limit=0)
    with pytest.raises(FileNotFoundError, match=r"^eval_dirs: there is no folder .*gone$"):
        EstimationAccuracy(str(tmp_path / "gone"))
    with pytest.raises(FileNotFoundError, match=r"^no weight file at .*gone\.safetensors$"):
        EstimationAccuracy(str(pictures), model=str(tmp_path / "gone.safetensors"))
