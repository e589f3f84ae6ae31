from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
import torch
from torch import Tensor

from sharpkd.distillation.affinity import AffinityTransfer, spatial_affinity
from sharpkd.distillation.base import Observed, match_size

PAIR = [["a", "b"]]


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def seen(features: Tensor, tap: str = "a") -> Observed:
    return Observed(torch.zeros(len(features), 3, 2, 2), {tap: features})


def cosine(x: np.ndarray, y: np.ndarray) -> float:
    return float((x * y).sum() / math.sqrt((x * x).sum() * (y * y).sum()))


def by_hand(student: np.ndarray, teacher: np.ndarray) -> float:
    """One pair of places after the other; maps of one size, (N, C, h, w)."""
    height, width = student.shape[2:]
    places = list(product(range(height), range(width)))
    differences = [
        abs(
            cosine(student[n, :, i, j], student[n, :, k, m])
            - cosine(teacher[n, :, i, j], teacher[n, :, k, m])
        )
        for n in range(len(student))
        for (i, j), (k, m) in product(places, places)
    ]
    return sum(differences) / len(differences)


def block_mean(x: Tensor, rows: int, columns: int) -> np.ndarray:
    n, c, h, w = x.shape
    blocks = x.double().numpy().reshape(n, c, h // rows, rows, w // columns, columns)
    result: np.ndarray = blocks.mean(axis=(3, 5))
    return result


def test_equals_a_loop_over_pairs_of_places() -> None:
    student, teacher = random(2, 4, 3, 5), random(2, 7, 3, 5, seed=1)
    value = AffinityTransfer(PAIR)(seen(student), seen(teacher, "b")).item()
    assert value == pytest.approx(by_hand(student.double().numpy(), teacher.double().numpy()), rel=1e-5)
    assert 0 < value <= 2


def test_maps_are_averaged_to_the_smaller_one_and_the_grid_before_they_are_compared() -> None:
    student, teacher = random(1, 4, 12, 8), random(1, 3, 6, 16, seed=1)
    term = AffinityTransfer(PAIR, grid=4)
    # 12 x 8 and 6 x 16 have 6 x 8 in common; of these the grid leaves 4 x 4
    expected = AffinityTransfer(PAIR)(
        *(seen(x, t) for x, t in zip(match_size(student, teacher, 4), "ab", strict=True))
    )
    assert term(seen(student), seen(teacher, "b")).item() == pytest.approx(expected.item(), rel=1e-5)
    even = random(1, 3, 8, 16, seed=2)
    by_blocks = by_hand(block_mean(random(1, 4, 16, 8), 4, 2), block_mean(even, 2, 4))
    assert term(seen(random(1, 4, 16, 8)), seen(even, "b")).item() == pytest.approx(by_blocks, rel=1e-4)


def test_the_matrix_stays_as_small_as_the_grid() -> None:
    maps = match_size(random(1, 2, 48, 40), random(1, 2, 64, 64), 16)
    assert [tuple(each.shape) for each in maps] == [(1, 2, 16, 16)] * 2
    assert [tuple(each.shape[2:]) for each in match_size(random(1, 2, 9, 48), random(1, 2, 9, 48), 16)] == [
        (9, 16)
    ] * 2
    assert spatial_affinity(maps[0]).shape == (1, 256, 256)


def test_affinity_is_a_cosine() -> None:
    features = random(2, 5, 3, 4)
    affinity = spatial_affinity(features)
    torch.testing.assert_close(torch.diagonal(affinity, dim1=1, dim2=2), torch.ones(2, 12))
    torch.testing.assert_close(affinity, affinity.transpose(1, 2))
    assert affinity.abs().max() <= 1 + 1e-6
    scaled = features * (0.1 + torch.rand(2, 1, 3, 4, generator=torch.Generator().manual_seed(3)))
    torch.testing.assert_close(spatial_affinity(scaled), affinity, rtol=1e-5, atol=1e-6)


def test_opposite_affinities_differ_by_two() -> None:
    student, teacher = torch.ones(1, 1, 1, 2), torch.ones(1, 2, 1, 2)
    teacher[..., 1] = -1
    # of four pairs the two off the diagonal are 1 and -1
    assert AffinityTransfer(PAIR)(seen(student), seen(teacher, "b")).item() == pytest.approx(1)


def test_pairs_are_averaged() -> None:
    student = Observed(torch.zeros(1, 3, 2, 2), {"a": random(1, 2, 4, 4), "c": random(1, 2, 4, 4, seed=1)})
    teacher = seen(random(1, 3, 4, 4, seed=2), "b")
    first, second = (AffinityTransfer([[tap, "b"]])(student, teacher) for tap in "ac")
    both = AffinityTransfer([["a", "b"], ["c", "b"]])(student, teacher)
    torch.testing.assert_close(both, (first + second) / 2)


def test_dead_places_are_finite_and_the_gradient_reaches_the_student_alone() -> None:
    student, teacher = random(1, 2, 3, 3), random(1, 4, 3, 3, seed=1).requires_grad_()
    student[..., 1, 1] = 0
    student.requires_grad_()
    value = AffinityTransfer(PAIR)(seen(student), seen(teacher, "b"))
    value.backward()
    assert value.isfinite()
    assert teacher.grad is None
    assert student.grad is not None
    assert student.grad.isfinite().all()
    assert student.grad.abs().sum() > 0
    assert list(AffinityTransfer(PAIR).parameters()) == []


def test_half_precision_is_compared_in_float32() -> None:
    half = [
        x.bfloat16().to(memory_format=torch.channels_last)
        for x in (random(2, 3, 32, 32), random(2, 3, 16, 16))
    ]
    term = AffinityTransfer(PAIR)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = term(seen(half[0]), seen(half[1], "b"))
    assert mixed.dtype == torch.float32
    whole = term(seen(half[0].float()), seen(half[1].float(), "b"))
    torch.testing.assert_close(mixed, whole, rtol=1e-6, atol=0)


def test_bad_settings_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^AffinityTransfer\.grid is 1, expected at least 2 places a side$"):
        AffinityTransfer(PAIR, grid=1)
    with pytest.raises(ValueError, match=r"AffinityTransfer\.pairs is \[\], expected at least one"):
        AffinityTransfer([])
