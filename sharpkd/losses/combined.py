"""The training loss: named terms under four weights."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor, nn

from sharpkd.functional.check import check_pair, full_precision


@dataclass
class LossResult:
    """What one evaluation of the loss found.

    Attributes:
        total: scalar, to call ``backward()`` on.
        terms: every computed term, unweighted and detached: "pixel", "perceptual", "ssim", "distill",
            the transfer terms inside it as "distill/<name>", and what these report as
            "distill/<name>/<what>".
    """

    total: Tensor
    terms: dict[str, Tensor] = field(default_factory=dict)


class CombinedLoss(nn.Module):
    """``total = α·L_pixel + β·L_perceptual + γ·L_SSIM + δ·L_distill``. A term of weight 0 is not computed.

    Args:
        alpha: weight of the pixel term.
        beta: weight of the perceptual term; at 0 the perceptual network is not even built.
        gamma: weight of the SSIM term.
        delta: weight of what the teacher adds.
        pixel: ``(output, sharp) -> scalar``.
        perceptual: builds the perceptual term; called once, and only where ``beta > 0``.
        ssim: ``(output, sharp) -> scalar``.

    Raises:
        ValueError: a weight is negative or not finite, all are 0, or ``perceptual`` is no factory.
    """

    def __init__(
        self,
        alpha: float,
        beta: float,
        gamma: float,
        delta: float,
        pixel: nn.Module,
        perceptual: Callable[[], nn.Module],
        ssim: nn.Module,
    ) -> None:
        super().__init__()
        weights = {"alpha": alpha, "beta": beta, "gamma": gamma, "delta": delta}
        for name, weight in weights.items():
            if not isinstance(weight, (int, float)) or not (math.isfinite(weight) and weight >= 0):
                raise ValueError(f"loss.{name} must be a finite number >= 0, got {weight!r}")
        if not any(weights.values()):
            raise ValueError("at least one of loss.alpha, loss.beta, loss.gamma, loss.delta must be above 0")
        if isinstance(perceptual, nn.Module):
            raise ValueError(
                f"loss.perceptual must be a factory, got a {type(perceptual).__name__} already built; "
                "add `_partial_: true` beside its `_target_`, so that nothing is loaded for loss.beta=0"
            )
        self.weights = weights
        self.pixel = pixel
        self.perceptual = perceptual() if beta > 0 else None
        self.ssim = ssim

    def forward(
        self, output: Tensor, sharp: Tensor, distill: Callable[[], dict[str, Tensor]] | None = None
    ) -> LossResult:
        """Weigh and add the terms.

        Args:
            output: ``(N, 3, H, W)``, unclamped, any float dtype; all terms run in float32 or better.
            sharp: ``(N, 3, H, W)`` in [0, 1].
            distill: returns ``{"distill": transfer terms weighed and added, "distill/<name>": each alone}``;
                called only where ``delta > 0``.

        Raises:
            ValueError: ``delta > 0`` without ``distill``, or the shapes differ.
        """
        check_pair(output, sharp)
        output, sharp = full_precision(output), full_precision(sharp)
        parts: dict[str, Tensor] = {}
        terms: dict[str, Tensor] = {}
        if self.weights["alpha"] > 0:
            parts["alpha"] = terms["pixel"] = self.pixel(output, sharp)
        if self.perceptual is not None:
            parts["beta"] = terms["perceptual"] = self.perceptual(output, sharp)
        if self.weights["gamma"] > 0:
            parts["gamma"] = terms["ssim"] = self.ssim(output, sharp)
        if self.weights["delta"] > 0:
            if distill is None:
                raise ValueError(
                    f"loss.delta is {self.weights['delta']} but there is no teacher to learn from; "
                    "set loss.delta=0, or train with experiment=distill teacher.path=PATH"
                )
            transferred = distill()
            terms.update(transferred)
            parts["delta"] = transferred["distill"]
        weighted = [self.weights[name] * part for name, part in parts.items()]
        total = weighted[0]
        for part in weighted[1:]:
            total = total + part
        return LossResult(total, {name: term.detach() for name, term in terms.items()})
