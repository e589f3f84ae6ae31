"""Wiener filters in front of a student: their transfer functions, what they restore, and folding."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import skimage.data
import torch
from scipy.ndimage import correlate
from torch import Tensor

from sharpkd.data.degradation_maths import gaussian_blur
from sharpkd.nets.filtered_student import FilteredStudent
from sharpkd.nets.wiener_student import NOISE_TO_SIGNAL, WienerStudent, filtered


def student(**settings: Any) -> WienerStudent:
    torch.manual_seed(0)
    return WienerStudent(**{"width": 6, "depth": 3, "hidden": 8, **settings}).eval()


def awake(net: WienerStudent) -> WienerStudent:
    """Weights with which every part changes the output."""
    for name in ("tail.weight", "modulation.body.2.weight", "ratio.2.weight"):
        torch.nn.init.normal_(net.get_parameter(name), std=0.2)
    return net


def image_of(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array.transpose(2, 0, 1)))[None].float() / 255


def test_what_is_told_beside_sigma_raises_the_ratio_as_noise_does() -> None:
    net = student(condition_limits=[4.0, 5.0, 2.0, 3.0])
    torch.nn.init.zeros_(net.get_parameter("ratio.2.weight"))

    def ratio(sigma: float, *beside: float) -> float:
        return float(net.ratios(torch.tensor([[sigma, *beside]])).detach()[0, 0])

    alone = ratio(1, 0, 0, 0)
    assert alone == pytest.approx(NOISE_TO_SIGNAL[0] / 1.25)
    assert ratio(0, 0, 0, 0) == 0
    assert ratio(0.5, 0, 0, 0) == pytest.approx(NOISE_TO_SIGNAL[0] / 2)
    assert ratio(1, 0.3, 0, 0) == pytest.approx(2 * alone)
    assert ratio(1, 0, 0.07, 0) == pytest.approx(2 * alone)
    assert ratio(1, 0, 0, 0.1) == pytest.approx(2 * alone)
    assert ratio(1, 0.6, 0.07, 0.3) == pytest.approx((1 + 4 + 1 + 9) * alone)


def test_no_blur_is_the_identity_and_kernels_are_even_and_of_sum_1() -> None:
    net = awake(student(condition_limits=[4.0, 5.0]))
    kernels = net.kernels(torch.tensor([[0.0, 2.0], [1.6, 0.0], [4.0, 5.0]])).detach()
    assert kernels.shape == (3, 3, 31, 31)
    torch.testing.assert_close(kernels.sum((-2, -1)), torch.ones(3, 3))
    torch.testing.assert_close(kernels, kernels.flip(-1, -2))
    torch.testing.assert_close(kernels, kernels.transpose(-1, -2))
    identity = torch.zeros(31, 31)
    identity[15, 15] = 1
    torch.testing.assert_close(kernels[0], identity.expand(3, -1, -1), atol=1e-6, rtol=0)
    assert not kernels[1, 0].allclose(kernels[1, 1], atol=1e-3)


def test_filtering_is_correlation_with_mirrored_edges() -> None:
    torch.manual_seed(0)
    image, kernels = torch.rand(2, 3, 17, 3), torch.randn(2, 2, 9, 9)
    found = filtered(image, kernels)
    for n, k, c in np.ndindex(2, 2, 3):
        expected = correlate(image[n, c].numpy(), kernels[n, k].numpy(), mode="mirror")
        np.testing.assert_allclose(found[n, k, c].numpy(), expected, atol=1e-5)


@pytest.mark.parametrize(("sigma", "least"), [(0.8, 5.0), (1.6, 2.0), (2.4, 1.0)])
def test_untrained_it_restores_what_a_linear_filter_can(sigma: float, least: float) -> None:
    sharp = skimage.data.astronaut()[:200, 100:300]
    blurred = gaussian_blur(sharp, sigma)
    with torch.inference_mode():
        restored = student()(image_of(blurred), torch.tensor([[sigma]])).clamp(0, 1)

    def psnr(image: Tensor) -> float:
        return float(-10 * torch.log10((image - image_of(sharp)).square().mean()))

    assert psnr(restored) > psnr(image_of(blurred)) + least


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"rep": True, "unshuffle": 4, "luma_only": True, "filter_chroma": True, "candidates": 1},
        {"luma_only": True, "taps": 7, "condition_limits": [4.0, 5.0]},
    ],
)
def test_folded_it_is_a_plain_net_of_the_same_output(settings: dict[str, Any]) -> None:
    net = awake(student(**settings))
    condition = torch.tensor([1.3, 2.0])[: net.condition_size]
    image = torch.rand(1, 3, 29, 43)
    folded = net.fold(condition)
    assert type(folded) is FilteredStudent
    assert folded.receptive_field == net.receptive_field
    assert folded.macs_per_pixel() == net.macs_per_pixel()
    with torch.inference_mode():
        told, plain = net(image, condition[None]), folded(image)
        assert (told - image).abs().mean() > 0.01
    torch.testing.assert_close(plain, told, atol=2e-5, rtol=1e-4)
    # its filters are in its file
    again = FilteredStudent(**folded.arguments())
    again.load_state_dict(folded.state_dict())
    assert again.eval()(image).equal(folded(image))


def test_luma_only_leaves_chroma_or_filters_it() -> None:
    torch.manual_seed(0)
    image = torch.rand(1, 3, 24, 24)
    condition = torch.tensor([[1.2]])
    for filter_chroma in (False, True):
        net = awake(student(luma_only=True, filter_chroma=filter_chroma))
        with torch.inference_mode():
            added = net(image, condition) - image
            grey_parts = added.std(dim=1).max()
            linear = filtered(image, net.kernels(condition)[:, :1])[:, 0] - image
            rest = (added - linear).std(dim=1).max()
        assert (grey_parts < 1e-5) == (not filter_chroma)
        assert (rest < 1e-5) == filter_chroma


def test_gradients_reach_the_noise_to_signal_ratio() -> None:
    net = student()
    net(torch.rand(2, 3, 32, 32), torch.tensor([[0.8], [2.0]])).square().mean().backward()
    gradient = net.get_parameter("ratio.2.bias").grad
    assert gradient is not None
    assert (gradient[:1].abs() > 0).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"scale": 2}, "scale: found 2, expected 1: the filters keep the size"),
        ({"taps": 8}, "taps: found 8, expected an odd number from 3 to 63"),
        ({"taps": 65}, "taps: found 65, expected an odd number from 3 to 63"),
        ({"candidates": 0}, "candidates: found 0, expected at least 1"),
    ],
)
def test_settings_out_of_range(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        student(**settings)
    if "scale" not in settings and settings != {"taps": 65}:
        with pytest.raises(ValueError, match=re.escape(message.split(",")[0])):
            FilteredStudent(**settings)
