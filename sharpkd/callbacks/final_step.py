"""The last step of a run is validated and saved, whatever the intervals are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytorch_lightning as pl


class FinalStep(pl.Callback):
    """At ``max_steps``: write the last checkpoint and have Lightning validate, as at any interval.

    Lightning validates and saves at multiples of its intervals alone, so that the end of the learning-rate
    schedule, where a run is at its best, could be neither measured nor kept.

    Args:
        last_checkpoint: file of the last state, the same that is written at intervals. The callback must
            stand behind the one that averages weights.
    """

    def __init__(self, last_checkpoint: str) -> None:
        self.last_checkpoint = Path(last_checkpoint)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.max_steps > 0 and trainer.global_step >= trainer.max_steps:
            trainer.save_checkpoint(self.last_checkpoint, weights_only=False)
            trainer.should_stop = True
