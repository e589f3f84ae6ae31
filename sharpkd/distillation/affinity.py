"""Feature-affinity distillation: places that are alike to the teacher are to be alike to the student.

    A(F)_ij = <F_i, F_j> / (||F_i||_2 ||F_j||_2)      F_i: the C channels at place i of the feature map F
    L_affinity = mean over pairs, images, i and j of | A(F_S)_ij - A(F_T)_ij |

He, Dai, Lu, Jiang and Xia, "FAKD: Feature-Affinity Based Knowledge Distillation for Efficient Image
Super-Resolution", ICIP 2020: its spatial affinity. The matrix has (h w)^2 entries, 5 million for a map of
48 x 48, so both maps are average-pooled to at most ``grid`` places a side first. What is left of their
other two terms are the pixel term and output distillation.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from sharpkd.distillation.base import Observed, PairedTransferTerm, match_size

__all__ = ["AffinityTransfer", "spatial_affinity"]

SMALLEST_LENGTH = 1e-6


def spatial_affinity(features: Tensor) -> Tensor:
    """Return the cosine between any two places' features: (N, C, h, w) -> (N, h w, h w), float32, in [-1, 1].

    A place all of whose channels are 0 has the cosine 0 to every place.
    """
    unit = F.normalize(features.float().flatten(2), dim=1, eps=SMALLEST_LENGTH)
    # half precision would keep two digits of a cosine
    with torch.autocast(unit.device.type, enabled=False):
        return unit.transpose(1, 2) @ unit


class AffinityTransfer(PairedTransferTerm):
    """Mean absolute difference of the spatial affinities, in [0, 2]; no trainable parts.

    ``pairs``: ``[student tap, teacher tap]`` each; their channels may differ. Both maps are average-pooled
    to the smaller one's size, and to at most ``grid`` a side: 16 gives matrices of 256 x 256 at any crop
    size.

    Unchanged when the features of either net at any place of the grid are scaled by a positive factor.

    Raises:
        ValueError: malformed ``pairs``, or ``grid`` below 2 (one place has no other to be like).
    """

    def __init__(
        self, pairs: Sequence[Sequence[str]] = (("middle", "middle"), ("late", "late")), grid: int = 16
    ) -> None:
        super().__init__(pairs)
        if grid < 2:
            raise ValueError(f"AffinityTransfer.grid is {grid}, expected at least 2 places a side")
        self.grid = grid

    def forward(self, student: Observed, teacher: Observed) -> Tensor:
        """Return the mean over images and pairs as a float32 scalar in [0, 2]."""
        values = []
        for seen, target in self.observed_pairs(student, teacher):
            maps = match_size(seen.float(), target.float(), self.grid)
            ours, theirs = (spatial_affinity(features) for features in maps)
            values.append((ours - theirs).abs().mean())
        return torch.stack(values).mean()
