"""Luma of 8 bits under OpenVINO, as video has it: filters and convolutions in one graph, on cells.

On the planes of a picture a filter sees one channel, in fp32, and much of a frame's time goes into moving
numbers between layouts. On cells it is one more convolution of r·r channels, which a CPU that computes in
bfloat16 does twice as fast, and whole numbers up to 255 have no more than its 8 significant bits: they are
not rounded. Of a frame nothing is copied but the cells themselves, once on either side.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sharpkd.inference.cells import Run, pad_to_multiple
from sharpkd.inference.openvino_layers import Range, convolutions
from sharpkd.inference.student import Layers, PixelFormat
from sharpkd.inference.wiener import between_cells, of_sum_zero

Pixels = NDArray[np.uint8]
Compiled = Callable[..., NDArray[Any]]
KEPT_SIZES = 2
"""Graphs of fixed size are faster; so many sizes of frames or tiles stay compiled."""


def runs_here(pixels: PixelFormat, precision: str) -> bool:
    """Whether `compile_luma` takes these; fp16 is left out, because some CPUs also add up in it."""
    return pixels.channels == 1 and pixels.bits == 8 and precision in ("bf16", "fp32")


def compile_luma(graph: Any, margin: int, unshuffle: int, compiled: Callable[[Any], Compiled]) -> Run:
    """What sharpens ``(H, W, 1)`` uint8 with a graph of `luma_graph`.

    Args:
        graph, margin: see `luma_graph`.
        unshuffle: side of a cell.
        compiled: makes a function of a graph.
    """
    ready: OrderedDict[tuple[int, ...], Compiled] = OrderedDict()
    lock = Lock()

    def of_size(shape: tuple[int, ...]) -> Compiled:
        with lock:
            if shape not in ready:
                sized = graph.clone()
                sized.reshape(list(shape))
                ready[shape] = compiled(sized)
                while len(ready) > KEPT_SIZES:
                    ready.popitem(last=False)
            ready.move_to_end(shape)
            return ready[shape]

    def run(window: NDArray[Any]) -> NDArray[Any]:
        height, width = window.shape[:2]
        cells = to_cells(pad_to_multiple(window, unshuffle)[..., 0], unshuffle, margin)[None]
        return from_cells(of_size(cells.shape)(cells)[0], unshuffle)[:height, :width, None]

    return run


def luma_graph(
    layers: Layers,
    pixels: PixelFormat,
    precision: str,
    ranges: Sequence[Range] | None = None,
    watched: bool = False,
) -> tuple[Any, int]:
    """The graph and its margin m: ``(1, h + 2·m, w + 2·m, r·r)`` uint8, mirrored -> ``(1, h, w, r·r)``.

    Args:
        layers, pixels: what `Layers.for_pixels` wrote, and for what.
        precision: "bf16" or "fp32", for which `runs_here` is true.
        ranges, watched: with ``watched`` the graph gives what goes into each convolution but the first, of
            which `ranges` are made; see `sharpkd.inference.openvino_layers`.
    """
    import openvino as ov
    from openvino import opset13 as op

    places = layers.unshuffle**2
    given = op.parameter([1, -1, -1, places], ov.Type.u8, name="cells")
    wide = op.transpose(op.convert(given, "f32"), op.constant(np.array([0, 3, 1, 2])))
    picture, margin, details = wide, 0, None
    if layers.kernels is not None and layers.details is not None:
        # Rounded one by one, the numbers of a kernel would no longer sum to 0.
        filters = of_sum_zero(layers.kernels, "bf16" if precision == "bf16" else None)
        weight = between_cells(filters, layers.unshuffle)
        margin = weight.shape[-1] // 2
        details = op.convolution(wide, op.constant(weight), [1, 1], [0, 0], [0, 0], [1, 1])
        cut = [op.constant(np.array([at, at])) for at in (margin, -margin, 1)]
        picture = op.slice(wide, *cut, op.constant(np.array([2, 3])))
    node = picture
    if pixels.black:
        node = op.subtract(node, op.constant(np.float32(pixels.black)))
    if details is not None:
        node = op.concat([node, details], 1)
    node, hidden = convolutions(node, layers, ranges)
    if watched:
        return ov.Model(hidden, [given], "watched"), margin
    if details is not None and layers.details is not None:
        if not layers.details.adds_all:
            details = op.gather(details, op.constant(layers.details.added), op.constant(np.int64(1)))
        if layers.details.strength != 1:
            details = op.multiply(details, op.constant(np.float32(layers.details.strength)))
        node = op.add(node, details)
    node = op.add(node, picture)
    ends = [op.constant(np.full((1, 1, 1, 1), at, np.float32)) for at in (0, pixels.top)]
    # Rounds and clips as part of the addition; separate operators for it take more passes. The two constants
    # serve twice: with equal ones of their own, OpenVINO 2026.4 fails in bf16 ("object is not initialized").
    node = op.convert(op.fake_quantize(node, *ends, *ends, pixels.top + 1), "u8")
    return ov.Model([op.transpose(node, op.constant(np.array([0, 2, 3, 1])))], [given], "luma"), margin


def to_cells(plane: Pixels, side: int, margin: int) -> Pixels:
    """``(H, W)`` -> ``(H/side + 2·margin, W/side + 2·margin, side²)``, whose margin is mirrored pixels."""
    height, width = plane.shape
    rows, columns = height // side, width // side
    cells = np.empty((rows + 2 * margin, columns + 2 * margin, side, side), np.uint8)
    inner = slice(margin, margin + rows), slice(margin, margin + columns)
    _as_units(cells)[inner] = _as_units(plane.reshape(rows, side, columns, side)).swapaxes(1, 2)
    if margin:
        edge = margin * side
        down = np.pad(np.arange(height), edge, mode="reflect")
        across = np.pad(np.arange(width), edge, mode="reflect")
        cells[:margin] = _cut(plane[down[:edge]][:, across], side)
        cells[-margin:] = _cut(plane[down[-edge:]][:, across], side)
        cells[inner[0], :margin] = _cut(plane[:, across[:edge]], side)
        cells[inner[0], -margin:] = _cut(plane[:, across[-edge:]], side)
    return cells.reshape(*cells.shape[:2], side * side)


def from_cells(cells: Pixels, side: int) -> Pixels:
    """``(h, w, side²)`` -> ``(h·side, w·side)``."""
    rows, columns = cells.shape[:2]
    plane = np.empty((rows, side, columns, side), np.uint8)
    _as_units(plane)[:] = _as_units(cells.reshape(rows, columns, side, side)).swapaxes(1, 2)
    return plane.reshape(rows * side, columns * side)


def _cut(plane: Pixels, side: int) -> Pixels:
    return plane.reshape(len(plane) // side, side, -1, side).swapaxes(1, 2)


def _as_units(pixels: Pixels) -> NDArray[Any]:
    """The last axis as one number each, where numbers of that many bytes exist: copies are then faster."""
    side = pixels.shape[-1]
    return pixels.view(f"u{side}")[..., 0] if side in (2, 4, 8) else pixels
