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
LARGEST_ERROR = 0.12
"""Of sigma, as a share of it: nine in ten whole images that are blurred by a pixel or more have less."""
LEAST_LIMIT = 0.15
"""Pixels: what that share does not fall below."""


class ConditionEstimator(Frozen):
    """An estimator that looks at a training's degraded images: the net learns to live with its errors.

    A training crop is a small part of an image, of which less can be told than of the whole: its estimate is
    worse than those that the net will be told in use. So in training the net is told

        ``truth + t * (estimate - truth)``, t the root of an even draw from [0, 1] for every image

    with a smaller t where sigma would be further from the truth than :data:`LARGEST_ERROR` allows, and sees
    errors of every size that whole images have, of the kind and in the places where the estimator makes them.
    A crop of the sky says nothing of the blur; without the limit such crops, of which there are few, teach
    the net to distrust what it is told. In validation it is told the estimate itself.

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

        The shares t of an image and of the extra inputs beside it follow from its own ``Batch.seed``, and
        from how far the estimate is from the truth.

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
        told = _towards(batch.condition, self.estimate(batch.degraded), shares[:, :1])
        extra = batch.extra_condition
        if extra is not None and batch.extra is not None:
            extra = _towards(extra, self.estimate(batch.extra), shares[:, 1:].reshape(-1, 1))
        return replace(batch, condition=told, extra_condition=extra)


def _towards(truth: Tensor, estimate: Tensor, shares: Tensor) -> Tensor:
    """``(N, k)`` truths moved by their shares, ``(N, 1)``, towards the estimates, as far as sigma may go."""
    sigma, error = truth[:, :1], (estimate[:, :1].to(truth) - truth[:, :1]).abs()
    limit = (LARGEST_ERROR * sigma).clamp(min=LEAST_LIMIT)
    allowed = limit / error.clamp(min=1e-6)
    return torch.lerp(truth, estimate.to(truth), torch.minimum(shares, allowed))


def _shares(seed: int, count: int) -> np.ndarray:
    generator = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(SHARE_STREAM,)))
    return np.sqrt(generator.random(count))
