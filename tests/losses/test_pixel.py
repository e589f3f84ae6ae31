from __future__ import annotations

import math
import statistics

import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio
from torch import Tensor, nn
from torch.nn.functional import l1_loss, mse_loss

from sharpkd.losses.pixel import CharbonnierLoss, L1Loss, MSELoss, PSNRLoss
from sharpkd.losses.ssim import SSIMLoss


@pytest.fixture
def pair() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(2, 3, 16, 15, generator=generator), torch.rand(2, 3, 16, 15, generator=generator)


def test_equal_torch(pair: tuple[Tensor, Tensor]) -> None:
    torch.testing.assert_close(L1Loss()(*pair), l1_loss(*pair))
    torch.testing.assert_close(MSELoss()(*pair), mse_loss(*pair))


def test_charbonnier_is_the_formula(pair: tuple[Tensor, Tensor]) -> None:
    pixels = zip(*(image.flatten().tolist() for image in pair), strict=True)
    expected = statistics.mean(math.sqrt((a - b) ** 2 + 0.1**2) for a, b in pixels)
    assert CharbonnierLoss(epsilon=0.1)(*pair).item() == pytest.approx(expected, rel=1e-5)


def test_charbonnier_has_a_gradient_where_nothing_differs() -> None:
    image = torch.full((1, 3, 4, 4), 0.5, requires_grad=True)
    CharbonnierLoss()(image, image.detach()).backward()
    assert image.grad is not None
    assert image.grad.abs().max() == 0


def test_psnr_is_scikit_images_of_each_image(pair: tuple[Tensor, Tensor]) -> None:
    output, sharp = pair
    output[1] = sharp[1] + 0.01 * output[1]
    each = [
        peak_signal_noise_ratio(b.numpy(), a.numpy(), data_range=1)
        for a, b in zip(output, sharp, strict=True)
    ]
    assert each[1] > each[0] + 20
    assert -PSNRLoss(epsilon=1e-6)(output, sharp).item() == pytest.approx(statistics.mean(each), abs=1e-3)
    # an image that is right is worth 20 log10(1 / epsilon)
    assert -PSNRLoss(epsilon=1e-3)(sharp, sharp).item() == pytest.approx(60)


@pytest.mark.parametrize("epsilon", [0.0, -1.0, float("nan"), float("inf")])
@pytest.mark.parametrize("loss", [CharbonnierLoss, PSNRLoss])
def test_epsilon_must_be_positive(loss: type[CharbonnierLoss | PSNRLoss], epsilon: float) -> None:
    with pytest.raises(ValueError, match="epsilon must be a positive number, got"):
        loss(epsilon)


@pytest.mark.parametrize("loss", [L1Loss(), CharbonnierLoss(), MSELoss(), PSNRLoss(), SSIMLoss(window=5)])
class TestEveryTerm:
    def test_gradient(self, loss: nn.Module) -> None:
        generator = torch.Generator().manual_seed(2)
        output, sharp = (torch.rand(1, 2, 6, 7, dtype=torch.float64, generator=generator) for _ in range(2))
        output.requires_grad_()
        assert torch.autograd.gradcheck(loss, (output, sharp))

    def test_takes_a_16_bit_output(self, loss: nn.Module) -> None:
        sharp = torch.rand(1, 3, 12, 12)
        output = (sharp * 0.9).bfloat16().requires_grad_()
        value = loss(output, sharp)
        assert value.dtype == torch.float32
        assert value.shape == ()
        value.backward()
        assert output.grad is not None
        assert output.grad.dtype == torch.bfloat16

    def test_rejects_other_shapes(self, loss: nn.Module) -> None:
        with pytest.raises(ValueError, match=r"got \(1, 3, 8, 8\) and \(1, 3, 8, 16\)"):
            loss(torch.rand(1, 3, 8, 8), torch.rand(1, 3, 8, 16))
