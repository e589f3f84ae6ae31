from __future__ import annotations

import pytest

from sharpkd.data.sampler import EpochSampler


def batches(sampler: EpochSampler) -> list[list[int]]:
    indices = [index for _, index in sampler]
    return [indices[i : i + sampler.batch_size] for i in range(0, len(indices), sampler.batch_size)]


def test_each_sample_comes_once_an_epoch() -> None:
    sampler = EpochSampler(24, batch_size=4, seed=3)
    assert sorted(index for _, index in sampler) == list(range(24))
    assert len(sampler) == 24


def test_keys_carry_the_epoch() -> None:
    sampler = EpochSampler(4, batch_size=2)
    sampler.set_epoch(7)
    assert {epoch for epoch, _ in sampler} == {7}


def test_an_incomplete_last_batch_is_left_out() -> None:
    sampler = EpochSampler(23, batch_size=4, world_size=2, rank=1)
    assert len(sampler) == len(list(sampler)) == 8
    assert len({index for _, index in sampler}) == 8


def test_epochs_and_seeds_differ_and_repeat() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        sampler = EpochSampler(50, batch_size=5, seed=seed)
        sampler.set_epoch(epoch)
        return [index for _, index in sampler]

    assert order(1, 2) == order(1, 2)
    assert len({tuple(order(seed, epoch)) for seed in range(3) for epoch in range(3)}) == 9


def test_without_shuffling_the_order_is_that_of_the_indices() -> None:
    assert [index for _, index in EpochSampler(6, batch_size=3, shuffle=False)] == list(range(6))


@pytest.mark.parametrize("world_size", [2, 3])
def test_ranks_together_see_the_batches_of_one_process(world_size: int) -> None:
    whole = EpochSampler(41, batch_size=4 * world_size, seed=5)
    parts = [EpochSampler(41, 4, seed=5, rank=rank, world_size=world_size) for rank in range(world_size)]
    for sampler in (whole, *parts):
        sampler.set_epoch(2)
    for together, *separate in zip(batches(whole), *map(batches, parts), strict=True):
        assert sorted(together) == sorted(index for batch in separate for index in batch)
        assert [batch[0] for batch in separate] == together[:world_size]


def test_start_leaves_out_what_came_before() -> None:
    sampler = EpochSampler(20, batch_size=4, seed=1)
    sampler.set_epoch(2)
    whole = list(sampler)
    sampler.set_epoch(5)
    sampler.start = (2, 3)
    assert list(sampler) == whole[12:]
    assert len(sampler) == 20


@pytest.mark.parametrize(
    ("n", "batch_size", "rank", "world_size", "message"),
    [
        (7, 4, 0, 2, r"7 samples do not fill one batch of 4 on 2 process\(es\).*data.crops_per_image"),
        (7, 0, 0, 1, "batch_size must be at least 1, got 0"),
        (7, 1, 2, 2, r"rank must be in \[0, 2\), got 2"),
    ],
)
def test_settings_out_of_range(n: int, batch_size: int, rank: int, world_size: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EpochSampler(n, batch_size, rank=rank, world_size=world_size)
