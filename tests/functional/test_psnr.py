from __future__ import annotations

import doctest
import re

import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio

import sharpkd.functional.psnr
from sharpkd.functional.check import check_range, quantise_8bit
from sharpkd.functional.psnr import PSNR_CAP, psnr


def test_equals_scikit_image_per_image() -> None:
    generator = torch.Generator().manual_seed(0)
    sharp = torch.rand(3, 3, 20, 17, generator=generator)
    noise = torch.randn(3, 3, 20, 17, generator=generator) * torch.tensor([0.001, 0.05, 0.4]).view(3, 1, 1, 1)
    output = sharp + noise
    expected = [
        peak_signal_noise_ratio(a.double().numpy(), b.double().numpy(), data_range=1)
        for a, b in zip(sharp, output, strict=True)
    ]
    assert psnr(output, sharp).tolist() == pytest.approx(expected, abs=1e-3)


def test_identical_images_get_the_cap_and_the_closest_files_stay_below() -> None:
    image = torch.full((1, 3, 64, 64), 0.5)
    assert psnr(image, image).tolist() == pytest.approx([PSNR_CAP])
    other = image.clone()
    other[0, 0, 0, 0] += 1 / 255
    assert psnr(other, image).item() < PSNR_CAP
    assert psnr(image, image, cap=60).tolist() == pytest.approx([60])


def test_not_a_number_is_not_hidden() -> None:
    image = torch.full((1, 3, 8, 8), torch.nan)
    assert psnr(image, torch.zeros(1, 3, 8, 8)).isnan().all()


def test_sixteen_bit_input_is_measured_in_full_precision() -> None:
    sharp = torch.rand(1, 3, 16, 16).bfloat16()
    output = (sharp.float() * 0.9).bfloat16()
    torch.testing.assert_close(psnr(output, sharp), psnr(output.float(), sharp.float()))


@pytest.mark.parametrize(
    ("output", "sharp", "message"),
    [
        (torch.rand(1, 3, 8, 8), torch.rand(1, 3, 8, 9), "got (1, 3, 8, 8) and (1, 3, 8, 9)"),
        (torch.rand(3, 8, 8), torch.rand(3, 8, 8), "got (3, 8, 8) and (3, 8, 8)"),
        (torch.rand(0, 3, 8, 8), torch.rand(0, 3, 8, 8), "non-empty"),
        (
            torch.zeros(1, 3, 8, 8).byte(),
            torch.rand(1, 3, 8, 8),
            "got torch.uint8 and torch.float32",
        ),
    ],
)
def test_rejects_what_is_no_pair_of_images(output: torch.Tensor, sharp: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        psnr(output, sharp)


@pytest.mark.parametrize(("low", "high"), [(0.0, 255.0), (-1.0, 1.0), (0.0, float("nan"))])
def test_range_check_tells_the_range(low: float, high: float) -> None:
    image = torch.tensor([low, high]).expand(1, 3, 4, 2)
    with pytest.raises(ValueError, match=r"sharp must lie in \[0, 1\], got .* at shape \(1, 3, 4, 2\)"):
        check_range(image)


def test_range_check_allows_rounding() -> None:
    check_range(torch.tensor([-1e-7, 1 + 1e-7]).expand(1, 3, 4, 2))


def test_quantise_gives_what_an_8_bit_file_holds() -> None:
    image = torch.tensor([-0.2, 0.0, 0.4 / 255, 0.6 / 255, 1.0, 1.2])
    torch.testing.assert_close(quantise_8bit(image) * 255, torch.tensor([0.0, 0.0, 0.0, 1.0, 255.0, 255.0]))


def test_example_in_the_docstring() -> None:
    assert doctest.testmod(sharpkd.functional.psnr).failed == 0
