"""The condition as an estimator finds it: what a net is told where nobody knows the truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from sharpkd.data.batch import Batch
from sharpkd.functional.frozen import Frozen

SHARE_STREAM = 2


class ConditionEstimator(Frozen):
    """An estimator that looks at a training's degraded images: the net learns to live with its errors.

    A training crop is a small part of an image, of which less can be told than of the whole: its estimate is
    worse than those that the net will be told in use. So in training the net is told

        ``truth + t * (estimate - truth)``, t drawn evenly from [0, 1] for every image

    and sees errors of every size up to those of its crops, of the kind and in the places where the estimator
    makes them. In validation it is told the estimate itself.

    Args:
        net: ``forward(image) -> estimate`` with ``estimate.condition``, ``(N, k)``.
        names: what its k numbers are, for messages.
    """

    def __init__(self, net: nn.Module, names: Sequence[str]) -> None:
        super().__init__(net)
        self.names = tuple(names)

    @torch.no_grad()
    def estimate(self, degraded: Tensor) -> Tensor:
        """``(N, 3, H, W)`` in [0, 1] -> ``(N, k)`` float32, whatever precision the training has."""
        with torch.autocast(degraded.device.type, enabled=False):
            # rounded outputs of a degradation lie in [0, 1] but for what float32 loses
            return self.module(degraded.float().clamp(0, 1)).condition

    def told(self, batch: Batch) -> Batch:
        """A training batch with its conditions as a net is told them: see the class.

        The shares t of an image and of the extra inputs beside it follow from its own ``Batch.seed``.

        Raises:
            ValueError: the batch says nothing, or something else, of what was done, or has no seeds.
        """
        count = len(self.names)
        if batch.condition is None or batch.condition.shape[1] != count:
            found = "nothing" if batch.condition is None else f"{batch.condition.shape[1]} numbers"
            raise ValueError(
                f"estimator: it finds {', '.join(self.names)}, and the degradation says {found}; use one "
                "that says the same, such as degradation=camera"
            )
        if batch.seed is None:
            raise ValueError("estimator needs batches with a seed, found none")
        extras = 0 if batch.extra is None else len(batch.extra) // len(batch)
        shares = torch.from_numpy(np.stack([_shares(int(seed), 1 + extras) for seed in batch.seed.tolist()]))
        shares = shares.to(batch.condition)
        told = torch.lerp(batch.condition, self.estimate(batch.degraded).to(shares), shares[:, :1])
        extra = batch.extra_condition
        if extra is not None and batch.extra is not None:
            extra = torch.lerp(extra, self.estimate(batch.extra).to(extra), shares[:, 1:].reshape(-1, 1))
        return replace(batch, condition=told, extra_condition=extra)


def _shares(seed: int, count: int) -> np.ndarray:
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(SHARE_STREAM,))).random(count)
