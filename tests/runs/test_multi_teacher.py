"""Trainings with several teachers, from the settings to the logs."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from sharpkd.checkpoint import read_lightning, save_weights
from sharpkd.nets.pixel_student import PixelStudent
from sharpkd.runs.folder import RunFolder, RunFolderError

Train = Callable[..., Path]


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """A teacher that knows nothing."""
    arguments: dict[str, Any] = {"unshuffle": 2, "width": 8, "depth": 2}
    torch.manual_seed(1)
    net = PixelStudent(**arguments)
    torch.nn.init.normal_(net.tail.weight, std=0.2)
    path = tmp_path / "noisy.safetensors"
    config = {"_target_": "sharpkd.nets.pixel_student.PixelStudent", **arguments}
    save_weights(path, config, net.state_dict(), {})
    return path


@pytest.fixture
def taught(tiny: list[str], teacher: Path, other: Path) -> list[str]:
    entries = f"[{{path:{teacher},name:good,weight:3}},{{path:{other},precision:bf16}}]"
    return [
        *tiny,
        "experiment=distill",
        "distillation=multi_teacher",
        f"teacher.several={entries}",
        "data.fixed_crops=8",
    ]


def logged(folder: Path, name: str) -> list[float]:
    with (folder / "logs" / "metrics.csv").open() as stream:
        return [float(row[name]) for row in csv.DictReader(stream) if row.get(name)]


def test_the_best_teacher_is_taken_and_each_is_logged_by_its_name(
    train_here: Train, taught: list[str], tmp_path: Path
) -> None:
    kept = f"teacher.cache={tmp_path}/kept"
    folder = train_here("best", *taught, "teacher.combine=best", kept)
    shares = {name: logged(folder, f"train/teacher/{name}/share") for name in ("good", "noisy")}
    assert shares == {"good": [1.0] * 4, "noisy": [0.0] * 4}
    psnr = {name: logged(folder, f"train/teacher/{name}/psnr") for name in ("good", "noisy")}
    assert all(good > noisy + 3 for good, noisy in zip(psnr["good"], psnr["noisy"], strict=True))
    # all images have the same teacher, so its loss is the student's
    assert logged(folder, "train/distill") == logged(folder, "train/teacher/good/distill")
    assert len(logged(folder, "train/teacher/noisy/distill")) == 4
    for name in ("good", "noisy"):
        assert logged(folder, f"train/teacher/{name}/cached") == [0, 0, 1, 1]
    owners = sorted(path.name.rpartition("-")[0] for path in (tmp_path / "kept").iterdir() if path.is_dir())
    assert owners == ["good", "noisy"]
    mean = train_here("mean", *taught)
    assert logged(mean, "train/distill")[0] != logged(folder, "train/distill")[0]
    assert not (mean / "logs" / "metrics.csv").read_text().count("/share")
    last = read_lightning(folder / "checkpoints" / "last.ckpt")
    assert {name.split(".")[0] for name in last["state_dict"]} == {"net"}


def test_it_goes_on_with_the_same_teachers_alone(train_here: Train, taught: list[str], other: Path) -> None:
    folder = RunFolder(train_here("student", *taught))
    folder.report("running")
    with pytest.raises(RunFolderError, match=r"teacher\.combine: mean -> best"):
        train_here("student", *taught, "teacher.combine=best", "resume=auto")
    before = other.read_bytes()
    other.write_bytes(folder.weights_file.read_bytes())
    with pytest.raises(
        RunFolderError, match=r"cannot continue .* with another teacher: its file's SHA-256 was"
    ):
        train_here("student", *taught, "resume=auto")
    other.write_bytes(before)
    train_here("student", *taught, "resume=auto")
    assert folder.status()["state"] == "finished"


def test_a_missing_file_is_named_before_anything_begins(
    train_here: Train, taught: list[str], other: Path, tmp_path: Path
) -> None:
    other.unlink()
    with pytest.raises(FileNotFoundError, match=re.escape(f"teacher.several[1].path={other}: no such file")):
        train_here("student", *taught)
    assert not (tmp_path / "student").exists()
