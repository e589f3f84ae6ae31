from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from scipy.stats import norm

from sharpkd.evaluation.baselines import unsharp_mask
from sharpkd.evaluation.benchmark.edges import measure_edges

SIGMA = 1.6


def test_leaving_the_edge_alone_gains_nothing() -> None:
    scores = measure_edges(lambda image: image, [0.8, 1.6])
    assert [score.sigma for score in scores] == [0.8, 1.6]
    for score in scores:
        assert score.acutance_gain == 1
        assert score.width_before == score.width_after == pytest.approx(2.563 * score.sigma, rel=0.01)
        assert score.overshoot == score.overshoot_before == pytest.approx(0, abs=0.05)


def test_blurring_more_loses_acutance() -> None:
    def blur(image: np.ndarray) -> np.ndarray:
        return np.rint(gaussian_filter(image.astype(float), (1.2, 1.2, 0))).astype(np.uint8)

    (score,) = measure_edges(blur, [SIGMA])
    assert score.acutance_gain == pytest.approx(SIGMA / np.hypot(SIGMA, 1.2), rel=0.01)
    assert score.overshoot == pytest.approx(0, abs=0.05)


def test_unsharp_mask_is_sharper_and_has_its_known_halo() -> None:
    (score,) = measure_edges(lambda image: unsharp_mask(image, 1.5, 2.0), [SIGMA])
    distance = np.linspace(0, 20, 20001)
    profile = 3 * norm.cdf(distance, scale=SIGMA) - 2 * norm.cdf(distance, scale=np.hypot(SIGMA, 1.5))
    # The two contrasts are 64 and 128 grey levels.
    assert score.overshoot == pytest.approx(96 * (profile.max() - 1), rel=0.05)
    width = 2 * distance[np.argmax(profile >= 0.9)]
    assert score.acutance_gain == pytest.approx(2.563 * SIGMA / width, rel=0.03)


def test_restored_edge_of_another_size_is_refused() -> None:
    message = r"^an edge of shape \(128, 128, 3\) was restored to shape \(64, 64, 3\)$"
    with pytest.raises(ValueError, match=message):
        measure_edges(lambda image: image[::2, ::2], [SIGMA])
