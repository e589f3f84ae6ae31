"""The second report's flow, from the command to the weights: the teacher sees the small image."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from sharpkd.checkpoint import load_net
from sharpkd.config import ConfigError, compose
from sharpkd.functional.torchvision_guard import define_missing_operators
from sharpkd.nets.swinir import OFFICIAL
from sharpkd.runs.training import build_data, build_module, set_process_defaults
from sharpkd.train import with_teacher

define_missing_operators()
Train = Callable[..., Path]


@pytest.fixture(scope="module")
def enlarges(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another project's net that enlarges twice."""
    from spandrel.architectures.Compact import Compact

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("teacher") / "x2.pth"
    torch.save(Compact(num_in_ch=3, num_out_ch=3, num_feat=8, num_conv=2, upscale=2).state_dict(), path)
    return path


@pytest.fixture
def report(tiny: list[str], enlarges: Path) -> list[str]:
    """The experiment, small, with a factor of 2."""
    small = [setting for setting in tiny if not setting.startswith(("net", "data.crops_per_image"))]
    return [
        *small,
        "experiment=enhanced_cnn_swinir",
        "net.width=4",
        "net.blocks=1",
        "data.fixed_crops=8",
        "degradation.scale=2",
        f"teacher.path={enlarges}",
    ]


def test_the_experiment_has_the_reports_settings() -> None:
    cfg = compose("train", ["experiment=enhanced_cnn_swinir"])
    assert cfg.net._target_.endswith("EnhancedCNN")
    assert (cfg.net.width, cfg.net.blocks, cfg.net.global_residual) == (64, 6, False)
    assert (cfg.data.crop_size, cfg.data.fixed_crops, cfg.data.batch_size) == (100, 3200, 16)
    assert cfg.trainer.max_steps * cfg.data.batch_size == 25 * cfg.data.fixed_crops
    assert (cfg.optimizer._target_, cfg.optimizer.lr) == ("torch.optim.Adam", 1e-3)
    assert cfg.scheduler._target_.endswith("warmup_constant")
    assert cfg.scheduler.warmup_steps == 0
    assert cfg.loss.pixel._target_.endswith("L1Loss")
    assert (cfg.loss.beta, cfg.loss.gamma) == (0, 0)
    assert cfg.loss.alpha > 0
    assert cfg.loss.delta > 0
    assert list(cfg.distillation.terms) == ["output"]
    assert cfg.distillation.terms.output.term.criterion == "l1"
    assert (cfg.degradation.scale, cfg.distillation.teacher_input) == (4, "low_res")
    assert Path(cfg.teacher.path).name == OFFICIAL


def test_it_trains_and_the_teacher_counts(report: list[str], train_here: Train) -> None:
    taught = train_here("taught", *report)
    assert "train/distill/output" in (taught / "logs" / "metrics.csv").read_text().splitlines()[0].split(",")
    scratch = train_here("scratch", *report, "loss.delta=0")
    states = [load_net(folder / "net.safetensors").net.state_dict() for folder in (taught, scratch)]
    assert not any(value.equal(states[1][key]) for key, value in states[0].items())


def test_it_trains_with_inputs_without_ground_truth(
    report: list[str], photos: Path, train_here: Train
) -> None:
    folder = train_here("extra", *report, f"data.unlabelled_dir={photos}", "trainer.max_steps=2")
    assert (folder / "net.safetensors").is_file()


def test_the_control_is_one_override(report: list[str]) -> None:
    """Same first weights, same samples in the same order."""
    states, batches = [], []
    for how in ([], ["loss.delta=0"]):
        cfg = compose("train", [*report, *how])
        set_process_defaults(cfg)
        states.append(build_module(cfg).net.state_dict())
        data = build_data(cfg)
        data.prepare_data()
        batches.append(next(iter(data.train_dataloader())))
    assert all(value.equal(states[1][key]) for key, value in states[0].items())
    assert batches[0].name == batches[1].name
    assert batches[0].degraded.equal(batches[1].degraded)


@pytest.mark.parametrize("more", [["degradation.carry_low_res=false"], ["degradation=gaussian"]])
def test_without_a_small_image_there_is_nothing_to_show(
    more: list[str], report: list[str], train_here: Train
) -> None:
    if "degradation=gaussian" in more:
        report = [s for s in report if not s.startswith("degradation.")]
        report = [s.replace("enhanced_cnn_swinir", "distill") for s in report]
        report = [s for s in report if not s.startswith("net.")]
        more = [*more, "distillation.teacher_input=low_res"]
    name = "GaussianBlur" if "degradation=gaussian" in more else "LowRes"
    message = (
        f"distillation.teacher_input=low_res, but {name} hands on no low-resolution image; use "
        "degradation=lowres degradation.scale=4 degradation.carry_low_res=true, or "
        "distillation.teacher_input=degraded"
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        train_here("student", *report, *more)


def test_a_teacher_of_another_factor_is_refused(report: list[str], tmp_path: Path, train_here: Train) -> None:
    with pytest.raises(
        ValueError,
        match=r"^teacher RealESRGAN Compact: it turns 48x48 into \(1, 3, 96, 96\), the task needs "
        r"\(1, 3, 192, 192\); its scale or channel count is not the task's "
        r"\(distillation\.teacher_input=low_res, which is 4 times smaller\)$",
    ):
        train_here("student", *report, "degradation.scale=4")
    assert not (tmp_path / "student" / "checkpoints").exists()


def test_swinirs_own_weights_are_fetched_before_the_training(
    report: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Path] = []

    def fetched(file: Path) -> Path:
        asked.append(file)
        file.write_bytes(b"weights")
        return file

    monkeypatch.setattr("sharpkd.train.at_hand", fetched)
    cfg = compose("train", [*report, f"teacher.path={tmp_path / OFFICIAL}"])
    assert with_teacher(cfg).teacher.path == str(tmp_path / OFFICIAL)
    assert asked == [tmp_path / OFFICIAL]
    with pytest.raises(FileNotFoundError, match=r"^teacher\.path=.*other\.pth: no such file$"):
        with_teacher(compose("train", [*report, f"teacher.path={tmp_path / 'other.pth'}"]))
    with_teacher(compose("train", [*report, f"teacher.path={tmp_path / OFFICIAL}", "loss.delta=0"]))
    assert len(asked) == 1
