"""Fitting the estimator: repeatable, calibrated, refused where it would mean nothing."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from skimage import data

from sharpkd.benchmark import main
from sharpkd.checkpoint import load_estimator
from sharpkd.config import ConfigError
from sharpkd.data import benchmark_guard
from sharpkd.data.camera import Camera
from sharpkd.data.crops import to_tensor
from sharpkd.data.degradation import GaussianBlur
from sharpkd.data.degradation_maths import gaussian_blur
from sharpkd.estimation.estimator import BlurEstimator
from sharpkd.estimation.features import FEATURES
from sharpkd.evaluation.estimation.fit import FitEstimator, calibrate, likelihood_loss
from sharpkd.evaluation.estimation.samples import Drawing, Samples, draw_samples


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for name in ("astronaut", "coffee", "chelsea", "rocket"):
        Image.fromarray(getattr(data, name)()).save(folder / f"{name}.png")
    return folder


def fitting(photos: Path, **settings: Any) -> FitEstimator:
    usual: dict[str, Any] = {
        "train_dir": str(photos),
        "degradation": Camera(sigma=(0.0, 3.5), noise_p=0.0, quality_p=0.0),
        "conditions": ["sigma"],
        "largest": [3.5],
        "width": 16,
        "members": 2,
        "crops": 30,
        "sides": [100, 200],
        "val_fraction": 0.3,
        "steps": 300,
        "batch_size": 32,
    }
    return FitEstimator(**(usual | settings))


def test_a_small_fit_learns_repeats_and_is_calibrated(photos: Path, tmp_path: Path) -> None:
    """Ninety crops teach it to tell blurs of a photograph that it never saw apart."""
    folders = [tmp_path / name for name in ("one", "two")]
    found = []
    for folder in folders:
        folder.mkdir()
        found.append(fitting(photos).run(folder))
    # tensors, not bytes: safetensors orders its metadata at random
    first, second = (load_file(folder / "estimator.safetensors") for folder in folders)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert found[0] == found[1] < 0.3
    report = json.loads((folders[0] / "fit.json").read_text())
    assert report["errors_held_out"]["sigma"]["median_relative_error"] == found[0]
    assert report["errors_held_out"]["sigma"]["inside_95"] == pytest.approx(0.95, abs=0.04)
    assert report["photographs"] + len(report["held_out"]) == 4
    assert report["crops"] == 30 * report["photographs"]

    estimator = load_estimator(folders[0] / "estimator.safetensors")
    assert estimator.conditions == ("sigma",)
    sharp = data.cat()
    with torch.inference_mode():
        sigmas = [float(estimator(to_tensor(gaussian_blur(sharp, s))).condition[0, 0]) for s in (0.5, 1.5, 3)]
    assert sigmas == sorted(sigmas)
    assert sigmas[2] - sigmas[0] > 1.5


def test_another_seed_is_another_fit(photos: Path, tmp_path: Path) -> None:
    fits = []
    for seed in (0, 1):
        fitting(photos, seed=seed, crops=4, steps=2).run(tmp_path)
        fits.append(load_file(tmp_path / "estimator.safetensors"))
    differ = [name for name in fits[0] if not torch.equal(fits[0][name], fits[1][name])]
    assert "feature_mean" in differ  # other crops
    assert "members.0.0.weight" in differ


def test_the_loss_is_torchs_likelihood_where_beta_is_zero() -> None:
    generator = torch.Generator().manual_seed(0)
    out, target = torch.randn(7, 2, 2, generator=generator), torch.randn(7, 2, generator=generator)
    expected = torch.nn.GaussianNLLLoss()(out[..., 0], target, out[..., 1].exp())
    torch.testing.assert_close(likelihood_loss(out, target, beta=0), expected)


def test_beta_weighs_each_term_by_its_variance() -> None:
    """One term by hand: v = 4, distance 2: 4^0.5 · (4 / 4 + log 4) / 2; no gradient through the weight."""
    out = torch.tensor([[[1.0, math.log(4.0)]]], requires_grad=True)
    loss = likelihood_loss(out, torch.tensor([[3.0]]), beta=0.5)
    assert loss.item() == pytest.approx(2 * (1 + math.log(4)) / 2)
    loss.backward()
    assert out.grad is not None
    # by the mean: v^0.5 · (m - y) / v; by log v: v^0.5 · (1 - d² / v) / 2 = 0
    torch.testing.assert_close(out.grad, torch.tensor([[[-1.0, 0.0]]]))


def test_calibration_puts_the_interval_where_the_truths_are() -> None:
    torch.manual_seed(0)
    estimator = BlurEstimator(["sigma"], members=2, largest=[1e6])
    features = torch.rand(400, FEATURES)
    with torch.no_grad():
        answers = estimator.from_features(features).condition
    held = Samples(features, answers + 3 * torch.randn(400, 1))
    calibrate(estimator, held)
    with torch.no_grad():
        estimate = estimator.from_features(features)
    inside = (estimate.condition - held.conditions).abs() <= 1.96 * estimate.uncertainty
    assert float(inside.float().mean()) == pytest.approx(0.95, abs=0.005)


def test_a_benchmark_image_is_refused(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = benchmark_guard.pixel_hash(data.coffee())
    monkeypatch.setattr(benchmark_guard, "sharpbench_hashes", lambda: {digest: "Set14/coffee.png"})
    drawing = Drawing(1, (64, 64), (1.0, 1.0))
    assert len(draw_samples([photos / "rocket.png"], Camera(), ["sigma"], drawing, 0).features) == 1
    with pytest.raises(ValueError, match=r"coffee\.png is Set14/coffee\.png"):
        draw_samples([photos / "coffee.png"], Camera(), ["sigma"], drawing, 0)


def test_a_condition_that_nobody_tells_is_named(photos: Path) -> None:
    message = "GaussianBlur does not say what noise was; it tells sigma"
    with pytest.raises(ValueError, match=f"^{message}$"):
        draw_samples(
            [photos / "rocket.png"], GaussianBlur(), ["sigma", "noise"], Drawing(1, (9, 9), (1.0, 1.0)), 0
        )


def test_bad_settings_are_named(photos: Path) -> None:
    with pytest.raises(ConfigError, match=r"^an estimator is fitted to photographs: train_dir=FOLDER names"):
        fitting(photos, train_dir=None)
    with pytest.raises(ConfigError, match=r"^an estimator needs a degradation .* found str$"):
        fitting(photos, degradation="blur")
    message = re.escape("got crops=0, steps=300, sides=[100, 200], reduction=[1.75, 3.25]")
    with pytest.raises(ValueError, match=f"{message}$"):
        fitting(photos, crops=0)
    with pytest.raises(ValueError, match=r"sides=\[9, 3\], reduction=\[1\.75, 3\.25\]$"):
        fitting(photos, sides=[9, 3])
    with pytest.raises(ValueError, match=r"sides=\[100, 200\], reduction=\[0\.5, 2\]$"):
        fitting(photos, reduction=[0.5, 2])


def test_the_command(photos: Path, tmp_path: Path, call: Callable[..., Any]) -> None:
    settings = ["what.crops=3", "what.steps=2", "what.members=1", f"paths.output_root={tmp_path}"]
    done = call(main, "what=fit_estimator", f"train_dir={photos}", *settings)
    assert done.code == 0, done.err
    estimator = load_estimator(tmp_path / "benchmark" / "fit_estimator" / "estimator.safetensors")
    assert estimator.conditions == ("sigma", "noise", "compression", "reduction")
    assert "written to" in done.out
