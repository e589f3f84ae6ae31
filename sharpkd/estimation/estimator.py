"""A small net on hand-made features that says how blurred and how noisy an image is, and how sure it is.

The heads give a mean and a logarithm of a variance for each quantity (Nix & Weigend, Estimating the mean and
variance of the target probability distribution, ICNN 1994; Kendall & Gal, What uncertainties do we need in
Bayesian deep learning for computer vision?, NeurIPS 2017). Several such nets that differ in their start
are taken together as one mixture (Lakshminarayanan et al., Simple and scalable predictive uncertainty
estimation using deep ensembles, NeurIPS 2017, section 2.4): where they disagree, the uncertainty grows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sharpkd.estimation.features import FEATURES, PIXELS, blur_features

SIGMA = "sigma"
OUTLIER = 4.0
"""Standardised features are clamped to so many standard deviations: nothing is extrapolated far."""
LOG_VARIANCE = (-8.0, 4.0)
LEAST_EDGE = 1.0
"""Grey levels per pixel. Where the steepest edges are less steep, there is nothing to measure."""


@dataclass(frozen=True)
class Estimate:
    """What was done to each image of a batch.

    Attributes:
        condition: ``(N, k)``, at least 0; sigma of the blur in pixels first, then what
            ``BlurEstimator.conditions`` names.
        uncertainty: ``(N, k)`` standard deviation of each, in the same units.
    """

    condition: Tensor
    uncertainty: Tensor

    def cautious(self, z: float = 1.0) -> Tensor:
        """The condition with a lower quantile in place of sigma: ``max(0, sigma - z · uncertainty)``.

        A sharpener that is told too much blur does harm, one that is told too little does less than it
        could. With ``z = 1`` the true sigma is larger for about 84 % of the images, with 1.64 for 95 %.

        Args:
            z: standard deviations to take off, at least 0; 0 gives the condition itself.

        Returns:
            ``(N, k)``; everything but sigma is as in ``condition``.

        Raises:
            ValueError: ``z`` is negative.
        """
        if not z >= 0:
            raise ValueError(f"z must be at least 0, got {z}")
        lowered = self.condition.clone()
        lowered[:, 0] = (self.condition[:, 0] - z * self.uncertainty[:, 0]).clamp(min=0)
        return lowered


class BlurEstimator(nn.Module):
    """``forward(image) -> Estimate``.

    Args:
        conditions: what is estimated, sigma first.
        width: of the two hidden layers.
        members: nets that are taken together.
        largest: of each condition; half of it is the uncertainty where there is nothing to measure.

    Raises:
        ValueError: sigma does not come first, there are not as many limits as conditions, or a number is
            below 1.
    """

    feature_mean: Tensor
    feature_scale: Tensor
    uncertainty_scale: Tensor
    ignorance: Tensor

    def __init__(
        self,
        conditions: Sequence[str] = (SIGMA, "noise"),
        width: int = 32,
        members: int = 4,
        largest: Sequence[float] = (4.0, 5.0),
    ) -> None:
        super().__init__()
        if not conditions or conditions[0] != SIGMA:
            raise ValueError(f"conditions must begin with {SIGMA!r}, got {list(conditions)}")
        if len(largest) != len(conditions):
            raise ValueError(
                f"largest must be one number for each of {list(conditions)}, got {list(largest)}"
            )
        for name, value in (("width", width), ("members", members)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        self.conditions = tuple(conditions)
        self.members = nn.ModuleList(_member(width, len(conditions)) for _ in range(members))
        self.register_buffer("feature_mean", torch.zeros(FEATURES))
        self.register_buffer("feature_scale", torch.ones(FEATURES))
        self.register_buffer("uncertainty_scale", torch.ones(len(conditions)))
        self.register_buffer("ignorance", torch.tensor([value / 2 for value in largest]))

    def forward(self, image: Tensor) -> Estimate:
        """Estimate from pixels.

        Args:
            image: ``(N, 3, H, W)`` float RGB in [0, 1], any H, W >= 1.

        Raises:
            ValueError: the image is no RGB float batch, or not within [0, 1].
        """
        check_image(image)
        return self.from_features(blur_features(image))

    def from_features(self, features: Tensor) -> Estimate:
        """As :meth:`forward`, for ``(N, FEATURES)`` that :func:`blur_features` gave."""
        means, variances = self.each_member(self.standardise(features).expand(self.count, -1, -1)).unbind(-1)
        mean = means.mean(0)
        spread = (variances.exp().mean(0) + means.var(0, unbiased=False)).sqrt() * self.uncertainty_scale
        # Without edges there is no evidence of any blur, and no reason to do anything.
        blind = features[:, :1].exp() < LEAST_EDGE
        return Estimate(
            torch.where(blind, 0.0, mean.clamp(min=0)),
            torch.where(blind, self.ignorance, torch.minimum(spread, self.ignorance)),
        )

    @property
    def count(self) -> int:
        """How many members there are."""
        return len(self.members)

    def standardise(self, features: Tensor) -> Tensor:
        """``(..., FEATURES)`` in standard deviations from the mean of the fitted samples, clamped."""
        return ((features - self.feature_mean) / self.feature_scale).clamp(-OUTLIER, OUTLIER)

    def each_member(self, standard: Tensor) -> Tensor:
        """``(members, N, FEATURES)``, standardised -> ``(members, N, k, 2)``: means and log-variances."""
        out = torch.stack([member(part) for member, part in zip(self.members, standard, strict=True)])
        mean, log_variance = out.chunk(2, dim=-1)
        return torch.stack([mean, log_variance.clamp(*LOG_VARIANCE)], dim=-1)


def check_image(image: Tensor) -> None:
    """Raise a ValueError that names what was found unless ``image`` is a float ``(N, 3, H, W)`` in [0, 1].

    Of large images the range of evenly chosen rows is checked, so that the time is bounded.
    """
    shape = tuple(image.shape)
    if image.ndim != 4 or shape[1] != 3 or 0 in shape:
        raise ValueError(f"image: expected an RGB batch (N, 3, H, W), found shape {shape}")
    if not image.is_floating_point():
        raise ValueError(
            f"image: expected floats in [0, 1], found {image.dtype} of shape {shape}; divide by 255"
        )
    step = max(1, shape[2] * shape[3] // PIXELS)
    low, high = (float(value) for value in image[:, :, ::step].aminmax())
    if not (low >= 0 and high <= 1):
        raise ValueError(f"image: expected values in [0, 1], found {low:g} to {high:g} in shape {shape}")


def _member(width: int, conditions: int) -> nn.Module:
    return nn.Sequential(
        nn.Linear(FEATURES, width),
        nn.SiLU(),
        nn.Linear(width, width),
        nn.SiLU(),
        nn.Linear(width, 2 * conditions),
    )
