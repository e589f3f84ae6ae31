"""Wiener filters of few taps: against scikit-image's filter, scipy's solver, and what they are for."""

from __future__ import annotations

import math

import numpy as np
import pytest
import skimage.data
import torch
from scipy.optimize import minimize
from scipy.signal import fftconvolve
from skimage.restoration import wiener

from sharpkd.data.degradation_maths import gaussian_blur
from sharpkd.nets.wiener_filter import GRID, SPECTRUM, wiener_filters

Array = np.ndarray


def kernel(sigma: float, ratio: float, taps: int) -> Array:
    return wiener_filters(torch.tensor([sigma]), torch.tensor([[ratio]]), taps)[0, 0].double().numpy()


def parts(sigma: float) -> tuple[Array, Array]:
    """G and S at all frequencies."""
    frequency = np.fft.fftfreq(GRID)
    squared = frequency[:, None] ** 2 + frequency**2
    return np.exp(-2 * math.pi**2 * sigma**2 * squared), 1 / (1 + SPECTRUM * squared)


def response(kernel: Array) -> Array:
    """The transfer function of a kernel, by the FFT of it in the middle of the grid."""
    reach = len(kernel) // 2
    wide = np.zeros((GRID, GRID))
    wide[: 2 * reach + 1, : 2 * reach + 1] = kernel
    return np.fft.fft2(np.roll(wide, (-reach, -reach), (0, 1))).real


@pytest.mark.parametrize(("sigma", "ratio"), [(0.7, 1e-2), (1.2, 3e-2)])
def test_with_many_taps_it_is_scikit_images_wiener_filter(sigma: float, ratio: float) -> None:
    """But for its sum, which there is 1 / (1 + n)."""
    blur, signal = parts(sigma)
    pattern = np.random.default_rng(0).random((GRID, GRID))
    pattern -= pattern.mean()
    regulariser = np.sqrt(1 / signal) + 0j
    expected = wiener(pattern, blur + 0j, ratio, reg=regulariser, is_real=False, clip=False).real
    found = np.fft.ifft2(np.fft.fft2(pattern) * response(kernel(sigma, ratio, 41))).real
    np.testing.assert_allclose(found, expected, atol=0.02 * np.abs(expected).max())


@pytest.mark.parametrize(("sigma", "ratio"), [(0.8, 1e-3), (2.0, 1e-4), (3.5, 1e-5)])
def test_no_other_kernel_of_so_few_taps_does_better(sigma: float, ratio: float) -> None:
    blur, signal = parts(sigma)
    found = kernel(sigma, ratio, 5)

    def cost(kernel: Array) -> float:
        through = response(kernel)
        return float((signal * (1 - through * blur) ** 2 + ratio * through**2).sum())

    def of(numbers: Array) -> Array:
        """Any kernel of sum 1, symmetric or not."""
        rest = np.insert(numbers, 12, 0.0).reshape(5, 5)
        rest[2, 2] = 1 - rest.sum()
        return rest

    start = np.delete(found.ravel(), 12)
    best = minimize(lambda numbers: cost(of(numbers)), start, method="BFGS", options={"gtol": 1e-7})
    assert cost(found) <= best.fun * (1 + 1e-5)
    for move in np.eye(24):
        assert cost(of(start + 0.02 * move)) > cost(found)


@pytest.mark.parametrize("sigma", [1.6, 2.4, 3.0])
def test_few_taps_restore_what_many_do_and_more_than_a_cut_kernel(sigma: float) -> None:
    sharp = skimage.data.camera()[100:356, 100:356]
    blurred = gaussian_blur(sharp, sigma).astype(float)

    def psnr(kernel: Array) -> float:
        wide = np.pad(blurred, len(kernel) // 2, mode="reflect")
        return float(
            -10 * np.log10(np.square(fftconvolve(wide, kernel, mode="valid") - sharp).mean() / 255**2)
        )

    ratio = 1e-4
    few, many = kernel(sigma, ratio, 15), kernel(sigma, ratio, 41)
    blur, signal = parts(sigma)
    whole = np.fft.fftshift(np.fft.ifft2(blur / (blur**2 + ratio / signal)).real)
    cut = whole[GRID // 2 - 7 : GRID // 2 + 8, GRID // 2 - 7 : GRID // 2 + 8]
    assert psnr(few) > psnr(many) - 0.5
    assert psnr(few) > psnr(cut / cut.sum()) + 0.5


def test_they_are_symmetric_of_sum_1_and_the_identity_where_there_is_nothing_to_do() -> None:
    found = wiener_filters(torch.tensor([0.0, 1.3]), torch.tensor([[0.0, 0.0], [1e-4, 1e-2]]), 9)
    assert found.shape == (2, 2, 9, 9)
    torch.testing.assert_close(found.sum((-2, -1)), torch.ones(2, 2))
    for other in (found.flip(-1), found.mT):
        torch.testing.assert_close(found, other)
    identity = torch.zeros(9, 9)
    identity[4, 4] = 1
    torch.testing.assert_close(found[0], identity.expand(2, -1, -1), atol=1e-6, rtol=0)


def test_they_can_be_trained_after_they_were_used_without_gradients() -> None:
    ratio = torch.tensor([[1e-3]], requires_grad=True)
    with torch.inference_mode():
        wiener_filters(torch.tensor([1.1]), ratio, 11)
    wiener_filters(torch.tensor([1.1]), ratio, 11).square().sum().backward()
    assert ratio.grad is not None
    small = torch.tensor([[1e-3 - 1e-6], [1e-3 + 1e-6]], dtype=torch.float64)
    low, high = wiener_filters(torch.tensor([1.1, 1.1]), small, 11).double().square().sum((1, 2, 3))
    assert float(ratio.grad) == pytest.approx(float(high - low) / 2e-6, rel=0.02)
