"""Another project's weight file as the teacher, or as the net: trained with, or refused before training."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from sharpkd.checkpoint import CheckpointError, load_net, read_lightning
from sharpkd.config import ConfigError
from sharpkd.functional.torchvision_guard import define_missing_operators
from sharpkd.metrics.latency import Latency

define_missing_operators()
pytestmark = pytest.mark.filterwarnings("ignore:.saved_variables. is deprecated:DeprecationWarning")
Train = Callable[..., Path]


def nafnet() -> nn.Module:
    """Of the task's scale, with branches that have a say."""
    from spandrel.architectures.NAFNet import NAFNet

    torch.manual_seed(0)
    net = NAFNet(width=8, middle_blk_num=1, enc_blk_nums=[1, 1], dec_blk_nums=[1, 1])
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if name.endswith(("beta", "gamma")):
                parameter.fill_(0.1)
    return net


def compact(channels: int, scale: int) -> nn.Module:
    from spandrel.architectures.Compact import Compact

    torch.manual_seed(0)
    return Compact(num_in_ch=channels, num_out_ch=channels, num_feat=8, num_conv=2, upscale=scale)


@pytest.fixture
def same_scale(tmp_path: Path) -> Path:
    path = tmp_path / "nafnet.pth"
    torch.save({"params": nafnet().state_dict()}, path)
    return path


def teach(tiny: list[str], teacher: Path, *more: str) -> list[str]:
    return [*tiny, "experiment=distill", f"teacher.path={teacher}", "trainer.max_steps=3", *more]


def test_one_flag_distils_from_another_projects_file(
    tiny: list[str], same_scale: Path, train_here: Train
) -> None:
    before = same_scale.read_bytes()
    folder = train_here("student", *teach(tiny, same_scale))
    assert type(load_net(folder / "net.safetensors").net).__name__ == "PixelStudent"
    lines = (folder / "logs" / "metrics.csv").read_text().splitlines()
    assert {"train/distill/output", "train/distill/feature", "train/distill/attention"} <= set(
        lines[0].split(",")
    )
    last = read_lightning(next((folder / "checkpoints").glob("last*.ckpt")))
    assert last["global_step"] == 3
    assert not [name for name in last["state_dict"] if "encoders" in name]
    assert same_scale.read_bytes() == before


def test_taps_by_path_and_the_list_of_them(tiny: list[str], same_scale: Path, train_here: Train) -> None:
    def pairs(tap: str) -> list[str]:
        taps = f"distillation.terms.feature.term.pairs=[[middle,{tap}]]"
        return teach(tiny, same_scale, "distillation=feature", taps)

    folder = train_here("by_path", *pairs("module.encoders.1"))
    assert (folder / "net.safetensors").is_file()
    with pytest.raises(ValueError, match=r"unknown tap of PretrainedNet: 'module.encoder.1'") as unknown:
        train_here("unknown", *pairs("module.encoder.1"))
    for known in (
        "early (module.intro)",
        "late (module.",
        "module.encoders.1,",
        "module.middle_blks.0.conv1",
    ):
        assert known in str(unknown.value)
    assert "\n" not in str(unknown.value)


# torch.meshgrid without `indexing`, in spandrel's nets
@pytest.mark.filterwarnings("ignore:torch.meshgrid:UserWarning")
def test_a_transformer_teaches_by_its_maps_alone(tiny: list[str], tmp_path: Path, train_here: Train) -> None:
    from spandrel.architectures.SwinIR import SwinIR

    shape = {"embed_dim": 12, "depths": [2, 2], "num_heads": [2, 2], "window_size": 8, "mlp_ratio": 2}
    path = tmp_path / "denoise.pth"
    torch.save({"params": SwinIR(img_size=32, **shape).state_dict()}, path)
    folder = train_here("student", *teach(tiny, path))
    assert (folder / "net.safetensors").is_file()
    tokens = "[[middle,module.layers.0.residual_group.blocks.0.mlp]]"
    with pytest.raises(
        ValueError, match=r"gives shape \(1, 4096, 12\), expected a 4-D feature map"
    ) as refused:
        train_here(
            "tokens",
            *teach(tiny, path, "distillation=feature", f"distillation.terms.feature.term.pairs={tokens}"),
        )
    message = str(refused.value)
    assert "Modules that return a feature map: module.conv_first, " in message
    assert "module.layers.1.conv" in message
    assert ".mlp." not in message


@pytest.mark.parametrize("scale", [2, 4])
def test_a_teacher_of_another_scale_is_refused(
    scale: int, tiny: list[str], tmp_path: Path, train_here: Train
) -> None:
    path = tmp_path / "larger.pth"
    torch.save(compact(3, scale).state_dict(), path)
    with pytest.raises(
        ValueError, match=rf"teacher RealESRGAN Compact: it turns 48x48 into \(1, 3, {48 * scale}"
    ):
        train_here("student", *teach(tiny, path, "distillation=output"))
    assert not (tmp_path / "student" / "checkpoints").exists()


def test_a_teacher_that_returns_nan_is_refused(tiny: list[str], tmp_path: Path, train_here: Train) -> None:
    net, path = nafnet(), tmp_path / "nan.pth"
    with torch.no_grad():
        net.get_parameter("ending.bias").fill_(float("nan"))
    torch.save(net.state_dict(), path)
    with pytest.raises(
        ValueError, match="teacher NAFNet: its output is not finite; its weights are unusable"
    ):
        train_here("student", *teach(tiny, path))
    assert not (tmp_path / "student" / "checkpoints").exists()


def test_a_grey_teacher_is_refused_with_the_reason(
    tiny: list[str], tmp_path: Path, train_here: Train
) -> None:
    path = tmp_path / "grey.pth"
    torch.save(compact(1, 1).state_dict(), path)
    with pytest.raises(CheckpointError, match=r"net for grey images; expected one for RGB images"):
        train_here("student", *teach(tiny, path))


def test_training_goes_on_from_another_projects_net(
    tiny: list[str], same_scale: Path, train_here: Train
) -> None:
    common = [setting for setting in tiny if not setting.startswith("net")]
    chosen = [
        *common,
        "experiment=scratch",
        "net=pretrained",
        f"net.path={same_scale}",
        "trainer.max_steps=2",
    ]
    folder = train_here("tuned", *chosen, "optimizer.lr=0.01")
    started = nafnet().state_dict()
    same_scale.unlink()
    tuned = load_net(folder / "net.safetensors").net.state_dict()
    assert {name.removeprefix("module.") for name in tuned} == started.keys()
    assert not any(value.equal(tuned[f"module.{name}"]) for name, value in started.items())


def test_a_net_that_enlarges_is_timed_for_the_output(
    tiny: list[str], tmp_path: Path, train_here: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[int] = []

    def timed(net: nn.Module, scale: int) -> Latency:
        given.append(scale)
        return Latency(5.0, 5.0, 5.0)

    monkeypatch.setattr("sharpkd.runs.training.net_latency", timed)
    path = tmp_path / "larger.pth"
    torch.save(compact(3, 2).state_dict(), path)
    common = [setting for setting in tiny if not setting.startswith("net")]
    halved = ["_target_=albumentations.RandomScale", "scale_limit=[-0.5,-0.5]", "p=1"]
    degraded = ["~degradation", *(f"+degradation.{setting}" for setting in halved)]
    net = ["experiment=scratch", "net=pretrained", f"net.path={path}", "trainer.max_steps=2"]
    folder = train_here("twice", *common, *net, "task.scale=2", *degraded)
    assert given == [2]
    assert json.loads((folder / "metrics.json").read_text())["ms_per_image"] == 5.0


def test_a_net_of_another_scale_is_refused(tiny: list[str], tmp_path: Path, train_here: Train) -> None:
    path = tmp_path / "larger.pth"
    torch.save(compact(3, 2).state_dict(), path)
    common = [setting for setting in tiny if not setting.startswith("net")]
    with pytest.raises(
        ConfigError,
        match=r"^net: RealESRGAN Compact enlarges 2 times, the task 1 times \(task.scale=1\); choose",
    ):
        train_here("net", *common, "experiment=scratch", "net=pretrained", f"net.path={path}")


@pytest.mark.real_data
def test_craft_x4_cannot_teach_a_student_of_the_same_size(
    tiny: list[str], sharpkd_weights: Path, tmp_path: Path, train_here: Train
) -> None:
    with pytest.raises(
        ValueError,
        match=r"^teacher CRAFT: it turns 48x48 into \(1, 3, 192, 192\), the task needs \(1, 3, 48, 48\); its "
        r"scale or channel count is not the task's \(task.scale=1\)$",
    ):
        train_here("student", *teach(tiny, sharpkd_weights / "craft_x4.pth"))
    assert not (tmp_path / "student" / "checkpoints").exists()
