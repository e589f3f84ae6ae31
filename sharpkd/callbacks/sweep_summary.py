"""Keeping a multirun's ``sweep.csv`` and ``sweep.html`` current while its jobs come and go."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from sharpkd.evaluation.sweeps.report import write_sweep_report
from sharpkd.runs.folder import write_json
from sharpkd.runs.launch import first_rank

__all__ = ["SweepSummary"]


class SweepSummary(Callback):
    """Hydra callback: writes the sweep's report after every job of a multirun and once more at its end.

    After every job, because Hydra raises a failed job's error before the end of the multirun is announced.
    A job that ended without saying so in its ``status.json`` (its error came before it could write one, say)
    is entered there: failed with its error, or finished with the number it returned.

    Args:
        metric: what jobs are ranked by; by default the configuration's ``sweep.monitor``, else ``val/psnr``.
        mode: "max" or "min"; by default ``sweep.mode``, else "max".
    """

    def __init__(self, metric: str | None = None, mode: str | None = None) -> None:
        self.metric = metric
        self.mode = mode
        self._sweep_dirs: set[Path] = set()

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        """Enter the job and write the report; nothing in a single run or in a job's further ranks."""
        if OmegaConf.select(config, "hydra.mode") != RunMode.MULTIRUN or not first_rank():
            return
        sweep_dir = Path(str(config.hydra.sweep.dir)).absolute()
        metric, mode = self._monitored(config)
        _enter(Path(config.hydra.runtime.output_dir), job_return, metric)
        self._sweep_dirs.add(sweep_dir)
        write_sweep_report(sweep_dir, metric, mode)

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Write the report once more: a job that still says it is running has died."""
        sweep_dirs = self._sweep_dirs or {Path(str(config.hydra.sweep.dir)).absolute()}
        metric, mode = self._monitored(config)
        for sweep_dir in sorted(sweep_dirs):
            write_sweep_report(sweep_dir, metric, mode, ended=True)

    def _monitored(self, config: DictConfig) -> tuple[str, str]:
        metric = self.metric or OmegaConf.select(config, "sweep.monitor") or "val/psnr"
        return str(metric), str(self.mode or OmegaConf.select(config, "sweep.mode") or "max")


def _enter(folder: Path, job_return: JobReturn, metric: str) -> None:
    path = folder / "status.json"
    status: dict[str, Any] = {}
    if path.is_file():
        try:
            status = dict(json.loads(path.read_text(encoding="utf-8")))
        except ValueError:
            # the report names the damage; the file stays as evidence
            return
    if status.get("state") in ("finished", "failed"):
        return
    status.setdefault("overrides", list(job_return.overrides or []))
    status.setdefault("metrics", {})
    # read through the private name: the public one raises the job's error
    outcome = job_return._return_value
    if job_return.status == JobStatus.COMPLETED:
        status["state"] = "finished"
        if isinstance(outcome, int | float) and not isinstance(outcome, bool):
            status["metrics"].setdefault(metric, float(outcome))
    else:
        status["state"] = "failed"
        status["error"] = _told(outcome)
    write_json(path, status)


def _told(outcome: object) -> str:
    if outcome is None:
        return "no error given"
    # a message that is complete, such as that of a user's mistake
    return str(outcome) if isinstance(outcome, HydraException) else f"{type(outcome).__name__}: {outcome}"
