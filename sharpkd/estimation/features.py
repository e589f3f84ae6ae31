"""Numbers that tell how blurred and how noisy an image is.

Two families of them carry the blur. At an edge, the ratio of the gradients before and after a further known
blur depends on the width of the edge alone (Zhuo & Sim, Defocus map estimation from a single image, Pattern
Recognition 44, 2011); its quantiles over the strongest edges are robust against edges that were soft in the
scene. And a Gaussian blur takes energy from each band of a difference-of-Gaussian pyramid by a factor that
depends on sigma. Noise shows in the finest bands where the image is calm: in low quantiles of their mean
absolute value over cells of eight pixels. JPEG shows as steps on a grid of eight pixels.
What the spectrum adds stands in `sharpkd.estimation.spectrum`.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from sharpkd.estimation.gradients import central_differences, gradient_magnitude_at, smooth, thin_edges
from sharpkd.estimation.spectrum import SPECTRUM_FEATURES, spectrum_features
from sharpkd.functional.colour import rgb_to_y

TILE = 128
PIXELS = 6 * TILE * TILE
"""At most so many pixels are looked at: a larger image is represented by its tiles with most edges."""
OCTAVES = 3
"""Each octave is the one before, smoothed by one pixel and halved."""
SCALES = (0.7, 1.0, 1.4, 2.0)
"""Standard deviations of the smoothed copies of an octave, in its pixels."""
STRONGEST = (0.005, 0.03)
"""The shares of an octave's pixels that count as its strongest edges."""
QUANTILES = (0.1, 0.5, 0.9)
CALM = (0.02, 0.1, 0.5)
"""Quantiles over cells of eight pixels: the calmest of them show the noise alone."""
BLOCK = 8
LARGEST_STEP = 8.0
"""Grey levels. Larger jumps are edges of the scene, and count as this much."""
FLOOR = 0.05
"""Grey levels that are added before a logarithm: below it there is only rounding."""
OF_OCTAVE = len(STRONGEST) * (1 + len(SCALES) * len(QUANTILES)) + len(SCALES) + 2 * len(CALM)
FEATURES = 4 + OCTAVES * OF_OCTAVE + SPECTRUM_FEATURES
"""How many numbers :func:`blur_features` gives."""
SAMPLED_ROWS = 8
"""Every so many rows are looked at to choose tiles."""


def edge_tiles(image: Tensor, pixels: int = PIXELS, tile: int = TILE) -> Tensor:
    """The parts of an image that are looked at: all of a small one, the steepest tiles of a large one.

    Tiles lie on a grid around the middle, begin at multiples of eight pixels (JPEG's blocks keep their
    phase), and are chosen by the mean squared difference of neighbouring pixels of the green channel in every
    eighth row, so that choosing costs little.

    Args:
        image: ``(N, 3, H, W)``.
        pixels: at most so many are looked at, unless a single tile has more.
        tile: side in pixels.

    Returns:
        ``(N, K, h, w)`` luma in grey levels, studio swing (16 to 235): ``K = 1`` and the image's size where
        that has at most ``pixels`` pixels.
    """
    height, width = image.shape[-2:]
    if height * width <= pixels:
        return rgb_to_y(image) * 255
    tall, wide = min(tile, height), min(tile, width)
    rows, columns = height // tall, width // wide
    top = (height - rows * tall) // 2 // BLOCK * BLOCK
    left = (width - columns * wide) // 2 // BLOCK * BLOCK
    inner = image[..., top : top + rows * tall, left : left + columns * wide]
    lines = inner[:, 1, ::SAMPLED_ROWS]
    below = inner[:, 1, 1::SAMPLED_ROWS]
    steep = torch.zeros_like(lines)
    steep[..., 1:] = (lines[..., 1:] - lines[..., :-1]).square()
    steep[:, : below.shape[1]] += (below - lines[:, : below.shape[1]]).square()
    by_column = steep.reshape(*steep.shape[:2], columns, wide).sum(-1)
    # Rows of tiles need not begin at a sampled line.
    owner = torch.arange(steep.shape[1], device=image.device) * SAMPLED_ROWS // tall
    score = torch.zeros(len(image), rows, columns, device=image.device, dtype=image.dtype)
    score.index_add_(1, owner, by_column)
    count = max(1, min(rows * columns, pixels // (tall * wide)))
    chosen = score.flatten(1).topk(count).indices.sort(dim=1).values
    parts = inner.reshape(len(image), 3, rows, tall, columns, wide).permute(0, 2, 4, 1, 3, 5)
    which = torch.arange(len(image), device=image.device)[:, None]
    found = parts[which, chosen // columns, chosen % columns]
    return (rgb_to_y(found.flatten(0, 1)) * 255).reshape(len(image), count, tall, wide)


def blur_features(image: Tensor) -> Tensor:
    """What an estimator of blur and noise looks at.

    Args:
        image: ``(N, 3, H, W)`` float RGB in [0, 1], any H, W >= 1. Looked at as 8 bits, which estimators are
            fitted to: finer ones would show in the spectrum what rounding hides.

    Returns:
        ``(N, FEATURES)`` finite numbers of order one. The first is the logarithm of the steepest edges in
        grey levels per pixel: whether there is anything to measure.
    """
    tiles = edge_tiles((image.float() * 255).round() / 255)
    found = [_size(tiles), _blocks(tiles)]
    octave = tiles
    for number in range(OCTAVES):
        found.append(_of_octave(octave))
        if number < OCTAVES - 1:
            octave = _halve(smooth(octave, 1.0))
    strength = found[2][:, :1]
    return torch.cat([strength, *found, spectrum_features(tiles)], dim=1)


def _halve(tiles: Tensor) -> Tensor:
    """Means of 2x2 pixels; a side of one pixel stays."""
    kernel = (min(2, tiles.shape[-2]), min(2, tiles.shape[-1]))
    return F.avg_pool2d(tiles, kernel)


def _size(tiles: Tensor) -> Tensor:
    return tiles.new_full((len(tiles), 1), math.log(tiles[0].numel()) - math.log(PIXELS))


def _of_octave(tiles: Tensor) -> Tensor:
    levels = [tiles]
    before = 0.0
    for scale in SCALES:
        levels.append(smooth(levels[-1], math.sqrt(scale**2 - before**2)))
        before = scale
    edges = thin_edges(*central_differences(levels[2])).flatten(1)
    counts = [max(1, round(share * edges.shape[1])) for share in STRONGEST]
    strongest = edges.topk(counts[-1])
    steep = [gradient_magnitude_at(level, strongest.indices) for level in levels]
    logs = torch.log(torch.stack(steep, 1) + FLOOR)
    ratios = logs[:, :-1] - logs[:, 1:]
    found = [torch.log(strongest.values[:, :count].mean(1, keepdim=True) + FLOOR) for count in counts]
    wanted = tiles.new_tensor(QUANTILES)
    found += [ratios[..., :count].quantile(wanted, dim=2).permute(1, 2, 0).flatten(1) for count in counts]
    bands = [fine - coarse for fine, coarse in pairwise(levels)]
    energies = torch.stack([torch.linalg.vector_norm(band.flatten(1), dim=1) for band in bands], 1)
    energies = torch.log(energies / math.sqrt(edges.shape[1]) + FLOOR)
    found += [energies[:, -1:], energies[:, :-1] - energies[:, 1:]]
    for band in bands[:2]:
        cell = tuple(min(BLOCK, side) for side in band.shape[-2:])
        cells = F.avg_pool2d(band.abs(), cell).flatten(1)
        found.append(torch.log(cells.quantile(tiles.new_tensor(CALM), dim=1).T + FLOOR))
    return torch.cat(found, dim=1)


def _blocks(tiles: Tensor) -> Tensor:
    """How much larger second differences are at one phase of a grid of eight pixels, along x and y."""
    return torch.cat([_blocks_along_x(tiles), _blocks_along_x(tiles.transpose(-1, -2))], dim=1)


def _blocks_along_x(tiles: Tensor) -> Tensor:
    width = tiles.shape[-1]
    if width < 2 * BLOCK + 3:
        return tiles.new_zeros(len(tiles), 1)
    # Across the step between x and x + 1, less what the slopes on both sides explain.
    step = tiles[..., 1:] - tiles[..., :-1]
    jump = (step[..., 1:-1] - (step[..., :-2] + step[..., 2:]) / 2).abs_().clamp_(max=LARGEST_STEP)
    count = jump.shape[-1] // BLOCK
    phases = jump[..., : count * BLOCK].reshape(*jump.shape[:-1], count, BLOCK).mean((1, 2, 3))
    middle = phases.median(1, keepdim=True).values
    return torch.log((phases.max(1, keepdim=True).values + FLOOR) / (middle + FLOOR))
