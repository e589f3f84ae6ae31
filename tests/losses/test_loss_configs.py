from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig

from sharpkd.losses import pixel
from sharpkd.losses.combined import CombinedLoss

CONF = Path(__file__).parents[2] / "conf"


def composed(*overrides: str) -> DictConfig:
    with initialize_config_dir(str(CONF), version_base=None):
        return compose(overrides=list(overrides))


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("default", pixel.CharbonnierLoss),
        ("l1", pixel.L1Loss),
        ("mse", pixel.MSELoss),
        ("squeezenet", pixel.CharbonnierLoss),
    ],
)
def test_every_config_builds_the_loss_it_names(name: str, kind: type, tmp_path: Path) -> None:
    config = composed(f"+loss={name}", f"+paths.weights_root={tmp_path}")
    loss = instantiate(config.loss, _convert_="all")
    assert isinstance(loss, CombinedLoss)
    assert type(loss.pixel) is kind
    assert loss.weights == {"alpha": 1.0, "beta": 0.0, "gamma": 0.0, "delta": 0.0}


def test_squeezenet_looks_for_its_weights_in_the_weights_root(tmp_path: Path) -> None:
    config = composed("+loss=squeezenet", f"+paths.weights_root={tmp_path}", "loss.beta=0.1")
    message = f"no weights for the perceptual loss at {tmp_path / 'squeezenet1_1.pth'}: put"
    with pytest.raises(InstantiationException, match=re.escape(message)):
        instantiate(config.loss, _convert_="all")


SCRIPT = """
import sys
from hydra import compose, initialize_config_dir
from hydra.errors import InstantiationException
from hydra.utils import instantiate
import torch
with initialize_config_dir(sys.argv[1], version_base=None):
    loss = instantiate(compose(overrides=["+loss=default", "loss.gamma=0.1"]).loss, _convert_="all")
image = torch.rand(1, 3, 16, 16)
result = loss(image, image)
print(sorted(result.terms), "torchvision" in sys.modules, "timm" in sys.modules)
"""


def test_nothing_is_loaded_for_beta_zero() -> None:
    command = [sys.executable, "-c", SCRIPT, str(CONF)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "['pixel', 'ssim'] False False"
