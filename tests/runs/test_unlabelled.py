"""Trainings with inputs without ground truth, from the command to the weights."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file

from sharpkd.checkpoint import load_net, read_lightning
from sharpkd.runs.folder import RunFolder, RunFolderError

Train = Callable[..., Path]


@pytest.fixture(scope="session")
def footage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four 60x50 pictures of nothing."""
    folder = tmp_path_factory.mktemp("footage")
    for index in range(4):
        noise = np.random.default_rng(100 + index).integers(0, 256, (50, 60, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / f"frame{index}.png")
    return folder


@pytest.fixture
def taught(tiny: list[str], teacher: Path, footage: Path) -> list[str]:
    """Overrides of a distillation with extra inputs, one checkpoint every step."""
    return [
        *tiny,
        "experiment=distill",
        f"teacher.path={teacher}",
        f"data.unlabelled_dir={footage}",
        "data.unlabelled_per_crop=2",
        "callbacks.last.every_n_train_steps=1",
    ]


def test_an_interrupted_training_continues_to_the_same_weights(
    train_here: Train, broken_off: Train, taught: list[str]
) -> None:
    whole = train_here("whole", *taught)
    broken_off("broken", *taught)
    folder = RunFolder(whole.parent / "broken")
    assert read_lightning(folder.last_checkpoint)["global_step"] == 3
    with pytest.raises(RunFolderError, match=r"data\.unlabelled_per_crop: 2 -> 1"):
        train_here("broken", *taught, "data.unlabelled_per_crop=1", "resume=auto")
    train_here("broken", *taught, "resume=auto")

    for name in ("checkpoints/best.ckpt", "checkpoints/last.ckpt"):
        expected, continued = (read_lightning(where / name) for where in (whole, folder.path))
        assert expected["global_step"] == continued["global_step"]
        for part in ("state_dict", "current_model_state"):
            assert {key.split(".")[0] for key in expected[part]} == {"net"}
            assert all(value.equal(continued[part][key]) for key, value in expected[part].items())
    exported, again = (load_file(where / "net.safetensors") for where in (whole, folder.path))
    assert all(value.equal(again[key]) for key, value in exported.items())
    assert load_net(whole / "net.safetensors").net is not None


@pytest.mark.parametrize("setting", ["data.unlabelled_degraded=false", "data.unlabelled_per_crop=1"])
def test_what_the_extra_inputs_are_decides_the_weights(
    train_here: Train, taught: list[str], tiny: list[str], teacher: Path, setting: str
) -> None:
    plain = [*tiny, "experiment=distill", f"teacher.path={teacher}"]
    runs = {
        "none": plain,
        "degraded": taught,
        "other": [*taught, setting],
    }
    weights = [load_file(train_here(name, *settings) / "net.safetensors") for name, settings in runs.items()]
    keys = [key for key, value in weights[0].items() if value.ndim == 4]
    for first, second in ((0, 1), (0, 2), (1, 2)):
        assert not any(weights[first][key].equal(weights[second][key]) for key in keys)


def test_a_training_without_a_teacher_refuses_them_before_it_begins(
    command: Callable[..., list[str]], tiny: list[str], footage: Path, tmp_path: Path
) -> None:
    arguments = command(*tiny, "experiment=scratch", f"data.unlabelled_dir={footage}", "run=refused")
    finished = subprocess.run(arguments, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert finished.returncode == 2
    assert finished.stderr == (
        "error: data.unlabelled_dir needs a teacher: its images have no ground truth, and with "
        "distillation=none nobody labels them; use experiment=distill teacher.path=FILE, or "
        "data.unlabelled_dir=null\n"
    )
    assert not (tmp_path / "outputs").exists()
