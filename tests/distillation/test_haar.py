from __future__ import annotations

import numpy as np
import pytest
import torch

from sharpkd.distillation.haar import haar_bands


def haar_matrix(size: int) -> np.ndarray:
    """One level of the orthonormal transform of a line: its sums, then its differences."""
    step = np.eye(size // 2)
    return np.vstack([np.kron(step, [1, 1]), np.kron(step, [1, -1])]) / np.sqrt(2)


def images(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_two_levels_equal_the_matrices() -> None:
    image = images(2, 3, 8, 12)
    rest = image.numpy()
    expected = []
    for _ in range(2):
        height, width = rest.shape[-2:]
        whole = haar_matrix(height) @ rest @ haar_matrix(width).T
        top, left = height // 2, width // 2
        # rows of differences first: what changes downwards, then to the right, then along both
        expected += [whole[..., top:, :left], whole[..., :top, left:], whole[..., top:, left:]]
        rest = whole[..., :top, :left]
    bands = haar_bands(image, 2)
    assert len(bands) == 7
    for band, reference in zip(bands, [*expected, rest], strict=True):
        np.testing.assert_allclose(band.numpy(), reference, atol=1e-12)


@pytest.mark.parametrize("levels", [0, 1, 3])
def test_the_sum_of_squares_is_kept(levels: int) -> None:
    image = images(1, 3, 16, 24)
    bands = haar_bands(image, levels)
    assert sum(band.square().sum().item() for band in bands) == pytest.approx(image.square().sum().item())
    assert sum(band.numel() for band in bands) == image.numel()


def test_no_level_is_the_image_itself() -> None:
    image = images(1, 3, 5, 7)
    (band,) = haar_bands(image, 0)
    assert band is image


def test_odd_sides_repeat_the_last_row_and_column() -> None:
    image = images(1, 1, 5, 7)
    padded = torch.cat([image, image[..., -1:, :]], dim=-2)
    padded = torch.cat([padded, padded[..., -1:]], dim=-1)
    for band, reference in zip(haar_bands(image, 2), haar_bands(padded, 2), strict=True):
        assert band.equal(reference)
    assert [tuple(band.shape[-2:]) for band in haar_bands(image, 2)] == [(3, 4)] * 3 + [(2, 2)] * 4
