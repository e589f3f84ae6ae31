"""A DataLoader that continues in the middle of an epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from torch.utils.data import DataLoader, Dataset

from sharpkd.data.batch import Batch, collate
from sharpkd.data.sampler import EpochSampler
from sharpkd.data.workers import begin_worker, start_method, starting_workers


class WorkerLoader(DataLoader[Batch]):
    """A DataLoader whose workers can use OpenCV, whatever this process has done with it before.

    They hear no signal that is meant for the process that trains, see :func:`begin_worker`.
    """

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]  # torch yields Any
        with starting_workers():
            return super().__iter__()


class ResumableLoader(WorkerLoader):
    """Batches of an :class:`EpochSampler`, with Lightning's protocol for stateful loaders.

    ``state_dict()`` is ``{"epoch": e, "batches": b}``: b batches of epoch e are done. After
    ``load_state_dict`` the next iteration starts there and gives what an uninterrupted run sees, whatever the
    number of workers; skipped batches cost nothing. Later iterations are whole epochs. ``len`` is always the
    whole epoch.

    An iteration begins with its first ``next``, not with ``iter``: Lightning calls ``set_epoch`` in between.
    Its count of epochs runs ahead by one after a resume from a checkpoint of an epoch's end, so the epochs
    that follow a resume are counted from the loaded one.

    Args:
        dataset: takes the sampler's keys, returns a :class:`Batch` of one image.
        sampler: order, epoch and batch size.
        workers: processes; 0 loads in this one.
        pin_memory: copy batches to page-locked memory.
        in_progress: how many of the batches handed out the consumer has not finished; they come again after
            a resume. Without it a batch counts as done when it is handed out.
    """

    sampler: EpochSampler

    def __init__(
        self,
        dataset: Dataset[Batch],
        sampler: EpochSampler,
        workers: int = 0,
        pin_memory: bool = False,
        in_progress: Callable[[], int] | None = None,
    ) -> None:
        super().__init__(
            dataset,
            batch_size=sampler.batch_size,
            sampler=sampler,
            num_workers=workers,
            collate_fn=collate,
            pin_memory=pin_memory,
            drop_last=True,
            worker_init_fn=begin_worker,
            multiprocessing_context=start_method(workers),
            persistent_workers=workers > 0,
        )
        self._in_progress = in_progress
        self._epoch = sampler.epoch
        self._batches = 0
        self._resume: tuple[int, int] | None = None
        self._epochs_ahead = 0

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]  # torch yields Any
        self._epoch, self._batches = self._start()
        self.sampler.start = (self._epoch, self._batches)
        for batch in super().__iter__():
            self._batches += 1
            yield batch

    def _start(self) -> tuple[int, int]:
        if self._resume is None:
            return self.sampler.epoch - self._epochs_ahead, 0
        (epoch, batches), self._resume = self._resume, None
        if batches == len(self):
            epoch, batches = epoch + 1, 0
        self._epochs_ahead = self.sampler.epoch - epoch
        return epoch, batches

    def state_dict(self) -> dict[str, Any]:
        """``{"epoch", "batches"}`` that are done, in numbers only."""
        if self._resume is not None:
            epoch, batches = self._resume
        elif self.sampler.epoch - self._epochs_ahead != self._epoch:
            epoch, batches = self.sampler.epoch - self._epochs_ahead, 0
        else:
            pending = 0 if self._in_progress is None else self._in_progress()
            epoch, batches = self._epoch, max(0, self._batches - pending)
        return {"epoch": epoch, "batches": batches}

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
        self._resume = (epoch, batches)
