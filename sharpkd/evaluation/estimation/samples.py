"""Crops of photographs of which it is known what was done to them, as features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sharpkd.data.benchmark_guard import pixel_hash, refuse_benchmark_images
from sharpkd.data.crops import to_tensor
from sharpkd.data.degradation import Degradation, degrade
from sharpkd.data.images import read_image
from sharpkd.estimation.features import blur_features

FILTERS = (
    Image.Resampling.BICUBIC,
    Image.Resampling.LANCZOS,
    Image.Resampling.BOX,
    Image.Resampling.HAMMING,
)
"""Antialiased filters that photographs are reduced by: pictures out there were reduced by any of them."""
LEAST_REDUCTION = 1.1
"""Less than this would only soften a photograph."""


@dataclass(frozen=True)
class Samples:
    """What an estimator is fitted to, or checked on.

    Attributes:
        features: ``(M, FEATURES)``.
        conditions: ``(M, k)`` what was done.
    """

    features: Tensor
    conditions: Tensor


@dataclass(frozen=True)
class Drawing:
    """How crops are drawn.

    Attributes:
        per_image: crops of every photograph.
        sides: shortest and longest side in pixels; each side is drawn by itself, evenly on a logarithmic
            scale.
        reduction: photographs are first reduced by a factor in this range, at least 1: reduced ones are
            sharper, and of a soft one the estimator would be right to find more blur than was added.
    """

    per_image: int
    sides: tuple[int, int]
    reduction: tuple[float, float]


def draw_samples(
    files: Sequence[Path],
    degradation: Degradation,
    conditions: Sequence[str],
    drawing: Drawing,
    seed: int,
) -> Samples:
    """Draw crops, degrade them, and take their features.

    Args:
        files: photographs.
        degradation: decides what is done to each crop.
        conditions: which of its ``condition_names`` are kept, in this order.
        drawing: how crops are drawn.
        seed: the same seed and photographs give the same samples.

    Raises:
        ValueError: the degradation does not tell one of the conditions, or a photograph is in the benchmark.
    """
    unknown = [name for name in conditions if name not in degradation.condition_names]
    if unknown:
        raise ValueError(
            f"{type(degradation).__name__} does not say what {', '.join(unknown)} was; "
            f"it tells {', '.join(degradation.condition_names)}"
        )
    columns = [degradation.condition_names.index(name) for name in conditions]
    features, targets = [], []
    for number, path in enumerate(files):
        photograph = read_image(path)
        refuse_benchmark_images([(path, pixel_hash(photograph))])
        generator = np.random.default_rng((seed, number))
        for _ in range(drawing.per_image):
            crop = _crop(photograph, drawing, generator)
            degraded, condition = degrade(degradation, crop, int(generator.integers(2**31)))
            assert condition is not None
            with torch.inference_mode():
                features.append(blur_features(to_tensor(degraded)))
            targets.append(torch.from_numpy(condition[columns]))
    # clone: what inference mode made cannot be trained on
    return Samples(torch.cat(features).clone(), torch.stack(targets))


def _crop(photograph: np.ndarray, drawing: Drawing, generator: np.random.Generator) -> np.ndarray:
    """A random window of the photograph, reduced by a random factor and filter."""
    reduction = generator.uniform(*drawing.reduction)
    chosen = FILTERS[generator.integers(len(FILTERS))]
    reduction = reduction if reduction >= LEAST_REDUCTION else 1.0
    low, high = drawing.sides
    sides = [round(low * (high / low) ** generator.random()) for _ in range(2)]
    whole = [
        min(round(side * reduction), extent) for side, extent in zip(sides, photograph.shape, strict=False)
    ]
    top, left = (
        int(generator.integers(extent - side + 1))
        for extent, side in zip(photograph.shape, whole, strict=False)
    )
    window = photograph[top : top + whole[0], left : left + whole[1]]
    if reduction == 1:
        return window
    height, width = (max(1, round(side / reduction)) for side in whole)
    return np.asarray(Image.fromarray(window).resize((width, height), chosen))
