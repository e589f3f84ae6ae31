"""Several ranks for one run: fresh processes through torchrun, from the run's own resolved configuration.

Lightning would start the other ranks by repeating this process's command line, which inside a sweep is the
sweep itself. A rank started from the saved configuration knows nothing of Hydra or of other jobs.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import torch
from omegaconf import DictConfig, OmegaConf

from sharpkd.runs.folder import RunFolder
from sharpkd.runs.parent import TERMINATED

# the agent gives the ranks 30
GRACE_SECONDS = 40


# names of SLURM jobs in which somebody sits at a shell; Lightning starts no ranks by them either
INTERACTIVE = ("bash", "interactive")


def under_launcher() -> bool:
    """Whether torchrun or SLURM has already started this process as one of several ranks."""
    if "TORCHELASTIC_RUN_ID" in os.environ:
        return True
    return (
        int(os.environ.get("SLURM_NTASKS", "1")) > 1 and os.environ.get("SLURM_JOB_NAME") not in INTERACTIVE
    )


def first_rank() -> bool:
    """Whether this process is the one that writes the run's folder."""
    return not under_launcher() or int(os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0"))) == 0


def ranks_wanted(cfg: DictConfig) -> int:
    """How many processes this machine must run for ``trainer.devices``.

    Raises:
        ValueError: GPUs are asked for where there are none, the number makes no sense, or several machines
            are asked for and nothing has started this process on each of them.
    """
    devices = cfg.trainer.devices
    if cfg.trainer.num_nodes != 1:
        raise ValueError(
            f"trainer.num_nodes={cfg.trainer.num_nodes}, but this process was started alone: on each of the "
            f"machines run torchrun --nnodes={cfg.trainer.num_nodes} --nproc-per-node={devices} "
            "--rdzv-backend=c10d --rdzv-endpoint=FIRST_MACHINE:29500 -m sharpkd.train …, or use srun"
        )
    if cfg.trainer.strategy == "auto":
        return 1
    gpus = cfg.trainer.accelerator in ("gpu", "cuda")
    if gpus and not torch.cuda.is_available():
        raise ValueError(
            f"trainer.accelerator={cfg.trainer.accelerator}, but torch finds no GPU here; "
            "trainer=cpu trains on the processor, trainer=ddp_spawn_cpu tests several processes"
        )
    if devices in (-1, "-1", "auto"):
        return torch.cuda.device_count() if gpus else 1
    if isinstance(devices, int) and devices >= 1:
        return devices
    if isinstance(devices, str | int):
        raise ValueError(
            f"trainer.devices is {devices!r}; expected a number of processes >= 1, or -1 for all GPUs"
        )
    return len(devices)


def _ended(number: int, frame: object) -> None:
    raise SystemExit(128 + number)


@contextlib.contextmanager
def ends_at_sigterm() -> Iterator[None]:
    """In this block SIGTERM is a ``SystemExit`` with 143, so that what has begun can be put in order."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only there can signals be heard
        return
    before = signal.signal(signal.SIGTERM, _ended)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def launch_ranks(cfg: DictConfig, folder: RunFolder, checkpoint: Path | None, ranks: int) -> dict[str, float]:
    """Run one training as ``ranks`` processes and return what rank 0 measured.

    To be called within :func:`ends_at_sigterm`. When this process is asked to end, or killed, the ranks save
    their state and end too.

    Raises:
        ChildProcessError: a rank failed, with its reason.
        SystemExit: the ranks were asked to end by SIGTERM.
    """
    plan = folder.path / "launch.yaml"
    OmegaConf.save(
        OmegaConf.create({"config": cfg, "checkpoint": None if checkpoint is None else str(checkpoint)}), plan
    )
    folder.launch_error.unlink(missing_ok=True)
    command = [sys.executable, "-m", "sharpkd.runs.agent", str(plan), str(ranks), str(os.getpid())]
    environment = {**os.environ, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
    process = subprocess.Popen([*command, str(folder.launch_error)], env=environment, start_new_session=True)
    try:
        code = process.wait()
    except BaseException:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
        raise
    if code == TERMINATED:
        raise SystemExit(TERMINATED)
    if code != 0:
        raise ChildProcessError(_why(folder, code))
    return json.loads(folder.metrics_file.read_text(encoding="utf-8"))


def _why(folder: RunFolder, code: int) -> str:
    try:
        reason = folder.launch_error.read_text(encoding="utf-8")
    except FileNotFoundError:
        reason = f"the process that starts the ranks ended with exit code {code}"
    return f"{reason}; the other ranks were stopped. resume=auto continues {folder.path}"
