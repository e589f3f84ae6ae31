"""What stands still is sharpened once; what moves, however slowly, is sharpened anew."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from skimage.data import chelsea
from skimage.metrics import peak_signal_noise_ratio

from sharpkd.data.degradation_maths import gaussian_blur
from sharpkd.inference.sharpener import Sharpener
from sharpkd.inference.video.pixels import Answers
from sharpkd.inference.video.steady import BLOCK, CALM, Steady, changed_blocks

Frame = NDArray[Any]


class Doubled:
    """Doubles the contrast around the middle, and counts how often."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, frame: Frame) -> Frame:
        self.calls += 1
        top = np.iinfo(frame.dtype).max
        return np.clip(2.0 * frame - top // 2, 0, top).astype(frame.dtype)


def grey(height: int = 70, width: int = 93, dtype: Any = np.uint8) -> Frame:
    plane = np.random.default_rng(0).integers(90, 150, (height, width)).astype(dtype)
    return plane * np.asarray(257 if dtype == np.uint16 else 1, dtype)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3])
def test_what_changes_too_little_changes_as_the_video_does(dtype: Any, channels: int) -> None:
    first = grey(dtype=dtype) if channels == 1 else np.stack([grey(dtype=dtype)] * 3, axis=2)
    unit = int(np.iinfo(dtype).max) // 255
    second = first + np.asarray(unit, dtype)
    steady, sharpen = Steady(), Doubled()
    shown = steady(first, sharpen)
    np.testing.assert_array_equal(shown, Doubled()(first))
    again = steady(second, sharpen)
    assert again.dtype == dtype
    np.testing.assert_array_equal(again.astype(int) - shown, np.full(first.shape, unit))
    assert sharpen.calls == 1


def test_a_block_that_changed_is_sharpened_anew_with_its_neighbours_alone() -> None:
    first = grey()
    second = first + np.uint8(1)
    second[30, 50] += 100
    steady, sharpen = Steady(), Doubled()
    shown = steady(first, sharpen)
    found = steady(second, sharpen)
    assert sharpen.calls == 2
    anew = np.zeros(first.shape, bool)
    anew[2 * BLOCK : 5 * BLOCK, 5 * BLOCK : 8 * BLOCK] = True
    np.testing.assert_array_equal(found[anew], Doubled()(second)[anew])
    np.testing.assert_array_equal(found[~anew], shown[~anew] + 1)
    # from there on it is compared with what it was then
    np.testing.assert_array_equal(steady(second, sharpen), found)
    assert sharpen.calls == 2


def test_slow_changes_add_up() -> None:
    sharpen, steady = Doubled(), Steady()
    frames = [grey() + np.uint8(step) for step in range(12)]
    found = [steady(frame, sharpen) for frame in frames]
    # by 0, 1 and 2 levels nothing is new, and then by 3
    assert sharpen.calls == 4
    for last in (0, 3, 6, 9):
        np.testing.assert_array_equal(found[last], Doubled()(frames[last]))


def test_nothing_leaves_the_range() -> None:
    dark = np.full((16, 16), 3, np.uint8)
    steady = Steady()
    steady(dark, lambda frame: frame - np.uint8(3))
    np.testing.assert_array_equal(steady(dark - np.uint8(2), Doubled()), np.zeros((16, 16)))
    steady, light = Steady(), np.full((16, 16), 253, np.uint8)
    steady(light, lambda frame: frame + np.uint8(2))
    np.testing.assert_array_equal(steady(light + np.uint8(2), Doubled()), np.full((16, 16), 255))


@pytest.mark.parametrize("jump", [18, 60, 255])
@pytest.mark.parametrize("channels", [1, 3])
def test_one_sample_that_jumps_moves_its_block(jump: int, channels: int) -> None:
    first = np.zeros((64, 72, channels), np.uint8)
    second = first.copy()
    second[28, 35, channels // 2] = jump
    if channels == 1:
        first, second = first[..., 0], second[..., 0]
    expected = np.zeros((8, 9), bool)
    expected[2:5, 3:6] = True
    np.testing.assert_array_equal(changed_blocks(second, first), expected)
    np.testing.assert_array_equal(changed_blocks(first, second), expected)


def test_a_block_is_calm_by_its_mean_square() -> None:
    """Against the definition, for noise of growing strength; blocks at the ends are smaller."""
    generator = np.random.default_rng(1)
    first = np.full((83, 101), 128, np.uint8)
    strength = np.linspace(0, 6, first.size).reshape(first.shape)
    second = np.clip(first + generator.normal(0, strength), 0, 255).round().astype(np.uint8)
    square = (second.astype(float) - first) ** 2
    rows, columns = (range(0, side, BLOCK) for side in first.shape)
    mean = np.array([[square[y : y + BLOCK, x : x + BLOCK].mean() for x in columns] for y in rows])
    near = np.pad(mean, 1)
    highest = np.max([near[y : y + len(mean), x : x + mean.shape[1]] for y in range(3) for x in range(3)], 0)
    found = changed_blocks(second, first)
    # parts of a square are rounded, and so is their mean
    sure = abs(highest / CALM**2 - 1) > 0.4
    assert sure.mean() > 0.2
    assert 0.1 < found.mean() < 0.9
    np.testing.assert_array_equal(found[sure], highest[sure] > CALM**2)


@pytest.mark.parametrize("moves", [0.0, 0.25, 1.0, 3.0])
def test_the_students_film_is_not_worse_for_it(moves: float) -> None:
    """At most 0.2 dB on a slow pan over a photograph; where it stands still it flickers as its noise does."""
    sharpen = Sharpener("fast", threads=1).for_scene()
    steady, alone = Answers(False, steady=True), Answers(False, steady=False)
    noise = np.random.default_rng(0)
    photograph = np.ascontiguousarray(chelsea()[40:260])
    kept: list[tuple[Frame, Frame, Frame]] = []
    ours, theirs = [], []
    for index in range(8):
        left = moves * index
        cut, part = photograph[:, int(left) : int(left) + 320], left % 1
        beside = photograph[:, int(left) + 1 : int(left) + 321]
        sharp = np.rint((1 - part) * cut + part * beside).astype(np.uint8)
        blurred = gaussian_blur(sharp, 1.2) + noise.normal(0, 1.0, sharp.shape)
        frame = np.clip(np.rint(blurred), 0, 255).astype(np.uint8)
        one, other = steady(frame, sharpen), alone(frame, sharpen)
        kept.append((frame, one, other))
        ours.append(peak_signal_noise_ratio(sharp, one))
        theirs.append(peak_signal_noise_ratio(sharp, other))
    assert np.mean(ours) > np.mean(theirs) - 0.2
    if moves == 0:
        frames, films, before = (np.stack([row[k] for row in kept]).astype(float) for k in range(3))
        flicker = [abs(np.diff(film, axis=0)).mean() for film in (frames, films, before)]
        assert flicker[1] <= flicker[0] < flicker[2]


def test_a_film_that_stands_still_is_computed_once() -> None:
    answers, sharpen = Answers(False, steady=True), Doubled()
    frame = grey()
    first = answers(frame, sharpen)
    for _ in range(4):
        np.testing.assert_array_equal(answers(frame.copy(), sharpen), first)
    assert sharpen.calls == 1


def test_fields_stand_still_by_themselves() -> None:
    """The two fields of a frame differ by much; each is the same in the next frame but for the noise."""
    frames = [grey(71, 80) for _ in range(3)]
    for number, frame in enumerate(frames):
        frame[1::2] += np.uint8(20)
        frame += np.uint8(number % 2)
    answers, sharpen = Answers(True, steady=True), Doubled()
    found = [answers(frame, sharpen).astype(int) for frame in frames]
    assert sharpen.calls == 2
    np.testing.assert_array_equal(found[1] - found[0], np.ones(found[0].shape))
    np.testing.assert_array_equal(found[2], found[0])
    np.testing.assert_array_equal(found[0][::2], Doubled()(frames[0][::2]))
    np.testing.assert_array_equal(found[0][1::2], Doubled()(frames[0][1::2]))


def test_an_answer_of_another_size_is_refused_as_without_it() -> None:
    with pytest.raises(ValueError, match="a video keeps its size and type"):
        Answers(False, steady=True)(grey(), lambda frame: frame[:-1])
