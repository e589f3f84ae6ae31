"""SIGTERM and SLURM's signal at chosen moments of a training in this process: resuming loses nothing."""

from __future__ import annotations

import os
import signal
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from sharpkd.checkpoint import read_lightning
from sharpkd.data.batch import Batch
from sharpkd.modules.restoration import RestorationModule
from sharpkd.runs.folder import RunFolder, RunFolderError

Train = Callable[..., Path]
# ten batches an epoch; checkpoints at 4, 8, 12 and at the end, validations at 6 and 12
INTERVALS = ["trainer.max_steps=13", "trainer.val_check_interval=6", "callbacks.last.every_n_train_steps=4"]


def _at(patch: pytest.MonkeyPatch, hook: str, count: int, sent: signal.Signals) -> None:
    """This process gets a signal when the module begins its ``count``-th training or validation batch."""
    original = getattr(RestorationModule, hook)
    seen = 0

    def counting(module: RestorationModule, batch: Batch, index: int) -> Any:
        nonlocal seen
        seen += 1
        if seen == count:
            os.kill(os.getpid(), sent)
        return original(module, batch, index)

    patch.setattr(RestorationModule, hook, counting)


def _same(one: Path, other: Path) -> None:
    """Weights, averages, the optimizer's state and the exported net are bit for bit the same."""
    for name in ("best.ckpt", "last.ckpt"):
        first, second = (read_lightning(folder / "checkpoints" / name) for folder in (one, other))
        assert first["global_step"] == second["global_step"], name
        for part in ("state_dict", "current_model_state"):
            for key, value in first[part].items():
                assert value.equal(second[part][key]), (name, part, key)
        moments = [content["optimizer_states"][0]["state"] for content in (first, second)]
        assert moments[0].keys() == moments[1].keys()
        for key, state in moments[0].items():
            assert all(value.equal(moments[1][key][what]) for what, value in state.items()), (name, key)
    exported, again = (load_file(folder / "net.safetensors") for folder in (one, other))
    assert exported.keys() == again.keys()
    assert all(exported[key].equal(again[key]) for key in exported)


@pytest.fixture(scope="module")
def settings(tiny: list[str]) -> list[str]:
    return [*tiny, *INTERVALS, "experiment=scratch"]


@pytest.fixture(scope="module")
def whole(settings: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the same training without any trouble."""
    from sharpkd.config import compose
    from sharpkd.train import train

    folder = tmp_path_factory.mktemp("whole")
    train(compose("train", settings, output_dir=str(folder)), settings)
    return folder


@pytest.mark.parametrize(
    ("hook", "count", "saved"),
    [
        pytest.param("training_step", 3, 3, id="step"),
        pytest.param("training_step", 6, 6, id="step before a validation"),
        pytest.param("validation_step", 1, 6, id="in a validation"),
        pytest.param("training_step", 10, 10, id="end of an epoch"),
        pytest.param("validation_step", 9, 13, id="in the last validation"),
    ],
)
def test_sigterm_saves_the_state_at_once(
    hook: str,
    count: int,
    saved: int,
    monkeypatch: pytest.MonkeyPatch,
    train_here: Train,
    settings: list[str],
    whole: Path,
    tmp_path: Path,
) -> None:
    folder = RunFolder(tmp_path / "stopped")
    with monkeypatch.context() as patch:
        _at(patch, hook, count, signal.SIGTERM)
        with pytest.raises(SystemExit) as ended:
            train_here("stopped", *settings)
    assert ended.value.code == 143
    assert folder.status()["error"] == "ended by SIGTERM; resume=auto continues it"
    assert read_lightning(folder.last_checkpoint)["global_step"] == saved
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    train_here("stopped", *settings, "resume=auto")
    _same(whole, folder.path)


@pytest.fixture
def slurm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The environment of a job of one task, and an ``scontrol`` that writes down what it is asked for."""
    for name, value in {"JOB_ID": "4242", "JOB_NAME": "train", "NTASKS": "1"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    for name in ("PROCID", "LOCALID", "NODEID"):
        monkeypatch.setenv(f"SLURM_{name}", "0")
    asked = tmp_path / "asked.txt"
    program = tmp_path / "bin" / "scontrol"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$@" >> "{asked}"\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)
    # Lightning keeps these for a process's life
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    return asked


def test_slurm_requeues_the_job_and_it_goes_on(
    slurm: Path,
    monkeypatch: pytest.MonkeyPatch,
    train_here: Train,
    settings: list[str],
    whole: Path,
    tmp_path: Path,
) -> None:
    """Lightning's own handler asks ``scontrol``; the job's command is the same the second time."""
    folder = RunFolder(tmp_path / "job")
    with monkeypatch.context() as patch:
        _at(patch, "training_step", 5, signal.SIGUSR1)
        with pytest.raises(SystemExit) as ended:
            train_here("job", *settings, "overwrite=true")
    assert ended.value.code == 143
    assert slurm.read_text() == "requeue 4242\n"
    assert read_lightning(folder.last_checkpoint)["global_step"] == 5
    assert list(folder.path.glob("hpc_ckpt*")) == []
    with pytest.raises(RunFolderError, match="holds an unfinished run; resume=auto continues it"):
        train_here("job", *settings)
    (folder.path / "hpc_ckpt_1.ckpt").write_bytes(b"left by a kill at the wrong moment")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    train_here("job", *settings, "overwrite=true")
    _same(whole, folder.path)
    assert slurm.read_text() == "requeue 4242\n"
