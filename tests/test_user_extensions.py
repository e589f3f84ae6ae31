"""A user's own net, loss, task and YAML, without a change to the package."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import OmegaConf
from PIL import Image

from sharpkd.checkpoint import CheckpointError, load_net
from sharpkd.train import main

MODULE = '''
"""What a user writes: a net that knows nothing of SharpKD, and a loss."""

import torch
from torch import nn


class Bilinear(nn.Module):
    """One convolution of the image's own pixels, added to it."""

    def __init__(self, width: int = 4, names: list[str] | None = None) -> None:
        super().__init__()
        self.inner = nn.Conv2d(3, width, 3, padding=1)
        self.outer = nn.Conv2d(width, 3, 1)
        nn.init.zeros_(self.outer.weight)
        nn.init.zeros_(self.outer.bias)

    def forward(self, degraded, condition=None):
        return degraded + self.outer(torch.relu(self.inner(degraded)))


class GradientLoss(nn.Module):
    """L1 distance of horizontal differences."""

    def __init__(self, factor: float = 1.0) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, output, sharp):
        return self.factor * (output.diff(dim=-1) - sharp.diff(dim=-1)).abs().mean()
'''

NET = """\
# python -m sharpkd.train --config-dir conf net=bilinear
_target_: photolab.Bilinear
width: 6
names: [a, b]
"""

LOSS = """\
# python -m sharpkd.train --config-dir conf loss/pixel=gradient
_target_: photolab.GradientLoss
factor: 2.0
"""

TASK = """\
# python -m sharpkd.train --config-dir conf task=denoise
name: denoise
scale: 1
"""

DEGRADATION = """\
# python -m sharpkd.train --config-dir conf degradation=noise
_target_: albumentations.GaussNoise
std_range: [0.05, 0.2]
per_channel: true
p: 1.0
"""

EXPERIMENT = """\
# @package _global_
# python -m sharpkd.train --config-dir conf experiment=denoise
defaults:
  - override /task: denoise
  - override /degradation: noise
  - override /net: pixel_student

net:
  width: 8
  depth: 3

loss:
  gamma: 0.1
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A user's folder: a module, YAML, and a few small pictures."""
    files = {
        "photolab.py": MODULE,
        "conf/net/bilinear.yaml": NET,
        "conf/loss/pixel/gradient.yaml": LOSS,
        "conf/task/denoise.yaml": TASK,
        "conf/degradation/noise.yaml": DEGRADATION,
        "conf/experiment/denoise.yaml": EXPERIMENT,
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "photos").mkdir()
    rng = np.random.default_rng(0)
    for index in range(4):
        coarse = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((64, 56), Image.Resampling.BICUBIC).save(
            tmp_path / f"photos/{index}.png"
        )
    return tmp_path


# two steps, from the user's folder
SHORT = [
    *("--config-dir", "conf"),
    *("data=folder", "data.train_dir=photos", "data.val_fraction=0.3", "data.cache_dir=cache"),
    *("data.crop_size=32", "data.batch_size=2", "data.workers=0", "trainer=cpu", "trainer.max_steps=2"),
    *("logger=csv", "metrics.lpips_weights=null", "callbacks.image_grid=null", "run=first"),
]


def test_own_net_own_loss_and_own_yaml(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = ["net=bilinear", "loss/pixel=gradient", "net.width=5"]
    done = subprocess.run(
        [sys.executable, "-m", "sharpkd.train", *SHORT, *own],
        cwd=home,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    (folder,) = (home / "outputs").glob("*/first")
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["steps"] == 2
    assert metrics["parameters"] == (27 * 5 + 5) + (5 * 3 + 3)
    assert metrics["macs_per_pixel"] == 27 * 5 + 5 * 3
    assert metrics["val/psnr"] > 20
    saved = OmegaConf.load(folder / "config.yaml")
    assert saved.net == {"_target_": "photolab.Bilinear", "width": 5, "names": ["a", "b"]}
    assert saved.loss.pixel == {"_target_": "photolab.GradientLoss", "factor": 2.0}

    weights = folder / "net.safetensors"
    with pytest.raises(CheckpointError, match=r"add its package to runtime\.trusted_packages"):
        load_net(weights)
    monkeypatch.syspath_prepend(str(home))
    loaded = load_net(weights, trusted=["photolab"])
    assert loaded.config == {"_target_": "photolab.Bilinear", "width": 5, "names": ["a", "b"]}
    assert type(loaded.net).__name__ == "Bilinear"
    best = load_net(folder / "checkpoints" / "best.ckpt", trusted=["photolab"]).net.state_dict()
    assert all(value.equal(best[key]) for key, value in loaded.net.state_dict().items())


def test_denoising_by_yaml_alone(home: Path, call: Callable[..., Any]) -> None:
    outcome = call(main, *SHORT, "experiment=denoise")
    assert outcome.code == 0, outcome.err
    folder = home / "outputs" / "denoise" / "first"
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["steps"] == 2
    # noise of 5 to 20 % on flat pictures, and a net that has hardly learnt
    assert 10 < metrics["val/psnr"] < 30
    assert 0 < metrics["val/ssim"] < 1
    saved = OmegaConf.load(folder / "config.yaml")
    assert saved.task == {"name": "denoise", "scale": 1}
    assert saved.degradation._target_ == "albumentations.GaussNoise"
    assert json.loads((folder / "status.json").read_text())["state"] == "finished"
    assert load_net(folder / "net.safetensors").config["width"] == 8
