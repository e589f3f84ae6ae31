"""``task=super_resolution``: the configuration, a training, and what can be done with its weights."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image

from sharpkd.checkpoint import load_net, save_weights
from sharpkd.cli import main as sharpkd_command
from sharpkd.config import ConfigError, check, compose
from sharpkd.export import export_onnx
from sharpkd.functional.torchvision_guard import define_missing_operators
from sharpkd.inference.sharpener import Sharpener
from sharpkd.nets.pixel_student import PixelStudent
from sharpkd.runs.training import build_data

define_missing_operators()
Train = Callable[..., Path]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small net that enlarges three times, with weights that visibly change an image."""
    arguments: dict[str, Any] = {"unshuffle": 2, "width": 8, "depth": 3, "scale": 3}
    torch.manual_seed(0)
    net = PixelStudent(**arguments)
    torch.nn.init.normal_(net.tail.weight, std=0.05)
    path = tmp_path_factory.mktemp("larger") / "net.safetensors"
    config = {"_target_": "sharpkd.nets.pixel_student.PixelStudent", **arguments}
    save_weights(path, config, net.state_dict(), {})
    return path


def picture(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("overrides", "scale"),
    [([], 2), (["scale=3"], 3), (["task.scale=4"], 4), (["scale=3", "task.scale=4"], 4)],
)
def test_the_task_is_enough(overrides: list[str], scale: int) -> None:
    for net in ("pixel_student", "mobile_student", "enhanced_cnn", "attention_teacher"):
        cfg = compose("train", ["task=super_resolution", f"net={net}", *overrides])
        check(cfg)
        assert (cfg.task.name, cfg.task.scale, cfg.net.scale) == ("super_resolution", scale, scale)
        assert cfg.data.crop_size % scale == 0
        assert cfg.degradation == {"_target_": "sharpkd.data.degradation.Bicubic", "scale": scale}
    assert compose("evaluate", ["task=super_resolution", *overrides]).degradation.scale == scale


def test_another_degradation_and_experiments_go_first() -> None:
    chosen = compose("train", ["task=super_resolution", "degradation=lowres"])
    assert chosen.degradation._target_.endswith("LowRes")
    experiment = compose("train", ["experiment=distill", "task=super_resolution"])
    assert experiment.degradation._target_.endswith("Bicubic")
    report = compose("train", ["experiment=enhanced_cnn_swinir"])
    assert OmegaConf.select(report, "net.scale") == 1


def test_a_scale_is_a_whole_number_and_only_of_this_task() -> None:
    with pytest.raises(ConfigError, match=r"^task\.scale: expected int, found 1\.5$"):
        check(compose("train", ["task=super_resolution", "scale=1.5"]))
    with pytest.raises(ConfigError, match=r"^there is no setting 'scale'\."):
        compose("train", ["scale=2"])


def test_it_trains_and_the_file_knows_its_scale(tiny: list[str], train_here: Train) -> None:
    larger = ["task=super_resolution", "scale=2", "experiment=scratch", "trainer.max_steps=2"]
    loaded = load_net(train_here("larger", *tiny, *larger) / "net.safetensors")
    assert (loaded.config["scale"], loaded.metadata["scale"]) == (2, "2")
    assert loaded.net(torch.rand(1, 3, 7, 9)).shape == (1, 3, 14, 18)


def test_the_batch_is_the_benchmarks(tiny: list[str]) -> None:
    cfg = compose("train", [*tiny, "task=super_resolution", "scale=4", "data.fixed_crops=4"])
    data = build_data(cfg)
    data.prepare_data()
    batch = next(iter(data.train_dataloader()))
    assert (batch.degraded.shape, batch.sharp.shape) == ((4, 3, 8, 8), (4, 3, 32, 32))
    for degraded, sharp in zip(batch.degraded, batch.sharp, strict=True):
        pixels = (sharp.permute(1, 2, 0) * 255).round().byte().numpy()
        small = np.asarray(Image.fromarray(pixels).resize((8, 8), Image.Resampling.BICUBIC))
        np.testing.assert_allclose(degraded.permute(1, 2, 0).numpy() * 255, small, atol=1e-4)


def test_a_teacher_that_enlarges_as_much(tiny: list[str], tmp_path: Path, train_here: Train) -> None:
    from spandrel.architectures.Compact import Compact

    torch.manual_seed(0)
    path = tmp_path / "x2.pth"
    torch.save(Compact(num_in_ch=3, num_out_ch=3, num_feat=8, num_conv=2, upscale=2).state_dict(), path)
    taught = ["task=super_resolution", "experiment=distill", f"teacher.path={path}", "trainer.max_steps=2"]
    folder = train_here("student", *tiny, *taught)
    assert load_net(folder / "net.safetensors").config["scale"] == 2
    message = (
        "distillation.teacher_input=low_res, but Bicubic hands on no low-resolution image; use "
        "degradation=lowres degradation.scale=4 degradation.carry_low_res=true, or "
        "distillation.teacher_input=degraded"
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        train_here("small", *tiny, *taught, "distillation.teacher_input=low_res")


def test_what_does_not_fit_is_refused(tiny: list[str], train_here: Train) -> None:
    larger = ["task=super_resolution", "scale=3", "experiment=scratch"]
    with pytest.raises(ValueError, match=r"^data\.crop_size must be a multiple of the scale 3, got 32"):
        train_here("crop", *tiny, *larger)
    same_size = [setting for setting in tiny if not setting.startswith("net")]
    with pytest.raises(
        ConfigError,
        match=r"^net: NAFNet enlarges 1 times, the task 3 times \(task\.scale=3\); choose a net of",
    ):
        train_here("net", *same_size, *larger, "net=nafnet", "net.scale=1")


# torch.export uses a name of its own that torch is about to drop
@pytest.mark.filterwarnings("ignore:.isinstance.treespec, LeafSpec.:FutureWarning")
def test_tiles_and_onnx_give_what_the_net_gives(weights: Path, tmp_path: Path) -> None:
    exported = export_onnx(weights, tmp_path / "net.onnx")
    assert exported.max_error < 1e-4
    pixels = picture(70, 91)
    net = load_net(weights).net
    image = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255
    with torch.no_grad():
        output = net(image)[0].clamp(0, 1).mul(255).permute(1, 2, 0).numpy()
    for model in (weights, exported.path):
        for tile in (0, 32):
            sharpener = Sharpener(model, tile=tile)
            assert (sharpener.info.scale, sharpener.tiles_are_exact) == (3, True)
            found = sharpener.pixels(pixels)
            assert found.shape == (210, 273, 3)
            # half a level of rounding, and what floats add to it
            assert np.abs(found - output).max() < 0.51


def test_the_command_enlarges_a_picture(weights: Path, call: Callable[..., object], tmp_path: Path) -> None:
    Image.fromarray(picture(40, 50)).save(tmp_path / "small.png")
    call(
        lambda: sharpkd_command(),
        "sharpen", str(tmp_path / "small.png"), "-o", str(tmp_path / "large.png"), "--model", str(weights),
    )  # fmt: skip
    with Image.open(tmp_path / "large.png") as large:
        np.testing.assert_array_equal(np.asarray(large), Sharpener(weights).pixels(picture(40, 50)))
