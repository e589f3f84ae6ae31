"""Entry points: what a job is given, exit codes, flags that only show, sweeps."""

from __future__ import annotations

import csv
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

from sharpkd.config import ConfigError, conf_dir, instantiate
from sharpkd.config.command import _first_jobs

Command = Callable[..., Any]


def test_missing_config_dir(command: Command) -> None:
    outcome = command("--config-dir", "/nowhere/conf", "seed=1")
    assert (outcome.code, outcome.err) == (2, "error: --config-dir /nowhere/conf: no such folder\n")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("wrong"), 2),
        (ValueError("wrong"), 1),
        (FileNotFoundError("wrong"), 1),
        (FloatingPointError("wrong"), 1),
    ],
)
def test_a_users_mistake_has_no_traceback(error: Exception, code: int, command: Command) -> None:
    def fail(cfg: DictConfig) -> float:
        raise error

    outcome = command("trainer=cpu", main=fail)
    assert (outcome.code, outcome.err) == (code, "error: wrong\n")


@pytest.mark.parametrize("sweep", [[], ["-m"]])
def test_a_folder_that_cannot_be_written_to(sweep: list[str], command: Command, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    outcome = command(
        *sweep, "trainer=cpu", "run=first", f"paths.output_root={tmp_path / 'file' / 'outputs'}"
    )
    folder = tmp_path / "file" / ("outputs" if sweep else "outputs/train/first")
    assert (outcome.code, outcome.jobs) == (2, [])
    assert outcome.err == (
        f"error: cannot write to {folder}: Not a directory; set paths.output_root=FOLDER (or "
        "$SHARPKD_OUTPUTS) to one that you may write to\n"
    )


def test_an_interrupt_is_one_line_with_what_was_noted(command: Command) -> None:
    def stop(cfg: DictConfig) -> float:
        interrupt = KeyboardInterrupt()
        interrupt.add_note("resume=auto continues it")
        raise interrupt

    outcome = command("trainer=cpu", main=stop)
    assert (outcome.code, outcome.err) == (130, "interrupted (resume=auto continues it)\n")


def test_any_other_error_keeps_its_traceback(command: Command) -> None:
    def fail(cfg: DictConfig) -> float:
        raise RuntimeError("a mistake in the code")

    outcome = command("trainer=cpu", main=fail)
    assert outcome.code == 1
    assert "RuntimeError: a mistake in the code" in outcome.err
    assert "Traceback" in outcome.err


def test_error_of_a_part_says_which(command: Command) -> None:
    outcome = command("trainer=cpu", "loss.alpha=-1", main=lambda cfg: instantiate(cfg.loss))
    assert outcome.code == 1
    assert outcome.err == "error: loss.alpha must be a finite number >= 0, got -1 (while building loss)\n"
    outcome = command("trainer=cpu", "net.depth=1", main=lambda cfg: instantiate(cfg.net))
    assert outcome.err == "error: depth: found 1, expected at least 2 (while building net)\n"


def test_lightnings_complaint_is_one_line(command: Command) -> None:
    outcome = command("trainer.accelerator=warp", main=lambda cfg: instantiate(cfg.trainer))
    assert outcome.code == 1
    assert outcome.err.startswith("error: ")
    assert "Traceback" not in outcome.err


def test_job_gets_a_resolved_read_only_configuration(command: Command, tmp_path: Path) -> None:
    outcome = command("run=first", "trainer=cpu")
    (cfg,) = outcome.jobs
    folder = tmp_path / "outputs" / "train" / "first"
    assert cfg.paths.run_dir == str(folder)
    assert OmegaConf.is_readonly(cfg)
    assert "hydra" not in cfg
    assert [path.name for path in folder.iterdir()] == ["train.log"]


def test_help_is_about_sharpkd(command: Command, tmp_path: Path) -> None:
    nets = sorted(path.stem for path in (conf_dir() / "net").glob("*.yaml"))
    outcome = command("--help", "net=mobile_student")
    assert (outcome.code, outcome.err) == (0, "")
    for phrase in (
        "sharpkd.train: settings are given as key=value, groups as group=choice.",
        "python -m sharpkd.train -m experiment=distill teacher.path=FILE loss.beta=0,0.01 loss.delta=0,0.5,1",
        f"net: {', '.join(nets)}",
        "experiment: distill, enhanced_cnn_swinir, quickstart, quickstart_teacher, scratch, ship, teacher",
        "  _target_: sharpkd.nets.mobile_student.MobileStudent",
        "  max_steps: 100000",
        "--config-dir DIR (your own YAML beside these)",
    ):
        assert phrase in outcome.out
    for noise in ("Powered by Hydra", "hydra.cc", "== "):
        assert noise not in outcome.out
    # Hydra writes all choices of a group in one line
    lists = tuple(f"{path.name}: " for path in conf_dir().iterdir() if path.is_dir())
    lines = [line for line in outcome.out.splitlines() if not line.strip().startswith(lists)]
    assert max(map(len, lines)) <= 120
    assert os.listdir(tmp_path) == []


def test_flags_that_only_show(command: Command, tmp_path: Path) -> None:
    shown = command("--cfg", "job", "data=folder", "seed=3")
    assert shown.code == 0
    config = OmegaConf.create(shown.out)
    assert config.seed == 3
    assert OmegaConf.is_missing(config.data, "train_dir")
    assert "== Flags ==" in command("--hydra-help").out
    assert command("--help", "los.alpha=1").code == 2
    assert os.listdir(tmp_path) == []


def test_another_entry_point_has_the_same_manners(command: Command) -> None:
    outcome = command("degradation.sigm=1", name="evaluate")
    assert outcome.code == 2
    assert outcome.err.startswith(
        "error: there is no setting 'degradation.sigm'. did you mean 'sigma'? Allowed in "
    )
    assert "sharpkd.evaluate: settings are given as key=value" in command("--help", name="evaluate").out


def test_sweep_runs_every_job_in_a_folder_named_by_its_settings(command: Command, tmp_path: Path) -> None:
    outcome = command("-m", "experiment=scratch", "loss.beta=0.01", "seed=range(1,3)", "callbacks=default")
    assert outcome.code == 0
    folder = tmp_path / "outputs" / "sweeps" / "scratch" / "callbacks,loss.beta,seed"
    runs = [Path(cfg.paths.run_dir) for cfg in outcome.jobs]
    assert [run.parent for run in runs] == [folder] * 2
    assert [run.name.removeprefix("callbacks=default,") for run in runs] == [
        "loss.beta=0.01,seed=1",
        "loss.beta=0.01,seed=2",
    ]


@pytest.mark.parametrize("launcher", ["basic", "parallel"])
def test_a_users_mistake_in_a_sweep_is_one_line_and_the_next_job_runs(
    launcher: str, tmp_path: Path, project_root: Path
) -> None:
    (tmp_path / "job.py").write_text(
        "from sharpkd.config import entry\n"
        "def main(cfg):\n"
        "    if cfg.seed != 2:\n"
        "        raise FileNotFoundError(f'no file of seed {cfg.seed}')\n"
        "    return 1.0\n"
        "if __name__ == '__main__':\n"
        "    entry('train')(main)()\n"
    )
    done = subprocess.run(
        [sys.executable, "job.py", "-m", f"hydra/launcher={launcher}", "trainer=cpu", "seed=1,2,3"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(project_root), "SHARPKD_OUTPUTS": str(tmp_path / "outputs")},
        timeout=240,
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert re.search(r"^error: no file of seed 1$", done.stderr, re.MULTILINE)
    with next((tmp_path / "outputs").rglob("sweep.csv")).open(newline="") as stream:
        found = {row["seed"]: (row["state"], row["error"]) for row in csv.DictReader(stream)}
    assert found == {
        "1": ("failed", "error: no file of seed 1"),
        "2": ("finished", ""),
        "3": ("failed", "error: no file of seed 3"),
    }


def test_wrong_choice_deep_in_a_sweep_stops_it_before_the_first_job(command: Command, tmp_path: Path) -> None:
    outcome = command("-m", "seed=1,2", "net=pixel_student,mobile_studnt")
    assert outcome.code == 2
    assert outcome.err.startswith("error: there is no net=mobile_studnt. did you mean 'mobile_student'? ")
    assert outcome.jobs == []
    outcome = command("-m", "loss.alpha=abc,1")
    assert (outcome.code, outcome.err) == (2, "error: loss.alpha: expected float, found 'abc'\n")
    outcome = command("-m", "loss.alpha=[1")
    assert outcome.code == 2
    assert outcome.err.startswith("error: cannot read 'loss.alpha=[1'")
    assert os.listdir(tmp_path) == []


# SQLAlchemy 1.4 warns of its own future when optuna 2 declares its tables
@pytest.mark.filterwarnings("ignore:Deprecated API features detected:DeprecationWarning")
def test_optuna_sweep(command: Command, tmp_path: Path) -> None:
    arguments = ["sweep=optuna", "loss.alpha=interval(0.5,1)", "hydra.sweeper.n_trials=2"]
    outcome = command("-m", *arguments, main=lambda cfg: cfg.loss.alpha)
    assert outcome.code == 0
    assert len(outcome.jobs) == 2
    assert all(0.5 <= cfg.loss.alpha <= 1 and 0 < cfg.loss.beta <= 0.1 for cfg in outcome.jobs)
    assert Path(outcome.jobs[0].paths.run_dir).parent == tmp_path / "outputs" / "sweeps" / "train" / "optuna"


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["seed=1", "run=a"], [["seed=1", "run=a"]]),
        (["seed=range(3,9)", "loss.alpha=choice(2,1)"], [["seed=3", "loss.alpha=2"]]),
        (["loss.alpha=interval(0.1,1)"], [["loss.alpha=0.1"]]),
        (["loss.beta=tag(log,interval(0.01,1))"], [["loss.beta=0.01"]]),
        (["degradation.sigma=[1,2],[3,4]"], [["degradation.sigma=[1,2]"]]),
        (["teacher.path='a,b'"], [["teacher.path='a,b'"]]),
        (
            ["net=glob(attention*,exclude=*_tiny)", "seed=1,2"],
            [["net=attention_teacher", "seed=1"], ["net=attention_teacher_small", "seed=1"]],
        ),
        (
            ["loss=l1,mse", "task=sharpen", "optimizer=adam,sgd"],
            [
                ["loss=l1", "task=sharpen", "optimizer=adam"],
                ["loss=mse", "task=sharpen", "optimizer=adam"],
                ["loss=l1", "task=sharpen", "optimizer=sgd"],
            ],
        ),
        (["loss.alpha=[1"], [["loss.alpha=[1"]]),
    ],
)
def test_what_of_a_sweep_is_checked_first(overrides: list[str], expected: list[list[str]]) -> None:
    assert list(_first_jobs(overrides, [])) == expected


def test_glob_without_a_match() -> None:
    message = "net=glob(x*): nothing to sweep over; no choice of 'net' fits"
    with pytest.raises(ConfigError, match=re.escape(message)):
        list(_first_jobs(["net=glob(x*)"], []))


def test_mistake_in_a_process_of_its_own(tmp_path: Path) -> None:
    """Through `python -m`, from a folder that is not the repository; the teacher's file is missing."""
    overrides = ["experiment=distill", "teacher.path=nowhere.safetensors", "loss.beta=0", "trainer=cpu"]
    done = subprocess.run(
        [sys.executable, "-m", "sharpkd.train", *overrides],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.stderr.splitlines()[-1] == f"error: teacher.path={tmp_path}/nowhere.safetensors: no such file"
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
