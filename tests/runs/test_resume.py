"""kill -9 loses nothing; a folder's run is continued only as what it is."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file

from sharpkd.checkpoint import net_state, read_lightning
from sharpkd.runs.folder import RunFolder, RunFolderError, differences

Train = Callable[..., Path]


def _kill_after_checkpoint(arguments: list[str], folder: Path, where: Path) -> int:
    """Start a training, kill -9 it once it has written a checkpoint, and return that checkpoint's step."""
    checkpoint = folder / "checkpoints" / "last.ckpt"
    with (where / "killed.log").open("w") as log:
        process = subprocess.Popen(arguments, cwd=where, stdout=log, stderr=log, start_new_session=True)
        deadline = time.monotonic() + 240
        try:
            while not checkpoint.is_file():
                assert process.poll() is None, (where / "killed.log").read_text()
                assert time.monotonic() < deadline, "no checkpoint within four minutes"
                time.sleep(0.01)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return int(read_lightning(checkpoint)["global_step"])


def test_kill_then_resume_gives_the_uninterrupted_weights(
    train_here: Train, command: Callable[..., list[str]], tiny: list[str], tmp_path: Path
) -> None:
    """An epoch has 10 steps and checkpoints come every 7, so the resume starts inside an epoch."""
    overrides = [
        *tiny,
        "experiment=scratch",
        "data.workers=1",
        "trainer.max_steps=60",
        "trainer.val_check_interval=20",
        "callbacks.last.every_n_train_steps=7",
    ]
    killed = tmp_path / "outputs" / "scratch" / "killed"
    step = _kill_after_checkpoint(command(*overrides, "run=killed"), killed, tmp_path)
    assert 0 < step < 60
    assert step % 10 != 0
    settings = [*overrides, "run=killed", f"paths.output_root={tmp_path}/outputs"]
    train_here("outputs/scratch/killed", *settings, "resume=auto")
    whole = train_here("whole", *overrides)

    for name in ("checkpoints/best.ckpt", "checkpoints/last.ckpt"):
        expected, continued = (read_lightning(folder / name) for folder in (whole, killed))
        assert expected["global_step"] == continued["global_step"]
        for part in ("state_dict", "current_model_state"):
            for key, value in expected[part].items():
                assert value.equal(continued[part][key]), (name, part, key)
    exported, again = (load_file(folder / "net.safetensors") for folder in (whole, killed))
    assert exported.keys() == again.keys()
    assert all(exported[key].equal(again[key]) for key in exported)


def test_what_a_folder_with_a_run_in_it_allows(
    train_here: Train, finished: Path, tiny: list[str], tmp_path: Path
) -> None:
    common = [*tiny, "experiment=scratch"]
    folder = RunFolder(tmp_path / "once")
    shutil.copytree(finished, folder.path)
    before = folder.weights_file.read_bytes()
    with pytest.raises(
        RunFolderError, match="finished run; choose another name with run=NAME, or overwrite=true"
    ):
        train_here("once", *common)

    folder.report("running")  # as kill -9 leaves it
    with pytest.raises(
        RunFolderError, match="unfinished run; resume=auto continues it, overwrite=true discards"
    ):
        train_here("once", *common)
    with pytest.raises(RunFolderError) as refused:
        train_here("once", *common, "resume=auto", "optimizer.lr=0.5", "net.width=16")
    assert "optimizer.lr: 0.001 -> 0.5" in str(refused.value)
    assert "net.width: 8 -> 16" in str(refused.value)
    assert folder.weights_file.read_bytes() == before

    with pytest.raises(
        RunFolderError, match=r"resume is 'atuo'; expected never, auto, or the path of a \.ckpt"
    ):
        train_here("once", *common, "resume=atuo")
    with pytest.raises(FileNotFoundError, match=r"resume=/nowhere/last\.ckpt: no such checkpoint"):
        train_here("once", *common, "resume=/nowhere/last.ckpt")
    lost = ["experiment=distill", "teacher.path=/nowhere/net.safetensors", "overwrite=true"]
    with pytest.raises(FileNotFoundError, match=r"teacher\.path=/nowhere/net\.safetensors: no such file"):
        train_here("once", *tiny, *lost)
    assert folder.weights_file.read_bytes() == before
    train_here("once", *common, "overwrite=true", "seed=1")
    assert folder.weights_file.read_bytes() != before
    assert folder.status()["state"] == "finished"


def test_a_named_checkpoint_is_held_to_its_own_settings(
    train_here: Train, finished: Path, tiny: list[str]
) -> None:
    """Also from a new folder, which has no configuration to compare with."""
    common = [*tiny, "experiment=scratch"]
    checkpoint = finished / "checkpoints" / "last.ckpt"
    for change in ("optimizer.lr=0.5", "callbacks.ema.decay=0.5", "~callbacks.ema"):
        with pytest.raises(RunFolderError, match=r"cannot continue .*last\.ckpt with other settings"):
            train_here("second", *common, f"resume={checkpoint}", change)
    folder = RunFolder(train_here("second", *common, f"resume={checkpoint}"))
    assert folder.status()["state"] == "finished"


def test_the_last_step_is_validated_and_saved(train_here: Train, tiny: list[str]) -> None:
    """5 steps with intervals of 2 and 3: Lightning alone would stop measuring at 4 and saving at 3."""
    intervals = [
        "trainer.max_steps=5",
        "trainer.val_check_interval=2",
        "callbacks.last.every_n_train_steps=3",
    ]
    folder = train_here("odd", *tiny, "experiment=scratch", *intervals)
    assert read_lightning(folder / "checkpoints" / "last.ckpt")["global_step"] == 5
    with (folder / "logs" / "metrics.csv").open() as stream:
        validated = [int(row["step"]) + 1 for row in csv.DictReader(stream) if row.get("val/psnr")]
    assert validated == [2, 4, 5]


def test_validated_best_and_exported_weights_are_the_same(finished: Path) -> None:
    best = read_lightning(finished / "checkpoints" / "best.ckpt")
    exported = load_file(finished / "net.safetensors")
    averaged, trained = net_state(best["state_dict"]), net_state(best["current_model_state"])
    assert all(exported[key].equal(averaged[key]) for key in exported)
    assert not all(averaged[key].equal(trained[key]) for key in averaged)
    scores = [state["best_model_score"] for key, state in best["callbacks"].items() if "'val/psnr'" in key]
    metrics = json.loads((finished / "metrics.json").read_text())
    assert metrics["val/psnr"] == pytest.approx(float(scores[0]), abs=1e-4)


def test_another_teacher_is_refused_on_resume(
    train_here: Train, teacher: Path, tiny: list[str], tmp_path: Path
) -> None:
    used = tmp_path / "teacher.safetensors"
    used.write_bytes(teacher.read_bytes())
    common = [*tiny, "experiment=distill", f"teacher.path={used}"]
    folder = RunFolder(train_here("student", *common))
    folder.report("running")
    used.write_bytes(folder.weights_file.read_bytes())
    with pytest.raises(
        RunFolderError, match=r"cannot continue .* with another teacher: its file's SHA-256 was"
    ):
        train_here("student", *common, "resume=auto")


def test_differences_ignore_where_and_how_fast_a_run_goes() -> None:
    before = {
        "data": {"workers": 1, "batch_size": 4},
        "paths": {"run_dir": "a"},
        "resume": "never",
        "seed": 0,
    }
    now = {
        "data": {"workers": 2, "batch_size": 8},
        "paths": {"run_dir": "b"},
        "resume": "auto",
        "run": "x",
        "seed": 0,
    }
    assert differences(before, now) == ["data.batch_size: 4 -> 8"]


def test_a_setting_that_a_class_has_gained_is_no_difference_at_its_default() -> None:
    folder = {"_target_": "sharpkd.data.folder.FolderDataModule", "train_dir": "photos"}
    gained: dict[str, object] = {"unlabelled_dir": None, "unlabelled_per_crop": 1, "strict": False}
    for before, now in ((folder, {**folder, **gained}), ({**folder, **gained}, folder)):
        assert differences({"data": before}, {"data": now}) == []
    changed = {**gained, "unlabelled_per_crop": 2, "strict": 0, "val_dir": "others"}
    assert differences({"data": folder}, {"data": {**folder, **changed}}) == [
        "data.strict: (absent) -> 0",
        "data.unlabelled_per_crop: (absent) -> 2",
        "data.val_dir: (absent) -> others",
    ]
    sample = {"_target_": "sharpkd.data.sample.SampleDataModule", "strict": False}
    assert "data.strict: (absent) -> False" in differences({"data": folder}, {"data": sample})
    assert differences({"seed": 0}, {"seed": 0, "run_again": None}) == ["run_again: (absent) -> None"]


def test_damaged_status_is_named(tmp_path: Path) -> None:
    (tmp_path / "status.json").write_text('{"state": "fin')
    with pytest.raises(RunFolderError, match=r"status\.json is damaged .*overwrite=true starts again"):
        RunFolder(tmp_path).status()
