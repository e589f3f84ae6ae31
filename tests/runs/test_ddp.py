"""Two gloo processes compute what one process computes; sweeps start each job's ranks afresh."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from sharpkd.config import compose
from sharpkd.runs.launch import ranks_wanted, under_launcher
from sharpkd.runs.training import effective_batch

Train = Callable[..., Path]
TERMS = ("train/loss", "train/pixel", "train/ssim", "train/distill", "train/distill/feature")


def _rows(folder: Path, column: str) -> list[float]:
    with (folder / "logs" / "metrics.csv").open() as stream:
        return [float(row[column]) for row in csv.DictReader(stream) if row.get(column)]


@pytest.fixture(scope="module")
def distill(tiny: list[str], teacher: Path) -> list[str]:
    return [*tiny, "experiment=distill", f"teacher.path={teacher}", "optimizer=sgd"]


@pytest.fixture(scope="module")
def jobs(distill: list[str], tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Folders of a sweep's two jobs, ``loss.gamma`` 0 and 0.1, each of which trained with two ranks."""
    folder = tmp_path_factory.mktemp("ranks")
    settings = ["trainer=ddp_spawn_cpu", "data.batch_size=2", "loss.gamma=0,0.1", "sweep.name=ranks"]
    done = subprocess.run(
        [sys.executable, "-m", "sharpkd.train", "-m", *distill, *settings, f"paths.output_root={folder}"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = [path.parent for path in (folder / "sweeps" / "distill" / "ranks").glob("*/status.json")]
    return sorted(found, key=lambda path: float(OmegaConf.load(path / "config.yaml").loss.gamma))


def test_two_processes_log_what_one_does(train_here: Train, distill: list[str], jobs: list[Path]) -> None:
    """The same global batches of 4: loss terms and validation agree to float tolerance."""
    one, two = train_here("one", *distill, "loss.gamma=0.1"), jobs[1]
    for term in TERMS:
        single, double = _rows(one, term), _rows(two, term)
        assert len(single) == 4, term
        assert double == pytest.approx(single, rel=1e-4), term
    assert _rows(two, "val/psnr") == pytest.approx(_rows(one, "val/psnr"), abs=1e-3)
    metrics = [json.loads((folder / "metrics.json").read_text()) for folder in (one, two)]
    assert metrics[0]["val/psnr"] == pytest.approx(metrics[1]["val/psnr"], abs=1e-3)


def test_sweep_of_two_jobs_with_two_ranks(jobs: list[Path]) -> None:
    assert len(jobs) == 2
    for job in jobs:
        status = json.loads((job / "status.json").read_text())
        assert status["state"] == "finished"
        assert status["metrics"]["val/psnr"] > 10
        # a rank that replayed the sweep's command would have started further trainings
        assert len(_rows(job, "train/loss")) == 4


def test_how_many_ranks(tiny: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert ranks_wanted(compose("train", tiny)) == 1
    assert ranks_wanted(compose("train", [*tiny, "trainer=ddp_spawn_cpu", "trainer.devices=3"])) == 3
    assert ranks_wanted(compose("train", [*tiny, "trainer=ddp_spawn_cpu", "trainer.devices=[0,1]"])) == 2
    gpus = [*tiny, "trainer=ddp"]
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 8)
    assert ranks_wanted(compose("train", gpus)) == 8
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(ValueError, match="torch finds no GPU here"):
        ranks_wanted(compose("train", [*tiny, "trainer=ddp"]))
    with pytest.raises(ValueError, match=r"trainer\.devices is 'many'; expected a number of processes"):
        ranks_wanted(compose("train", [*tiny, "trainer=ddp_spawn_cpu", "trainer.devices=many"]))
    with pytest.raises(
        ValueError, match=r"trainer\.num_nodes=4, but .* torchrun --nnodes=4 --nproc-per-node=2"
    ):
        ranks_wanted(compose("train", [*tiny, "trainer=ddp_spawn_cpu", "trainer.num_nodes=4"]))
    assert not under_launcher()
    monkeypatch.setenv("SLURM_NTASKS", "2")
    assert under_launcher()
    monkeypatch.setenv("SLURM_JOB_NAME", "bash")
    assert not under_launcher()
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    assert under_launcher()


def test_where_the_effective_batch_comes_from() -> None:
    assert effective_batch(8, 1, 1) == "effective batch 8"
    assert effective_batch(8, 4, 1) == "effective batch 32 (8 x 4 processes)"
    assert effective_batch(8, 4, 3) == "effective batch 96 (8 x 4 processes x 3 accumulated)"
