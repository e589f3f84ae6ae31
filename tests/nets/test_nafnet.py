"""NAFNet against spandrel's own, whose tensors it takes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sharpkd.nets.nafnet import NAFNet
from sharpkd.nets.pretrained import PretrainedNet

SHAPE: dict[str, Any] = {"width": 8, "encoder_blocks": [1, 2], "middle_blocks": 2, "decoder_blocks": [2, 1]}


def loud(net: torch.nn.Module) -> torch.nn.Module:
    """Weights at which every branch has a say."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return net


def reference() -> torch.nn.Module:
    from spandrel.architectures.NAFNet import NAFNet as Architecture

    torch.manual_seed(0)
    net = Architecture(width=8, middle_blk_num=2, enc_blk_nums=[1, 2], dec_blk_nums=[2, 1])
    return loud(net).eval()


@torch.no_grad()
def test_equals_spandrels(image: Callable[..., Tensor]) -> None:
    theirs = reference()
    ours = NAFNet(**SHAPE, attention_window=None).eval()
    ours.body.load_state_dict(theirs.state_dict())
    degraded = image(36, 48, 2)
    expected = theirs(degraded)
    assert (expected - degraded).abs().max() > 0.1
    torch.testing.assert_close(ours(degraded), expected, rtol=0, atol=1e-6)


def test_gradients_equal_the_slope_of_spandrels_net(image: Callable[..., Tensor]) -> None:
    theirs, ours = reference().double(), NAFNet(**SHAPE).double()
    ours.body.load_state_dict(theirs.state_dict())
    degraded = image(16, 16).double()
    torch.manual_seed(1)
    with torch.no_grad():
        step = {name: torch.randn_like(value) * 1e-6 for name, value in theirs.named_parameters()}
    ours.train()(degraded).square().sum().backward()
    products = []
    for name, value in ours.body.named_parameters():
        assert value.grad is not None
        products.append((value.grad * step[name]).sum())
    slope = torch.stack(products).sum()

    def moved(sign: int) -> Tensor:
        twin = reference().double()
        with torch.no_grad():
            for name, value in twin.named_parameters():
                value.add_(step[name], alpha=sign)
            return twin(degraded).square().sum()

    torch.testing.assert_close(slope, (moved(1) - moved(-1)) / 2, rtol=1e-5, atol=1e-12)


def test_is_recognised_as_nafnet(tmp_path: Path, image: Callable[..., Tensor]) -> None:
    ours = NAFNet(**SHAPE, attention_window=None).eval()
    loud(ours)
    torch.save({"params": ours.body.state_dict()}, tmp_path / "nafnet.pth")
    read = PretrainedNet(str(tmp_path / "nafnet.pth"))
    assert (read.architecture, read.scale) == ("NAFNet", 1)
    degraded = image(20, 24)
    with torch.no_grad():
        torch.testing.assert_close(read(degraded), ours(degraded), rtol=0, atol=1e-6)


@torch.no_grad()
def test_attention_looks_at_windows_outside_training_only(image: Callable[..., Tensor]) -> None:
    net = NAFNet(**SHAPE, attention_window=32)
    loud(net)
    degraded = image(320, 16)
    changed = degraded.clone()
    changed[..., 280:, :] = 0
    net.eval()
    torch.testing.assert_close(net(degraded)[..., :40, :], net(changed)[..., :40, :], rtol=0, atol=1e-6)
    net.train()
    assert (net(degraded)[..., :40, :] - net(changed)[..., :40, :]).abs().max() > 1e-5


def test_starts_near_the_identity_for_any_seed(image: Callable[..., Tensor]) -> None:
    degraded = image(48, 48)
    for seed in range(5):
        torch.manual_seed(seed)
        with torch.no_grad():
            change = (NAFNet().eval()(degraded) - degraded).abs().max()
        assert 0 < change < 1 / 255
