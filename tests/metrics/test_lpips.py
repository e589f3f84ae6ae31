from __future__ import annotations

import copy
import logging
import re
from pathlib import Path

import lpips
import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn

from sharpkd.metrics.lpips import LPIPS, available, maybe_lpips

BLURS = (0, 0.5, 1, 2, 4)


@pytest.fixture
def pair(photograph: Tensor) -> tuple[Tensor, Tensor]:
    sharp = torch.cat([photograph, photograph.flip(1), photograph.rot90(1, (2, 3))])
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(sharp.shape, generator=generator) * torch.tensor([0.01, 0.1, 0.3]).view(3, 1, 1, 1)
    return (sharp + noise).clamp(0, 1), sharp


def blurred(image: Tensor, sigma: float) -> Tensor:
    return torch.from_numpy(gaussian_filter(image.numpy(), (0, 0, sigma, sigma)))


def by_the_paper(trunk: nn.Module, output: Tensor, sharp: Tensor) -> list[float]:
    """Eq. 1 of the paper, with the heads from the lpips package, on torchvision's features."""
    heads = torch.load(Path(lpips.__file__).parent / "weights/v0.1/squeeze.pth", map_location="cpu")
    shift, scale = torch.tensor([-0.030, -0.088, -0.188]), torch.tensor([0.458, 0.448, 0.450])
    distance = np.zeros(len(sharp))
    for k, cut in enumerate((2, 5, 8, 10, 11, 12, 13)):
        unit = []
        for image in (output, sharp):
            x = (2 * image - 1 - shift.view(1, 3, 1, 1)) / scale.view(1, 3, 1, 1)
            with torch.no_grad():
                x = trunk.get_submodule("features")[:cut](x)  # type: ignore[index]  # a Sequential, which the stub cannot know
            unit.append(nn.functional.normalize(x, dim=1))
        weighted = (unit[0] - unit[1]).square() * heads[f"lin{k}.model.1.weight"]
        distance += weighted.sum(1).mean((1, 2)).double().numpy()
    return distance.tolist()


@pytest.mark.filterwarnings("error")
def test_equals_the_formula_of_the_paper_averaged_per_image(
    squeezenet: tuple[nn.Module, str], pair: tuple[Tensor, Tensor]
) -> None:
    output, sharp = pair
    metric = LPIPS("squeeze", squeezenet[1])
    metric.update(output[:2], sharp[:2])
    metric.update(output[2:], sharp[2:])
    expected = by_the_paper(squeezenet[0], output, sharp)
    assert metric.compute().item() == pytest.approx(sum(expected) / 3, rel=1e-4)
    assert metric.score(output, sharp).tolist() == pytest.approx(expected, rel=1e-4)


def test_is_zero_for_equal_images(squeezenet: tuple[nn.Module, str], photograph: Tensor) -> None:
    metric = LPIPS("squeeze", squeezenet[1])
    metric.update(photograph, photograph)
    assert metric.compute().item() == 0
    assert metric.higher_is_better is False


def test_the_network_is_unseen_and_shared(squeezenet: tuple[nn.Module, str]) -> None:
    metric = LPIPS("squeeze", squeezenet[1]).train()
    assert list(metric.parameters()) == []
    assert metric.state_dict() == {}
    assert not metric.net.module.training
    assert copy.deepcopy(metric).net.module is metric.net.module


def test_other_heads_are_used(
    squeezenet: tuple[nn.Module, str], pair: tuple[Tensor, Tensor], tmp_path: Path
) -> None:
    own = torch.load(Path(lpips.__file__).parent / "weights/v0.1/squeeze.pth", map_location="cpu")
    torch.save({name: 2 * tensor for name, tensor in own.items()}, tmp_path / "lin.pth")
    usual, doubled = LPIPS("squeeze", squeezenet[1]), LPIPS("squeeze", squeezenet[1], tmp_path / "lin.pth")
    torch.testing.assert_close(doubled.score(*pair), 2 * usual.score(*pair))


def test_without_weights_the_figure_stays_blank(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    missing = tmp_path / "squeezenet1_1.pth"
    assert not available(None)
    assert not available(missing)
    with caplog.at_level(logging.WARNING):
        assert maybe_lpips(weights=None) is None
        assert caplog.messages == []
        assert maybe_lpips(weights=missing) is None
    assert caplog.messages == [f"LPIPS is left blank: no weight file at {missing}"]


def test_with_weights_the_metric_is_built(squeezenet: tuple[nn.Module, str]) -> None:
    assert available(squeezenet[1])
    metric = maybe_lpips("squeeze", squeezenet[1], quantise=True)
    assert isinstance(metric, LPIPS)
    assert metric.quantise


def test_bad_settings_and_files_are_named(squeezenet: tuple[nn.Module, str], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="backbone 'resnet' is unknown; choose from squeeze, alex, vgg"):
        LPIPS("resnet", squeezenet[1])
    with pytest.raises(FileNotFoundError, match="needs the ImageNet weights of its backbone, squeeze"):
        LPIPS()
    with pytest.raises(FileNotFoundError, match=re.escape(f"no weight file at {tmp_path / 'no.pth'}")):
        LPIPS("squeeze", tmp_path / "no.pth")
    with pytest.raises(ValueError, match=re.escape(f"{squeezenet[1]} does not fit alexnet")):
        LPIPS("alex", squeezenet[1])


def test_small_images_are_named(squeezenet: tuple[nn.Module, str]) -> None:
    image = torch.rand(1, 3, 31, 40)
    message = "LPIPS with squeeze needs RGB images of at least 32x32 pixels, got shape (1, 3, 31, 40)"
    with pytest.raises(ValueError, match=re.escape(message)):
        LPIPS("squeeze", squeezenet[1]).update(image, image)


@pytest.mark.real_data
@pytest.mark.parametrize("own_heads", [True, False])
def test_pretrained_distance_grows_with_the_blur(
    sharpkd_weights: Path, photograph: Tensor, own_heads: bool
) -> None:
    lin = None if own_heads else sharpkd_weights / "lpips_lin_v0.1_squeeze.pth"
    metric = LPIPS("squeeze", sharpkd_weights / "squeezenet1_1.pth", lin)
    distances = [metric.score(blurred(photograph, sigma), photograph).item() for sigma in BLURS]
    # Measured when the weights were converted, on other photographs: 0, .008, .067, .136, .209.
    assert distances == sorted(distances)
    assert distances[0] == 0
    assert 0.002 < distances[1] < 0.04
    assert 0.15 < distances[4] < 0.4
