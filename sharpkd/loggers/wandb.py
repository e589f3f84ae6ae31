"""Weights & Biases: a dashboard to compare runs. The only file that imports wandb."""

from __future__ import annotations

import logging
import os
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import wandb
from omegaconf import OmegaConf
from pytorch_lightning.utilities.rank_zero import rank_zero_only
from torch import Tensor

from sharpkd.loggers.base import RunLogger

log = logging.getLogger(__name__)

Mode = Literal["online", "offline", "disabled"]
MODES = ("online", "offline", "disabled")
STEP = "trainer/global_step"
START_SECONDS = 30
FINISH_SECONDS = 120


class WandbLogger(RunLogger):
    """Sends a run to W&B, or records it in ``<run_dir>/wandb`` for ``wandb sync``.

    Nothing that goes wrong between here and the server stops the work: the first trouble is one warning, and
    an online run that cannot start becomes an offline one. The run's id is kept in
    ``<run_dir>/wandb_id.txt``, so that a resumed training continues the same W&B run.

    Args:
        run_dir: folder of the run; its ``config.yaml`` becomes the run's configuration.
        project: of W&B.
        name: shown for the run.
        group: runs that belong together; the sweep.
        mode: online, offline or disabled; None takes ``WANDB_MODE`` where it is set, otherwise online for
            those who are logged in and offline for everyone else.

    Raises:
        ValueError: the mode is another one.
    """

    def __init__(
        self,
        run_dir: str | Path,
        project: str = "sharpkd",
        name: str | None = None,
        group: str | None = None,
        mode: Mode | None = None,
    ) -> None:
        super().__init__(run_dir)
        if mode is not None and mode not in MODES:
            raise ValueError(f"logger.wandb.mode is {mode!r}; expected one of {', '.join(MODES)}, or null")
        self.project = project
        self.display_name = name
        self.group = group
        self.mode = mode
        self._run: Any = None
        self._started = False
        self._warned = False

    @property
    def experiment(self) -> Any:
        """The W&B run, started on first use; None where it could not start, and on ranks other than 0."""
        if not self._started:
            self._started = True
            self._run = self._start()
        return self._run

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Send one row over ``trainer/global_step``, an axis that may step back after a kill."""
        row = {key: value.item() if isinstance(value, Tensor) else value for key, value in metrics.items()}
        self._try(lambda run: run.log(row if step is None else row | {STEP: step}))

    @rank_zero_only
    def log_summary(self, summary: Mapping[str, Any]) -> None:
        """Set the figures that a dashboard's table compares runs by."""
        self._try(lambda run: run.summary.update(dict(summary)))

    @rank_zero_only
    def log_image(self, key: str, path: str | Path, step: int) -> None:
        """Send a picture file."""
        self._try(lambda run: run.log({key: wandb.Image(str(path)), STEP: step}))

    @rank_zero_only
    def log_table(self, key: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Send a table, to be sorted and filtered on the dashboard."""
        self._try(lambda run: run.log({key: wandb.Table(list(columns), [list(row) for row in rows])}))

    @rank_zero_only
    def finish(self, exit_code: int = 0) -> None:
        """End the run, as failed where the exit code is not 0; without a run there is nothing to end."""
        if self._run is not None:
            self._try(lambda run: run.finish(exit_code=exit_code))
        self._run, self._started = None, True

    def _try(self, action: Callable[[Any], Any]) -> None:
        run = self.experiment
        if run is None:
            return
        try:
            action(run)
        except Exception as error:  # wandb's service raises types of its own that have no common base
            self._warn(f"W&B did not take a message ({_short(error)}); the work goes on without it")

    def _warn(self, message: str) -> None:
        if not self._warned:
            self._warned = True
            log.warning(message)

    @rank_zero_only
    def _start(self) -> Any:
        mode = self.mode or os.environ.get("WANDB_MODE") or self._mode_of_login()
        try:
            return self._init(mode)
        except Exception as error:  # as above
            if mode != "online":
                self._warn(f"W&B cannot start ({_short(error)}); the work goes on without it")
                return None
            self._warn(f"W&B cannot be reached ({_short(error)})")
        # The service that failed to start the run holds its id: a new one is needed.
        wandb.teardown()
        self.mode = "offline"
        return self._start()

    def _init(self, mode: str) -> Any:
        self.run_dir.mkdir(parents=True, exist_ok=True)
        config = self.run_dir / "config.yaml"
        settings: Any = OmegaConf.to_container(OmegaConf.load(config)) if config.is_file() else None
        run = wandb.init(
            project=self.project,
            name=self.display_name,
            group=self.group,
            id=self._run_id(),
            resume=None if mode == "offline" else "allow",
            dir=str(self.run_dir),
            mode=mode,  # type: ignore[arg-type]  # WANDB_MODE may hold what wandb itself has to refuse
            config=settings,
            reinit="finish_previous",
            settings=wandb.Settings(
                silent=True, console="off", init_timeout=START_SECONDS, finish_timeout=FINISH_SECONDS
            ),
        )
        run.define_metric("*", step_metric=STEP, step_sync=True)
        if mode == "offline":
            log.info("W&B records offline; send it with: wandb sync %s", Path(run.dir).parent)
        elif mode == "online":
            log.info("W&B: %s", run.url)
        return run

    def _run_id(self) -> str:
        path = self.run_dir / "wandb_id.txt"
        if not path.is_file():
            path.write_text(uuid.uuid4().hex[:12] + "\n", encoding="utf-8")
        return path.read_text(encoding="utf-8").strip()

    def _mode_of_login(self) -> Mode:
        wandb.setup(wandb.Settings(silent=True))
        try:
            return "online" if wandb.login(prompt=False, verify=False) else "offline"
        except Exception as error:  # as above
            self._warn(f"W&B's login cannot be used ({_short(error)})")
            return "offline"


def _short(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}"
