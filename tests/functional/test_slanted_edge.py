from __future__ import annotations

import re

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.stats import norm

from sharpkd.functional.slanted_edge import (
    GAUSSIAN_WIDTH,
    EdgeProfile,
    edge_profile,
    edge_width,
    overshoot,
    render_edge,
)

SIGMA, RADIUS, AMOUNT = 1.6, 1.5, 2.0


def unsharp_profile(distance: float | np.ndarray) -> np.ndarray:
    """A step from 0 to 1, blurred, then unsharp masked with a Gaussian."""
    wider = np.hypot(SIGMA, RADIUS)
    return (1 + AMOUNT) * norm.cdf(distance, scale=SIGMA) - AMOUNT * norm.cdf(distance, scale=wider)


def unsharp_edge(angle: float, dark: float, bright: float) -> np.ndarray:
    edges = [render_edge(128, angle, sigma, dark, bright) for sigma in (SIGMA, np.hypot(SIGMA, RADIUS))]
    return (1 + AMOUNT) * edges[0] - AMOUNT * edges[1]


def test_rendered_edge_is_the_normal_distribution_along_its_normal() -> None:
    upright = render_edge(9, 0, 2.0, 10, 110)
    expected = 10 + 100 * norm.cdf(np.arange(-4, 5), scale=2)
    np.testing.assert_allclose(upright, np.tile(expected, (9, 1)), atol=1e-9)
    np.testing.assert_allclose(render_edge(9, 90, 2.0, 10, 110), upright.T, atol=1e-9)
    # Pixel (7, 6) of a 9×9 image at 30 degrees: 2 to the right of the middle, 3 below.
    turned = render_edge(9, 30, 2.0, 10, 110)[7, 6]
    assert turned == pytest.approx(10 + 100 * norm.cdf((2 * np.sqrt(3) / 2 + 3 * 0.5) / 2))


def test_edge_without_blur_is_a_step() -> None:
    np.testing.assert_array_equal(render_edge(5, 0, 0, 20, 40)[2], [20, 20, 30, 40, 40])


@pytest.mark.parametrize("angle", [5, 12, 20, 84])
@pytest.mark.parametrize("sigma", [0.8, 1.6, 3.0])
def test_blurred_edge_has_the_gaussian_width_and_no_overshoot(angle: float, sigma: float) -> None:
    profile = edge_profile(render_edge(128, angle, sigma, 64, 192), angle, reach=24)
    assert profile.plateaus == pytest.approx((64, 192), abs=0.01)
    assert edge_width(profile) == pytest.approx(2 * norm.ppf(0.9) * sigma, rel=0.01)
    assert edge_width(profile) == pytest.approx(GAUSSIAN_WIDTH * sigma, rel=0.01)
    assert overshoot(profile) == pytest.approx(0, abs=0.01)


@pytest.mark.parametrize("angle", [6, 84])
def test_unsharp_mask_has_its_known_overshoot_and_width(angle: float) -> None:
    distance = np.linspace(0, 24, 24001)
    halo = unsharp_profile(distance).max() - 1
    width = 2 * brentq(lambda d: unsharp_profile(d) - 0.9, 0, distance[unsharp_profile(distance).argmax()])
    profile = edge_profile(unsharp_edge(angle, 64, 192), angle, reach=24)
    # Read over half a pixel, a halo is a little lower than its peak.
    assert overshoot(profile) == pytest.approx(128 * halo, rel=0.02)
    assert 128 * halo > 10
    assert edge_width(profile) == pytest.approx(width, rel=0.01)


def test_overshoot_is_the_larger_halo() -> None:
    level = np.repeat([10.0, 110.0], 40)
    level[36:40], level[40:44] = 4, 113
    assert overshoot(EdgeProfile(np.arange(-40, 40) / 4, level)) == 6


def test_width_is_interpolated_and_ignores_ripples() -> None:
    position = np.arange(-20, 21.0)
    level = np.clip(50 + 10 * position, 0, 100)
    level[30], level[10] = 85, 15
    assert edge_width(EdgeProfile(position, level)) == pytest.approx(8)


def test_margin_keeps_border_pixels_out() -> None:
    image = render_edge(64, 6, 1.0, 0, 100)
    clean = edge_profile(image, 6, reach=10, margin=8)
    image[:8], image[-8:], image[:, :8], image[:, -8:] = 255, 255, 255, 255
    np.testing.assert_array_equal(edge_profile(image, 6, reach=10, margin=8).level, clean.level)


def test_edge_along_the_grid_is_refused() -> None:
    message = re.escape(
        "no pixel lies -10 pixels from an edge at 0 degrees in an image of shape (64, 64) with a margin of "
        "4; turn the edge (5 degrees are usual), or shorten the reach of 10 pixels"
    )
    with pytest.raises(ValueError, match=f"^{message}$"):
        edge_profile(render_edge(64, 0, 1, 0, 100), 0, reach=10, margin=4)


def test_reach_beyond_the_image_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^no pixel lies -40 pixels from an edge at 5 degrees"):
        edge_profile(render_edge(64, 5, 1, 0, 100), 5, reach=40)


def test_colour_image_is_refused() -> None:
    message = r"^an edge profile needs an \(H, W\) image of one channel, got shape \(8, 8, 3\)$"
    with pytest.raises(ValueError, match=message):
        edge_profile(np.zeros((8, 8, 3)), 5, reach=2)


@pytest.mark.parametrize(("dark", "bright"), [(100, 100), (192, 64)])
def test_no_edge_is_refused(dark: float, bright: float) -> None:
    profile = edge_profile(render_edge(64, 5, 1, dark, bright), 5, reach=10)
    message = (
        rf"^there is no edge to measure: the profile goes from {dark:.2f} to {bright:.2f} grey levels, "
        r"expected a rise of at least 1$"
    )
    with pytest.raises(ValueError, match=message):
        edge_width(profile)
