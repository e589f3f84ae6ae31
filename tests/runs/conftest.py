"""A folder of small pictures, and trainings of seconds on it: in this process, or as a command."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter
from torch import Tensor

from sharpkd.config import compose
from sharpkd.config.check import check
from sharpkd.data.batch import Batch
from sharpkd.modules.distill import DistillModule
from sharpkd.train import main, train


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten 80x72 pictures with structure at several scales."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for index in range(10):
        layers = [gaussian_filter(rng.standard_normal((72, 80, 3)), (s, s, 0)) * s for s in (0.5, 1.5, 4.0)]
        picture = np.clip(128 + 60 * np.sum(layers, axis=0), 0, 255).astype(np.uint8)
        Image.fromarray(picture).save(folder / f"{index}.png")
    return folder


@pytest.fixture(scope="session")
def tiny(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Overrides of a training that takes seconds: 8 training pictures, 2 held out, 32-pixel crops."""
    cache = tmp_path_factory.mktemp("cache")
    return [
        "data=folder",
        f"data.train_dir={photos}",
        "data.val_fraction=0.2",
        f"data.cache_dir={cache}",
        "data.crop_size=32",
        "data.batch_size=4",
        "data.crops_per_image=5",
        "data.workers=0",
        "net=pixel_student",
        "net.width=8",
        "net.depth=3",
        "trainer=cpu",
        "trainer.max_steps=4",
        "trainer.val_check_interval=2",
        "trainer.log_every_n_steps=1",
        "runtime.threads=1",
        "loss.beta=0",
        "metrics.lpips_weights=null",
        "callbacks.progress=null",
        "trainer.enable_progress_bar=false",
        "callbacks.image_grid=null",
        "callbacks.training_curves=null",
    ]


@pytest.fixture(scope="session")
def finished(tiny: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished ``experiment=scratch``, to read or copy."""
    folder = tmp_path_factory.mktemp("finished")
    overrides = [*tiny, "experiment=scratch"]
    train(compose("train", overrides, output_dir=str(folder)), overrides)
    return folder


@pytest.fixture(scope="session")
def teacher(tiny: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The weights of a teacher that was trained for four steps."""
    folder = tmp_path_factory.mktemp("teacher")
    overrides = [*tiny, "experiment=teacher", "net=pixel_student"]
    train(compose("train", overrides, output_dir=str(folder)), overrides)
    return folder / "net.safetensors"


@pytest.fixture
def train_here(tmp_path: Path) -> Callable[..., Path]:
    """Train in this process into the folder ``tmp_path / name``, and return that folder."""

    def execute(name: str, *overrides: str) -> Path:
        folder = tmp_path / name
        config = compose("train", list(overrides), output_dir=str(folder))
        check(config)
        train(config, list(overrides))
        return folder

    return execute


@pytest.fixture
def broken_off(train_here: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """``broken_off(name, *overrides)``: a distillation like ``train_here``'s that ends after three steps."""
    step = DistillModule.training_step

    def interrupted(module: DistillModule, batch: Batch, index: int) -> Tensor:
        if module.global_step == 3:
            raise RuntimeError("the power went")
        return step(module, batch, index)

    def execute(name: str, *overrides: str) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(DistillModule, "training_step", interrupted)
            with pytest.raises(RuntimeError, match="the power went"):
                train_here(name, *overrides)

    return execute


@pytest.fixture
def command(tmp_path: Path) -> Callable[..., list[str]]:
    """The command line of ``python -m sharpkd.train`` with outputs below this test's folder."""

    def build(*overrides: str) -> list[str]:
        return [sys.executable, "-m", "sharpkd.train", *overrides, f"paths.output_root={tmp_path}/outputs"]

    return build


@pytest.fixture
def sweep_here(call: Callable[..., Any], tmp_path: Path) -> Callable[..., Any]:
    """``sweep_here(*overrides)``: ``python -m sharpkd.train -m`` in this process, see ``call``."""

    def execute(*overrides: str) -> Any:
        return call(main, "-m", *overrides, f"paths.output_root={tmp_path}/outputs")

    return execute
