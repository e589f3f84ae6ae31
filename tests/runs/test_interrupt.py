"""Ctrl-C or SIGTERM in the middle of a training: one line, and a run that can be continued."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sharpkd.runs.folder import RunFolder

Train = Callable[..., Path]


def _hear_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.parametrize(
    ("sent", "code", "said", "error"),
    [
        (
            signal.SIGINT,
            130,
            "interrupted (resume=auto continues it)",
            "interrupted; resume=auto continues it",
        ),
        (
            signal.SIGTERM,
            143,
            "ended by SIGTERM; resume=auto continues it",
            "ended by SIGTERM; resume=auto continues it",
        ),
    ],
    ids=["ctrl-c", "sigterm"],
)
def test_a_stopped_run_says_so_and_goes_on_later(
    sent: signal.Signals,
    code: int,
    said: str,
    error: str,
    train_here: Train,
    command: Callable[..., list[str]],
    tiny: list[str],
    tmp_path: Path,
) -> None:
    overrides = [*tiny, "experiment=scratch", "trainer.max_steps=60", "callbacks.last.every_n_train_steps=7"]
    by_default = [override for override in overrides if override != "data.workers=0"]
    folder = RunFolder(tmp_path / "outputs" / "scratch" / "stopped")
    process = subprocess.Popen(
        command(*by_default, "run=stopped"),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # what a shell starts in the background is deaf to interrupts
        preexec_fn=_hear_interrupts,
    )
    deadline = time.monotonic() + 240
    while not folder.last_checkpoint.is_file():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "no checkpoint within four minutes"
        time.sleep(0.01)
    # as terminals and `timeout` do it: the worker that loads hears it too
    os.killpg(process.pid, sent)
    out, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert (out + err).splitlines().count(said) == 1
    assert "Traceback" not in err
    status = folder.status()
    assert (status["state"], status["error"]) == ("failed", error)
    settings = [*overrides, "run=stopped", f"paths.output_root={tmp_path}/outputs"]
    train_here("outputs/scratch/stopped", *settings, "resume=auto")
    assert folder.status()["state"] == "finished"
    assert folder.status()["metrics"]["steps"] == 60.0
