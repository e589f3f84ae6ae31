"""Which sample of shards comes when: shuffled by shard and by a buffer, without holding an epoch's order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from sharpkd.data.sampler import EpochSampler


class ShardSampler(EpochSampler):
    """Keys ``(epoch, index)`` as of :class:`sharpkd.data.sampler.EpochSampler`, shard after shard.

    The order of the shards is a permutation drawn from (seed, epoch). Their samples, one shard after the
    other, are cut into buffers of ``buffer`` samples, and each buffer is permuted by itself, drawn from
    (seed, epoch, number of the buffer). The order is a function of the position, so an epoch can start
    anywhere at no cost; only the counts of the shards and one buffer are held in memory. Position p goes to
    rank ``p % world_size``, and what does not fill a batch of all ranks is left out, as there: each sample
    comes once in an epoch, but for the last ``n % (batch_size * world_size)`` of its order, which are others
    in every epoch.

    Args:
        counts: images of each shard, all above 0; index ``i`` is a sample of image ``i % sum(counts)``.
        n: samples in an epoch: some of each image, the first images perhaps with one more.
        batch_size: samples a rank takes at once.
        seed: decides the order, together with the epoch.
        buffer: samples that are mixed with each other, at least 1.
        rank: this process, 0 to ``world_size - 1``.
        world_size: how many processes share the epoch.

    Raises:
        ValueError: the buffer is empty; or see :class:`sharpkd.data.sampler.EpochSampler`.
    """

    def __init__(
        self,
        counts: Sequence[int],
        n: int,
        batch_size: int,
        seed: int = 0,
        buffer: int = 4096,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        super().__init__(n, batch_size, seed, rank=rank, world_size=world_size)
        if buffer < 1:
            raise ValueError(f"data.shuffle_buffer must be at least 1, got {buffer}")
        self.buffer = buffer
        self._counts = np.asarray(counts, np.int64)
        self._starts = np.cumsum(self._counts) - self._counts
        self._images = int(self._counts.sum())
        # the first images of all may have one sample more than the others
        whole, more = divmod(n, self._images)
        self._samples = self._counts * whole + np.clip(more - self._starts, 0, self._counts)
        self._whole = whole

    def __iter__(self) -> Iterator[tuple[int, int]]:
        epoch, first_batch = self.start or (self.epoch, 0)
        return self._keys(epoch, first_batch * self.batch_size * self.world_size + self.rank)

    def _keys(self, epoch: int, position: int) -> Iterator[tuple[int, int]]:
        order = self._random(epoch, 0).permutation(len(self._counts))
        ends = np.cumsum(self._samples[order])
        end = len(self) * self.world_size
        while position < end:
            number, within = divmod(position, self.buffer)
            indices = self._mixed(epoch, number, order, ends)[within : end - number * self.buffer]
            own = indices[:: self.world_size]
            yield from ((epoch, int(index)) for index in own)
            position += len(own) * self.world_size

    def _mixed(self, epoch: int, number: int, order: np.ndarray, ends: np.ndarray) -> np.ndarray:
        """Indices of one buffer's samples, in their order."""
        first = number * self.buffer
        size = min(self.buffer, self.n - first)
        positions = first + self._random(epoch, 1, number).permutation(size)
        ranks = np.searchsorted(ends, positions, side="right")
        shards = order[ranks]
        within = positions - ends[ranks] + self._samples[shards]
        counts, complete = self._counts[shards], self._counts[shards] * self._whole
        image = np.where(within < complete, within % counts, within - complete)
        copy = np.where(within < complete, within // counts, self._whole)
        return copy * self._images + self._starts[shards] + image

    def _random(self, epoch: int, *stream: int) -> np.random.Generator:
        return np.random.default_rng(np.random.SeedSequence((self.seed, epoch), spawn_key=stream))
