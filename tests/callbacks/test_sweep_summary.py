from __future__ import annotations

import csv
import json
import os
import runpy
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

APP = """
import json, os
from pathlib import Path
import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

def swept(overrides):
    return ",".join(override.split("=")[0].lstrip("+") for override in overrides)

OmegaConf.register_new_resolver("swept", swept, replace=True)

@hydra.main(version_base="1.3", config_path=str(Path(__file__).parent), config_name="app")
def main(cfg):
    folder = Path(HydraConfig.get().runtime.output_dir)
    if cfg.x == 4:
        return 40.0
    if cfg.x == 5:
        raise KeyError("early")
    overrides = list(HydraConfig.get().overrides.task)
    status = {"state": "running", "overrides": overrides, "pid": os.getpid(), "error": "", "metrics": {}}
    (folder / "status.json").write_text(json.dumps(status))
    if cfg.x == 2:
        raise RuntimeError("two is too much")
    if cfg.x == 3:
        (folder / "status.json").write_text(json.dumps(status | {"state": "failed", "error": "own words"}))
        raise RuntimeError("three")
    status |= {"state": "finished", "metrics": {"val/psnr": 20.0 + cfg.x, "loss": 1.0 / (1 + cfg.x)}}
    (folder / "status.json").write_text(json.dumps(status))

main()
"""
CONFIG = """
x: 0
hydra:
  output_subdir: null
  run: {dir: ROOT/single}
  sweep: {dir: "ROOT/sweeps/${swept:${hydra.overrides.task}}", subdir: "${hydra.job.num}"}
  callbacks:
    summary: {_target_: sharpkd.callbacks.sweep_summary.SweepSummary}
"""


@pytest.fixture
def app(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(APP)
    (tmp_path / "app.yaml").write_text(CONFIG.replace("ROOT", str(tmp_path)))
    return tmp_path / "app.py"


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "sweep.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_a_real_multirun_with_failing_jobs_is_summarised(app: Path, project_root: Path) -> None:
    command = [sys.executable, "-W", "error", str(app), "-m", "x=1,2,3,4,5,6"]
    environment = {**os.environ, "PYTHONPATH": str(project_root)}
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=app.parent, env=environment, timeout=120
    )
    assert done.returncode != 0
    assert "two is too much" in done.stderr
    assert "Callback" not in done.stderr
    folder = app.parent / "sweeps" / "x"
    assert (folder / "sweep.html").stat().st_size > 1e6
    found = [(row["x"], row["state"], row["val/psnr"], row["error"]) for row in rows(folder)]
    assert found == [
        ("4", "finished", "40.0", ""),
        ("6", "finished", "26.0", ""),
        ("1", "finished", "21.0", ""),
        ("2", "failed", "", "RuntimeError: two is too much"),
        ("3", "failed", "", "own words"),
        ("5", "failed", "", "KeyError: 'early'"),
    ]


def test_chosen_metric_and_jobs_that_never_said_they_ended(app: Path, call: Callable[..., Any]) -> None:
    folder = app.parent / "sweeps" / "x,sweep.monitor,sweep.mode"
    (folder / "left").mkdir(parents=True)
    (folder / "left" / "status.json").write_text(json.dumps({"state": "running", "overrides": ["x=9"]}))
    run = partial(runpy.run_path, str(app), run_name="__main__")
    outcome = call(run, "-m", "x=0,1", "+sweep.monitor=loss", "+sweep.mode=min")
    assert outcome.code == 0, outcome.err
    found = [(row["x"], row["state"], row["loss"]) for row in rows(folder)]
    assert found == [("1", "finished", "0.5"), ("0", "finished", "1.0"), ("9", "failed", "")]
    assert "Ranked by <code>loss</code>, lower is better" in (folder / "sweep.html").read_text(
        encoding="utf-8"
    )


def test_a_single_run_writes_no_report(app: Path, call: Callable[..., Any]) -> None:
    outcome = call(partial(runpy.run_path, str(app), run_name="__main__"), "x=1")
    assert outcome.code == 0, outcome.err
    assert list(app.parent.rglob("sweep.*")) == []
    assert json.loads((app.parent / "single" / "status.json").read_text())["state"] == "finished"
