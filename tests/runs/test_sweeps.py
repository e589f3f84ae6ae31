"""Sweeps that are continued: finished jobs stay, failed ones are tried again, a study survives a restart."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from sharpkd.config import ConfigError, check, compose
from sharpkd.data.batch import Batch
from sharpkd.modules.restoration import RestorationModule

Sweep = Callable[..., Any]
Train = Callable[..., Path]

# SQLAlchemy 1.4 warns of its own future when optuna 2 declares its tables
pytestmark = pytest.mark.filterwarnings("ignore:Deprecated API features detected:DeprecationWarning")


def _states(sweep: Path) -> dict[float, str]:
    """``loss.gamma`` -> how that job ended."""
    with (sweep / "sweep.csv").open() as stream:
        return {float(row["loss.gamma"]): row["state"] for row in csv.DictReader(stream)}


def _weights(sweep: Path) -> dict[str, Path]:
    """``loss.gamma`` as written -> the weight file of that job."""
    found = {}
    for file in sweep.glob("*/status.json"):
        (gamma,) = [o for o in json.loads(file.read_text())["overrides"] if o.startswith("loss.gamma=")]
        found[gamma.partition("=")[2]] = file.with_name("net.safetensors")
    return found


@pytest.fixture
def fails_once(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """``fails_once(gamma)``: the job with this ``loss.gamma`` fails in its third step, the first time."""
    step = RestorationModule.training_step
    failed: list[float] = []

    def use(gamma: float) -> None:
        def training_step(module: RestorationModule, batch: Batch, index: int) -> torch.Tensor:
            if module.loss.weights["gamma"] == gamma and module.global_step == 2 and gamma not in failed:
                failed.append(gamma)
                raise RuntimeError("the power went")
            return step(module, batch, index)

        monkeypatch.setattr(RestorationModule, "training_step", training_step)

    return use


def test_a_continued_sweep_keeps_what_finished_and_tries_the_rest_again(
    sweep_here: Sweep, train_here: Train, tiny: list[str], tmp_path: Path, fails_once: Callable[[float], None]
) -> None:
    fails_once(0.2)
    # its last checkpoint is one step old when the job fails
    common = [*tiny, "experiment=scratch", "callbacks.last.every_n_train_steps=1", "callbacks.ema=null"]
    settings = [*common, "sweep.name=two"]
    sweep = tmp_path / "outputs" / "sweeps" / "scratch" / "two"
    done = sweep_here(*settings, "loss.gamma=0.1,0.2")
    assert done.code == 1
    assert _states(sweep) == {0.1: "finished", 0.2: "failed"}
    kept = _weights(sweep)["0.1"]
    before = kept.stat().st_mtime_ns

    refused = sweep_here(*settings, "loss.gamma=0.1,0.2")
    assert refused.code == 1
    assert "holds a finished run" in refused.err
    again = sweep_here(*settings, "loss.gamma=0.1,0.2,0.3", "sweep.resume=true")
    assert again.code == 0, again.err
    assert again.err.count("has finished before; kept") == 1
    assert kept.stat().st_mtime_ns == before
    assert _states(sweep) == {0.1: "finished", 0.2: "finished", 0.3: "finished"}
    expected = load_file(train_here("alone", *common, "loss.gamma=0.2") / "net.safetensors")
    found = load_file(_weights(sweep)["0.2"])
    assert all(found[key].equal(value) for key, value in expected.items())


def test_resume_and_overwrite_contradict_each_other(tiny: list[str]) -> None:
    with pytest.raises(
        ConfigError, match=r"sweep\.resume=true keeps what has finished, overwrite=true discards it"
    ):
        check(compose("train", [*tiny, "sweep.resume=true", "overwrite=true"]))


def test_a_study_survives_a_restart(sweep_here: Sweep, tiny: list[str], tmp_path: Path) -> None:
    """One trial ends well, one is cut off, one fails; then the search goes on to four."""
    import optuna  # warns of its age when it is imported, which only tests are told to ignore
    from optuna.trial import TrialState

    settings = [*tiny, "experiment=scratch", "sweep=optuna", "trainer.max_steps=3", "callbacks.ema=null"]
    settings += ["loss.alpha=1", "loss.delta=0"]
    space = "hydra.sweeper.params={loss.gamma:'interval(0.1,0.2)'}"
    folder = tmp_path / "outputs" / "sweeps" / "scratch" / "optuna"
    first = sweep_here(*settings, space, "hydra.sweeper.n_trials=1")
    assert first.code == 0, first.err
    refused = sweep_here(*settings, space, "hydra.sweeper.n_trials=4")
    assert refused.code == 2
    assert f"error: {folder}/study.db holds a study; sweep.resume=true continues it" in refused.err

    def load() -> optuna.Study:
        # anew each time: optuna does not look again at trials that it has made itself
        return optuna.load_study(study_name="scratch-optuna", storage=f"sqlite:///{folder}/study.db")

    study = load()
    cut_off, failed = study.ask(), study.ask()
    values = [trial.suggest_uniform("loss.gamma", 0.1, 0.2) for trial in (cut_off, failed)]
    study.tell(failed, state=TrialState.FAIL)

    again = sweep_here(*settings, space, "hydra.sweeper.n_trials=4", "sweep.resume=true")
    assert again.code == 0, again.err
    trials = load().get_trials()
    assert [trial.state.name for trial in trials] == ["COMPLETE", "FAIL", "FAIL", *["COMPLETE"] * 3]
    assert [trial.params["loss.gamma"] for trial in trials[3:5]] == values
    finished = [trial.params["loss.gamma"] for trial in trials if trial.state == TrialState.COMPLETE]
    assert len(set(finished)) == 4
    assert sorted(map(float, _weights(folder))) == sorted(finished)

    more = sweep_here(*settings, space, "hydra.sweeper.n_trials=4", "sweep.resume=true")
    assert more.code == 0, more.err
    assert len(load().get_trials()) == 6, "all four have their result: none is added"


def test_jobs_at_once_equal_jobs_one_by_one(
    sweep_here: Sweep, train_here: Train, tiny: list[str], tmp_path: Path
) -> None:
    """joblib's processes: each job in one of its own, with workers as by default; one of them fails."""
    common = [*tiny, "experiment=scratch"]
    at_once = [setting for setting in common if setting != "data.workers=0"]
    launcher = ["hydra/launcher=parallel", "hydra.launcher.n_jobs=2", "sweep.name=parallel"]
    done = sweep_here(*at_once, *launcher, "loss.gamma=0.1,-1,0.2")
    assert done.code == 1
    assert "loss.gamma must be a finite number >= 0, got -1" in done.err
    sweep = tmp_path / "outputs" / "sweeps" / "scratch" / "parallel"
    assert _states(sweep) == {0.1: "finished", 0.2: "finished", -1.0: "failed"}
    for gamma in ("0.1", "0.2"):
        expected = load_file(train_here(gamma, *common, f"loss.gamma={gamma}") / "net.safetensors")
        found = load_file(_weights(sweep)[gamma])
        assert all(found[key].equal(value) for key, value in expected.items())
    pids = {json.loads(file.read_text())["pid"] for file in sweep.glob("*/status.json")}
    assert len(pids) > 1

    again = sweep_here(*at_once, *launcher, "loss.gamma=0.1,0.3", "sweep.resume=true")
    assert again.code == 0, again.err
    assert _states(sweep) == {0.1: "finished", 0.2: "finished", 0.3: "finished", -1.0: "failed"}


def test_submitted_jobs(sweep_here: Sweep, tiny: list[str], tmp_path: Path) -> None:
    """submitit without SLURM: jobs are pickled, started by its own processes, and their numbers come back."""
    launcher = ["hydra/launcher=submitit_local", "hydra.launcher.timeout_min=5", "trainer.max_steps=1"]
    done = sweep_here(*tiny, "experiment=scratch", *launcher, "loss.gamma=0.1", "sweep.name=submitted")
    assert done.code == 0, done.err
    sweep = tmp_path / "outputs" / "sweeps" / "scratch" / "submitted"
    assert _states(sweep) == {0.1: "finished"}
    (result,) = (sweep / ".submitit").rglob("*_0_result.pkl")
    assert result.is_file()


def test_what_slurm_is_asked_for() -> None:
    overrides = ["hydra/launcher=slurm", "hydra.launcher.partition=gpu", "hydra.launcher.nodes=2"]
    launcher = compose("train", overrides, run=False).hydra.launcher
    assert launcher._target_.endswith("SlurmLauncher")
    asked = {key: launcher[key] for key in ("partition", "nodes", "gpus_per_node", "timeout_min", "name")}
    assert asked == {
        "partition": "gpu",
        "nodes": 2,
        "gpus_per_node": 1,
        "timeout_min": 1440,
        "name": "sharpkd",
    }
