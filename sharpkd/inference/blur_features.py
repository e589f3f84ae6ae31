"""Numbers that tell how blurred and how noisy an image is: `sharpkd.estimation.features` without torch.

What the numbers mean and where they come from stands there; tests hold the two equal. This form reads
integer pixels and converts no more of them than it looks at.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sharpkd.inference.spectrum_features import spectrum_features

Floats = NDArray[np.float32]

TILE = 128
PIXELS = 6 * TILE * TILE
OCTAVES = 3
SCALES = (0.7, 1.0, 1.4, 2.0)
STRONGEST = (0.005, 0.03)
QUANTILES = (0.1, 0.5, 0.9)
CALM = (0.02, 0.1, 0.5)
BLOCK = 8
LARGEST_STEP = 8.0
FLOOR = 0.05
SAMPLED_ROWS = 8
LUMA = (65.481, 128.553, 24.966)
BLACK, WHITE = 16.0, 235.0
"""Luma in studio swing, ITU-R BT.601, grey levels of 8 bits."""
LEVELS = 255.0
LINES_AT_ONCE = 32
"""So many sampled rows are compared at a time, so that memory does not grow with the image."""


def blur_features(pixels: NDArray[Any], black: float = 0.0, white: float | None = None) -> Floats:
    """What the estimator looks at.

    Args:
        pixels: ``(H, W, 3)`` RGB or ``(H, W, 1)`` luma of unsigned integers, any H, W >= 1.
        black, white: the values that stand for 0 and 1; None is the largest of the dtype.

    Returns:
        ``(FEATURES,)`` finite numbers of order one; the first is the logarithm of the steepest edges in grey
        levels per pixel.

    Raises:
        ValueError: another shape, or no unsigned integers.
    """
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 3) or 0 in pixels.shape:
        raise ValueError(f"pixels: expected (H, W, 3) or (H, W, 1) with H, W >= 1, found {pixels.shape}")
    if not np.issubdtype(pixels.dtype, np.unsignedinteger):
        raise ValueError(f"pixels: expected unsigned integers, found {pixels.dtype}")
    tiles = edge_tiles(pixels, black, float(np.iinfo(pixels.dtype).max) if white is None else white)
    found = [_size(tiles), _blocks(tiles)]
    octave = tiles
    for number in range(OCTAVES):
        found.append(_of_octave(octave))
        if number < OCTAVES - 1:
            octave = _halve(smooth(octave, 1.0))
    return np.concatenate([found[2][:1], *found, spectrum_features(tiles)]).astype(np.float32)


def edge_tiles(pixels: NDArray[Any], black: float, white: float) -> Floats:
    """``(K, h, w)`` luma in grey levels: all of a small image, the steepest tiles of a large one."""
    height, width = pixels.shape[:2]
    if height * width <= PIXELS:
        return _luma(pixels[None], black, white)
    tall, wide = min(TILE, height), min(TILE, width)
    rows, columns = height // tall, width // wide
    top = (height - rows * tall) // 2 // BLOCK * BLOCK
    left = (width - columns * wide) // 2 // BLOCK * BLOCK
    inner = pixels[top : top + rows * tall, left : left + columns * wide]
    score = _steepness(inner[..., pixels.shape[2] // 2], rows, tall, columns, wide)
    count = max(1, min(rows * columns, PIXELS // (tall * wide)))
    chosen = np.sort(np.argsort(-score.ravel(), kind="stable")[:count])
    corners = [(index // columns * tall, index % columns * wide) for index in chosen]
    return _luma(np.stack([inner[y : y + tall, x : x + wide] for y, x in corners]), black, white)


def _steepness(plane: NDArray[Any], rows: int, tall: int, columns: int, wide: int) -> NDArray[np.float64]:
    """``(rows, columns)``: summed squared steps of the sampled lines of every tile."""
    score = np.zeros((rows, columns))
    lines, under = plane[::SAMPLED_ROWS], plane[1::SAMPLED_ROWS]
    for start in range(0, len(lines), LINES_AT_ONCE):
        line = lines[start : start + LINES_AT_ONCE].astype(np.float32)
        below = under[start : start + LINES_AT_ONCE].astype(np.float32)
        steep = np.square(below - line[: len(below)])
        if len(below) < len(line):
            steep = np.concatenate([steep, np.zeros_like(line[len(below) :])])
        steep[:, 1:] += np.square(line[:, 1:] - line[:, :-1])
        # Rows of tiles need not begin at a sampled line.
        owner = np.arange(start, start + len(line)) * SAMPLED_ROWS // tall
        np.add.at(score, owner, steep.reshape(len(line), columns, wide).sum(-1, dtype=np.float64))
    return score


def _luma(pixels: NDArray[Any], black: float, white: float) -> Floats:
    """``(K, h, w, C)`` -> ``(K, h, w)`` from 16 to 235; finer values are rounded to 8 bits."""
    levels = pixels.astype(np.float32)
    if black:
        levels -= np.float32(black)
    steps = white - black
    if steps > LEVELS:
        eight_bits = WHITE - BLACK if black else LEVELS
        levels = np.rint(levels * np.float32(eight_bits / steps))
        steps = eight_bits
    share = np.float32(1 / steps)
    if levels.shape[-1] == 1:
        return levels[..., 0] * (share * np.float32(WHITE - BLACK)) + np.float32(BLACK)
    weights = [np.float32(weight) * share for weight in LUMA]
    red, green, blue = (levels[..., channel] * weights[channel] for channel in range(3))
    return red + green + blue + np.float32(BLACK)


def gaussian_taps(sigma: float) -> list[float]:
    """Half of a sampled Gaussian, from its middle outwards to ``ceil(3σ)``; the whole kernel sums to 1."""
    half = [math.exp(-0.5 * (step / sigma) ** 2) for step in range(math.ceil(3 * sigma) + 1)]
    total = half[0] + 2 * sum(half[1:])
    return [value / total for value in half]


def smooth(image: Floats, sigma: float) -> Floats:
    """Gaussian blur of ``(K, H, W)`` along both axes; the border pixel is repeated."""
    return _smooth_along(_smooth_along(image, sigma, 2), sigma, 1)


def _smooth_along(image: Floats, sigma: float, axis: int) -> Floats:
    taps = gaussian_taps(sigma)
    reach, length = len(taps) - 1, image.shape[axis]
    padding = [(0, 0)] * 3
    padding[axis] = (reach, reach)
    padded = np.pad(image, padding, mode="edge")
    result = image * np.float32(taps[0])
    both = np.empty_like(result)

    def shifted(step: int) -> Floats:
        return padded[:, :, step : step + length] if axis == 2 else padded[:, step : step + length]

    for step, weight in enumerate(taps[1:], 1):
        np.add(shifted(reach - step), shifted(reach + step), out=both)
        both *= np.float32(weight)
        result += both
    return result


def _halve(tiles: Floats) -> Floats:
    """Means of 2x2 pixels; a side of one pixel stays."""
    return _cell_means(tiles, min(2, tiles.shape[1]), min(2, tiles.shape[2]))


def _cell_means(tiles: Floats, tall: int, wide: int) -> Floats:
    """``(K, H, W)`` -> means over cells of ``tall`` x ``wide`` pixels; what is left over is dropped."""
    count, height, width = len(tiles), tiles.shape[1] // tall, tiles.shape[2] // wide
    cells = tiles[:, : height * tall, : width * wide].reshape(count, height, tall, width, wide)
    return cells.sum(axis=4).sum(axis=2) / np.float32(tall * wide)


def _size(tiles: Floats) -> Floats:
    return np.array([math.log(tiles.size) - math.log(PIXELS)], np.float32)


def _of_octave(tiles: Floats) -> Floats:
    levels = [tiles]
    before = 0.0
    for scale in SCALES:
        levels.append(smooth(levels[-1], math.sqrt(scale**2 - before**2)))
        before = scale
    edges = _thin_edges(levels[2]).ravel()
    counts = [max(1, round(share * edges.size)) for share in STRONGEST]
    where = _largest(edges, counts[-1])
    strongest = edges[where]
    floor = np.float32(FLOOR)
    logs = np.log(np.stack([_magnitude_at(level, where) for level in levels]) + floor)
    ratios = logs[:-1] - logs[1:]
    found = [np.log(strongest[:count].mean(keepdims=True) + floor) for count in counts]
    found += [np.quantile(ratios[:, :count], QUANTILES, axis=1).T.ravel() for count in counts]
    bands = [fine - coarse for fine, coarse in pairwise(levels)]
    energies = np.array([math.sqrt(float(np.square(band).mean())) for band in bands])
    energies = np.log(energies + FLOOR)
    found += [energies[-1:], energies[:-1] - energies[1:]]
    for band in bands[:2]:
        cells = _cell_means(np.abs(band), min(BLOCK, band.shape[1]), min(BLOCK, band.shape[2]))
        found.append(np.log(np.quantile(cells, CALM) + FLOOR))
    return np.concatenate(found).astype(np.float32)


def _largest(values: Floats, count: int) -> NDArray[np.intp]:
    """Where the ``count`` largest of values that are at least 0 lie, largest first."""
    # Most values are 0, and partitioning is slow where many are equal.
    where = np.flatnonzero(values)
    if where.size < count:
        where = np.concatenate([where, np.flatnonzero(values == 0)[: count - where.size]])
    found = values[where]
    where = where[found >= np.partition(found, found.size - count)[found.size - count]]
    return where[np.argsort(-values[where], kind="stable")][:count]


def _thin_edges(tiles: Floats) -> Floats:
    """Gradient magnitude where neither neighbour along the larger component is steeper, 0 elsewhere."""
    padded = np.pad(tiles, ((0, 0), (1, 1), (1, 1)), mode="edge")
    along_x = (padded[:, 1:-1, 2:] - padded[:, 1:-1, :-2]) / 2
    along_y = (padded[:, 2:, 1:-1] - padded[:, :-2, 1:-1]) / 2
    squared_x, squared_y = np.square(along_x), np.square(along_y)
    steep = squared_x + squared_y
    padded = np.pad(steep, ((0, 0), (1, 1), (1, 1)), mode="edge")
    beside = np.maximum(padded[:, 1:-1, 2:], padded[:, 1:-1, :-2])
    above = np.maximum(padded[:, 2:, 1:-1], padded[:, :-2, 1:-1])
    neighbours = np.where(np.abs(along_x) >= np.abs(along_y), beside, above)
    return np.sqrt(np.where(steep >= neighbours, steep, np.float32(0)))


def _magnitude_at(tiles: Floats, index: NDArray[np.intp]) -> Floats:
    """Length of the central differences at chosen pixels alone, in levels per pixel."""
    height, width = tiles.shape[1:]
    values = tiles.ravel()
    x, y = index % width, index // width % height
    along_x = values[index + (x < width - 1)] - values[index - (x > 0)]
    along_y = values[index + width * (y < height - 1)] - values[index - width * (y > 0)]
    return np.hypot(along_x, along_y) / 2


def _blocks(tiles: Floats) -> Floats:
    """How much larger second differences are at one phase of a grid of eight pixels, along x and y."""
    return np.array([_blocks_along_x(tiles), _blocks_along_x(tiles.transpose(0, 2, 1))], np.float32)


def _blocks_along_x(tiles: Floats) -> float:
    width = tiles.shape[2]
    if width < 2 * BLOCK + 3:
        return 0.0
    # Across the step between x and x + 1, less what the slopes on both sides explain.
    step = tiles[:, :, 1:] - tiles[:, :, :-1]
    jump = np.abs(step[:, :, 1:-1] - (step[:, :, :-2] + step[:, :, 2:]) / 2)
    np.minimum(jump, np.float32(LARGEST_STEP), out=jump)
    count = jump.shape[2] // BLOCK
    by_column = jump[:, :, : count * BLOCK].mean((0, 1), dtype=np.float64)
    phases = np.sort(by_column.reshape(count, BLOCK).mean(0))
    # torch's median of an even count: the lower of the middle two
    middle = phases[(BLOCK - 1) // 2]
    return math.log((phases[-1] + FLOOR) / (middle + FLOOR))
