"""Which sample comes when: one global order an epoch, divided among ranks, that can start anywhere."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler


class EpochSampler(Sampler[tuple[int, int]]):
    """Keys ``(epoch, index)`` of one rank, in whole global batches.

    An epoch's order is a permutation drawn from (seed, epoch), cut to whole global batches of
    ``batch_size * world_size``. Position p goes to rank ``p % world_size``, so the ranks' k-th batches
    together are the k-th batch of a single process with a ``world_size`` times larger batch.

    Args:
        n: samples in an epoch; indices run from 0 to n - 1.
        batch_size: samples a rank takes at once.
        seed: decides the order, together with the epoch.
        shuffle: False keeps the order 0, 1, 2, ...
        rank: this process, 0 to ``world_size - 1``.
        world_size: how many processes share the epoch.

    Attributes:
        epoch: set by :meth:`set_epoch`, which Lightning calls.
        start: ``(epoch, batch)`` where iterations start, or None for the beginning of ``epoch`` (``len``
            does not change).

    Raises:
        ValueError: an epoch is smaller than one global batch, or the rank is outside the world.
    """

    def __init__(
        self, n: int, batch_size: int, seed: int = 0, shuffle: bool = True, rank: int = 0, world_size: int = 1
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        if not 0 <= rank < world_size:
            raise ValueError(f"rank must be in [0, {world_size}), got {rank}")
        if n < batch_size * world_size:
            raise ValueError(
                f"{n} samples do not fill one batch of {batch_size} on {world_size} process(es): "
                "use a smaller data.batch_size, more images or a larger data.crops_per_image"
            )
        self.n = n
        self.batch_size = batch_size
        self.seed = seed
        self.shuffle = shuffle
        self.rank = rank
        self.world_size = world_size
        self.epoch = 0
        self.start: tuple[int, int] | None = None

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next iteration."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.n // (self.batch_size * self.world_size) * self.batch_size

    def __iter__(self) -> Iterator[tuple[int, int]]:
        epoch, first_batch = self.start or (self.epoch, 0)
        random = np.random.default_rng((self.seed, epoch))
        order = random.permutation(self.n) if self.shuffle else np.arange(self.n)
        own = order[: len(self) * self.world_size][self.rank :: self.world_size]
        return ((epoch, int(index)) for index in own[first_batch * self.batch_size :])
