"""Average pooling for channel attention that means the same on a training crop and on a whole photograph."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CELLS_PER_WINDOW = 8


def _sliding_sum(grid: Tensor, dim: int, size: int) -> Tensor:
    """Sum of ``size`` neighbours along ``dim``; at the borders the window is moved inside, not cut."""
    count = grid.shape[dim]
    size = torch.sym_min(size, count)
    summed = grid.cumsum(dim)
    summed = torch.cat([torch.zeros_like(summed.narrow(dim, 0, 1)), summed], dim)
    start = (torch.arange(count, device=grid.device) - size // 2).clamp(min=0).clamp(max=count - size)
    return summed.index_select(dim, start + size) - summed.index_select(dim, start)


def _filled_up(features: Tensor, cell: int) -> Tensor:
    """(N, C, h, w) with zeros behind, until h and w are multiples of ``cell``."""
    # multiple * ceil, as in sharpkd.nets.base.pad_to_multiple
    rows, columns = ((side + cell - 1) // cell * cell - side for side in features.shape[-2:])
    return F.pad(features, (0, columns, 0, rows))


class AttentionPool(nn.Module):
    """The mean that a channel attention looks at: of the whole map, or of a window around each place.

    A net trained on crops meets other statistics when a whole photograph is pooled into one number.
    Evaluation therefore pools in windows of about the training crop's size: Chu et al., "Improving Image
    Restoration by Revisiting Global Information Aggregation", ECCV 2022 (TLC). Here the means are taken on a
    coarse grid of cells, about eight to a window, and the attention is interpolated between their centres,
    which adds one pass over the map. Maps not larger than the window give the global mean.

    Args:
        window: side of the window in pixels of the image; None pools the whole map always.
        stride: pixels of the image per pixel of the map.
    """

    def __init__(self, window: int | None, stride: int) -> None:
        super().__init__()
        if window is not None and window < 1:
            raise ValueError(
                f"attention_window: found {window}, expected at least 1 pixel or null (pool everything)"
            )
        self.window = window
        self.stride = stride
        side = 1 if window is None else math.ceil(window / stride)
        self.cell = max(1, side // CELLS_PER_WINDOW)
        # Odd, so that the window is centred on its cell.
        self.cells = math.ceil(side / self.cell) // 2 * 2 + 1

    def extra_repr(self) -> str:
        return f"window={self.window}, stride={self.stride}"

    @property
    def places_per_pixel(self) -> float:
        """How many pooled vectors there are per pixel of a large image."""
        return 0.0 if self.window is None else 1 / (self.cell * self.stride) ** 2

    def is_global(self, features: Tensor) -> bool:
        """Whether ``features`` (N, C, h, w) is pooled into one vector, by the settings and the size."""
        if self.window is None or self.training:
            return True
        # The exported graph serves every size, hence takes the path that does.
        if torch.compiler.is_exporting():
            return False
        side = self.cells * self.cell
        return features.shape[-2] <= side and features.shape[-1] <= side

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, h, w) -> means (N, C, 1, 1) or, in windows, (N, C, ceil(h / cell), ceil(w / cell))."""
        if self.is_global(features):
            return features.mean((2, 3), keepdim=True)
        height, width = features.shape[-2:]
        cell = self.cell
        # Sums of many values lose bits in bfloat16; the grid is small.
        exact = torch.promote_types(features.dtype, torch.float32)
        # OpenVINO pools no map smaller than a cell: in a graph for all sizes zeros fill the last ones.
        whole = torch.compiler.is_exporting()
        if whole:
            features = _filled_up(features, cell)
        grid = F.avg_pool2d(features, cell, ceil_mode=not whole, count_include_pad=False).to(exact)
        rows = self._filled(height, grid.shape[-2], features).view(-1, 1)
        columns = self._filled(width, grid.shape[-1], features).view(1, -1)
        sums = grid * cell**2 if whole else grid * rows * columns
        total = _sliding_sum(_sliding_sum(sums, 2, self.cells), 3, self.cells)
        area = _sliding_sum(rows, 0, self.cells) * _sliding_sum(columns, 1, self.cells)
        return (total / area).to(features.dtype)

    def _filled(self, length: int, cells: int, like: Tensor) -> Tensor:
        """How much of each cell along one side lies inside the map."""
        start = torch.arange(cells, device=like.device, dtype=torch.float32) * self.cell
        return (length - start).clamp(max=self.cell)

    def spread(self, attention: Tensor, features: Tensor) -> Tensor:
        """Bring attention on the grid of ``forward`` to a shape that multiplies ``features``."""
        if self.is_global(features):
            return attention
        height, width = features.shape[-2:]
        if self.cell > 1:
            attention = F.interpolate(
                attention, scale_factor=float(self.cell), mode="bilinear", align_corners=False
            )
        return attention[..., :height, :width]
