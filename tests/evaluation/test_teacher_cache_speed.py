from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from sharpkd.benchmark import Benchmark
from sharpkd.checkpoint import save_weights
from sharpkd.config import ConfigError
from sharpkd.evaluation.teacher_cache_speed import TeacherCacheSpeed
from sharpkd.functional.torchvision_guard import define_missing_operators
from sharpkd.nets.attention_teacher import AttentionTeacher

define_missing_operators()
SMALL: dict[str, Any] = {"crops": 4, "epochs": 2, "crop_size": 64, "batch_size": 2}


@pytest.fixture
def roots(tmp_path: Path) -> dict[str, str]:
    return {"cache_root": str(tmp_path / "decoded"), "output_root": str(tmp_path / "outputs")}


def test_a_training_with_kept_outputs_is_measured_beside_one_without(
    tmp_path: Path, roots: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    arguments: dict[str, Any] = {"width": 48, "depths": [4, 4, 4], "unshuffle": 2}
    torch.manual_seed(0)
    config = {"_target_": "sharpkd.nets.attention_teacher.AttentionTeacher", **arguments}
    teacher = tmp_path / "teacher.safetensors"
    save_weights(teacher, config, AttentionTeacher(**arguments).state_dict(), {})
    student = {"net": "pixel_student", "width": 8, "depth": 2}
    benchmark: Benchmark = TeacherCacheSpeed(str(teacher), student, roots=roots, **SMALL)
    faster = benchmark.run(tmp_path)
    figures = json.loads((tmp_path / "teacher_cache.json").read_text())
    alone, training = figures["seconds_per_epoch"]
    assert (alone["what"], training["what"], figures["scale"]) == ("teacher", "training", 1)
    assert faster == training["times_faster"]
    for row in (alone, training):
        assert row["times_faster"] == pytest.approx(row["uncached"] / row["cached"], rel=0.1)
        assert row["times_faster"] > 1.5
        assert row["first"] > 1.5 * row["cached"]
    assert alone["loss_difference"] is None
    assert 0 < training["loss_difference"] < 1e-3
    with (tmp_path / "teacher_cache.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["cached"]) for row in rows] == [alone["cached"], training["cached"]]
    assert "Seconds of an epoch of 4 crops" in capsys.readouterr().out


def test_a_teacher_that_enlarges_sees_reduced_crops(
    tmp_path: Path, roots: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from spandrel.architectures.Compact import Compact

    torch.manual_seed(0)
    teacher = tmp_path / "compact.pth"
    torch.save(Compact(num_feat=8, num_conv=2, upscale=4).state_dict(), teacher)
    seen: list[tuple[int, ...]] = []
    forward = Compact.forward

    def recording(self: Compact, image: torch.Tensor) -> torch.Tensor:
        seen.append(tuple(image.shape))
        return forward(self, image)

    monkeypatch.setattr(Compact, "forward", recording)
    TeacherCacheSpeed(str(teacher), roots=roots, **SMALL).run(tmp_path)
    # four crops without kept outputs, four while they are made, none later
    assert sum(shape[0] for shape in seen if shape[1:] == (3, 16, 16)) == 4 + 4
    assert not [shape for shape in seen if shape[2:] == (64, 64)]
    figures = json.loads((tmp_path / "teacher_cache.json").read_text())
    assert (figures["scale"], figures["student"], len(figures["seconds_per_epoch"])) == (4, None, 1)


def test_settings_out_of_range() -> None:
    message = "a benchmark of kept outputs needs teacher=FILE, the weights of a trained net"
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        TeacherCacheSpeed(None)
    with pytest.raises(ValueError, match=r"^crops must be a multiple of batch_size=8, got 12$"):
        TeacherCacheSpeed("a.pth", crops=12)
    with pytest.raises(ValueError, match=r"^epochs must be at least 1, got 0$"):
        TeacherCacheSpeed("a.pth", epochs=0)
    with pytest.raises(FileNotFoundError, match=r"^no weight file at /nowhere/a\.pth$"):
        TeacherCacheSpeed("/nowhere/a.pth").run(Path())
