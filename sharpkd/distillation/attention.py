"""Attention transfer: the student looks where the teacher looks.

    Q(A)_ij = mean_c |A_cij|^p               spatial attention map of the feature map A
    L_attention = mean over images and pairs of || Q_S / ||Q_S||_2 - Q_T / ||Q_T||_2 ||_2^2

Zagoruyko and Komodakis, "Paying More Attention to Attention: Improving the Performance of Convolutional
Neural Networks via Attention Transfer", ICLR 2017 (arXiv 1612.03928), equation 2, with the distance squared
as in the authors' code. The squares are summed over the positions, not averaged as there: so the term keeps
its magnitude at any crop size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from sharpkd.distillation.base import Observed, PairedTransferTerm, match_size

__all__ = ["AttentionTransfer", "attention_map"]


def attention_map(features: Tensor, p: float = 2) -> Tensor:
    """Return the mean over channels of ``|features|^p``: (N, C, h, w) -> (N, 1, h, w), float32."""
    lifted = features.float()
    powered = lifted.square() if p == 2 else lifted.abs().pow(p)
    return powered.mean(dim=1, keepdim=True)


class AttentionTransfer(PairedTransferTerm):
    """Squared distance between L2-normalised spatial attention maps, in [0, 2]; no trainable parts.

    ``pairs``: ``[student tap, teacher tap]`` each; their channels may differ. Where sizes differ, the larger
    attention map is average-pooled to the smaller one's size before both are normalised.
    Unchanged when either net's features are scaled by a positive factor.

    Raises:
        ValueError: malformed ``pairs``, or ``p`` not a finite number >= 1.
    """

    def __init__(
        self, pairs: Sequence[Sequence[str]] = (("middle", "middle"), ("late", "late")), p: float = 2
    ) -> None:
        super().__init__(pairs)
        if not math.isfinite(p) or p < 1:
            raise ValueError(f"AttentionTransfer.p is {p}, expected a finite number >= 1 (the paper's is 2)")
        self.p = p

    def forward(self, student: Observed, teacher: Observed) -> Tensor:
        """Return the mean over images and pairs as a float32 scalar in [0, 2]."""
        values = []
        for seen, target in self.observed_pairs(student, teacher):
            maps = match_size(attention_map(seen, self.p), attention_map(target, self.p))
            ours, theirs = (F.normalize(attention.flatten(1), dim=1) for attention in maps)
            values.append((ours - theirs).square().sum(dim=1).mean())
        return torch.stack(values).mean()
