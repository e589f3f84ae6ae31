"""A sweep's jobs inherit nothing from each other, survive each other's failure, and are not run twice."""

from __future__ import annotations

import csv
import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file

from sharpkd.config import compose
from sharpkd.runs.training import DEFAULT_THREADS, set_process_defaults

Run = Callable[..., "subprocess.CompletedProcess[str]"]


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
    run: Run, train_here: Callable[..., Path], tiny: list[str], tmp_path: Path
) -> None:
    """Job 2 fails; job 3, in the same process, must equal a run of its own."""
    jobs = ["loss.gamma=0.1,-1,0.2", "experiment=scratch", "sweep.name=three"]
    done = run("-m", *tiny, *jobs)
    assert done.returncode != 0
    assert "loss.gamma must be a finite number >= 0, got -1" in done.stderr
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
    again = run("-m", *tiny, "loss.gamma=0.1,0.2", "experiment=scratch", "sweep.name=three", "resume=auto")
    assert again.returncode == 0, again.stderr
    assert again.stderr.count("has finished before; kept") == 2
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


def test_seed_and_switches_do_not_leak(run: Run, tiny: list[str], tmp_path: Path) -> None:
    """Two seeds in one process: the second job's weights equal those of the same seed swept first."""
    common = [*tiny, "experiment=scratch", "loss.gamma=0.1"]
    for name, order in (("a", "seed=1,2"), ("b", "seed=2,1")):
        done = run("-m", *common, order, f"sweep.name={name}", "runtime.matmul_precision=highest")
        assert done.returncode == 0, done.stderr
    root = tmp_path / "outputs" / "sweeps" / "scratch"
    for seed in (1, 2):
        first, second = (_job(root / name, f"seed={seed}") / "net.safetensors" for name in ("a", "b"))
        assert load_file(first).keys() == load_file(second).keys()
        assert all(value.equal(load_file(second)[key]) for key, value in load_file(first).items())
    metrics = [json.loads((path / "metrics.json").read_text()) for path in (root / "a").glob("*/")]
    assert len({entry["val/psnr"] for entry in metrics}) == 2


def test_optuna_searches_the_four_weights(
    run: Run, train_here: Callable[..., Path], tiny: list[str], tmp_path: Path
) -> None:
    teacher = train_here("teacher", *tiny, "experiment=teacher", "net=pixel_student") / "net.safetensors"
    settings = [override for override in tiny if override != "loss.beta=0"]
    common = [*settings, "experiment=distill", f"teacher.path={teacher}", "trainer.max_steps=2"]
    search = [
        "sweep=optuna",
        "hydra.sweeper.n_trials=2",
        "hydra.sweeper.params={loss.gamma:'interval(0.1,0.2)'}",
    ]
    done = run("-m", *common, "loss.beta=0", *search)
    assert done.returncode == 0, done.stderr
    rows = _table(tmp_path / "outputs" / "sweeps" / "distill" / "optuna")
    assert [row["state"] for row in rows] == ["finished"] * 2
    assert len({row["loss.gamma"] for row in rows}) == 2
    assert all(0.1 <= float(row["loss.gamma"]) <= 0.2 for row in rows)
