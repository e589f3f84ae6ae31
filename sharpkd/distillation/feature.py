"""Feature distillation: the student's hidden maps imitate the teacher's.

    L_feature = mean over pairs of d(r(F_S), F_T)

with d the mean absolute (or squared) difference, and r a trainable 1x1 convolution from the student's
channels to the teacher's (identity where they are equal), learnt with the student and dropped after training.

Romero et al., "FitNets: Hints for Thin Deep Nets", ICLR 2015 (arXiv 1412.6550), equation 3, where r is the
"regressor" over the guided layer.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sharpkd.distillation.base import Observed, PairedTransferTerm, distance, match_size

__all__ = ["FeatureDistillation"]


class FeatureDistillation(PairedTransferTerm):
    """Distance between paired feature maps, in units of the teacher's features.

    ``pairs``: ``[student tap, teacher tap]`` each. Where the channels of a pair differ, ``build`` makes an
    adapter (``adapters``, one a pair; they train with the student). Where sizes differ, the larger map is
    average-pooled to the smaller one's size.

    Raises:
        ValueError: unknown ``criterion``, malformed ``pairs``, or ``forward`` before ``build``.
    """

    def __init__(
        self, pairs: Sequence[Sequence[str]] = (("middle", "middle"), ("late", "late")), criterion: str = "l1"
    ) -> None:
        super().__init__(pairs)
        self.distance = distance(criterion)
        self.adapters = nn.ModuleList()
        self._built: list[tuple[int, int]] = []

    def build(self, student_channels: dict[str, int], teacher_channels: dict[str, int]) -> None:
        """Create the adapters; a second call with the same channels keeps the trained ones."""
        channels = [(student_channels[student], teacher_channels[teacher]) for student, teacher in self.pairs]
        if channels == self._built:
            return
        self.adapters = nn.ModuleList(
            nn.Identity() if source == target else nn.Conv2d(source, target, kernel_size=1)
            for source, target in channels
        )
        self._built = channels

    def forward(self, student: Observed, teacher: Observed) -> Tensor:
        """Return the mean over the pairs as a float32 scalar >= 0."""
        if not self._built:
            raise ValueError("FeatureDistillation has no adapters yet: call KnowledgeTransfer.prepare first")
        values = []
        for adapter, (seen, target) in zip(self.adapters, self.observed_pairs(student, teacher), strict=True):
            # A 1x1 convolution and an average commute, so the cheaper order is taken: first pool, then adapt.
            seen, target = match_size(seen, target)
            values.append(self.distance(adapter(seen), target))
        return torch.stack(values).mean()
