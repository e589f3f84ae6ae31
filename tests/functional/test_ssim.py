from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity
from torch import Tensor
from torch.nn.functional import avg_pool2d
from torchmetrics.functional.image import structural_similarity_index_measure

from sharpkd.functional.ssim import _filter_by_convolution, _filter_by_shifts, gaussian_window, ssim


def reference(output: Tensor, sharp: Tensor) -> list[float]:
    return [
        structural_similarity(
            a.double().numpy(),
            b.double().numpy(),
            channel_axis=0,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            data_range=1,
        )
        for a, b in zip(output, sharp, strict=True)
    ]


def noisy_pair(height: int, width: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(height)
    sharp = torch.rand(2, 3, height, width, generator=generator)
    noise = torch.randn(2, 3, height, width, generator=generator) * torch.tensor([0.02, 0.3]).view(2, 1, 1, 1)
    return sharp + noise, sharp


def smooth_pair(height: int, width: int) -> tuple[Tensor, Tensor]:
    """Nearly flat and bright: variances far below the squares that they are differences of."""
    ramp = torch.linspace(0.9, 1.0, height * width).view(1, 1, height, width).repeat(2, 3, 1, 1)
    return ramp.clone().roll(1, dims=3), ramp


@pytest.mark.parametrize("pair", [noisy_pair, smooth_pair])
@pytest.mark.parametrize(("height", "width"), [(11, 11), (32, 45), (128, 96)])
def test_equals_scikit_image_per_image(
    pair: Callable[[int, int], tuple[Tensor, Tensor]], height: int, width: int
) -> None:
    output, sharp = pair(height, width)
    assert ssim(output, sharp).tolist() == pytest.approx(reference(output, sharp), abs=1e-4)


def test_equals_scikit_image_on_a_blurred_photograph(photograph: Tensor) -> None:
    blurred = avg_pool2d(photograph, 3, stride=1, padding=1, count_include_pad=False)
    value = ssim(blurred, photograph)
    assert value.tolist() == pytest.approx(reference(blurred, photograph), abs=1e-5)
    assert 0.5 < value.item() < 0.99


def test_equals_torchmetrics_without_its_padded_border() -> None:
    output, sharp = noisy_pair(40, 31)
    _, full = structural_similarity_index_measure(output, sharp, data_range=1.0, return_full_image=True)
    torch.testing.assert_close(ssim(output, sharp), full[..., 5:-5, 5:-5].mean((1, 2, 3)), atol=1e-5, rtol=0)


def test_is_one_for_identical_images() -> None:
    image = torch.rand(2, 3, 16, 16)
    torch.testing.assert_close(ssim(image, image), torch.ones(2))


def test_data_range_scales_with_the_image() -> None:
    output, sharp = noisy_pair(20, 20)
    torch.testing.assert_close(ssim(output * 255, sharp * 255, data_range=255.0), ssim(output, sharp))


def test_both_filters_are_the_same_filter() -> None:
    image, weights = torch.rand(2, 3, 20, 17, dtype=torch.float64), gaussian_window(11, 1.5)
    windows = np.lib.stride_tricks.sliding_window_view(image.numpy(), (11, 11), axis=(2, 3))
    expected = (windows * np.outer(weights, weights)).sum((-2, -1))
    for chosen in (_filter_by_convolution, _filter_by_shifts):
        np.testing.assert_allclose(chosen(image, weights).numpy(), expected, rtol=1e-12)


def test_gradient() -> None:
    generator = torch.Generator().manual_seed(1)
    output, sharp = (torch.rand(2, 2, 12, 13, dtype=torch.float64, generator=generator) for _ in range(2))
    output.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: ssim(x, sharp), (output,))


def test_runs_in_float32_under_autocast() -> None:
    output, sharp = smooth_pair(32, 32)
    output.requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = ssim(output, sharp)
        half = ssim(output.bfloat16(), sharp)
    assert value.dtype == half.dtype == torch.float32
    torch.testing.assert_close(value, ssim(output, sharp), rtol=0, atol=0)
    torch.testing.assert_close(half, ssim(output.bfloat16().float(), sharp), rtol=0, atol=0)
    value.sum().backward()
    assert output.grad is not None
    assert output.grad.abs().max() > 0


def test_flat_images_have_finite_gradients() -> None:
    output = torch.full((1, 3, 16, 16), 0.5, requires_grad=True)
    ssim(output, torch.zeros(1, 3, 16, 16)).sum().backward()
    assert output.grad is not None
    assert output.grad.isfinite().all()


def test_too_small_an_image_is_named() -> None:
    image = torch.rand(1, 3, 30, 10)
    message = "SSIM with a window of 11 needs images of at least 11x11 pixels, got 30x10"
    with pytest.raises(ValueError, match=message):
        ssim(image, image)


@pytest.mark.parametrize(("window", "sigma"), [(10, 1.5), (0, 1.5), (11, 0.0), (11, float("nan"))])
def test_bad_windows_are_named(window: int, sigma: float) -> None:
    message = f"an SSIM window needs an odd size and sigma > 0, got window={window}, sigma={sigma}"
    with pytest.raises(ValueError, match=re.escape(message)):
        gaussian_window(window, sigma)
