"""What every network promises, on small ones."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from sharpkd.functional.bicubic import enlarge
from sharpkd.nets.attention_teacher import AttentionTeacher
from sharpkd.nets.aware_student import AwareStudent
from sharpkd.nets.base import RestorationNet, check_image, is_told, pad_to_multiple
from sharpkd.nets.enhanced_cnn import EnhancedCNN
from sharpkd.nets.mobile_student import MobileStudent
from sharpkd.nets.nafnet import NAFNet
from sharpkd.nets.pixel_student import PixelStudent

Image = Callable[..., Tensor]


def awake(net: RestorationNet) -> RestorationNet:
    """Bring the residual to the image's order: at the start it is so small that it hides differences."""
    with torch.no_grad():
        last = "body.ending" if isinstance(net, NAFNet) else "tail"
        tail = net.get_submodule(last).get_parameter("weight")
        tail.div_(tail.std() * tail[0].numel() ** 0.5)
    return net


@torch.no_grad()
def test_every_size_from_one_pixel_keeps_its_shape(net: RestorationNet, image: Image) -> None:
    for side in range(1, 36):
        degraded = image(side, 36 - side)
        output = net(degraded)
        assert output.shape == (1, 3, side * net.scale, (36 - side) * net.scale)
        assert output.isfinite().all()


@torch.no_grad()
def test_odd_sizes_continue_the_border(net: RestorationNet, image: Image) -> None:
    height, width = 2 * net.stride + 1, 3 * net.stride - 1
    degraded = image(height, width)
    rows, columns = {1: (0, 0), 2: (1, 1), 3: (2, 1), 8: (7, 1)}[net.stride]
    whole = F.pad(degraded, (0, columns, 0, rows), mode="replicate")
    awake(net)
    kept = net(whole)[..., : height * net.scale, : width * net.scale]
    torch.testing.assert_close(net(degraded), kept)


@torch.no_grad()
def test_condition_is_accepted_and_ignored_by_blind_nets(net: RestorationNet, image: Image) -> None:
    degraded = image(9, 12, 2)
    ignored = net(degraded, torch.ones(2, 3)).equal(net(degraded))
    assert ignored == (net.condition_size == 0)
    assert is_told(net) != ignored


@torch.no_grad()
def test_images_of_a_batch_do_not_mix(net: RestorationNet, image: Image) -> None:
    degraded = image(33, 26, 3)
    awake(net)
    alone = torch.cat([net(single[None]) for single in degraded])
    torch.testing.assert_close(net(degraded), alone, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_starts_as_the_identity_or_bicubic_within_an_8_bit_level(net: RestorationNet, image: Image) -> None:
    degraded = image(40, 40)
    change = (net(degraded) - enlarge(degraded, net.scale)).abs().max()
    has_global_residual = getattr(net, "global_residual", True)
    if has_global_residual:
        assert 0 < change < 1 / 255
    else:
        assert change > 1 / 255


def test_gradients_reach_every_parameter(net: RestorationNet, image: Image) -> None:
    net.train()
    degraded = image(32, 32, 2)
    told = torch.ones(2, net.condition_size) if is_told(net) else None
    (net(degraded, told) - image(32 * net.scale, 32 * net.scale, 2)).abs().mean().backward()
    blocked = [n for n, p in net.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert blocked == []


def test_taps_are_maps_of_four_dimensions(net: RestorationNet, image: Image) -> None:
    order: list[str] = []
    shapes: dict[str, torch.Size] = {}
    for alias, path in net.taps.items():

        def hook(_module: object, _inputs: object, output: Tensor, alias: str = alias) -> None:
            order.append(alias)
            shapes[alias] = output.shape

        net.get_submodule(path).register_forward_hook(hook)
    net(image(32, 24, 2))
    assert set(net.taps) == {"early", "middle", "late"}
    assert [a for a in ("early", "middle", "late") if a in order] == ["early", "middle", "late"]
    assert order.index("early") <= order.index("middle") <= order.index("late")
    assert all(len(shape) == 4 and shape[0] == 2 for shape in shapes.values())


@torch.no_grad()
def test_state_dict_round_trip(net: RestorationNet, image: Image) -> None:
    twin = copy.deepcopy(net)
    for parameter in twin.parameters():
        parameter.normal_()
    degraded = image(13, 10)
    assert not torch.allclose(twin(degraded), net(degraded))
    twin.load_state_dict(net.state_dict(), strict=True)
    torch.testing.assert_close(twin(degraded), net(degraded), rtol=0, atol=0)


@torch.no_grad()
def test_memory_format_does_not_change_the_result(net: RestorationNet, image: Image) -> None:
    degraded = image(50, 44)
    expected = awake(net)(degraded)
    for parameter in net.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(
        net(degraded.to(memory_format=torch.channels_last)), expected, rtol=1e-4, atol=1e-5
    )


@torch.no_grad()
def test_bfloat16_stays_close(net: RestorationNet, image: Image) -> None:
    degraded = image(50, 44)
    expected = awake(net)(degraded)
    with torch.autocast("cpu", torch.bfloat16):
        output = net(degraded)
    assert (output.float() - expected).abs().max() < 0.05
    assert (net.to(torch.bfloat16)(degraded.bfloat16()).float() - expected).abs().max() < 0.05


@pytest.mark.parametrize(
    "finite",
    [
        PixelStudent(width=4, depth=3),
        MobileStudent(unshuffle=3, width=4, blocks=1, attention=False),
        EnhancedCNN(width=4, blocks=1),
        AttentionTeacher(width=4, depths=[1, 1], channel_attention=False),
        PixelStudent(unshuffle=1, width=4, depth=2, scale=2),
        PixelStudent(width=4, depth=3, rep=True),
        AwareStudent(width=4, depth=3, hidden=4, luma_only=True),
        PixelStudent(width=4, depth=3, scale=3),
        MobileStudent(unshuffle=3, width=4, blocks=1, attention=False, scale=2),
        EnhancedCNN(width=4, blocks=1, global_residual=True, scale=4),
        AttentionTeacher(width=4, depths=[1, 1], channel_attention=False, scale=2),
    ],
    ids=lambda net: f"{type(net).__name__}-x{net.scale}",
)
@torch.no_grad()
def test_tiles_with_the_declared_halo_are_exact(finite: RestorationNet, image: Image) -> None:
    assert finite.receptive_field is not None
    awake(finite)
    step = finite.stride
    halo = -(-((finite.receptive_field - 1) // 2) // step) * step
    tile, size = 2 * step, 2 * halo + 6 * step
    degraded = image(size, size)
    first = halo + 2 * step
    scale = finite.scale
    kept = slice(first * scale, (first + tile) * scale)
    whole = finite(degraded)[..., kept, kept]

    def tiled(margin: int) -> Tensor:
        outer, inner = (
            slice(first - margin, first + tile + margin),
            slice(margin * scale, (margin + tile) * scale),
        )
        return finite(degraded[..., outer, outer])[..., inner, inner]

    torch.testing.assert_close(tiled(halo), whole, rtol=1e-5, atol=1e-6)
    assert not torch.allclose(tiled(0), whole, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (torch.zeros(3, 8, 8), "degraded: expected an RGB batch (N, 3, H, W), found shape (3, 8, 8)"),
        (torch.zeros(1, 4, 8, 8), "degraded: expected an RGB batch (N, 3, H, W), found shape (1, 4, 8, 8)"),
        (torch.zeros(1, 3, 0, 8), "degraded: expected at least one pixel, found shape (1, 3, 0, 8)"),
        (
            torch.zeros(1, 3, 8, 8, dtype=torch.uint8),
            "degraded: expected floats in [0, 1], found torch.uint8 of shape (1, 3, 8, 8); divide by 255",
        ),
    ],
)
def test_bad_input_is_named(net: RestorationNet, bad: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        net(bad)


def test_check_image_names_the_argument() -> None:
    with pytest.raises(
        ValueError, match=r"^sharp: expected an RGB batch \(N, 3, H, W\), found shape \(2,\)$"
    ):
        check_image(torch.zeros(2), "sharp")


def test_padding_repeats_the_last_row_and_column() -> None:
    image = torch.arange(6.0).view(1, 1, 2, 3)
    expected = torch.tensor([[0.0, 1, 2, 2], [3, 4, 5, 5], [3, 4, 5, 5], [3, 4, 5, 5]])
    torch.testing.assert_close(pad_to_multiple(image, 4)[0, 0], expected)
    assert pad_to_multiple(image, 1) is image


@pytest.mark.parametrize(
    ("net", "tail"),
    [
        (PixelStudent(width=4, depth=3), "tail"),
        (AwareStudent(width=4, depth=3), "tail"),
        (MobileStudent(width=4, blocks=1), "tail"),
        (EnhancedCNN(width=4, blocks=1), "tail"),
        (AttentionTeacher(width=4, depths=[1]), "tail"),
        (NAFNet(width=4, encoder_blocks=[1], decoder_blocks=[1]), "body.ending"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, RestorationNet) else "",
)
def test_a_scale_changes_the_last_convolution_alone(net: RestorationNet, tail: str) -> None:
    """So that a net of scale 1 has the tensors, in the order, that it had without the argument."""
    arguments: dict[str, Any] = {"blocks": 1} if hasattr(net, "blocks") else {"depth": 3}
    if isinstance(net, AttentionTeacher):
        arguments = {"depths": [1]}
    if isinstance(net, NAFNet):
        arguments = {"encoder_blocks": [1], "decoder_blocks": [1]}
    larger = type(net)(width=4, scale=3, **arguments)
    before = {key: value.shape for key, value in net.state_dict().items()}
    after = {key: value.shape for key, value in larger.state_dict().items()}
    assert list(before) == list(after)
    changed = {key for key in before if before[key] != after[key]}
    assert changed == {f"{tail}.weight", f"{tail}.bias"}
    assert after[f"{tail}.weight"][0] == 9 * before[f"{tail}.weight"][0]


def test_a_scale_is_at_least_1() -> None:
    for build in (PixelStudent, AwareStudent, MobileStudent, EnhancedCNN, AttentionTeacher, NAFNet):
        with pytest.raises(ValueError, match=r"^scale: found 0, expected at least 1$"):
            build(scale=0)
