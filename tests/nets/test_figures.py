"""Parameters, multiplications and receptive fields: declared against counted and against known figures."""

from __future__ import annotations

import pytest
import torch

from sharpkd.nets.attention_teacher import AttentionTeacher
from sharpkd.nets.aware_student import AwareStudent
from sharpkd.nets.base import RestorationNet
from sharpkd.nets.enhanced_cnn import EnhancedCNN
from sharpkd.nets.mobile_student import EfficientChannelAttention, MobileStudent
from sharpkd.nets.nafnet import NAFNet
from sharpkd.nets.pixel_student import PixelStudent
from sharpkd.nets.stats import (
    count_parameters,
    describe,
    measured_macs_per_pixel,
    measured_receptive_field,
)
from sharpkd.nets.wiener_student import WienerStudent


def test_enhanced_cnn_has_exactly_the_parameters_of_the_report() -> None:
    assert count_parameters(EnhancedCNN()) == 483_587


@pytest.mark.parametrize(
    ("unshuffle", "width", "depth", "parameters", "kilo_macs"),
    [(2, 32, 6, 44_108, 10.9), (2, 16, 4, 8_172, None), (4, 64, 6, 203_440, 12.7)],
)
def test_pixel_student_reproduces_the_measured_shapes(
    unshuffle: int, width: int, depth: int, parameters: int, kilo_macs: float | None
) -> None:
    net = PixelStudent(unshuffle, width, depth)
    assert count_parameters(net) == parameters
    if kilo_macs is not None:
        assert net.macs_per_pixel() / 1000 == pytest.approx(kilo_macs, abs=0.05)


def test_pixel_student_default_is_the_44k_net() -> None:
    assert count_parameters(PixelStudent()) == 44_108


def test_count_includes_what_is_frozen() -> None:
    net = PixelStudent().requires_grad_(False)
    assert count_parameters(net) == 44_108


def test_macs_closed_form_equals_the_counted(net: RestorationNet) -> None:
    # A multiple of every stride and of every cell of the pooling grids.
    # The filters of one condition are counted as the convolutions that they are then.
    plain = net.fold(torch.ones(net.condition_size)) if isinstance(net, WienerStudent) else net
    counted = measured_macs_per_pixel(plain, 1440)
    # Pooling the whole image into one vector costs a constant, which vanishes per pixel.
    assert net.macs_per_pixel() == pytest.approx(counted, rel=1e-6)
    assert counted > 0


@pytest.mark.parametrize("window", [None, 1, 50, 192])
@pytest.mark.parametrize("unshuffle", [1, 2, 3])
def test_macs_with_any_attention_window(window: int | None, unshuffle: int) -> None:
    nets = [
        AttentionTeacher(
            width=8, depths=[1, 2, 1], decoder_depths=[2, 1], unshuffle=unshuffle, attention_window=window
        ),
        MobileStudent(unshuffle=unshuffle, width=8, blocks=1, attention_window=window),
        NAFNet(8, [1] * unshuffle, 1, [1] * unshuffle, attention_window=window),
        NAFNet(8, [1], 1, [1], attention_window=window, scale=unshuffle),
    ]
    for net in nets:
        assert net.macs_per_pixel() == pytest.approx(measured_macs_per_pixel(net, 2880), rel=2e-3)


def test_measuring_leaves_the_net_alone(net: RestorationNet) -> None:
    before = {k: v.clone() for k, v in net.state_dict().items()}
    net.train()
    measured_macs_per_pixel(net, 48)
    assert net.training
    assert all(torch.equal(before[k], v) for k, v in net.state_dict().items())


@pytest.mark.parametrize(
    "finite",
    [
        PixelStudent(1, 3, 2),
        PixelStudent(2, 3, 6),
        PixelStudent(3, 2, 3),
        PixelStudent(4, 2, 2),
        MobileStudent(2, 4, 2, attention=False),
        MobileStudent(3, 4, 1, attention=False),
        EnhancedCNN(3, 1),
        AttentionTeacher(2, [2], unshuffle=1, channel_attention=False),
        AttentionTeacher(2, [1, 1], unshuffle=1, channel_attention=False, spatial_attention=False),
        AttentionTeacher(2, [1, 1], unshuffle=2, channel_attention=False),
        AttentionTeacher(2, [1, 1], unshuffle=3, channel_attention=False, spatial_attention=False),
        AttentionTeacher(2, [2, 1, 1], [1, 2], unshuffle=1, channel_attention=False, spatial_attention=False),
        PixelStudent(1, 3, 2, scale=2),
        PixelStudent(2, 3, 3, luma_only=True, rep=True),
        AwareStudent(2, 3, 3, hidden=4),
        PixelStudent(2, 3, 2, scale=3),
        MobileStudent(2, 4, 1, attention=False, scale=4),
        EnhancedCNN(3, 1, scale=2),
        EnhancedCNN(3, 1, global_residual=True, scale=3),
        AttentionTeacher(2, [1, 1], unshuffle=2, channel_attention=False, spatial_attention=False, scale=2),
    ],
    ids=lambda net: f"{type(net).__name__}-x{net.scale}-{net.receptive_field}",
)
def test_receptive_field_equals_the_gradient_s(finite: RestorationNet) -> None:
    assert finite.receptive_field is not None
    assert finite.receptive_field % 2 == 1
    assert measured_receptive_field(finite) == finite.receptive_field


def test_receptive_field_of_fifteen_convolutions() -> None:
    assert EnhancedCNN().receptive_field == 31
    assert measured_receptive_field(EnhancedCNN(width=2)) == 31


@pytest.mark.parametrize(
    "whole",
    [
        AttentionTeacher(2, [1, 1], attention_window=None),
        MobileStudent(2, 4, 1, attention_window=None),
        NAFNet(2, [1], 1, [1], attention_window=None),
    ],
)
def test_channel_attention_sees_the_whole_image(whole: RestorationNet) -> None:
    assert whole.receptive_field is None
    assert measured_receptive_field(whole, max_size=128) is None


def test_describe_gives_the_three_figures() -> None:
    assert describe(PixelStudent()) == {
        "parameters": 44_108,
        "macs_per_pixel": 10_944.0,
        "receptive_field": 27,
    }


def test_figures_are_those_of_the_deployed_form() -> None:
    assert describe(PixelStudent(rep=True)) == describe(PixelStudent())
    assert count_parameters(PixelStudent(rep=True)) > 3 * 44_108
    assert describe(AwareStudent(rep=True)) == {
        "parameters": 54_732,
        "macs_per_pixel": 10_944.0,
        "receptive_field": 27,
    }


@pytest.mark.parametrize(("channels", "kernel"), [(8, 3), (16, 3), (64, 3), (128, 5), (256, 5), (512, 5)])
def test_eca_kernel_follows_the_paper(channels: int, kernel: int) -> None:
    # The values of the authors' code: t = int(|(log2(C) + 1) / 2|), one more where that is even.
    assert EfficientChannelAttention(channels, None, 1).conv.kernel_size == (kernel,)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: PixelStudent(unshuffle=0), "unshuffle: found 0, expected at least 1"),
        (lambda: PixelStudent(depth=1), "depth: found 1, expected at least 2"),
        (lambda: AwareStudent(hidden=0), "hidden: found 0, expected at least 1"),
        (
            lambda: AwareStudent(condition_limits=[]),
            r"condition_limits: found \[\], expected at least one finite number above 0",
        ),
        (
            lambda: AwareStudent(condition_limits=[4, 0]),
            r"condition_limits: found \[4, 0\], expected at least one finite number above 0",
        ),
        (lambda: MobileStudent(blocks=0), "blocks: found 0, expected at least 1"),
        (
            lambda: MobileStudent(attention_window=0),
            r"attention_window: found 0, expected at least 1 pixel or null \(pool everything\)",
        ),
        (lambda: EnhancedCNN(width=0), "width: found 0, expected at least 1"),
        (
            lambda: AttentionTeacher(depths=[]),
            r"depths: found \[\], expected at least one level of at least one block each",
        ),
        (
            lambda: AttentionTeacher(depths=[2, 2], decoder_depths=[1, 1]),
            r"decoder_depths: found \[1, 1\], expected 1 numbers >= 1 \(one fewer than depths \[2, 2\]\)",
        ),
        (
            lambda: NAFNet(encoder_blocks=[1, 0]),
            r"encoder_blocks: found \[1, 0\], expected at least one level of at least one block each",
        ),
        (
            lambda: NAFNet(encoder_blocks=[1, 1], decoder_blocks=[1]),
            r"decoder_blocks: found \[1\], expected 2 numbers >= 1 \(as many as encoder_blocks \[1, 1\]\)",
        ),
        (lambda: NAFNet(middle_blocks=0), "middle_blocks: found 0, expected at least 1"),
        (lambda: AttentionTeacher(reduction=0), "reduction: found 0, expected at least 1"),
    ],
)
def test_bad_settings_are_named(build: object, message: str) -> None:
    assert callable(build)
    with pytest.raises(ValueError, match=f"^{message}$"):
        build()
