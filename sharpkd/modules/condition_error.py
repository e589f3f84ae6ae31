"""What a net is told in training, wrong by as much as an estimator would be."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from sharpkd.data.batch import Batch

Spread = float | Sequence[float]
"""Standard deviation of the error's logarithm: one for every number of the condition, or one for all."""

CONDITION_STREAM = 1


def check_spread(spread: Spread) -> list[float]:
    """The spread as a list.

    Raises:
        ValueError: it is not one or more finite numbers >= 0.
    """
    numbers = [spread] if isinstance(spread, (int, float)) else list(spread)
    if not numbers or any(isinstance(one, bool) or not 0 <= one < math.inf for one in numbers):
        raise ValueError(f"module.condition_noise must be a number >= 0, or a list of them; found {spread!r}")
    return [float(one) for one in numbers]


def estimated(batch: Batch, spread: Sequence[float]) -> Batch:
    """The batch with every number c of its conditions replaced by ``c * exp(s * z)``, z normal.

    A relative error, as estimators of blur have it: for small s its standard deviation is s (0.1: a tenth of
    sigma, more than that one time in three), it does not change a number's sign, and 0 stays 0. The errors of
    an image follow from its own ``Batch.seed`` alone, hence from (seed, epoch, index): they do not depend on
    workers, ranks, the other images or where a training was resumed. Extra inputs have errors of their own,
    and more of them do not change the first ones.

    Args:
        batch: with ``condition`` and ``seed``.
        spread: s, one number or as many as the condition has.

    Returns:
        A copy; the batch itself where every s is 0.

    Raises:
        ValueError: the batch has no condition or no seed, or the condition another length.
    """
    if not any(spread):
        return batch
    if batch.condition is None or batch.seed is None:
        lacking = "condition" if batch.condition is None else "seed"
        raise ValueError(f"module.condition_noise={list(spread)} needs batches with a {lacking}, found none")
    count = batch.condition.shape[1]
    if len(spread) not in (1, count):
        raise ValueError(
            f"module.condition_noise has {len(spread)} numbers, and the condition {count}; give one for all, "
            "or as many"
        )
    extras = 0 if batch.extra_condition is None else len(batch.extra_condition) // len(batch)
    scaled = np.stack([_normal(int(seed), 1 + extras, count) for seed in batch.seed.tolist()]) * spread
    factors = torch.from_numpy(np.exp(scaled)).to(batch.condition)
    extra = batch.extra_condition
    return replace(
        batch,
        condition=batch.condition * factors[:, 0],
        extra_condition=None if extra is None else extra * factors[:, 1:].reshape(extra.shape),
    )


def _normal(seed: int, rows: int, columns: int) -> np.ndarray:
    generator = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(CONDITION_STREAM,)))
    return generator.standard_normal((rows, columns))
