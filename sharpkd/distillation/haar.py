"""The orthonormal Haar wavelet transform of images, as bands."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

__all__ = ["haar_bands"]


def haar_bands(images: Tensor, levels: int) -> list[Tensor]:
    """Split (N, C, H, W) into 3 bands of detail for each level, the finest first, and what is left.

    Of every 2 x 2 block a b / c d, the details are (a + b - c - d) / 2, (a - b + c - d) / 2 and
    (a - b - c + d) / 2; the rest, (a + b + c + d) / 2, is split by the next level. Haar, "Zur Theorie der
    orthogonalen Funktionensysteme", 1910. The sum of squares stays what it was where both sides can be halved
    that often; otherwise the last row or column is repeated first. 0 levels give ``[images]``.

    Returns:
        ``3 * levels + 1`` bands; those of level l are (N, C, H / 2^l, W / 2^l), rounded up.
    """
    bands = []
    rest = images
    for _ in range(levels):
        height, width = rest.shape[-2:]
        if height % 2 or width % 2:
            rest = F.pad(rest, (0, width % 2, 0, height % 2), mode="replicate")
        a, b = rest[..., ::2, ::2], rest[..., ::2, 1::2]
        c, d = rest[..., 1::2, ::2], rest[..., 1::2, 1::2]
        bands += [(a + b - c - d) / 2, (a - b + c - d) / 2, (a - b - c + d) / 2]
        rest = (a + b + c + d) / 2
    return [*bands, rest]
