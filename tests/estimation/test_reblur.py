"""Zhuo & Sim's ratio against edges in closed form."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from sharpkd.estimation.reblur import LARGEST, ratio_to_sigma, reblur_sigma, sigma_to_ratio
from sharpkd.functional.slanted_edge import render_edge


def edge(sigma: float, angle: float = 0.0, size: int = 97) -> Tensor:
    pixels = torch.from_numpy(render_edge(size, angle, sigma, 40, 200)).float() / 255
    return pixels.expand(1, 3, -1, -1)


def test_the_equation() -> None:
    """At sigma = sigma0 the gradient falls by the square root of two; by hand for others."""
    ratios = torch.tensor([math.sqrt(2), math.sqrt(5), math.sqrt(1.25)], dtype=torch.float64)
    torch.testing.assert_close(
        ratio_to_sigma(ratios, 1.0), torch.tensor([1.0, 0.5, 2.0], dtype=torch.float64)
    )
    sigmas = torch.tensor([0.3, 1.0, 4.0], dtype=torch.float64)
    torch.testing.assert_close(ratio_to_sigma(sigma_to_ratio(sigmas, 1.5), 1.5), sigmas)
    assert float(ratio_to_sigma(torch.tensor(0.9), 1.0)) == pytest.approx(LARGEST, rel=1e-4)


@pytest.mark.parametrize(
    ("sigma", "tolerance"), [(0.8, 0.07), (1.2, 0.02), (1.6, 0.01), (2.4, 0.005), (3.0, 0.005)]
)
@pytest.mark.parametrize("angle", [0.0, 90.0])
def test_a_step_edge_of_known_blur(sigma: float, tolerance: float, angle: float) -> None:
    """An odd side: the edge runs through the middle of pixels."""
    assert float(reblur_sigma(edge(sigma, angle))) == pytest.approx(sigma, rel=tolerance)


@pytest.mark.parametrize(("sigma", "tolerance"), [(1.2, 0.06), (1.6, 0.04), (2.4, 0.02), (3.0, 0.01)])
@pytest.mark.parametrize("angle", [10.0, 45.0, 100.0])
def test_a_slanted_edge_passes_through_pixels_at_every_phase(
    sigma: float, tolerance: float, angle: float
) -> None:
    assert float(reblur_sigma(edge(sigma, angle))) == pytest.approx(sigma, rel=tolerance)


@pytest.mark.parametrize("sigma0", [0.7, 1.0, 2.0])
def test_the_further_blur_may_be_any(sigma0: float) -> None:
    assert float(reblur_sigma(edge(1.6), sigma0=sigma0)) == pytest.approx(1.6, rel=0.01)


def test_quantiles_choose_among_edges_and_batches_are_not_mixed() -> None:
    both = torch.cat([edge(1.0), edge(3.0).flip(-1)], dim=-1)  # flipped, so that no edge lies between them
    low, high = (float(reblur_sigma(both, quantile=quantile)) for quantile in (0.02, 0.98))
    assert low == pytest.approx(1.0, rel=0.04)
    assert high == pytest.approx(3.0, rel=0.01)
    batch = reblur_sigma(torch.cat([edge(1.0), edge(3.0)]))
    assert batch.tolist() == [float(reblur_sigma(edge(1.0))), float(reblur_sigma(edge(3.0)))]


def test_without_an_edge_there_is_no_answer() -> None:
    assert np.isnan(float(reblur_sigma(torch.full((1, 3, 40, 50), 0.5))))
