from __future__ import annotations

import itertools
import tracemalloc
from collections.abc import Callable

import pytest

from sharpkd.data.shards.sampler import ShardSampler

COUNTS = [4, 1, 7, 3, 5, 4]


def indices(sampler: ShardSampler) -> list[int]:
    return [index for _, index in sampler]


def shard_of(index: int) -> int:
    """Looked up one by one, as the sampler does not."""
    image = index % sum(COUNTS)
    return next(n for n in range(len(COUNTS)) if image < sum(COUNTS[: n + 1]))


@pytest.mark.parametrize("n", [24, 72, 7, 29, 24 * 5 + 11])
@pytest.mark.parametrize("buffer", [1, 5, 24, 1000])
def test_each_sample_comes_once_an_epoch(n: int, buffer: int) -> None:
    sampler = ShardSampler(COUNTS, n, 1, seed=3, buffer=buffer)
    assert sorted(indices(sampler)) == list(range(n))
    assert len(sampler) == n


@pytest.mark.parametrize("world_size", [2, 3, 7])
@pytest.mark.parametrize("buffer", [4, 10, 100])
def test_ranks_together_see_the_batches_of_one_process(world_size: int, buffer: int) -> None:
    """And what does not fill a batch of all ranks is left out."""
    n, batch_size = 79, 3
    whole = ShardSampler(COUNTS, n, batch_size * world_size, 5, buffer)
    parts = [ShardSampler(COUNTS, n, batch_size, 5, buffer, rank, world_size) for rank in range(world_size)]
    for sampler in (whole, *parts):
        sampler.set_epoch(2)
    together, separate = indices(whole), [indices(part) for part in parts]
    assert [index for turn in zip(*separate, strict=True) for index in turn] == together
    assert len(set(together)) == len(together) == n - n % (batch_size * world_size)


def test_what_is_left_out_of_an_epoch_is_not_left_out_of_all() -> None:
    sampler = ShardSampler(COUNTS, 24, 5, seed=1, buffer=6)
    seen = []
    for epoch in range(8):
        sampler.set_epoch(epoch)
        seen.append(set(indices(sampler)))
    assert {len(epoch) for epoch in seen} == {20}
    assert set.union(*seen) == set(range(24))


def test_start_leaves_out_what_came_before() -> None:
    for batches, rank in itertools.product(range(6), range(2)):
        sampler = ShardSampler(COUNTS, 24, 2, 1, 5, rank, world_size=2)
        sampler.set_epoch(2)
        whole = list(sampler)
        assert {epoch for epoch, _ in whole} == {2}
        sampler.set_epoch(5)
        sampler.start = (2, batches)
        assert list(sampler) == whole[2 * batches :]


def test_epochs_and_seeds_differ_and_repeat() -> None:
    def order(seed: int, epoch: int) -> tuple[int, ...]:
        sampler = ShardSampler(COUNTS, 24, 1, seed, buffer=6)
        sampler.set_epoch(epoch)
        return tuple(indices(sampler))

    assert order(1, 2) == order(1, 2)
    assert len({order(seed, epoch) for seed in range(4) for epoch in range(4)}) == 16


def test_shards_come_one_after_the_other_in_an_order_of_their_own() -> None:
    """A buffer of one sample mixes nothing: what is left is the order of the shards."""
    orders = set()
    for epoch in range(5):
        sampler = ShardSampler(COUNTS, 48, 1, buffer=1)
        sampler.set_epoch(epoch)
        runs = [shard for shard, _ in itertools.groupby(map(shard_of, indices(sampler)))]
        assert sorted(runs) == list(range(len(COUNTS)))
        orders.add(tuple(runs))
    assert len(orders) == 5


def test_a_buffer_mixes_neighbouring_shards_and_no_others() -> None:
    counts, buffer = [10] * 30, 50
    sampler = ShardSampler(counts, 300, 1, buffer=buffer)
    blocks = [indices(sampler)[at : at + buffer] for at in range(0, 300, buffer)]
    for block in blocks:
        shards = [index // 10 for index in block]
        assert len(set(shards)) == 5
        # mixed: had the shards come one by one, 4 neighbours of 49 would differ
        assert sum(a != b for a, b in itertools.pairwise(shards)) > 25


def peak(make: Callable[[], ShardSampler]) -> int:
    """Bytes that are allocated at most while a sampler is made and 10,000 of its keys are drawn."""
    tracemalloc.start()
    taken = sum(1 for _ in itertools.islice(iter(make()), 10_000))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert taken == 10_000
    return most


def test_memory_does_not_grow_with_the_images() -> None:
    """A hundred million samples of ten million images in the memory of twenty thousand."""
    few, many = (
        peak(lambda images=images: ShardSampler([images // 20] * 20, 10 * images, 8))  # type: ignore[misc]  # mypy has no types for defaults of lambdas
        for images in (2_000, 10_000_000)
    )
    assert many < few + 10_000
    # a permutation of all samples would need 800 MB, one of the images 80
    assert many < 2_000_000


def test_settings_out_of_range() -> None:
    with pytest.raises(ValueError, match=r"data\.shuffle_buffer must be at least 1, got 0"):
        ShardSampler(COUNTS, 24, 2, buffer=0)
    with pytest.raises(ValueError, match=r"24 samples do not fill one batch of 16 on 2 process\(es\)"):
        ShardSampler(COUNTS, 24, 16, world_size=2)
