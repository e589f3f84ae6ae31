from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from sharpkd.distillation.taps import MOST_LISTED, capture, resolve_taps


class TwoStage(nn.Module):
    taps = {"early": "first", "late": "body.1"}  # noqa: RUF012  # a test gives one instance others

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.body = nn.Sequential(nn.ReLU(), nn.Conv2d(4, 3, 3, padding=1))
        self.unused = nn.Conv2d(3, 3, 1)
        self.summary = nn.Flatten()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.body(self.first(x))
        self.summary(y)
        return y


def hook_count(net: nn.Module) -> int:
    return sum(len(module._forward_hooks) for module in net.modules())


def test_aliases_and_paths_resolve() -> None:
    assert resolve_taps(TwoStage(), ["early", "body.0"]) == {"early": "first", "body.0": "body.0"}


def test_unknown_tap_lists_what_exists() -> None:
    with pytest.raises(ValueError, match="unknown tap of TwoStage: 'middle'") as raised:
        resolve_taps(TwoStage(), ["early", "middle"])
    for known in ("early (first)", "late (body.1)", "first, body, body.0, body.1"):
        assert known in str(raised.value)


def test_alias_of_a_missing_module_says_so() -> None:
    net = TwoStage()
    net.taps = {"early": "gone"}
    with pytest.raises(ValueError, match="alias 'early' stands for 'gone'"):
        resolve_taps(net, ["early"])


def test_capture_gives_the_modules_outputs_and_removes_its_hooks() -> None:
    net, x = TwoStage(), torch.rand(2, 3, 5, 7)
    with capture(net, ["early", "body.0"]) as features:
        net(x)
    assert torch.equal(features["early"], net.first(x))
    assert torch.equal(features["body.0"], net.first(x).relu())
    assert features["early"].requires_grad
    assert hook_count(net) == 0
    with capture(net, []) as nothing:
        net(x)
    assert nothing == {}
    assert hook_count(copy.deepcopy(net)) == 0


def test_hooks_go_when_the_block_or_a_name_fails() -> None:
    net = TwoStage()
    with pytest.raises(RuntimeError, match="boom"), capture(net, ["early"]):
        raise RuntimeError("boom")
    with pytest.raises(ValueError, match="unknown tap"), capture(net, ["early", "nowhere"]):
        net(torch.rand(1, 3, 4, 4))
    assert hook_count(net) == 0


def test_a_tap_that_is_no_feature_map_is_named() -> None:
    net = TwoStage()
    with (
        pytest.raises(ValueError, match=r"tap 'summary' \(module 'summary'\) gives shape \(1, 48\)"),
        capture(net, ["summary"]),
    ):
        net(torch.rand(1, 3, 4, 4))
    assert hook_count(net) == 0


def test_what_is_listed_is_short_and_of_use() -> None:
    net = nn.Sequential(*(nn.Identity() for _ in range(MOST_LISTED + 20)))
    with pytest.raises(ValueError, match=r"Aliases: none. Module paths: 0, 1, .*, 99 and 20 more.$"):
        resolve_taps(net, ["x"])
    net.maps = ["3", "5"]  # type: ignore[assignment]  # as foreign nets have them
    with pytest.raises(ValueError, match=r"Aliases: none. Modules that return a feature map: 3, 5.$"):
        resolve_taps(net, ["x"])
