from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from sharpkd.functional.tiles import Span, halo_of, spans
from sharpkd.inference.tiling import even_spans, run_tiled

Ints = NDArray[np.int64]


@given(
    length=st.integers(1, 200),
    tile=st.integers(1, 80),
    stride=st.integers(1, 8),
    halo=st.integers(0, 5),
)
def test_spans_keep_every_pixel_once_and_start_on_the_grid(
    length: int, tile: int, stride: int, halo: int
) -> None:
    cut = list(spans(length, tile, halo * stride, stride))
    kept = [pixel for span in cut for pixel in range(span.keep_start, span.keep_stop)]
    assert kept == list(range(length))
    for span in cut:
        assert span.start % stride == 0
        assert span.stop % stride == 0 or span.stop == length
        assert span.start == max(0, span.keep_start - halo * stride)
        assert span.stop == min(length, span.keep_stop + halo * stride)


@given(
    length=st.integers(1, 200),
    tile=st.integers(1, 80),
    stride=st.integers(1, 8),
    halo=st.integers(0, 5),
)
def test_even_spans_read_as_much_each_and_enough(length: int, tile: int, stride: int, halo: int) -> None:
    halo *= stride
    cut = list(even_spans(length, tile, halo, stride))
    kept = [pixel for span in cut for pixel in range(span.keep_start, span.keep_stop)]
    assert kept == list(range(length))
    sizes = {-(-(span.stop - span.start) // stride) * stride for span in cut}
    assert len(sizes) == 1
    assert sizes.pop() <= -(-tile // stride) * stride + 2 * halo
    for span in cut:
        assert span.start % stride == 0
        assert span.start == 0 or span.keep_start - span.start >= halo
        assert span.stop == length or (span.stop % stride == 0 and span.stop - span.keep_stop >= halo)


def test_an_even_cut() -> None:
    cut = list(even_spans(35, 12, 4, 4))
    # Two tiles would have to read 24 each to cover 36, three 18.7, which the stride makes 20.
    assert cut == [Span(0, 20, 0, 16), Span(12, 32, 16, 28), Span(16, 35, 28, 35)]


def _cross_sum(radius: int, calls: list[tuple[int, ...]] | None = None):  # type: ignore[no-untyped-def]  # returns a closure
    """Sum over a square around each pixel, zeros outside; integers, so that equality is exact."""

    def function(image: Ints) -> Ints:
        if calls is not None:
            calls.append(image.shape)
        padded = np.pad(image, ((radius, radius), (radius, radius), (0, 0)))
        height, width, _ = image.shape
        windows = [
            padded[dy : dy + height, dx : dx + width]
            for dy in range(2 * radius + 1)
            for dx in range(2 * radius + 1)
        ]
        return np.sum(windows, axis=0)

    return function


def _random(height: int, width: int) -> Ints:
    return np.random.default_rng(0).integers(0, 1000, (height, width, 3))


@pytest.mark.parametrize("size", [(1, 1), (7, 50), (33, 41), (64, 64)])
@pytest.mark.parametrize("tile", [1, 8, 13, 100])
def test_tiled_filter_equals_the_whole_one(size: tuple[int, int], tile: int) -> None:
    image = _random(*size)
    function = _cross_sum(3)
    tiled = run_tiled(function, image, tile=tile, halo=halo_of(7, 1))
    np.testing.assert_array_equal(tiled, function(image))


def test_a_halo_one_pixel_short_shows() -> None:
    image = _random(33, 41)
    function = _cross_sum(3)
    assert (run_tiled(function, image, tile=8, halo=2) != function(image)).any()


def test_no_tile_reads_more_than_tile_and_halo() -> None:
    calls: list[tuple[int, ...]] = []
    run_tiled(_cross_sum(3, calls), _random(40, 60), tile=16, halo=4, stride=4)
    assert len(calls) == 2 * 4
    assert {shape[:2] for shape in calls} == {(16 + 2 * 4, 16 + 2 * 4)}


def test_enlarging_function_and_progress() -> None:
    image = _random(21, 18)
    seen: list[tuple[int, int]] = []
    tiled = run_tiled(
        lambda window: window.repeat(2, axis=0).repeat(2, axis=1),
        image,
        tile=8,
        halo=2,
        stride=2,
        scale=2,
        on_tile=lambda done, total: seen.append((done, total)),
    )
    np.testing.assert_array_equal(tiled, image.repeat(2, axis=0).repeat(2, axis=1))
    assert seen == [(i, 6) for i in range(1, 7)]


def test_tile_zero_means_one_call() -> None:
    calls: list[tuple[int, ...]] = []
    run_tiled(_cross_sum(1, calls), _random(40, 60), tile=0, halo=0)
    assert calls == [(40, 60, 3)]


@pytest.mark.parametrize(
    ("field", "stride", "halo"), [(1, 1, 0), (15, 2, 8), (31, 1, 15), (17, 4, 8), (19, 4, 12)]
)
def test_halo_is_half_the_field_rounded_up_to_the_stride(field: int, stride: int, halo: int) -> None:
    assert halo_of(field, stride) == halo


def test_bad_arguments() -> None:
    image = _random(4, 4)
    with pytest.raises(
        ValueError, match=re.escape("receptive_field must be odd and at least 1 (pixels), got 8")
    ):
        halo_of(8, 1)
    with pytest.raises(ValueError, match=re.escape("stride must be at least 1 (pixels), got 0")):
        halo_of(7, 0)
    with pytest.raises(ValueError, match="tile must be at least 1 pixel, got -3"):
        run_tiled(_cross_sum(1), image, tile=-3, halo=1)
    with pytest.raises(ValueError, match="halo must be a multiple of the stride 2, got 3"):
        run_tiled(_cross_sum(1), image, tile=2, halo=3, stride=2)
    with pytest.raises(ValueError, match=re.escape("a tile came back as (2, 4), expected (4, 4) (scale 1)")):
        run_tiled(lambda window: window[::2], image, tile=8, halo=0)
    with pytest.raises(ValueError, match=re.escape("cannot tile an image without pixels: shape (0, 4, 3)")):
        run_tiled(_cross_sum(1), image[:0], tile=2, halo=0)
