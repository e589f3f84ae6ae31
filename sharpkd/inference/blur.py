"""How blurred and how noisy an image is, without torch: the packaged estimator in NumPy.

The same numbers as `sharpkd.estimation.estimator.BlurEstimator` gives, from the same file; tests hold that.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sharpkd.inference.blur_features import blur_features
from sharpkd.inference.errors import ModelError
from sharpkd.inference.weight_file import read_weights

ESTIMATOR = "sharpkd.estimation.estimator.BlurEstimator"
OUTLIER = 4.0
LOG_VARIANCE = (-8.0, 4.0)
LEAST_EDGE = 1.0


@dataclass(frozen=True)
class Estimate:
    """What was done to one image.

    Attributes:
        names: of the quantities; the first is "sigma", the Gaussian blur's in pixels.
        values: ``(k,)``, at least 0, in their own units.
        uncertainty: ``(k,)`` standard deviation of each, in the same units.

    Example:
        >>> estimate = Estimate(("sigma", "noise"), np.array([1.5, 2.0]), np.array([0.25, 0.5]))
        >>> print(estimate)
        sigma 1.50 ± 0.25, noise 2.00 ± 0.50
        >>> estimate.sigma, estimate["noise"], estimate.cautious(2).sigma
        (1.5, 2.0, 1.0)
    """

    names: tuple[str, ...]
    values: NDArray[np.float32]
    uncertainty: NDArray[np.float32]

    @property
    def sigma(self) -> float:
        """Of the blur, in pixels."""
        return float(self.values[0])

    def __getitem__(self, name: str) -> float:
        """The estimate of that name.

        Raises:
            KeyError: nothing of that name is estimated.
        """
        if name not in self.names:
            raise KeyError(f"{name!r} is not estimated, only {', '.join(self.names)}")
        return float(self.values[self.names.index(name)])

    def cautious(self, z: float) -> Estimate:
        """With ``max(0, sigma - z · its uncertainty)`` for sigma, which errs towards doing less.

        Raises:
            ValueError: ``z`` is negative or no number.
        """
        if not z >= 0:
            raise ValueError(f"z must be at least 0, got {z}")
        return self.with_sigma(max(0.0, self.sigma - z * float(self.uncertainty[0])))

    def with_sigma(self, sigma: float) -> Estimate:
        """The same, with another sigma."""
        values = self.values.copy()
        values[0] = sigma
        return replace(self, values=values)

    def __str__(self) -> str:
        rows = zip(self.names, self.values, self.uncertainty, strict=True)
        return ", ".join(f"{name} {value:.2f} ± {spread:.2f}" for name, value, spread in rows)


class Estimator:
    """Reads an estimator's ``.safetensors`` and applies it to pixels.

    Args:
        path: as ``python -m sharpkd.benchmark what=fit_estimator`` writes it; None for the package's own.

    Raises:
        ModelError: no such file, or it holds something else.
    """

    def __init__(self, path: Path | str | None = None) -> None:
        file = read_weights(packaged_estimator() if path is None else Path(path))
        if file.net != ESTIMATOR:
            raise ModelError(f"{file.path} holds a {file.net}, expected {ESTIMATOR}")
        self.path = file.path
        self.names = tuple(str(name) for name in file.arguments.get("conditions", ("sigma", "noise")))
        self._arrays = file.arrays
        self._count = int(file.arguments.get("members", 4))
        wanted = {"feature_mean", "feature_scale", "uncertainty_scale", "ignorance", *self._member_keys()}
        if set(self._arrays) != wanted:
            odd = ", ".join(sorted(wanted ^ set(self._arrays)))
            raise ModelError(
                f"{file.path}: its tensors do not fit {ESTIMATOR} (missing or unexpected: {odd})"
            )

    def __call__(self, pixels: NDArray[Any], black: float = 0.0, white: float | None = None) -> Estimate:
        """Arguments and errors as of `sharpkd.inference.blur_features.blur_features`."""
        return self.from_features(blur_features(pixels, black, white))

    def from_features(self, features: NDArray[np.float32]) -> Estimate:
        """From ``(FEATURES,)`` that `blur_features` gave."""
        weights = self._arrays
        if np.exp(features[0]) < LEAST_EDGE:
            # Without edges there is no evidence of any blur, and no reason to do anything.
            return Estimate(self.names, np.zeros_like(weights["ignorance"]), weights["ignorance"].copy())
        standard = (features - weights["feature_mean"]) / weights["feature_scale"]
        hidden = np.clip(standard, -OUTLIER, OUTLIER)[None, :, None]
        (first, first_bias), (second, second_bias), (last, last_bias) = self._stacked
        hidden = _silu(first @ hidden + first_bias)
        hidden = _silu(second @ hidden + second_bias)
        means, log_variances = np.split((last @ hidden + last_bias)[..., 0], 2, axis=1)
        variances = np.exp(np.clip(log_variances, *LOG_VARIANCE))
        spread = np.sqrt(variances.mean(0) + means.var(0)) * weights["uncertainty_scale"]
        mean = np.maximum(means.mean(0), np.float32(0))
        return Estimate(self.names, mean, np.minimum(spread, weights["ignorance"]))

    @cached_property
    def _stacked(self) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
        """Weights ``(members, out, in)`` and biases ``(members, out, 1)`` of the three layers."""
        stacked = []
        for layer in (0, 2, 4):
            parts = [self._arrays[f"members.{member}.{layer}.weight"] for member in range(self._count)]
            biases = [self._arrays[f"members.{member}.{layer}.bias"] for member in range(self._count)]
            stacked.append((np.stack(parts), np.stack(biases)[..., None]))
        return stacked

    def _member_keys(self) -> list[str]:
        kinds = [f"{layer}.{kind}" for layer in (0, 2, 4) for kind in ("weight", "bias")]
        return [f"members.{member}.{kind}" for member in range(self._count) for kind in kinds]


def packaged_estimator() -> Path:
    """The file of the estimator that comes with the package."""
    return weights_folder() / "estimator.safetensors"


def weights_folder() -> Path:
    """Where the package keeps its weights."""
    return Path(__file__).resolve().parent.parent / "weights"


def _silu(values: NDArray[np.float32]) -> NDArray[np.float32]:
    # the usual form overflows far below 0
    return values * (1 + np.tanh(values / 2)) / 2
