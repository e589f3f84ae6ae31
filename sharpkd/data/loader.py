"""A DataLoader that continues in the middle of an epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import cv2
from torch.utils.data import DataLoader, Dataset

from sharpkd.data.batch import Batch, collate
from sharpkd.data.sampler import EpochSampler


def one_thread(worker: int) -> None:
    """Workers are the parallelism; OpenCV's own threads would fight over the same cores."""
    cv2.setNumThreads(1)


class ResumableLoader(DataLoader[Batch]):
    """Batches of an :class:`EpochSampler`, with Lightning's protocol for stateful loaders.

    ``state_dict()`` is ``{"epoch": e, "batches": b}``: b batches of epoch e are done. After
    ``load_state_dict`` an iteration over epoch e starts with batch b and gives what an uninterrupted run
    sees, whatever the number of workers; skipped batches cost nothing. Other epochs start at their
    beginning. ``len`` is always the whole epoch.

    An iteration begins with its first ``next``, not with ``iter``: Lightning calls ``set_epoch`` in between.

    Args:
        dataset: takes the sampler's keys, returns a :class:`Batch` of one image.
        sampler: order, epoch and batch size.
        workers: processes; 0 loads in this one.
        pin_memory: copy batches to page-locked memory.
        finished: how many batches of this epoch the consumer has finished. Without it a batch counts as done
            when it is handed out; with it a batch in progress comes again after a resume.
    """

    sampler: EpochSampler

    def __init__(
        self,
        dataset: Dataset[Batch],
        sampler: EpochSampler,
        workers: int = 0,
        pin_memory: bool = False,
        finished: Callable[[], int] | None = None,
    ) -> None:
        super().__init__(
            dataset,
            batch_size=sampler.batch_size,
            sampler=sampler,
            num_workers=workers,
            collate_fn=collate,
            pin_memory=pin_memory,
            drop_last=True,
            worker_init_fn=one_thread,
            persistent_workers=workers > 0,
        )
        self._finished = finished
        self._epoch = sampler.epoch
        self._batches = 0
        self._started = False

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        if self.sampler.epoch != self._epoch or self._started:
            self._epoch, self._batches = self.sampler.epoch, 0
        self._started = True
        self.sampler.first_batch = self._batches
        for batch in super().__iter__():
            self._batches += 1
            yield batch

    def state_dict(self) -> dict[str, Any]:
        """``{"epoch", "batches"}`` that are done, in numbers only."""
        if self.sampler.epoch != self._epoch:
            return {"epoch": self.sampler.epoch, "batches": 0}
        done = self._batches if self._finished is None else min(self._batches, self._finished())
        return {"epoch": self._epoch, "batches": done}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue there.

        Raises:
            ValueError: the state is beyond an epoch's end, so it belongs to other data or another batch size.
        """
        epoch, batches = int(state_dict["epoch"]), int(state_dict["batches"])
        if not 0 <= batches <= len(self):
            raise ValueError(
                f"the checkpoint is {batches} batches into an epoch that has {len(self)}: "
                "it was made with other data or another data.batch_size; resume with the same settings"
            )
        self.sampler.set_epoch(epoch)
        self._epoch, self._batches, self._started = epoch, batches, False
