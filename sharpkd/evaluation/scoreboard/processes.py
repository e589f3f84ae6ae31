"""One training of a scoreboard in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence

from sharpkd.config.composition import user_folders
from sharpkd.evaluation.scoreboard.cells import Cell
from sharpkd.evaluation.scoreboard.methods import literal
from sharpkd.evaluation.sweeps.jobs import read_jobs
from sharpkd.runs.folder import RunFolderError

GRACE_SECONDS = 60


def train_cell(cell: Cell) -> str:
    """Train one cell in a process of its own, continuing where it was interrupted.

    Returns:
        An empty string, or why it failed.

    Raises:
        RunFolderError: another process is training it.
    """
    root = cell.folder.path.parents[1]
    for job in read_jobs(root) if root.is_dir() else []:
        if job.folder == cell.folder.path and job.state == "running":
            raise RunFolderError(
                f"{job.folder} is being trained by process {cell.folder.status().get('pid')}; let it end"
            )
    folders = [f"--config-dir={folder}" for folder in user_folders()[:1]]
    command = [sys.executable, "-m", "sharpkd.train", *folders, *cell.overrides]
    before = _written(cell)
    code = _run([*command, f"hydra.run.dir={literal(cell.folder.path)}"])
    if code == 0 and cell.finished():
        return ""
    # what an earlier attempt left there is no reason for this one's end
    said = cell.error() if _written(cell) != before else ""
    return said or f"sharpkd.train ended with exit code {code}; its message stands above"


def _written(cell: Cell) -> int | None:
    file = cell.folder.status_file
    return file.stat().st_mtime_ns if file.is_file() else None


def _hear_interrupts() -> None:
    # what a shell starts in the background is deaf to them, and so would be its children
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _ended(number: int, frame: object) -> None:
    raise SystemExit(128 + number)


def _run(command: Sequence[str]) -> int:
    """Exit code of a command; on Ctrl-C or SIGTERM it is asked to save its state, and outlives nobody.

    A second Ctrl-C does not wait for that.
    """
    process = subprocess.Popen(command, start_new_session=True, preexec_fn=_hear_interrupts)
    before = signal.signal(signal.SIGTERM, _ended)
    try:
        return process.wait()
    except BaseException:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(GRACE_SECONDS)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        raise
    finally:
        signal.signal(signal.SIGTERM, before)
