from __future__ import annotations

import copy
import re
import time
from pathlib import Path
from typing import Any

import pytest
import skimage.data
import timm
import torch
from torch import Tensor
from torchvision.transforms.functional import gaussian_blur, normalize

from sharpkd.losses.perceptual import BACKBONES, PerceptualLoss

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


@pytest.fixture
def pair() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(2, 3, 40, 36, generator=generator), torch.rand(2, 3, 40, 36, generator=generator)


@pytest.mark.parametrize("criterion", ["l1", "l2"])
def test_equals_the_distance_between_torchvision_features(
    squeezenet: tuple[Any, str], pair: tuple[Tensor, Tensor], criterion: str
) -> None:
    net, path = squeezenet
    loss = PerceptualLoss("squeezenet1_1", path, ["relu1", "fire5"], criterion)
    expected = []
    for cut in (2, 8):
        with torch.no_grad():
            a, b = (net.features[:cut](normalize(image, MEAN, STD)) for image in pair)
        expected.append((a - b).abs().mean() if criterion == "l1" else (a - b).square().mean())
    torch.testing.assert_close(loss(*pair), (expected[0] + expected[1]) / 2)


def test_the_layer_before_an_activation_is_not_overwritten_by_it(
    squeezenet: tuple[Any, str], pair: tuple[Tensor, Tensor]
) -> None:
    net, path = squeezenet
    loss = PerceptualLoss("squeezenet1_1", path, ["conv1", "relu1"])
    before, after = loss.features(pair[0])
    with torch.no_grad():
        torch.testing.assert_close(before, net.features[0](normalize(pair[0], MEAN, STD)))
    torch.testing.assert_close(after, before.relu())


def test_is_zero_for_equal_images_and_gradients_reach_the_output_alone(
    squeezenet: tuple[Any, str], pair: tuple[Tensor, Tensor]
) -> None:
    loss = PerceptualLoss("squeezenet1_1", squeezenet[1])
    output, sharp = pair[0].requires_grad_(), pair[1].requires_grad_()
    assert loss(output, output).item() == 0
    loss(output, sharp).backward()
    assert output.grad is not None
    assert output.grad.isfinite().all()
    assert output.grad.abs().max() > 0
    assert sharp.grad is None
    assert all(parameter.grad is None for parameter in loss.features.module.parameters())


def test_the_network_is_unseen_shared_and_in_eval_mode(squeezenet: tuple[Any, str]) -> None:
    loss = PerceptualLoss("squeezenet1_1", squeezenet[1]).train()
    assert list(loss.parameters()) == list(loss.buffers()) == []
    assert loss.state_dict() == {}
    assert copy.deepcopy(loss).features.module is loss.features.module
    assert not any(module.training for module in loss.features.module.modules())


def test_runs_in_float32_under_autocast(squeezenet: tuple[Any, str], pair: tuple[Tensor, Tensor]) -> None:
    loss = PerceptualLoss("squeezenet1_1", squeezenet[1])
    expected = loss(*pair)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(loss(*pair), expected, rtol=0, atol=0)


def test_vgg19_layers_carry_their_usual_names() -> None:
    with torch.device("meta"):
        built = BACKBONES["vgg19"]()
    features: Any = built.net.features
    # Where the literature finds them: relu2_2 is features[8], relu3_4 [17], relu4_4 [26], conv5_4 [34].
    for name, index in {"relu1_2": 3, "relu2_2": 8, "relu3_4": 17, "relu4_4": 26, "conv5_4": 34}.items():
        assert built.stages[name] is features[index]
    assert list(built.stages)[-1] == "pool5"
    assert len(built.stages) == len(features) == 37
    assert built.url == "https://download.pytorch.org/models/vgg19-dcbb9e9d.pth"


def test_efficientnet_lite0_equals_the_features_of_timm(tmp_path: Path, pair: tuple[Tensor, Tensor]) -> None:
    torch.manual_seed(0)
    net = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    # The published files of other packages hold the same tensors under other names.
    torch.save({f"_{name}": tensor for name, tensor in net.state_dict().items()}, tmp_path / "lite0.pth")
    loss = PerceptualLoss("tf_efficientnet_lite0", str(tmp_path / "lite0.pth"))
    reference = timm.create_model(
        "tf_efficientnet_lite0", features_only=True, out_indices=(0, 1, 2, 3)
    ).eval()
    reference.eval().load_state_dict(net.state_dict(), strict=False)
    with torch.no_grad():
        expected = [
            (a - b).abs().mean()
            for a, b in zip(*(reference((image - 0.5) / 0.5) for image in pair), strict=True)
        ]
    torch.testing.assert_close(loss(*pair), torch.stack(expected).mean())


def test_a_missing_file_names_the_way_out() -> None:
    message = (
        "no weights for the perceptual loss at /nowhere/vgg.pth: put the ImageNet weights of vgg19 there, "
        "name another file with loss.perceptual.weights=PATH, or switch the term off with loss.beta=0"
    )
    with pytest.raises(FileNotFoundError, match=re.escape(message)):
        PerceptualLoss(weights="/nowhere/vgg.pth")


@pytest.mark.parametrize(
    ("backbone", "file"),
    [("vgg19", "vgg19-dcbb9e9d.pth"), ("squeezenet1_1", "squeezenet1_1-b8a52dc0.pth")],
)
def test_without_a_network_one_error_within_seconds(
    backbone: str, file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    start = time.monotonic()
    with pytest.raises(FileNotFoundError) as caught:
        PerceptualLoss(backbone)
    assert time.monotonic() - start < 20
    message = str(caught.value)
    assert message.startswith(f"no weights for the perceptual loss ({backbone}): cannot download https://")
    assert f"it belongs at {tmp_path / 'hub' / 'checkpoints' / file}" in message
    assert message.endswith(
        "name a local copy with loss.perceptual.weights=PATH, or switch the term off with loss.beta=0"
    )


def test_the_hub_cache_is_used_where_no_file_is_named(
    squeezenet: tuple[Any, str], pair: tuple[Tensor, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    cached = tmp_path / "hub" / "checkpoints" / "squeezenet1_1-b8a52dc0.pth"
    cached.parent.mkdir(parents=True)
    cached.write_bytes(Path(squeezenet[1]).read_bytes())
    expected = PerceptualLoss("squeezenet1_1", squeezenet[1])(*pair)
    torch.testing.assert_close(PerceptualLoss("squeezenet1_1")(*pair), expected)


def test_weights_of_another_net_are_refused(squeezenet: tuple[Any, str]) -> None:
    message = f"{squeezenet[1]} does not fit EfficientNet"
    with pytest.raises(ValueError, match=re.escape(message)):
        PerceptualLoss("tf_efficientnet_lite0", squeezenet[1])


def test_bad_settings_say_what_is_allowed(squeezenet: tuple[Any, str]) -> None:
    with pytest.raises(ValueError, match="backbone=alexnet is unknown; choose from vgg19, squeezenet1_1"):
        PerceptualLoss("alexnet")
    with pytest.raises(ValueError, match="criterion=huber is unknown; choose from l1, l2"):
        PerceptualLoss(criterion="huber")
    for layers in (["relu1", "fire99"], []):
        message = f"layers={layers} is empty or names unknown layers; choose from conv1, relu1, pool1, fire2"
        with pytest.raises(ValueError, match=re.escape(message)):
            PerceptualLoss("squeezenet1_1", squeezenet[1], layers)


@pytest.mark.parametrize("shape", [(1, 3, 31, 64), (1, 1, 64, 64)])
def test_unfit_images_are_named(squeezenet: tuple[Any, str], shape: tuple[int, ...]) -> None:
    message = f"needs RGB images of at least 32x32 pixels, got shape {shape}"
    with pytest.raises(ValueError, match=re.escape(message)):
        PerceptualLoss("squeezenet1_1", squeezenet[1])(torch.rand(shape), torch.rand(shape))


@pytest.mark.real_data
def test_pretrained_features_see_more_blur_as_further_away(sharpkd_weights: Path) -> None:
    loss = PerceptualLoss("squeezenet1_1", str(sharpkd_weights / "squeezenet1_1.pth"))
    face = torch.from_numpy(skimage.data.astronaut()[40:168, 160:288].copy())
    sharp = face.permute(2, 0, 1).unsqueeze(0) / 255
    distances = [loss(gaussian_blur(sharp, [25, 25], [sigma]), sharp).item() for sigma in (0.5, 1, 2, 4)]
    assert distances == sorted(distances)
    assert distances[0] > 0
