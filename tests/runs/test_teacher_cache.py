"""A training with kept outputs of the teacher: the second epoch runs no teacher, and nothing else changes."""

from __future__ import annotations

import csv
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file

from sharpkd.checkpoint import read_lightning
from sharpkd.modules.frozen_teacher import FrozenTeacher
from sharpkd.runs import folder as room
from sharpkd.runs.folder import RunFolder, RunFolderError
from sharpkd.train import main

Train = Callable[..., Path]
PROBE = 1
"""Every training begins with one question on noise."""


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many images the nets of all teachers were shown, one number a forward pass."""
    counts: list[int] = []
    build = FrozenTeacher.__init__

    def counting(self: FrozenTeacher, net: Any, *rest: Any, **settings: Any) -> None:
        build(self, net, *rest, **settings)
        net.register_forward_hook(lambda _module, inputs, _output: counts.append(len(inputs[0])))

    monkeypatch.setattr(FrozenTeacher, "__init__", counting)
    return counts


@pytest.fixture
def taught(tiny: list[str], teacher: Path) -> list[str]:
    """Two epochs of eight crops in batches of four, one checkpoint every step."""
    return [
        *tiny,
        "experiment=distill",
        "distillation=output",
        f"teacher.path={teacher}",
        "data.fixed_crops=8",
        "callbacks.last.every_n_train_steps=1",
    ]


def logged(folder: Path, name: str) -> list[float]:
    with (folder / "logs" / "metrics.csv").open() as stream:
        return [float(row[name]) for row in csv.DictReader(stream) if row.get(name)]


def test_the_second_epoch_does_not_run_the_teacher_and_the_loss_is_the_same(
    train_here: Train,
    taught: list[str],
    asked: list[int],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    without = train_here("without", *taught)
    assert asked == [PROBE, 4, 4, 4, 4]
    kept = f"teacher.cache={tmp_path}/kept"
    for name, expected in (("empty", [PROBE, 4, 4]), ("filled", [PROBE])):
        asked.clear()
        with caplog.at_level(logging.INFO, logger="sharpkd"):
            folder = train_here(name, *taught, kept)
        assert asked == expected
        for term in ("train/loss", "train/distill/output"):
            assert len(logged(folder, term)) == 4
            assert logged(folder, term) == pytest.approx(logged(without, term), abs=1e-3)
    assert logged(tmp_path / "empty", "train/teacher/cached") == [0, 0, 1, 1]
    assert logged(tmp_path / "filled", "train/teacher/cached") == [1, 1, 1, 1]
    lines = [line for line in caplog.messages if "outputs from teacher.cache" in line]
    assert lines == [
        f"teacher PixelStudent: {found} outputs from teacher.cache={tmp_path}/kept, {computed} computed"
        for found, computed in ((8, 8), (16, 0))
    ]
    exported = [load_file(tmp_path / name / "net.safetensors") for name in ("empty", "filled")]
    assert all(value.equal(exported[1][key]) for key, value in exported[0].items())
    assert not [line for line in caplog.messages if "every epoch draws new crops" in line]


def test_inputs_without_ground_truth_repeat_as_well(
    train_here: Train, taught: list[str], asked: list[int], tmp_path: Path
) -> None:
    footage = tmp_path / "footage"
    footage.mkdir()
    for index in range(3):
        noise = np.random.default_rng(index).integers(0, 256, (50, 60, 3), dtype=np.uint8)
        Image.fromarray(noise).save(footage / f"{index}.png")
    more = [f"data.unlabelled_dir={footage}", "data.unlabelled_per_crop=2", f"teacher.cache={tmp_path}/kept"]
    train_here("student", *taught, *more)
    assert asked == [PROBE, 12, 12]


def test_an_interrupted_training_goes_on_with_what_is_kept(
    train_here: Train, broken_off: Train, taught: list[str], asked: list[int], tmp_path: Path
) -> None:
    settings = [*taught, f"teacher.cache={tmp_path}/kept"]
    whole = train_here("whole", *taught, f"teacher.cache={tmp_path}/other")
    broken_off("broken", *settings)
    with pytest.raises(RunFolderError, match=r"teacher\.cache: .* -> None"):
        train_here("broken", *taught, "resume=auto")
    with pytest.raises(RunFolderError, match=r"teacher\.cache_format: fp16 -> uint8"):
        train_here("broken", *settings, "teacher.cache_format=uint8", "resume=auto")
    asked.clear()
    (tmp_path / "kept").rename(tmp_path / "moved")
    moved = [*taught, f"teacher.cache={tmp_path}/moved", "teacher.cache_gb=1", "resume=auto"]
    train_here("broken", *moved)
    assert asked == [PROBE]
    exported, again = (load_file(tmp_path / name / "net.safetensors") for name in ("broken", whole.name))
    assert all(value.equal(again[key]) for key, value in exported.items())


def test_runs_from_before_there_was_a_cache_go_on(
    train_here: Train, taught: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = RunFolder(train_here("student", *taught))
    folder.report("running")

    def older(path: Path) -> dict[str, Any]:
        content = read_lightning(path)
        for name in ("tile", "device", "cache", "cache_gb", "cache_format"):
            del content["sharpkd"]["config"]["teacher"][name]
        return content

    monkeypatch.setattr(room, "read_lightning", older)
    with pytest.raises(RunFolderError, match=r"settings:\n  teacher\.tile: \(absent\) -> 64\nput them back"):
        train_here("student", *taught, "teacher.tile=64", "resume=auto")
    train_here("student", *taught, "resume=auto")
    assert folder.status()["state"] == "finished"


def test_without_fixed_crops_the_next_training_with_the_seed_finds_them(
    train_here: Train, taught: list[str], asked: list[int], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = [*taught, "data.fixed_crops=null", f"teacher.cache={tmp_path}/kept"]
    train_here("first", *settings)
    assert asked == [PROBE, 4, 4, 4, 4]
    assert [line for line in caplog.messages if "every epoch" in line] == [
        f"teacher.cache={tmp_path}/kept: every epoch draws new crops, so this training finds there only what "
        "another one with the same seed and data has left; data.fixed_crops=N trains on N crops again and "
        "again"
    ]
    asked.clear()
    train_here("second", *settings, "loss.delta=0.25")
    assert asked == [PROBE]
    asked.clear()
    train_here("third", *settings, "seed=1")
    assert asked == [PROBE, 4, 4, 4, 4]


def test_tiles_and_a_device_of_its_own_change_nothing(train_here: Train, taught: list[str]) -> None:
    plain = train_here("plain", *taught)
    settled = train_here("settled", *taught, "teacher.tile=12", "teacher.device=cpu")
    for term in ("train/loss", "train/distill/output"):
        assert logged(settled, term) == pytest.approx(logged(plain, term), rel=1e-4)


def test_a_cache_beside_terms_that_read_features_is_refused_before_anything_begins(
    call: Callable[..., Any], tiny: list[str], teacher: Path, tmp_path: Path
) -> None:
    outcome = call(main, *tiny, "experiment=distill", f"teacher.path={teacher}", "teacher.cache=kept")
    assert (outcome.code, outcome.err) == (
        2,
        "error: teacher.cache has the outputs of teachers, not their features, which "
        "distillation.terms.feature and distillation.terms.attention read; use distillation=output, or "
        "teacher.cache=null\n",
    )
    assert list(tmp_path.iterdir()) == []
