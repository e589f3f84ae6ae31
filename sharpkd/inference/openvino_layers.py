"""A student's convolutions as nodes of OpenVINO's graph, in floats or in 8 bits.

In 8 bits weights and inputs of a convolution are whole numbers: weights from -127 to 127 with a scale for
each output, inputs 256 levels of a range that is the same for all channels (Jacob et al., Quantization and
training of neural networks for efficient integer-arithmetic-only inference, CVPR 2018). The first
convolution, which sees the picture, stays in floats, and so does what is added to the picture.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sharpkd.inference.dead_leaves import degraded_leaves
from sharpkd.inference.student import Layers, PixelFormat

Range = tuple[float, float]
"""What lies outside is clipped."""
OUTSIDE = 2e-4
"""This share of the numbers at either end is not looked at, and the rest is given a tenth more room."""
ROOM = 1.1
BLURS = (0.5, 1.5, 3.0)
"""Pixels; what the ranges of a blind net are looked for at."""


def convolutions(node: Any, layers: Layers, ranges: Sequence[Range] | None = None) -> tuple[Any, list[Any]]:
    """All convolutions behind each other.

    Args:
        node: ``(1, C, h, w)``.
        layers: what `Layers.for_pixels` wrote.
        ranges: of what goes into the second convolution, the third and so on: these are then computed in
            8 bits.

    Returns:
        The result, and what goes into each convolution but the first.
    """
    from openvino import opset13 as op

    hidden = []
    for i, (weight, bias) in enumerate(zip(layers.weights, layers.biases, strict=True)):
        kernel = op.constant(weight)
        if i:
            hidden.append(node)
        if i and ranges is not None:
            low, high = ranges[i - 1]
            node = _in_levels(node, np.full((1, 1, 1, 1), low), np.full((1, 1, 1, 1), high), 256)
            most = np.abs(weight).max((1, 2, 3), keepdims=True)
            kernel = _in_levels(kernel, -most, most, 255)
        node = op.convolution(node, kernel, [1, 1], [1, 1], [1, 1], [1, 1])
        node = op.add(node, op.constant(bias.reshape(1, -1, 1, 1)))
        if i < len(layers.slopes):
            node = op.prelu(node, op.constant(layers.slopes[i]))
    return node, hidden


def ranges_on_leaves(
    hidden: Callable[[NDArray[Any]], Sequence[NDArray[Any]]], pixels: PixelFormat, condition: Sequence[float]
) -> list[Range]:
    """Ranges for `convolutions`, from a made picture that is degraded as the condition says.

    Args:
        hidden: ``(256, 256, C)`` pixels -> what goes into each convolution but the first.
        pixels: what the numbers mean.
        condition: sigma in pixels, then noise in 8-bit levels; more is not looked at. Empty for blind nets.
    """
    noise = float(condition[1]) if len(condition) > 1 else 0.0
    ends = []
    for sigma in condition[:1] or BLURS:
        shares = degraded_leaves(float(sigma), noise)[..., : pixels.channels] / 255
        levels = pixels.black + shares * (pixels.white - pixels.black)
        found = hidden(np.ascontiguousarray(np.rint(levels).astype(pixels.dtype)))
        ends.append([np.quantile(one, (OUTSIDE, 1 - OUTSIDE)) for one in found])
    low, high = np.min(ends, axis=0)[:, 0], np.max(ends, axis=0)[:, 1]
    # zeros around the picture have to be among the levels, and no range may be empty
    return [
        (min(0.0, ROOM * a), max(1e-6, ROOM * b)) for a, b in zip(low.tolist(), high.tolist(), strict=True)
    ]


def _in_levels(node: Any, low: NDArray[Any], high: NDArray[Any], levels: int) -> Any:
    from openvino import opset13 as op

    ends = [op.constant(end.astype(np.float32)) for end in (low, high)]
    return op.fake_quantize(node, *ends, *ends, levels)
