"""How sure a mean difference is: Student's t interval over paired measurements."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from scipy.special import stdtrit

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class MeanInterval:
    """A mean and the interval that holds the true one, in the units of what was averaged.

    Attributes:
        mean: of the values.
        n: how many there were.
        low: lower end; None for a single value, which says nothing about the spread.
        high: upper end, likewise.
    """

    mean: float
    n: int
    low: float | None
    high: float | None

    @property
    def half_width(self) -> float | None:
        """What stands behind ±; None for a single value."""
        return None if self.high is None else self.high - self.mean

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval lies on one side of zero; False for a single value."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


@dataclass(frozen=True)
class Paired(Generic[Key]):
    """Two series lined up by key.

    Attributes:
        differences: second minus first, for every key of both.
        only_first: keys without a partner, in the order of the first series.
        only_second: likewise.
    """

    differences: dict[Key, float]
    only_first: list[Key]
    only_second: list[Key]

    def interval(self, confidence: float = 0.95) -> MeanInterval:
        """:func:`mean_interval` of the differences."""
        return mean_interval(self.differences.values(), confidence)


def mean_interval(differences: Iterable[float], confidence: float = 0.95) -> MeanInterval:
    """Mean with its two-sided interval by Student's t: mean ± t(n - 1) · s / √n (Student 1908).

    The values have to be independent: one a seed, or one an image, never several from one.

    Args:
        differences: any units.
        confidence: share of such intervals that hold the true mean, between 0 and 1.

    Raises:
        ValueError: there are no values, one is not finite, or ``confidence`` is out of range.
    """
    values = np.asarray(list(differences), dtype=np.float64)
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}, expected a share between 0 and 1, such as 0.95")
    _check(values, "a mean")
    mean = float(values.mean())
    if values.size == 1:
        return MeanInterval(mean, 1, None, None)
    t = float(stdtrit(values.size - 1, 0.5 + confidence / 2))
    half = t * float(values.std(ddof=1)) / math.sqrt(values.size)
    return MeanInterval(mean, int(values.size), mean - half, mean + half)


def paired(first: Mapping[Key, float], second: Mapping[Key, float]) -> Paired[Key]:
    """Line two series up by key (image, seed): what either has alone is told, not averaged."""
    return Paired(
        {key: second[key] - value for key, value in first.items() if key in second},
        [key for key in first if key not in second],
        [key for key in second if key not in first],
    )


def percentile(values: Iterable[float], percent: float) -> float:
    """The value below which ``percent`` per cent (0 to 100) lie, linear between neighbours.

    Raises:
        ValueError: there are no values, one is not finite, or ``percent`` is out of range.
    """
    known = np.asarray(list(values), dtype=np.float64)
    if not 0 <= percent <= 100:
        raise ValueError(f"percent is {percent}, expected 0 to 100")
    _check(known, "a percentile")
    return float(np.percentile(known, percent))


def _check(values: np.ndarray, what: str) -> None:
    if not values.size:
        raise ValueError(f"{what} needs at least one value, got none")
    if not np.isfinite(values).all():
        raise ValueError(f"{what} needs finite values, got {values[~np.isfinite(values)][0]}")
