"""The known method to compare with: blur from the ratio of gradients before and after a known blur.

Zhuo & Sim, Defocus map estimation from a single image, Pattern Recognition 44 (2011) 1852-1858. A step edge
blurred by ``sigma`` and again by ``sigma0`` has at its middle the ratio of gradients (equations 4 and 5)

    ``R = sqrt((sigma² + sigma0²) / sigma²)``,  so that  ``sigma = sigma0 / sqrt(R² - 1)``.

There it makes a map of local blur; here one number per image is pooled from all strong edges.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sharpkd.estimation.features import edge_tiles
from sharpkd.estimation.gradients import CENTRAL_VARIANCE, central_differences, smooth, thin_edges

LARGEST = 10.0
"""Sigma in pixels of an edge that the further blur hardly changes: from there on the ratio tells nothing."""


def ratio_to_sigma(ratio: Tensor, sigma0: float) -> Tensor:
    """``sigma0 / sqrt(ratio² - 1)``, at most :data:`LARGEST` (ratios near or below 1), any shape."""
    least = math.sqrt(1 + (sigma0 / LARGEST) ** 2)
    return sigma0 / (ratio.clamp(min=least).square() - 1).sqrt()


def sigma_to_ratio(sigma: Tensor, sigma0: float) -> Tensor:
    """``sqrt((sigma² + sigma0²) / sigma²)`` for ``sigma > 0`` in pixels, any shape."""
    return (sigma.square() + sigma0**2).sqrt() / sigma


def reblur_sigma(
    image: Tensor, sigma0: float = 1.0, share: float = 0.01, quantile: float = 0.5, least: float = 2.0
) -> Tensor:
    """Blur of each image as Zhuo & Sim's ratio at its strongest edges gives it.

    A central difference averages the gradient over two pixels, which adds a third of a pixel² to the variance
    of every edge; that is taken off again.

    Args:
        image: ``(N, 3, H, W)`` float RGB in [0, 1], any H, W >= 1.
        sigma0: of the further blur, pixels.
        share: of the pixels that is looked at: the steepest after thinning.
        quantile: which of the edges' sigmas is taken, 0.5 for the median.
        least: grey levels per pixel below which nothing is an edge.

    Returns:
        ``(N,)`` sigma in pixels; NaN where there is no edge.
    """
    tiles = edge_tiles(image.float())
    slopes = central_differences(tiles)
    after = torch.hypot(*central_differences(smooth(tiles, sigma0))).flatten(1)
    edges = thin_edges(*slopes).flatten(1)
    steepest = edges.topk(max(1, round(share * edges.shape[1])))
    ratio = steepest.values / after.gather(1, steepest.indices).clamp(min=1e-6)
    variance = ratio_to_sigma(ratio, sigma0).square() - CENTRAL_VARIANCE
    sigma = variance.clamp(min=0).sqrt().where(steepest.values >= least, torch.nan)
    return sigma.nanquantile(quantile, dim=1)
