"""kill -9 at a random moment of a training, twenty times in a row: it always goes on, to the same weights."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file

from sharpkd.checkpoint import read_lightning
from sharpkd.loggers.csv import read_rows

Train = Callable[..., Path]
KILLS = 20
# an epoch has ten steps; checkpoints, validations and epochs end at different ones
SETTINGS = [
    "experiment=scratch",
    "data.workers=1",
    "trainer.max_steps=500",
    "trainer.val_check_interval=9",
    "callbacks.last.every_n_train_steps=4",
]


def _kill_in_training(arguments: list[str], folder: Path, where: Path, steps: int, pause: float) -> int:
    """Start, let some steps be logged, wait a little, kill -9; returns the last step that was logged."""
    metrics = folder / "logs" / "metrics.csv"
    began = time.time_ns()
    first: int | None = None
    with (where / "killed.log").open("w") as log:
        process = subprocess.Popen(arguments, cwd=where, stdout=log, stderr=log, start_new_session=True)
        until = time.monotonic() + 600
        try:
            while True:
                assert process.poll() is None, (where / "killed.log").read_text()
                assert time.monotonic() < until, "no step within ten minutes"
                if metrics.is_file() and metrics.stat().st_mtime_ns > began and (rows := read_rows(metrics)):
                    last = int(rows[-1]["step"])
                    first = last if first is None else first
                    if last >= first + steps:
                        time.sleep(pause)
                        return last
                time.sleep(0.002)
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.mark.torture
@pytest.mark.timeout(3600)
def test_twenty_kills_change_nothing(
    train_here: Train, command: Callable[..., list[str]], tiny: list[str], tmp_path: Path
) -> None:
    seed = int(os.environ.get("SHARPKD_TORTURE_SEED", random.randrange(2**32)))
    print(f"SHARPKD_TORTURE_SEED={seed}")
    moments = random.Random(seed)
    overrides = [*tiny, *SETTINGS]
    folder = tmp_path / "outputs" / "scratch" / "killed"
    checkpoints = []
    for kill in range(KILLS):
        arguments = command(*overrides, "run=killed", "resume=auto")
        # sometimes before the first checkpoint, mostly a few steps on
        steps = moments.randrange(12)
        logged = _kill_in_training(arguments, folder, tmp_path, steps, moments.uniform(0.0, 0.08))
        found = folder / "checkpoints" / "last.ckpt"
        checkpoints.append(int(read_lightning(found)["global_step"]) if found.is_file() else 0)
        print(f"kill {kill + 1}: step {logged} was logged, step {checkpoints[-1]} is saved")
    assert checkpoints == sorted(checkpoints)
    assert len(set(checkpoints)) > KILLS // 4, "hardly anything was trained between the kills"
    settings = [*overrides, "run=killed", f"paths.output_root={tmp_path}/outputs"]
    train_here("outputs/scratch/killed", *settings, "resume=auto")
    whole = train_here("whole", *overrides)
    for name in ("best.ckpt", "last.ckpt"):
        expected, continued = (read_lightning(path / "checkpoints" / name) for path in (whole, folder))
        assert expected["global_step"] == continued["global_step"]
        for part in ("state_dict", "current_model_state"):
            for key, value in expected[part].items():
                assert value.equal(continued[part][key]), (seed, name, part, key)
    exported, again = (load_file(path / "net.safetensors") for path in (whole, folder))
    assert exported.keys() == again.keys()
    assert all(exported[key].equal(again[key]) for key in exported), seed
