"""The numbers that an estimator looks at."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage.color import rgb2ycbcr

from sharpkd.data.crops import to_tensor
from sharpkd.data.degradation_maths import jpeg
from sharpkd.estimation.features import BLOCK, FEATURES, PIXELS, TILE, blur_features, edge_tiles

BLOCKS = slice(2, 4)


@pytest.mark.parametrize(
    "size", [(1, 1), (1, 2), (2, 1), (3, 5), (1, 400), (400, 1), (7, 9), (19, 18), (64, 65), (129, 1000)]
)
@pytest.mark.parametrize("content", ["noise", "black", "white"])
def test_any_size_gives_finite_numbers(size: tuple[int, int], content: str) -> None:
    image = {
        "noise": torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0)),
        "black": torch.zeros(2, 3, *size),
        "white": torch.ones(2, 3, *size),
    }[content]
    found = blur_features(image)
    assert found.shape == (2, FEATURES)
    assert found.isfinite().all()


def test_a_small_image_is_looked_at_whole(photograph: np.ndarray) -> None:
    crop = photograph[:200, :210]
    expected = rgb2ycbcr(crop)[..., 0]
    np.testing.assert_allclose(edge_tiles(to_tensor(crop))[0, 0], expected, atol=1e-3)


@pytest.mark.parametrize("size", [(1100, 1500), (2000, 3000), (128, 40000), (3, 200000), (200000, 1)])
def test_the_pixels_looked_at_are_bounded(size: tuple[int, int]) -> None:
    tiles = edge_tiles(torch.zeros(1, 3, *size))
    assert tiles.numel() <= PIXELS
    assert tiles.numel() >= 0.9 * PIXELS


def test_the_tiles_with_edges_are_chosen() -> None:
    """Six of 40 tiles are textured; each has a level of its own."""
    image = torch.full((1, 3, 5 * TILE, 8 * TILE), 0.5)
    textured = [(0, 0), (0, 7), (1, 3), (2, 2), (4, 0), (4, 6)]
    generator = torch.Generator().manual_seed(0)
    for number, (row, column) in enumerate(textured):
        part = 0.1 * number + 0.3 * torch.rand(TILE, TILE, generator=generator)
        image[..., row * TILE : (row + 1) * TILE, column * TILE : (column + 1) * TILE] = part
    tiles = edge_tiles(image)
    assert tiles.shape == (1, 6, TILE, TILE)
    expected = [16 + 219 * (0.1 * number + 0.15) for number in range(6)]
    torch.testing.assert_close(tiles.mean((2, 3))[0], torch.tensor(expected), atol=1.0, rtol=0)


def test_tiles_keep_the_phase_of_jpegs_blocks() -> None:
    """In an image whose level is its column modulo eight, every tile begins with level 0."""
    wide = 1000
    image = ((torch.arange(wide) % BLOCK) / BLOCK).expand(1, 3, 600, -1)
    tiles = edge_tiles(image)
    torch.testing.assert_close(tiles[..., 0], torch.full_like(tiles[..., 0], 16.0))


def test_each_image_of_a_batch_has_its_own_numbers(photograph: np.ndarray) -> None:
    image = to_tensor(photograph)
    both = blur_features(torch.cat([image, image.flip(-1) * 0.5]))
    torch.testing.assert_close(both[:1], blur_features(image))
    torch.testing.assert_close(both[1:], blur_features(image.flip(-1) * 0.5))


def test_jpegs_blocks_are_seen_wherever_a_crop_begins(photograph: np.ndarray) -> None:
    compressed = jpeg(photograph, 30)
    for image in (compressed, compressed[3:, 5:]):
        blocky = blur_features(to_tensor(np.ascontiguousarray(image[:300, :300])))[0, BLOCKS]
        smooth = blur_features(to_tensor(np.ascontiguousarray(photograph[:300, :300])))[0, BLOCKS]
        assert (blocky > smooth + 0.15).all()
