from __future__ import annotations

import doctest
import statistics
from collections.abc import Callable
from types import ModuleType

import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Tensor
from torchmetrics.functional.image import peak_signal_noise_ratio as torchmetrics_psnr
from torchmetrics.functional.image import structural_similarity_index_measure as torchmetrics_ssim

import sharpkd.metrics.psnr
import sharpkd.metrics.ssim
from sharpkd.functional.psnr import PSNR_CAP
from sharpkd.metrics.per_image import PerImageMetric
from sharpkd.metrics.psnr import PSNR
from sharpkd.metrics.ssim import SSIM


@pytest.fixture
def images() -> tuple[Tensor, Tensor]:
    """Five degraded and sharp images of very different quality."""
    generator = torch.Generator().manual_seed(0)
    sharp = torch.rand(5, 3, 24, 21, generator=generator)
    noise = torch.randn(5, 3, 24, 21, generator=generator)
    strength = torch.tensor([0.001, 0.01, 0.05, 0.2, 0.5]).view(5, 1, 1, 1)
    return sharp + noise * strength, sharp


def scikit_psnr(output: Tensor, sharp: Tensor) -> float:
    return float(peak_signal_noise_ratio(sharp.double().numpy(), output.double().numpy(), data_range=1))


def scikit_ssim(output: Tensor, sharp: Tensor) -> float:
    return structural_similarity(
        sharp.double().numpy(),
        output.double().numpy(),
        channel_axis=0,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=1,
    )


Reference = Callable[[Tensor, Tensor], float]
REFERENCES: list[tuple[type[PerImageMetric], Reference, float]] = [
    (PSNR, scikit_psnr, 1e-3),
    (SSIM, scikit_ssim, 1e-4),
]


@pytest.mark.parametrize(("kind", "reference", "tolerance"), REFERENCES)
@pytest.mark.parametrize("quantise", [False, True])
def test_is_the_mean_of_scikit_image_over_images(
    images: tuple[Tensor, Tensor],
    kind: type[PerImageMetric],
    reference: Callable[[Tensor, Tensor], float],
    tolerance: float,
    quantise: bool,
) -> None:
    output, sharp = images
    metric = kind(quantise=quantise)
    metric.update(output, sharp)
    shown = output.clamp(0, 1)
    if quantise:
        shown, sharp = ((image.double() * 255).round() / 255 for image in (shown, sharp))
    expected = statistics.mean(reference(a, b) for a, b in zip(shown, sharp, strict=True))
    assert metric.compute().item() == pytest.approx(expected, abs=tolerance)


def test_equal_torchmetrics(images: tuple[Tensor, Tensor]) -> None:
    output, sharp = images[0].clamp(0, 1), images[1]
    psnr, ssim = PSNR(), SSIM()
    psnr.update(output, sharp)
    ssim.update(output, sharp)
    expected = torchmetrics_psnr(output, sharp, data_range=1.0, dim=(1, 2, 3), reduction="none")
    torch.testing.assert_close(psnr.compute(), expected.mean())
    _, full = torchmetrics_ssim(output, sharp, data_range=1.0, return_full_image=True)
    torch.testing.assert_close(ssim.compute(), full[..., 5:-5, 5:-5].mean(), atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", [PSNR, SSIM])
def test_uneven_batches_and_processes_weigh_every_image_alike(
    images: tuple[Tensor, Tensor], kind: type[PerImageMetric]
) -> None:
    output, sharp = images
    whole, batched, first, second = kind(), kind(), kind(), kind()
    whole.update(output, sharp)
    for part in (slice(0, 3), slice(3, 5)):
        batched.update(output[part], sharp[part])
    torch.testing.assert_close(batched.compute(), whole.compute())
    first.update(output[:4], sharp[:4])
    second.update(output[4:], sharp[4:])
    # What torchmetrics does across processes, by the same reductions.
    first.merge_state(second)
    torch.testing.assert_close(first.compute(), whole.compute())
    assert first.count.item() == 5


@pytest.mark.parametrize("kind", [PSNR, SSIM])
def test_starts_anew_after_a_reset_and_saves_nothing(
    images: tuple[Tensor, Tensor], kind: type[PerImageMetric]
) -> None:
    metric = kind()
    metric.update(*images)
    metric.reset()
    metric.update(images[1], images[1])
    assert metric.compute().item() == pytest.approx(PSNR_CAP if kind is PSNR else 1)
    assert metric.state_dict() == {}


@pytest.mark.parametrize("kind", [PSNR, SSIM])
def test_bfloat16_under_autocast_is_measured_in_float32(
    images: tuple[Tensor, Tensor], kind: type[PerImageMetric]
) -> None:
    output, sharp = images[0].bfloat16(), images[1]
    inside, outside = kind(), kind()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside.update(output, sharp)
    outside.update(output.float(), sharp)
    assert inside.compute().item() == outside.compute().item()


def test_the_cap_is_a_setting() -> None:
    image = torch.rand(2, 3, 8, 8)
    metric = PSNR(cap=60)
    metric.update(image, image)
    assert metric.compute().item() == pytest.approx(60)


def test_direction_of_better() -> None:
    assert (PSNR().higher_is_better, SSIM().higher_is_better) == (True, True)


def test_bad_input_is_named() -> None:
    image = torch.rand(1, 3, 16, 16)
    with pytest.raises(ValueError, match=r"sharp must lie in \[0, 1\], got 0 to 255 at shape \(1, 3, 2, 2"):
        PSNR().update(torch.rand(1, 3, 2, 2), torch.tensor([0.0, 255.0]).expand(1, 3, 2, 2))
    with pytest.raises(ValueError, match=r"got \(1, 3, 16, 16\) and \(3, 16, 16\)"):
        SSIM().update(image, image[0])
    with pytest.raises(ValueError, match="needs images of at least 11x11 pixels, got 10x16"):
        SSIM().update(image[:, :, :10], image[:, :, :10])


@pytest.mark.parametrize("module", [sharpkd.metrics.psnr, sharpkd.metrics.ssim])
def test_examples_in_the_docstrings(module: ModuleType) -> None:
    result = doctest.testmod(module)
    assert (result.attempted, result.failed) == (4, 0)
