"""One measurement a scene: cuts and black beginnings are found, movement and noise are none."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from skimage.data import astronaut, chelsea

from sharpkd.data.degradation_maths import gaussian_blur
from sharpkd.inference.scene import BLOCKS, SAMPLES, Scenes, block_means
from sharpkd.inference.sharpener import Sharpener

Frame = NDArray[np.uint8]


@pytest.fixture(scope="module")
def sharpener() -> Sharpener:
    return Sharpener("fast", threads=1)


def first_scene(index: int) -> Frame:
    """A pan of four pixels a frame, with noise of its own in every frame."""
    whole = gaussian_blur(np.ascontiguousarray(astronaut()[100:292]), 1.5)
    moved = whole[:, 4 * index : 4 * index + 240]
    noise = np.random.default_rng(index).normal(0, 2, moved.shape)
    return np.clip(moved + noise, 0, 255).round().astype(np.uint8)


def second_scene(index: int) -> Frame:
    return gaussian_blur(np.ascontiguousarray(chelsea()[20:212, 3 * index : 240 + 3 * index]), 0.9)


def test_every_scene_is_measured_once_in_its_first_frame(sharpener: Sharpener) -> None:
    restore = sharpener.for_scene(0.7)
    assert isinstance(restore, Scenes)
    frames = [*map(first_scene, range(4)), *map(second_scene, range(4)), first_scene(9)]
    found = [restore(frame) for frame in frames]
    assert restore.measured == 3
    estimates = [sharpener.measure(frames[first]) for first in (0, 4, 8)]
    for number, (frame, result) in enumerate(zip(frames, found, strict=True)):
        estimate = estimates[number // 4]
        np.testing.assert_array_equal(result, sharpener(frame, 0.7, estimate=estimate))
    # and that differs from what the frame itself would say
    assert (found[1] != sharpener(frames[1], 0.7)).any()


def test_a_black_beginning_is_not_what_the_film_is_sharpened_by(sharpener: Sharpener) -> None:
    restore = sharpener.for_scene()
    black = np.zeros((192, 240, 3), np.uint8)
    faded = [np.zeros_like(black), (first_scene(0) * 0.08).astype(np.uint8)]
    for frame in (black, black):
        np.testing.assert_array_equal(restore(frame), frame)
    assert restore.measured == 2
    for frame in faded:
        restore(frame)
    film = restore(first_scene(1))
    np.testing.assert_array_equal(film, sharpener(first_scene(1), estimate=sharpener.measure(first_scene(1))))


def test_luma_and_another_size_are_frames_too(sharpener: Sharpener) -> None:
    restore = sharpener.for_scene()
    luma = np.ascontiguousarray(first_scene(0)[..., 1])
    for frame in (luma, luma, luma[:100, :90].copy(), luma[:100, :90].copy()):
        restore(frame)
    assert restore.measured == 2


def test_block_means_are_means_of_evenly_placed_pixels() -> None:
    side = BLOCKS * SAMPLES
    plane = np.random.default_rng(0).integers(0, 65536, (side, side), dtype=np.uint16)
    expected = plane.reshape(BLOCKS, SAMPLES, BLOCKS, SAMPLES).astype(float).mean((1, 3)) / 65535
    np.testing.assert_allclose(block_means(plane), expected, rtol=1e-5)
    colour = np.stack([plane * 0, plane, plane * 0], axis=2)
    np.testing.assert_array_equal(block_means(colour), block_means(plane))
    assert block_means(np.full((1, 3), 51, np.uint8)) == pytest.approx(0.2)
