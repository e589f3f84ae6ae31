"""Power by frequency against closed forms, and the peaks of interpolation on pictures that were enlarged."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from sharpkd.data.degradation_maths import jpeg, low_res
from sharpkd.estimation.features import edge_tiles
from sharpkd.estimation.spectrum import BANDS, SPECTRUM_FEATURES, WINDOW, spectrum_features

MIDDLES = (2 * np.arange(BANDS) + 1.5) / WINDOW
"""Cycles per pixel."""


def power_of(lines: np.ndarray) -> np.ndarray:
    found = spectrum_features(torch.from_numpy(lines.astype(np.float32))[None, None])
    return found[0, :BANDS].exp().numpy()


def noise(side: int = 512) -> np.ndarray:
    return np.random.default_rng(0).normal(0, 10, (side, side))


def test_white_noise_has_its_variance_in_every_band() -> None:
    # but in the lowest, from which the windows' means are taken
    np.testing.assert_allclose(power_of(noise())[1:], 100, rtol=0.03)


def test_a_blur_takes_from_each_band_what_its_transfer_function_says() -> None:
    sigma = 1.1
    blurred = gaussian_filter(noise(), sigma, mode="wrap", truncate=8)
    # along y the blur averages over the frequencies
    across = 1 / (2 * math.sqrt(math.pi) * sigma)
    expected = 100 * across * np.exp(-4 * math.pi**2 * sigma**2 * MIDDLES**2)
    np.testing.assert_allclose(power_of(blurred)[1:7], expected[1:7], rtol=0.12)


def tiles_of(image: np.ndarray) -> Tensor:
    return edge_tiles(torch.from_numpy(image.transpose(2, 0, 1).copy())[None].float() / 255)


@pytest.fixture(scope="module")
def photograph() -> np.ndarray:
    from skimage.data import astronaut

    return np.asarray(astronaut()[:504, :504])


@pytest.mark.parametrize(("factor", "place"), [(4, 0), (3, 1), (2, 2)])
def test_enlarging_leaves_a_peak_of_its_period(photograph: np.ndarray, factor: int, place: int) -> None:
    before = spectrum_features(tiles_of(photograph))[0, BANDS:]
    after = spectrum_features(tiles_of(low_res(photograph, factor)))[0, BANDS:]
    assert before.max() < 1
    assert after[place] > before[place] + 1


def test_a_fraction_shows_off_the_grid_of_jpeg_and_jpeg_does_not(photograph: np.ndarray) -> None:
    before, enlarged, compressed = (
        float(spectrum_features(tiles_of(image))[0, -1])
        for image in (photograph, low_res(photograph, 2.4), jpeg(photograph, 40))
    )
    assert enlarged > before + 0.7
    assert abs(compressed - before) < 0.5


def test_small_tiles_have_finite_numbers_and_no_peaks() -> None:
    found = spectrum_features(100 * torch.rand(2, 1, 5, 3))
    assert found.shape == (2, SPECTRUM_FEATURES)
    assert found.isfinite().all()
    assert not found[:, BANDS:].any()
