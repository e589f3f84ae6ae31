"""A sweep's jobs inherit nothing from each other, survive each other's failure, and are not run twice."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from sharpkd.config import compose
from sharpkd.runs.training import DEFAULT_THREADS, set_process_defaults

Sweep = Callable[..., Any]
Train = Callable[..., Path]


def _table(folder: Path) -> list[dict[str, str]]:
    with (folder / "sweep.csv").open() as stream:
        return list(csv.DictReader(stream))


def _job(sweep: Path, override: str) -> Path:
    """The folder of the job that has this override."""
    files = sweep.glob("*/status.json")
    found = [path for path in files if override in json.loads(path.read_text())["overrides"]]
    assert len(found) == 1, override
    return found[0].parent


def test_jobs_are_independent_and_a_failed_one_loses_nothing(
    sweep_here: Sweep, train_here: Train, tiny: list[str], tmp_path: Path
) -> None:
    """Job 2 fails; job 3, in the same process, must equal a run of its own."""
    jobs = ["loss.gamma=0.1,-1,0.2", "experiment=scratch", "sweep.name=three"]
    done = sweep_here(*tiny, *jobs)
    assert done.code == 1
    assert "loss.gamma must be a finite number >= 0, got -1" in done.err
    sweep = tmp_path / "outputs" / "sweeps" / "scratch" / "three"
    rows = _table(sweep)
    assert sorted(row["state"] for row in rows) == ["failed", "finished", "finished"]
    assert rows[-1]["state"] == "failed"
    scores = [float(row["val/psnr"]) for row in rows[:2]]
    assert scores == sorted(scores, reverse=True)
    page = (sweep / "sweep.html").read_text()
    assert "loss.gamma" in page
    assert "got -1" in page

    alone = train_here("alone", *tiny, "experiment=scratch", "loss.gamma=0.2")
    folder = _job(sweep, "loss.gamma=0.2")
    expected, swept = (load_file(path / "net.safetensors") for path in (alone, folder))
    assert all(expected[key].equal(swept[key]) for key in expected)

    written = {path: path.stat().st_mtime_ns for path in sweep.glob("*/net.safetensors")}
    again = sweep_here(*tiny, "loss.gamma=0.1,0.2", "experiment=scratch", "sweep.name=three", "resume=auto")
    assert again.code == 0, again.err
    assert again.err.count("has finished before; kept") == 2
    assert written == {path: path.stat().st_mtime_ns for path in sweep.glob("*/net.safetensors")}


def test_every_job_sets_every_switch(tiny: list[str]) -> None:
    torch.set_default_dtype(torch.float64)
    torch.use_deterministic_algorithms(True)
    set_process_defaults(compose("train", [*tiny, "runtime.matmul_precision=highest", "runtime.threads=2"]))
    assert torch.get_default_dtype() == torch.float32
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.get_float32_matmul_precision() == "highest"
    assert torch.get_num_threads() == 2
    first = torch.rand(3)
    set_process_defaults(compose("train", [*tiny, "runtime.threads=null"]))
    assert torch.get_float32_matmul_precision() == "high"
    assert torch.get_num_threads() == DEFAULT_THREADS
    assert torch.rand(3).equal(first)


def test_seed_and_switches_do_not_leak(
    sweep_here: Sweep, train_here: Train, tiny: list[str], tmp_path: Path
) -> None:
    """Two seeds in one process: a job's weights equal those of a run whose predecessor had another seed."""
    common = [*tiny, "experiment=scratch", "loss.gamma=0.1", "runtime.matmul_precision=highest"]
    done = sweep_here(*common, "seed=1,2", "sweep.name=seeds")
    assert done.code == 0, done.err
    sweep = tmp_path / "outputs" / "sweeps" / "scratch" / "seeds"
    for seed in (2, 1):
        alone = load_file(train_here(f"alone{seed}", *common, f"seed={seed}") / "net.safetensors")
        swept = load_file(_job(sweep, f"seed={seed}") / "net.safetensors")
        assert alone.keys() == swept.keys()
        assert all(value.equal(swept[key]) for key, value in alone.items())
    metrics = [json.loads((path / "metrics.json").read_text()) for path in sweep.glob("*/")]
    assert len({entry["val/psnr"] for entry in metrics}) == 2


# SQLAlchemy 1.4 warns of its own future when optuna 2 declares its tables
@pytest.mark.filterwarnings("ignore:Deprecated API features detected:DeprecationWarning")
def test_optuna_searches_the_four_weights(
    sweep_here: Sweep, teacher: Path, tiny: list[str], tmp_path: Path
) -> None:
    settings = [override for override in tiny if override != "loss.beta=0"]
    common = [*settings, "experiment=distill", f"teacher.path={teacher}", "trainer.max_steps=2"]
    search = [
        "sweep=optuna",
        "hydra.sweeper.n_trials=2",
        "hydra.sweeper.params={loss.gamma:'interval(0.1,0.2)'}",
    ]
    done = sweep_here(*common, "loss.beta=0", *search)
    assert done.code == 0, done.err
    rows = _table(tmp_path / "outputs" / "sweeps" / "distill" / "optuna")
    assert [row["state"] for row in rows] == ["finished"] * 2
    assert len({row["loss.gamma"] for row in rows}) == 2
    assert all(0.1 <= float(row["loss.gamma"]) <= 0.2 for row in rows)
