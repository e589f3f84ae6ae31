"""A validation that was cut off comes again when the run is continued."""

from __future__ import annotations

import math
from typing import Any

import pytorch_lightning as pl


def validation_due(trainer: pl.Trainer) -> bool:
    """Whether Lightning validates after the batch that has just ended, by ``trainer.val_check_interval``."""
    loop = trainer.fit_loop.epoch_loop
    batches = 1 + (loop.total_batch_idx if trainer.check_val_every_n_epoch is None else loop.batch_idx)
    every = trainer.val_check_batch
    # None: it goes by the clock
    return batches > 0 and every is not None and not math.isinf(every) and batches % every == 0


class LostValidation(pl.Callback):
    """Catches up on the validation of the step that a run is continued from.

    Lightning takes it for done when a run continues from a checkpoint that was written at the end of the very
    step, though the run was killed before or in it; and a run that has made its last step it does not even
    enter. The best weights could so be another step's than an uninterrupted run's.
    """

    def __init__(self) -> None:
        # training batches until the last complete validation
        self._validated = 0
        self._max_steps: int | None = None

    def state_dict(self) -> dict[str, Any]:
        return {"validated": self._validated}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._validated = int(state_dict["validated"])

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        if 0 < trainer.max_steps <= checkpoint["global_step"]:
            # one more, so that Lightning enters the loop of training at all; taken back before the first step
            self._max_steps = trainer.max_steps
            trainer.fit_loop.epoch_loop.max_steps = checkpoint["global_step"] + 1

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        finished = self._max_steps is not None
        if self._max_steps is not None:
            trainer.fit_loop.epoch_loop.max_steps, self._max_steps = self._max_steps, None
        due = finished or validation_due(trainer)
        if trainer.fit_loop.is_resuming and due and self._validated < _batches(trainer):
            self._validate(trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.sanity_checking:
            self._validated = _batches(trainer)

    def _validate(self, trainer: pl.Trainer) -> None:
        """As Lightning's loop of training does it."""
        validation = trainer.fit_loop.epoch_loop.val_loop
        validation.restarting = False
        trainer.validating = True
        validation.run()
        trainer.training = True


def _batches(trainer: pl.Trainer) -> int:
    return trainer.fit_loop.epoch_loop.total_batch_idx + 1
