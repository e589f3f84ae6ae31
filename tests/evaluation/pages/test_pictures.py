"""Side-by-side pictures: the right place, the right pixels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from sharpkd.evaluation.pages.pictures import (
    FRAME,
    Tile,
    Window,
    most_changed_window,
    side_by_side,
    to_pixels,
)


def flat(value: int, size: tuple[int, int] = (60, 80)) -> np.ndarray:
    return np.full((*size, 3), value, np.uint8)


def test_to_pixels_rounds_and_clamps() -> None:
    image = torch.tensor([-0.5, 0.0, 0.4999 / 255, 0.5001 / 255, 1.0, 7.0]).view(1, 1, 6).expand(3, 1, 6)
    assert to_pixels(image)[0, :, 0].tolist() == [0, 0, 0, 1, 255, 255]
    assert to_pixels(torch.rand(3, 4, 5)).shape == (4, 5, 3)


@pytest.mark.parametrize("shape", [(1, 3, 4, 4), (1, 4, 4), (4, 4)])
def test_to_pixels_refuses_other_shapes(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"image has shape \(.*\), expected \(3, H, W\)"):
        to_pixels(torch.rand(shape))


def test_window_agrees_with_looking_everywhere() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        height, width, size = rng.integers(5, 20, 3)
        sharp, degraded = rng.integers(0, 256, (2, height, width, 3), dtype=np.uint8)
        found = most_changed_window(sharp, degraded, int(size))
        side = min(size, height, width)
        change = np.abs(sharp.astype(int) - degraded.astype(int)).sum(axis=2)
        sums = {
            (top, left): change[top : top + side, left : left + side].sum()
            for top in range(height - side + 1)
            for left in range(width - side + 1)
        }
        assert found.size == side
        assert sums[found.top, found.left] == max(sums.values())


def test_window_of_equal_images_and_its_cut() -> None:
    assert most_changed_window(flat(7), flat(7), 16) == Window(0, 0, 16)
    pixels = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)
    assert np.array_equal(Window(1, 2, 2).cut(pixels), pixels[1:3, 2:4])


def test_window_refuses_what_cannot_be_compared() -> None:
    with pytest.raises(ValueError, match=r"images differ in shape: \(60, 80, 3\) and \(60, 81, 3\)"):
        most_changed_window(flat(0), flat(0, (60, 81)), 8)
    with pytest.raises(ValueError, match="window size is 0, expected at least 1"):
        most_changed_window(flat(0), flat(0), 0)


def columns(sheet: Image.Image, count: int) -> list[np.ndarray]:
    pixels = np.asarray(sheet)
    return [pixels[:, 8 + i * 108 : 108 + i * 108] for i in range(count)]


def has(pixels: np.ndarray, colour: tuple[int, int, int]) -> float:
    return float((pixels == colour).all(axis=2).sum())


def test_every_tile_has_its_column_and_the_place_is_marked_in_all() -> None:
    sharp, degraded = flat(100), flat(100)
    degraded[20:30, 40:50] = 140
    sheet = side_by_side(
        [[Tile("sharp", sharp), Tile("input", degraded), Tile("net", flat(60))]], width=100, zoom_size=10
    )
    first, second, third = columns(sheet, 3)
    # 100x75 whole image and 100x100 zoomed place, less the frame of one pixel
    frame = 4 * 12
    assert has(first, (100,) * 3) == pytest.approx(7500 + 10000, abs=2 * frame)
    assert has(second, (140,) * 3) == pytest.approx(12.5**2 + 10000, abs=2 * frame)
    assert has(third, (60,) * 3) == pytest.approx(7500 + 10000, abs=2 * frame)
    counts = [has(part, FRAME) for part in (first, second, third)]
    assert counts[0] == counts[1] == counts[2] > 30
    rows, lefts = np.nonzero((second == FRAME).all(axis=2))
    # the place begins at 40 of 80 pixels across, which is 50 of the column's 100
    assert lefts.min() == pytest.approx(50, abs=1)
    assert rows.max() - rows.min() == pytest.approx(12, abs=1)


def test_captions_labels_and_titles_are_drawn() -> None:
    plain = np.asarray(side_by_side([[Tile("", flat(9))]], width=100))
    for tile, labels in [
        (Tile("t", flat(9)), []),
        (Tile("", flat(9), "30 dB"), []),
        (Tile("", flat(9)), ["name"]),
    ]:
        sheet = np.asarray(side_by_side([[tile]], labels, width=100))
        assert sheet.shape != plain.shape or not np.array_equal(sheet, plain)


def test_rows_of_different_sizes_and_no_zoom() -> None:
    rows = [[Tile("a", flat(10))], [Tile("a", flat(20, (30, 30))), Tile("b", flat(40, (30, 30)))]]
    sheet = side_by_side(rows, width=100, zoom_size=0)
    pixels = np.asarray(sheet)
    assert sheet.width == 8 + 2 * 108
    assert has(pixels, (10,) * 3) == 100 * 75
    assert has(pixels, (20,) * 3) == has(pixels, (40,) * 3) == 100 * 100


def test_one_pixel_images() -> None:
    sheet = side_by_side([[Tile("a", flat(10, (1, 1))), Tile("b", flat(20, (1, 1)))]], width=100)
    assert has(np.asarray(sheet), (10,) * 3) == 100 * 100


def test_nothing_to_draw() -> None:
    expected = "side_by_side needs at least one row, and at least one tile in each"
    empty: list[list[list[Tile]]] = [[], [[]]]
    for rows in empty:
        with pytest.raises(ValueError, match=expected):
            side_by_side(rows)


def test_tiles_of_a_row_have_one_size_and_rows_have_one_label() -> None:
    with pytest.raises(
        ValueError, match=r"tiles of row 'x' differ in shape: \[\(60, 80, 3\), \(60, 81, 3\)\]"
    ):
        side_by_side([[Tile("a", flat(0)), Tile("b", flat(0, (60, 81)))]], ["x"])
    with pytest.raises(ValueError, match="2 labels for 1 rows"):
        side_by_side([[Tile("a", flat(0))]], ["x", "y"])
