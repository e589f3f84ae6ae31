"""Smoothing and gradients, held by scipy and numpy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.ndimage
import torch

from sharpkd.estimation.gradients import central_differences, gradient_magnitude_at, smooth, thin_edges


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(0).uniform(0, 255, (2, 3, 17, 23))


@pytest.mark.parametrize("sigma", [0.7, 1.0, 2.4])
def test_smoothing_is_scipys(pixels: np.ndarray, sigma: float) -> None:
    expected = scipy.ndimage.gaussian_filter(
        pixels,
        (0, 0, sigma, sigma),
        mode="nearest",
        radius=(0, 0, math.ceil(3 * sigma), math.ceil(3 * sigma)),
    )
    np.testing.assert_allclose(smooth(torch.from_numpy(pixels), sigma).numpy(), expected, atol=1e-9)


def test_one_pixel_is_left_as_it_is_by_smoothing() -> None:
    torch.testing.assert_close(smooth(torch.tensor([[7.0]]), 3.0), torch.tensor([[7.0]]))


def test_differences_are_numpys_inside(pixels: np.ndarray) -> None:
    along_x, along_y = central_differences(torch.from_numpy(pixels))
    np.testing.assert_allclose(along_x.numpy()[..., 1:-1], np.gradient(pixels, axis=-1)[..., 1:-1])
    np.testing.assert_allclose(along_y.numpy()[..., 1:-1, :], np.gradient(pixels, axis=-2)[..., 1:-1, :])


def test_magnitudes_at_chosen_pixels_are_those_of_the_whole_image(pixels: np.ndarray) -> None:
    image = torch.from_numpy(pixels)
    everywhere = torch.arange(image[0].numel()).expand(2, -1)
    whole = torch.hypot(*central_differences(image)).flatten(1)
    torch.testing.assert_close(gradient_magnitude_at(image, everywhere), whole)


def test_a_blurred_edge_is_thinned_to_its_steepest_line() -> None:
    ramp = torch.tensor([0.0, 0.0, 1.0, 4.0, 9.0, 12.0, 13.0, 13.0])
    columns = ramp.expand(6, -1)
    for image, axis in ((columns, -1), (columns.T.contiguous(), -2)):
        thin = thin_edges(*central_differences(image))
        assert (thin > 0).nonzero()[:, axis].unique().tolist() == [3, 4]
        assert thin.max() == 4
