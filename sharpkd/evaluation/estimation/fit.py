"""Fit the estimator of blur and noise to photographs whose degradation is known."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sharpkd.checkpoint import save_weights
from sharpkd.config import ConfigError
from sharpkd.data.degradation import Degradation
from sharpkd.data.folder import FolderSource
from sharpkd.estimation.estimator import BlurEstimator, Estimate
from sharpkd.estimation.features import FEATURES
from sharpkd.evaluation.console import console_of_results
from sharpkd.evaluation.estimation.samples import Drawing, Samples, draw_samples
from sharpkd.runs.folder import write_json

BETA = 0.5
"""How much of the likelihood's preference for what is known well is taken back: see likelihood_loss."""
WITHIN_95 = 1.959963984540054
LEAST_SPREAD = 1e-3
MEASURED_FROM = 0.8
"""Pixels: below it a relative error of sigma means little."""


@dataclass(frozen=True)
class Training:
    """Steps of AdamW with a cosine schedule.

    Attributes:
        steps: of every member.
        batch_size: samples in a step.
        lr: at the start.
        weight_decay: of AdamW.
        feature_noise: standard deviation of the noise that is added to standardised features, so that no
            single one is trusted too much.
    """

    steps: int
    batch_size: int
    lr: float
    weight_decay: float
    feature_noise: float


class FitEstimator:
    """Draws crops of photographs, degrades them, and fits a :class:`BlurEstimator` to their features.

    A part of the photographs is held out, chosen by a hash of their names. On it the uncertainty is scaled so
    that 95 % of the truths lie in the 95 % interval, and the errors are reported.

    Args:
        train_dir: folder of photographs, or several.
        degradation: one of SharpKD's that tells what it did.
        conditions: what to estimate, of the degradation's ``condition_names``, sigma first.
        largest: of each condition: half of it is the uncertainty where an image has no edges.
        width: see :class:`BlurEstimator`.
        members: likewise.
        crops: of every photograph.
        sides: shortest and longest side of a crop in pixels.
        reduction: photographs are reduced by a factor in this range before they are degraded.
        val_fraction: share of the photographs that is held out.
        steps, batch_size, lr, weight_decay, feature_noise: see :class:`Training`.
        seed: of the crops, the degradations and the start of the nets.

    Raises:
        ConfigError: there are no photographs, or the degradation is not one of SharpKD's.
        ValueError: a number is out of its range.
    """

    def __init__(
        self,
        train_dir: str | list[str] | None,
        degradation: Any,
        conditions: list[str],
        largest: list[float],
        width: int = 32,
        members: int = 4,
        crops: int = 40,
        sides: list[int] | None = None,
        reduction: list[float] | None = None,
        val_fraction: float = 0.2,
        steps: int = 2000,
        batch_size: int = 256,
        lr: float = 0.003,
        weight_decay: float = 0.05,
        feature_noise: float = 0.1,
        seed: int = 0,
    ) -> None:
        if train_dir is None:
            raise ConfigError("an estimator is fitted to photographs: train_dir=FOLDER names their folder")
        if not isinstance(degradation, Degradation):
            raise ConfigError(
                f"an estimator needs a degradation that tells what it did, found {type(degradation).__name__}"
            )
        low, high = sides or [64, 800]
        least, most = reduction or [1.75, 3.25]
        if crops < 1 or steps < 1 or not 1 <= low <= high or not 1 <= least <= most:
            raise ValueError(
                "crops and steps must be at least 1, sides and reduction [low, high] with 1 <= low <= high; "
                f"got crops={crops}, steps={steps}, sides={[low, high]}, reduction={[least, most]}"
            )
        self.source = FolderSource(train_dir, val_fraction=val_fraction)
        self.degradation = degradation
        self.arguments: dict[str, Any] = {
            "conditions": list(conditions),
            "width": width,
            "members": members,
            "largest": [float(value) for value in largest],
        }
        self.drawing = Drawing(crops, (low, high), (least, most))
        self.training = Training(steps, batch_size, lr, weight_decay, feature_noise)
        self.seed = seed

    def run(self, folder: Path) -> float:
        """Write ``estimator.safetensors`` and ``fit.json``, print the errors on held-out photographs.

        Returns:
            Median relative error of sigma there, for sigma of at least 0.8 pixels.
        """
        conditions = self.arguments["conditions"]
        train_files, held_files = self.source.train_files(), self.source.val_files()
        if not train_files or not held_files:
            raise ConfigError(f"{self.source}: two photographs or more are needed, some to be held out")
        torch.manual_seed(self.seed)
        estimator = BlurEstimator(**self.arguments)
        train, held = (
            draw_samples(files, self.degradation, conditions, self.drawing, seed)
            for files, seed in ((train_files, 2 * self.seed), (held_files, 2 * self.seed + 1))
        )
        fit(estimator, train, self.training, self.seed)
        calibrate(estimator, held)
        with torch.no_grad():
            figures = errors(estimator.from_features(held.features), held.conditions, conditions)
        path = folder / "estimator.safetensors"
        config = {"_target_": f"{BlurEstimator.__module__}.{BlurEstimator.__qualname__}", **self.arguments}
        metadata = {"degradation": type(self.degradation).__name__, "seed": str(self.seed)}
        save_weights(path, config, estimator.state_dict(), metadata)
        report = {
            "seed": self.seed,
            "estimator": self.arguments,
            "drawing": asdict(self.drawing),
            "training": asdict(self.training),
            "photographs": len(train_files),
            "held_out": [file.name for file in held_files],
            "crops": len(train.features),
            "held_out_crops": len(held.features),
            "features": FEATURES,
            "parameters": sum(weight.numel() for weight in estimator.parameters()),
            "errors_held_out": figures,
        }
        write_json(folder / "fit.json", report)
        console = console_of_results()
        for name, values in figures.items():
            console.print(f"{name}: " + ", ".join(f"{key} {value:g}" for key, value in values.items()))
        console.print(f"written to {path}")
        return figures[conditions[0]]["median_relative_error"]


def fit(estimator: BlurEstimator, samples: Samples, training: Training, seed: int) -> None:
    """Set the estimator's standardisation and weights.

    Every member sees batches of its own, drawn from a generator seeded by ``seed``.
    """
    estimator.feature_mean.copy_(samples.features.mean(0))
    estimator.feature_scale.copy_(samples.features.std(0).clamp(min=LEAST_SPREAD))
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(
        estimator.parameters(), lr=training.lr, weight_decay=training.weight_decay, fused=False
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, training.steps)
    shape = estimator.count, training.batch_size
    for _ in range(training.steps):
        chosen = torch.randint(len(samples.features), shape, generator=generator)
        standard = estimator.standardise(samples.features[chosen])
        noise = torch.randn(standard.shape, generator=generator)
        out = estimator.each_member(standard + training.feature_noise * noise)
        loss = likelihood_loss(out, samples.conditions[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()


def likelihood_loss(out: Tensor, target: Tensor, beta: float = BETA) -> Tensor:
    """Gaussian negative log-likelihood, each term weighted by its variance to the power of ``beta``.

    ``mean(stop_gradient(v)^beta · ((y - m)² / v + log v) / 2)``: with ``beta`` 0 Nix & Weigend's, which
    neglects what it cannot explain at first (Seitzer et al., On the pitfalls of heteroscedastic uncertainty
    estimation with probabilistic neural networks, ICLR 2022).

    Args:
        out: ``(..., k, 2)`` means ``m`` and logarithms of variances ``log v``.
        target: ``(..., k)``.
    """
    mean, log_variance = out.unbind(-1)
    variance = log_variance.exp()
    terms = ((target - mean).square() / variance + log_variance) / 2
    return (terms * variance.detach() ** beta).mean()


def calibrate(estimator: BlurEstimator, held: Samples) -> None:
    """Scale the uncertainties so that 95 % of the held-out truths lie within 1.96 of them."""
    estimator.uncertainty_scale.fill_(1)
    with torch.no_grad():
        estimate = estimator.from_features(held.features)
    distance = (estimate.condition - held.conditions).abs() / estimate.uncertainty
    estimator.uncertainty_scale.copy_(distance.quantile(0.95, dim=0) / WITHIN_95)


def errors(estimate: Estimate, truth: Tensor, names: list[str]) -> dict[str, dict[str, float]]:
    """By condition: median absolute error, share inside the 95 % interval; sigma's relative error too."""
    error = estimate.condition - truth
    inside = (error.abs() <= WITHIN_95 * estimate.uncertainty).float().mean(0)
    figures = {}
    for column, name in enumerate(names):
        figures[name] = {
            "median_absolute_error": round(float(error[:, column].abs().median()), 4),
            "inside_95": round(float(inside[column]), 4),
        }
    large = truth[:, 0] >= MEASURED_FROM
    relative = error[large, 0].abs() / truth[large, 0]
    figures[names[0]] |= {
        "median_relative_error": round(float(relative.median()), 4),
        "p90_relative_error": round(float(relative.quantile(0.9)), 4),
    }
    return figures
