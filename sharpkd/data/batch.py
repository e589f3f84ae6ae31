"""What travels from the data room to the modules."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, fields

import torch
from torch import Tensor


@dataclass
class Batch:
    """Images of one training or validation step.

    All images are RGB, NCHW, float32 in [0, 1].

    Attributes:
        degraded: ``(N, 3, h, w)``, what the net sees.
        sharp: ``(N, 3, H, W)`` with ``H = h * scale``; the target, never overwritten.
        name: one name per image, for messages and pictures.
        low_res: ``(N, 3, H / s, W / s)``, the small image that ``degraded`` was enlarged from, where the
            degradation carries it: what a teacher that enlarges s times may see instead.
        condition: ``(N, k)``, what the degradation did (blur sigma in pixels first), where known.
        extra: ``(N * n, 3, h, w)``, inputs without ground truth, which only a teacher can label; n go with
            each image, in the images' order. Only where a training asks for them.
        extra_condition: ``(N * n, k)``, likewise of ``extra``.
        extra_low_res: ``(N * n, 3, h / s, w / s)``, likewise of ``extra``.
        seed: ``(N,)`` int64, a number of each training sample's own, drawn from (seed, epoch, index), for all
            that a module draws about it.
    """

    degraded: Tensor
    sharp: Tensor
    name: list[str]
    low_res: Tensor | None = None
    condition: Tensor | None = None
    extra: Tensor | None = None
    extra_condition: Tensor | None = None
    extra_low_res: Tensor | None = None
    seed: Tensor | None = None

    def __len__(self) -> int:
        return self.sharp.shape[0]

    def pin_memory(self) -> Batch:
        """The same batch in page-locked memory (called by the DataLoader)."""
        pinned = copy(self)
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Tensor):
                setattr(pinned, field.name, value.pin_memory())
        return pinned


def stack(parts: Sequence[Tensor | None]) -> Tensor | None:
    """Concatenate what each sample has of an optional field; None where no sample has it.

    Raises:
        ValueError: it is present in some samples and missing in others.
    """
    present = [part for part in parts if part is not None]
    if not present:
        return None
    if len(present) != len(parts):
        raise ValueError(f"{len(parts) - len(present)} of {len(parts)} samples lack a field that others have")
    return torch.cat(present)


def collate(samples: Sequence[Batch]) -> Batch:
    """Join batches of one image each (as datasets return them) into one batch.

    Raises:
        ValueError: an optional field is present in some samples and missing in others.
    """
    return Batch(
        degraded=torch.cat([sample.degraded for sample in samples]),
        sharp=torch.cat([sample.sharp for sample in samples]),
        name=[name for sample in samples for name in sample.name],
        low_res=stack([sample.low_res for sample in samples]),
        condition=stack([sample.condition for sample in samples]),
        extra=stack([sample.extra for sample in samples]),
        extra_condition=stack([sample.extra_condition for sample in samples]),
        extra_low_res=stack([sample.extra_low_res for sample in samples]),
        seed=stack([sample.seed for sample in samples]),
    )
