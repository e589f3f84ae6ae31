"""Side-by-side pictures: the same place of an image in several versions, with a number under each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

Pixels = NDArray[np.uint8]

BACKGROUND = (250, 250, 250)
INK = (30, 30, 30)
FRAME = (255, 196, 0)
GAP = 8


@dataclass(frozen=True)
class Tile:
    """One version of an image: ``(H, W, 3)`` uint8 RGB, what it is, and what was measured on it."""

    title: str
    pixels: Pixels
    caption: str = ""


@dataclass(frozen=True)
class Window:
    """A square of ``size`` pixels in an image."""

    top: int
    left: int
    size: int

    def cut(self, pixels: Pixels) -> Pixels:
        """The pixels inside."""
        return pixels[self.top : self.top + self.size, self.left : self.left + self.size]


def to_pixels(image: Tensor) -> Pixels:
    """``(3, H, W)`` float in [0, 1] (clamped) to ``(H, W, 3)`` uint8, rounded.

    Raises:
        ValueError: the shape is another one.
    """
    if image.ndim != 3 or image.shape[0] != 3:
        raise ValueError(f"image has shape {tuple(image.shape)}, expected (3, H, W)")
    rounded = image.detach().float().clamp(0, 1).mul(255).round().byte()
    return rounded.permute(1, 2, 0).cpu().numpy()


def from_pixels(image: Pixels) -> Tensor:
    """``(H, W, 3)`` uint8 to ``(1, 3, H, W)`` float32 in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))[None].float().div(255)


def most_changed_window(sharp: Pixels, degraded: Pixels, size: int) -> Window:
    """The square in which the two images differ most (sum of absolute differences; the first of equals).

    Args:
        sharp: ``(H, W, 3)`` uint8.
        degraded: the same shape.
        size: side in pixels, reduced to the image's shorter side.

    Raises:
        ValueError: the shapes differ, or the size is below 1.
    """
    if sharp.shape != degraded.shape:
        raise ValueError(f"images differ in shape: {sharp.shape} and {degraded.shape}")
    if size < 1:
        raise ValueError(f"window size is {size}, expected at least 1")
    size = min(size, *sharp.shape[:2])
    change = np.abs(sharp.astype(np.int64) - degraded).sum(axis=2)
    total = np.pad(change.cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
    sums = total[size:, size:] - total[:-size, size:] - total[size:, :-size] + total[:-size, :-size]
    top, left = np.unravel_index(int(sums.argmax()), sums.shape)
    return Window(int(top), int(left), size)


def side_by_side(
    rows: Sequence[Sequence[Tile]], labels: Sequence[str] = (), width: int = 280, zoom_size: int = 64
) -> Image.Image:
    """Draw rows of tiles; under each image its most interesting place, enlarged, and its caption.

    The place is where the second tile (the degraded image) differs most from the first (the sharp one); all
    tiles of a row show the same place.

    Args:
        rows: at least one row of at least one tile; the tiles of a row have one size.
        labels: one name for each row, or none.
        width: of a tile, in pixels.
        zoom_size: side of the enlarged place in the image's own pixels (at most half the image's); 0: none.

    Raises:
        ValueError: there is nothing to draw, or the tiles of a row differ in size.
    """
    if not rows or not all(rows):
        raise ValueError("side_by_side needs at least one row, and at least one tile in each")
    drawn = [
        _draw_row(row, label, width, zoom_size)
        for row, label in zip(rows, _padded(labels, len(rows)), strict=True)
    ]
    sheet = Image.new(
        "RGB", (max(part.width for part in drawn), sum(part.height for part in drawn)), BACKGROUND
    )
    top = 0
    for part in drawn:
        sheet.paste(part, (0, top))
        top += part.height
    return sheet


def _padded(labels: Sequence[str], count: int) -> list[str]:
    if labels and len(labels) != count:
        raise ValueError(f"{len(labels)} labels for {count} rows")
    return list(labels) or [""] * count


def _draw_row(tiles: Sequence[Tile], label: str, width: int, zoom_size: int) -> Image.Image:
    shapes = {tile.pixels.shape for tile in tiles}
    if len(shapes) > 1:
        raise ValueError(f"the tiles of row {label!r} differ in shape: {sorted(shapes)}")
    zoom_size = min(zoom_size, min(tiles[0].pixels.shape[:2]) // 2)
    height = max(1, round(width * tiles[0].pixels.shape[0] / tiles[0].pixels.shape[1]))
    text = max(12, width // 20)
    font = ImageFont.load_default(size=text)
    line = text + 6
    window = (
        most_changed_window(tiles[0].pixels, tiles[min(1, len(tiles) - 1)].pixels, zoom_size)
        if zoom_size
        else None
    )
    heading = line if label else 0
    row_height = GAP + heading + line + height + (GAP + width if window else 0) + line + GAP
    row = Image.new("RGB", (GAP + len(tiles) * (width + GAP), row_height), BACKGROUND)
    pen = ImageDraw.Draw(row)
    if label:
        pen.text((GAP, GAP), label, INK, font)
    for index, tile in enumerate(tiles):
        left, top = GAP + index * (width + GAP), GAP + heading
        pen.text((left, top), tile.title, INK, font)
        top += line
        row.paste(_resized(tile.pixels, width, height), (left, top))
        if window:
            scale = width / tile.pixels.shape[1]
            corner = (left + window.left * scale, top + window.top * scale)
            pen.rectangle((*corner, *(side + window.size * scale - 1 for side in corner)), outline=FRAME)
            zoomed = Image.fromarray(window.cut(tile.pixels)).resize((width, width), Image.Resampling.NEAREST)
            row.paste(zoomed, (left, top + height + GAP))
        pen.text((left, row_height - GAP - line + 2), tile.caption, INK, font)
    return row


def _resized(pixels: Pixels, width: int, height: int) -> Image.Image:
    enlarged = width >= pixels.shape[1]
    return Image.fromarray(pixels).resize(
        (width, height), Image.Resampling.NEAREST if enlarged else Image.Resampling.LANCZOS
    )
