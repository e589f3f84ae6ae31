"""The students that come with the package: what their cards and figures say is of these files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import skimage.data
from skimage.metrics import peak_signal_noise_ratio

from sharpkd import Sharpener
from sharpkd.checkpoint import load_net
from sharpkd.data.degradation_maths import gaussian_blur
from sharpkd.evaluation.fingerprints import hash_of_model
from sharpkd.inference.models import MADE_FOR, PackagedModel, packaged_models
from sharpkd.nets.wiener_student import WienerStudent

LARGEST = 2_000_000


def test_all_three_are_there() -> None:
    assert [one.name for one in packaged_models()] == list(MADE_FOR)


@pytest.mark.parametrize("one", packaged_models(), ids=lambda one: one.name)
def test_weights_card_and_figures_belong_together(one: PackagedModel, project_root: Path) -> None:
    assert one.bytes <= LARGEST
    assert isinstance(load_net(one.path).net, WienerStudent)
    results = json.loads((project_root / "benchmarks" / "shipped" / "sharpbench.json").read_text())
    entry = results["models"][one.name]
    assert entry["weights_sha256"] == hash_of_model(one.path)
    assert one.card is not None
    card = one.card.read_text(encoding="utf-8")
    assert f"{entry['parameters']:,} parameters" in card
    for condition, figures in entry["conditions"].items():
        assert f"| {condition} | " in card
        assert f" | {figures['psnr']:.2f} (" in card or condition == "sharp"


@pytest.mark.parametrize("one", packaged_models(), ids=lambda one: one.name)
def test_blind_it_restores_blur_and_leaves_what_is_sharp(one: PackagedModel) -> None:
    sharp = np.ascontiguousarray(skimage.data.astronaut())
    sharpen = Sharpener(one.name, threads=1)
    assert sharpen.engine == "openvino"
    for sigma, least in ((0.8, 2.0), (1.6, 1.5), (2.4, 1.0)):
        blurred = gaussian_blur(sharp, sigma)
        gain = peak_signal_noise_ratio(sharp, sharpen(blurred)) - peak_signal_noise_ratio(sharp, blurred)
        assert gain > least, sigma
    assert peak_signal_noise_ratio(sharp, sharpen(sharp)) > 40
    np.testing.assert_array_equal(sharpen(sharp, strength=0), sharp)
