"""``python -m sharpkd.evaluate``: as a command, and its parts."""

from __future__ import annotations

import csv
import json
import logging
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from sharpkd.checkpoint import load_estimator, save_weights
from sharpkd.config import ConfigError, compose
from sharpkd.data.crops import make_pair
from sharpkd.data.degradation import GaussianBlur, name_seed
from sharpkd.data.images import read_image
from sharpkd.evaluate import evaluate, images_of, main
from sharpkd.evaluation.model_names import named_files
from sharpkd.nets.aware_student import AwareStudent


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for index in range(3):
        pixels = np.random.default_rng(index).integers(0, 256, (40, 48, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{index}.png")
    return folder


def test_the_command(student_checkpoint: Path, photos: Path, tmp_path: Path, project_root: Path) -> None:
    settings = [f"data.val_dir={photos}", "degradation=gaussian", "degradation.sigma=1.6", "name=first"]
    done = subprocess.run(
        [sys.executable, "-m", "sharpkd.evaluate", f"model={student_checkpoint}", "data=folder", *settings],
        cwd=tmp_path,
        env=os.environ
        | {"PYTHONPATH": str(project_root), "SHARPKD_WEIGHTS": str(tmp_path), "COLUMNS": "120"},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "outputs" / "evaluate" / "first"
    results = json.loads((folder / "metrics.json").read_text())
    assert list(results) == ["input", "student", "_meta"]
    assert results["student"]["path"] == str(student_checkpoint)
    assert re.fullmatch(r"[0-9a-f]{64}", results["student"]["weights_sha256"])
    assert results["_meta"]["degradation_config"]["sigma"] == 1.6
    with (folder / "per_image.csv").open(newline="") as file:
        assert [(row["image"], row["model"]) for row in csv.DictReader(file)] == [
            (str(index), model) for index in range(3) for model in ("input", "student")
        ]
    assert {path.name for path in (folder / "pictures").iterdir()} == {"best.png", "median.png", "worst.png"}
    assert f"{results['student']['psnr']:.2f}" in done.stdout
    assert f"report: {folder / 'report.html'}" in done.stderr


def test_the_command_says_what_is_missing(call: Callable[..., Any]) -> None:
    outcome = call(main, "model=input")
    assert outcome.code == 2
    assert outcome.err == "error: data=folder needs data.val_dir=FOLDER, the images to measure on\n"


def test_a_blind_net_beside_one_that_is_told_the_truth_or_what_the_estimator_finds(
    student_checkpoint: Path, photos: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    torch.manual_seed(0)
    net = AwareStudent(width=8, depth=3)
    for name in ("tail.weight", "modulation.body.2.weight"):
        torch.nn.init.normal_(net.get_parameter(name), std=0.1)
    config = {"_target_": "sharpkd.nets.aware_student.AwareStudent", "width": 8, "depth": 3}
    told = tmp_path / "told.safetensors"
    save_weights(told, config, net.state_dict(), {})
    remark = "told is told what was done to an image: here, what the packaged estimator finds"
    found = {}
    for use_condition in (True, False):
        settings = [
            f"model={{blind:{student_checkpoint},told:{told}}}",
            f"data.val_dir={photos}",
            "degradation.sigma=1.6",
            f"use_condition={use_condition}",
            "metrics.lpips_weights=null",
        ]
        cfg = compose("evaluate", settings, output_dir=str(tmp_path / str(use_condition)))
        found[use_condition] = evaluate(cfg)
        assert (remark in caplog.text) == (not use_condition)

    estimator = load_estimator()
    scores: dict[bool, list[float]] = {True: [], False: []}
    for file in sorted(photos.iterdir()):
        pair = make_pair(read_image(file), GaussianBlur(1.6), name_seed(file.stem), file.stem)
        conditions = {True: torch.tensor([1.6]), False: estimator(pair.degraded).condition[0]}
        for truth, condition in conditions.items():
            with torch.inference_mode():
                output = (net.eval().fold(condition)(pair.degraded).clamp(0, 1) * 255).round() / 255
            scores[truth].append(float(-10 * torch.log10((output - pair.sharp).square().mean())))
    for truth, expected in scores.items():
        assert found[truth]["told"]["psnr"] == pytest.approx(np.mean(expected), abs=1e-3)
    assert abs(found[False]["told"]["psnr"] - found[True]["told"]["psnr"]) > 0.01
    assert found[False]["blind"]["psnr"] == found[True]["blind"]["psnr"]


def test_several_models_and_input(student_checkpoint: Path, photos: Path, tmp_path: Path) -> None:
    twin = shutil.copy(student_checkpoint, tmp_path / "twin.safetensors")
    cfg = compose(
        "evaluate",
        [
            f"model=[{student_checkpoint},{twin},input]",
            f"data.val_dir={photos}",
            "metrics.lpips_weights=null",
        ],
        output_dir=str(tmp_path / "out"),
    )
    results = evaluate(cfg)
    assert list(results) == ["input", "student", "twin", "_meta"]
    assert results["student"]["psnr"] == results["twin"]["psnr"] != results["input"]["psnr"]


def test_a_net_of_another_scale(student_checkpoint: Path, photos: Path, tmp_path: Path) -> None:
    cfg = compose(
        "evaluate", [f"model={student_checkpoint}", f"data.val_dir={photos}", "task.scale=2"], str(tmp_path)
    )
    with pytest.raises(ValueError, match=r"student \(.*\) enlarges 1 times, and task.scale is 2"):
        evaluate(cfg)


def test_default_folder_is_named_by_the_overrides(photos: Path) -> None:
    cfg = compose("evaluate", ["model=a.ckpt", f"data.val_dir={photos}", "degradation.sigma=2"])
    assert Path(cfg.paths.run_dir).parent.name == "evaluate"
    assert "degradation.sigma=2" in Path(cfg.paths.run_dir).name
    named = compose("evaluate", ["model=a.ckpt", f"data.val_dir={photos}", "name=mine"])
    assert Path(named.paths.run_dir).parts[-2:] == ("evaluate", "mine")


def test_images_are_those_held_out_or_given(photos: Path) -> None:
    given = images_of(compose("evaluate", [f"data.val_dir={photos}"]))
    assert given == sorted(photos.iterdir())
    limited = images_of(compose("evaluate", [f"data.val_dir={photos}", "data.val_limit=2"]))
    assert limited == [given[0], given[1]]
    held_out = images_of(compose("evaluate", ["data.val_dir=null", f"data.train_dir={photos}"]))
    assert len(held_out) == 1
    assert held_out[0] in given
    assert [path.name for path in images_of(compose("evaluate", ["data=sample"]))] == [
        "chelsea.png",
        "rocket.jpg",
    ]


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    missing = tmp_path / "none"
    with pytest.raises(FileNotFoundError, match=re.escape(f"data.val_dir: there is no folder {missing}")):
        images_of(compose("evaluate", [f"data.val_dir={missing}"]))


@pytest.mark.parametrize(
    ("model", "names"),
    [
        ("a/student.safetensors", ["student"]),
        (["x/one.ckpt", "x/two.ckpt"], ["one", "two"]),
        (["runs/distill/net.safetensors", "runs/scratch/net.safetensors"], ["distill", "scratch"]),
        (["distill/run1/net.safetensors", "scratch/run1/net.safetensors"], ["distill/run1", "scratch/run1"]),
        (["a/one/best.ckpt", "a/two/best.ckpt"], ["one", "two"]),
        (["r/checkpoints/best.ckpt", "r/net.safetensors"], ["best", "r"]),
        (["input", "a/student.safetensors"], ["student"]),
        ("input", []),
        ({"teacher": "x.ckpt"}, ["teacher"]),
    ],
)
def test_names_of_models(model: object, names: list[str]) -> None:
    assert list(named_files(model)) == names


def test_models_that_cannot_be_named() -> None:
    with pytest.raises(ConfigError, match="evaluation needs model=FILE"):
        named_files(None)
    with pytest.raises(ConfigError, match=r"given twice; name them: model=\{first:FILE,second:FILE\}"):
        named_files(["a/net.ckpt", "a/net.ckpt"])
