from __future__ import annotations

import copy

import torch
from torch import nn

from sharpkd.functional.frozen import Frozen


class Owner(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.own = nn.Linear(2, 2)
        self.guest = Frozen(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5)))


def test_is_invisible_to_everything_that_trains_or_saves() -> None:
    owner = Owner()
    assert {name for name, _ in owner.named_parameters()} == {"own.weight", "own.bias"}
    assert list(owner.buffers()) == []
    assert set(owner.state_dict()) == {"own.weight", "own.bias"}
    assert [type(module) for module in owner.modules()] == [Owner, nn.Linear, Frozen]
    assert owner.load_state_dict(owner.state_dict()).missing_keys == []


def test_stays_in_eval_mode_without_gradients() -> None:
    owner = Owner().train()
    guest = owner.guest.module
    assert owner.training
    assert not owner.guest.training
    assert not any(module.training for module in guest.modules())
    guest.train()
    owner.train()
    assert not any(module.training for module in guest.modules())
    owner.requires_grad_(True)
    assert not any(parameter.requires_grad for parameter in guest.parameters())


def test_batch_statistics_do_not_move_while_the_owner_trains() -> None:
    owner = Owner().train()
    before = copy.deepcopy(owner.guest.module.state_dict())
    owner.guest(torch.randn(2, 3, 8, 8))
    after = owner.guest.module.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_gradient_reaches_the_input_and_no_weight() -> None:
    convolution = nn.Conv2d(3, 4, 3)
    frozen = Frozen(convolution)
    image = torch.randn(1, 3, 8, 8, requires_grad=True)
    frozen(image).sum().backward()
    assert image.grad is not None
    # An inner pixel is seen by every tap of the 3x3 kernels.
    torch.testing.assert_close(image.grad[0, :, 4, 4], convolution.weight.sum((0, 2, 3)))
    assert convolution.weight.grad is None


def test_copies_share_the_module() -> None:
    owner = Owner()
    twin = copy.deepcopy(owner)
    assert twin.guest.module is owner.guest.module
    assert twin.own.weight is not owner.own.weight


def test_follows_the_owner_to_another_dtype_and_device() -> None:
    owner = Owner().to(torch.float64)
    assert {parameter.dtype for parameter in owner.guest.module.parameters()} == {torch.float64}
    assert owner.guest.module.get_buffer("1.running_mean").dtype == torch.float64
    owner.to("meta")
    assert {parameter.device.type for parameter in owner.guest.module.parameters()} == {"meta"}


def test_names_its_guest() -> None:
    assert repr(Frozen(nn.Linear(1, 1))) == "Frozen(Linear, not trained, not saved)"
