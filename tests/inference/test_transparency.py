from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.ndimage
from numpy.typing import NDArray

from sharpkd.inference.files import sharpened, side_by_side
from sharpkd.inference.image_io import ImageFile, Picture
from sharpkd.inference.transparency import with_hidden_filled, with_hidden_of


class Unsharp:
    """A sharpener whose halos are known: twice the picture less its Gaussian blur."""

    def picture(self, picture: Picture, strength: float = 1.0, on_tile: object = None) -> Picture:
        top = np.iinfo(picture.pixels.dtype).max
        wide = picture.pixels.astype(np.float64)
        sharp = 2 * wide - scipy.ndimage.gaussian_filter(wide, (2, 2, 0))
        pixels = np.clip(np.rint(sharp), 0, top).astype(picture.pixels.dtype)
        return Picture(pixels, picture.alpha, picture.grey)


def _disc(dtype: type[np.unsignedinteger]) -> tuple[NDArray[np.bool_], Picture]:
    """A red disc on transparent green, as some programs leave it."""
    rows, columns = np.mgrid[:61, :75]
    inside = (rows - 30) ** 2 + (columns - 37) ** 2 < 20**2
    top = np.iinfo(dtype).max
    red, green = np.array([top * 3 // 4, top // 8, 0]), np.array([0, top, top])
    pixels = np.where(inside[..., None], red, green).astype(dtype)
    return inside, Picture(pixels, np.where(inside, top, 0).astype(dtype))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_invisible_colours_make_no_halo(dtype: type[np.unsignedinteger]) -> None:
    inside, picture = _disc(dtype)
    naive = Unsharp().picture(picture).pixels
    result = sharpened(ImageFile((picture,), "PNG"), Unsharp()).pictures[0]
    assert (naive[inside] != picture.pixels[inside]).any(), "the halo that is to be avoided"
    np.testing.assert_array_equal(result.pixels, picture.pixels)
    assert result.alpha is picture.alpha


def test_filled_colours_are_those_of_the_neighbours() -> None:
    pixels = np.zeros((40, 64, 3), np.uint8)
    pixels[:, :32], pixels[:, 32:] = (200, 10, 10), (10, 10, 200)
    alpha = np.full((40, 64), 255, np.uint8)
    alpha[10:30, 4:28] = alpha[10:30, 36:60] = 0
    spoiled = pixels.copy()
    spoiled[alpha == 0] = (0, 255, 0)
    filled = with_hidden_filled(Picture(spoiled, alpha))
    np.testing.assert_array_equal(filled.pixels, pixels)


def test_nothing_is_filled_where_nothing_is_hidden_or_all_is() -> None:
    pixels = np.zeros((3, 5, 3), np.uint8)
    for alpha in (None, np.full((3, 5), 9, np.uint8), np.zeros((3, 5), np.uint8)):
        picture = Picture(pixels, alpha)
        assert with_hidden_filled(picture) is picture


def test_hidden_colours_stay_what_they_were_where_the_size_does() -> None:
    _, picture = _disc(np.uint8)
    other = Picture(np.full_like(picture.pixels, 7), picture.alpha)
    assert picture.alpha is not None
    restored = with_hidden_of(other, picture).pixels
    np.testing.assert_array_equal(restored[picture.alpha == 0], picture.pixels[picture.alpha == 0])
    assert (restored[picture.alpha > 0] == 7).all()
    larger = Picture(np.full((122, 150, 3), 7, np.uint8), np.zeros((122, 150), np.uint8))
    assert with_hidden_of(larger, picture) is larger


def test_progress_counts_all_pictures() -> None:
    class Tiled:
        def picture(
            self, picture: Picture, strength: float = 1.0, on_tile: Callable[[int, int], None] | None = None
        ) -> Picture:
            assert on_tile is not None
            for done in (1, 2):
                on_tile(done, 2)
            return picture

    seen: list[float] = []
    picture = Picture(np.zeros((3, 5, 3), np.uint8))
    sharpened(ImageFile((picture,) * 2, "TIFF"), Tiled(), 1.0, lambda done, total: seen.append(done / total))
    assert seen == [0.25, 0.5, 0.5, 0.75, 1.0, 1.0]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_before_and_after_stand_side_by_side(dtype: type[np.unsignedinteger], tmp_path: Path) -> None:
    left = Picture(np.full((4, 6, 3), 10, dtype), np.full((4, 6), 3, dtype))
    right = Picture(np.full((4, 6, 3), 20, dtype), np.full((4, 6), 5, dtype))
    pair = side_by_side(ImageFile((left,), "PNG"), ImageFile((right,), "PNG")).pictures[0]
    np.testing.assert_array_equal(pair.pixels, np.concatenate((left.pixels, right.pixels), axis=1))
    assert pair.alpha is not None
    np.testing.assert_array_equal(pair.alpha[0], [3] * 6 + [5] * 6)
    twice = Picture(np.full((8, 12, 3), 20, dtype))
    pair = side_by_side(ImageFile((left,), "PNG"), ImageFile((twice,), "PNG")).pictures[0]
    assert pair.pixels.shape == (8, 24, 3)
    assert (pair.pixels[:, :12] == 10).all()
    assert pair.pixels.dtype == dtype
