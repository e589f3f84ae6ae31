"""SIGTERM, and SLURM's announcement of the end: the state is saved at a step's end, then the run ends."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.plugins.environments import SLURMEnvironment
from pytorch_lightning.utilities.exceptions import SIGTERMException

from sharpkd.callbacks.lost_validation import validation_due

Handler = Callable[[int, FrameType | None], Any] | int | None


class SafeStop(pl.Callback):
    """Saves the last checkpoint when the process is asked to end, and ends it.

    Lightning's own handlers work wherever the signal finds them: under SLURM they save in the middle of a
    step, and under DDP they talk to the other ranks while these talk of something else. Here a signal is only
    noted. At the end of the step (of all its batches, where gradients are accumulated) the ranks agree, the
    state is saved as ``last`` always is, Lightning's handler of SLURM's signal requeues the job, and the run
    ends as by SIGTERM. A resumed run computes what an uninterrupted one does.

    A validation of one process is broken off; for that, the state before every validation is saved too.
    Several ranks finish theirs.

    Args:
        last_checkpoint: file of the last state, the same that is written at intervals. The callback must
            stand behind the one that averages weights.
    """

    def __init__(self, last_checkpoint: str) -> None:
        self.last_checkpoint = Path(last_checkpoint)
        self._asked = 0
        self._step = 0
        self._before: dict[int, Handler] = {}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._asked, self._step = 0, trainer.global_step
        if threading.current_thread() is not threading.main_thread():
            return  # only there can signals be heard
        for number in _signals():
            self._before[number] = signal.signal(number, self._hear)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step == self._step:
            return  # gradients are being accumulated, which no checkpoint holds
        self._step = trainer.global_step
        ends = _any_rank(trainer, self._asked != 0)
        if ends or validation_due(trainer):
            trainer.save_checkpoint(self.last_checkpoint, weights_only=False)
        if ends:
            # the ranks may have heard different signals
            self._end(trainer, _any_rank(trainer, self._asked not in (0, signal.SIGTERM)))

    def on_validation_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if self._asked and trainer.world_size == 1 and not trainer.sanity_checking:
            self._end(trainer, self._asked != signal.SIGTERM)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._restore()
        # what SLURM announces is minutes away, enough to measure and write what has been trained
        if _any_rank(trainer, self._asked == signal.SIGTERM):
            raise SIGTERMException

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        self._restore()

    def _hear(self, number: int, frame: FrameType | None) -> None:
        self._asked = number

    def _end(self, trainer: pl.Trainer, requeue: bool) -> None:
        for number, handler in self._before.items():
            if not requeue or number == signal.SIGTERM or not callable(handler):
                continue
            handler(number, None)
            if trainer.is_global_zero:
                # Lightning's file holds what last_checkpoint does
                for copy in Path(trainer.default_root_dir).glob("hpc_ckpt_*.ckpt"):
                    copy.unlink()
        raise SIGTERMException

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}


def _any_rank(trainer: pl.Trainer, fact: bool) -> bool:
    if trainer.world_size == 1:
        return fact
    return trainer.strategy.reduce_boolean_decision(fact, all=False)


def _signals() -> list[int]:
    """SIGTERM and, where Lightning requeues SLURM's jobs, the signal that SLURM announces their end with."""
    numbers = [int(signal.SIGTERM)]
    announced = getattr(signal, "SIGUSR1", None)  # Windows has none
    if announced is not None and SLURMEnvironment.detect() and callable(signal.getsignal(announced)):
        numbers.append(int(announced))
    return numbers
