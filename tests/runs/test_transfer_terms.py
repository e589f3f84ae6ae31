"""Trainings with the terms that look again: resumed, with kept answers, beside the others."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file

from sharpkd.checkpoint import read_lightning
from sharpkd.runs.folder import RunFolder

Train = Callable[..., Path]
OUTPUT_ALONE = "distillation=[gated_output,consistency,contrastive]"


@pytest.fixture
def taught(tiny: list[str], teacher: Path) -> list[str]:
    """Overrides of a distillation, one checkpoint every step."""
    return [
        *tiny,
        "experiment=distill",
        f"teacher.path={teacher}",
        "callbacks.last.every_n_train_steps=1",
    ]


def logged(folder: Path, name: str) -> list[float]:
    with (folder / "logs" / "metrics.csv").open() as stream:
        return [float(row[name]) for row in csv.DictReader(stream) if row.get(name)]


def test_an_interrupted_training_continues_to_the_same_weights(
    train_here: Train, broken_off: Train, taught: list[str]
) -> None:
    every = [*taught, "distillation=[output,affinity,gated_output,consistency,contrastive]"]
    whole = train_here("whole", *every)
    broken_off("broken", *every)
    folder = RunFolder(whole.parent / "broken")
    assert read_lightning(folder.last_checkpoint)["global_step"] == 3
    train_here("broken", *every, "resume=auto")
    expected, continued = (
        read_lightning(where / "checkpoints" / "last.ckpt") for where in (whole, folder.path)
    )
    for part in ("state_dict", "current_model_state"):
        assert all(value.equal(continued[part][key]) for key, value in expected[part].items())
    for term in ("output", "affinity", "gated_output", "gated_output/share", "consistency", "contrastive"):
        values = logged(whole, f"train/distill/{term}")
        assert len(values) == 4
        assert values[3:] == logged(folder.path, f"train/distill/{term}")[-1:]
    assert all(0 <= share <= 1 for share in logged(whole, "train/distill/gated_output/share"))


def test_another_seed_draws_other_changes_of_the_same_crops(train_here: Train, taught: list[str]) -> None:
    first = train_here("first", *taught, "distillation=consistency")
    second = train_here(
        "second", *taught, "distillation=consistency", "distillation.terms.consistency.term.seed=1"
    )
    assert logged(first, "train/pixel")[0] == logged(second, "train/pixel")[0]
    assert logged(first, "train/distill/consistency")[0] != logged(second, "train/distill/consistency")[0]


def test_they_learn_from_kept_answers_and_from_a_teacher_in_tiles(
    train_here: Train, taught: list[str], tmp_path: Path
) -> None:
    common = [*taught, OUTPUT_ALONE, "data.fixed_crops=8"]
    plain = train_here("plain", *common)
    kept = train_here("kept", *common, f"teacher.cache={tmp_path}/answers")
    assert logged(kept, "train/teacher/cached") == [0, 0, 1, 1]
    coarse = train_here("coarse", *common, "teacher.precision=bf16", "teacher.tile=24")
    for name, tolerance in (("pixel", 1e-3), ("distill/consistency", 2e-3), ("distill/gated_output", 2e-3)):
        for folder in (kept, coarse):
            expected = pytest.approx(logged(plain, f"train/{name}"), abs=tolerance)
            assert logged(folder, f"train/{name}") == expected
    assert load_file(coarse / "net.safetensors").keys() == load_file(plain / "net.safetensors").keys()


def test_affinity_is_refused_where_there_are_no_features(
    train_here: Train, taught: list[str], tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=r"teacher\.cache"):
        train_here("kept", *taught, "distillation=affinity", f"teacher.cache={tmp_path}/answers")
