from __future__ import annotations

import copy
import re
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sharpkd.functional.frozen import Frozen
from sharpkd.losses.combined import CombinedLoss
from sharpkd.losses.pixel import L1Loss, MSELoss
from sharpkd.losses.ssim import SSIMLoss


class Constant(nn.Module):
    """Scores ``value`` times the mean of the output, and counts its calls."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value
        self.calls = 0

    def forward(self, output: Tensor, sharp: Tensor) -> Tensor:
        self.calls += 1
        assert output.dtype == sharp.dtype == torch.float32
        return self.value * output.mean()


class Never(nn.Module):
    def forward(self, output: Tensor, sharp: Tensor) -> Tensor:
        raise AssertionError("a term of weight 0 was computed")


def never() -> Any:
    raise AssertionError("a term of weight 0 was asked for")


def build(**changes: Any) -> CombinedLoss:
    arguments: dict[str, Any] = {
        "alpha": 1.0,
        "beta": 0.0,
        "gamma": 0.0,
        "delta": 0.0,
        "pixel": Constant(1.0),
        "perceptual": never,
        "ssim": Never(),
    }
    return CombinedLoss(**arguments | changes)


OUTPUT, SHARP = torch.full((1, 3, 16, 16), 0.5), torch.full((1, 3, 16, 16), 0.25)


def test_total_is_the_weighted_sum_and_the_terms_are_unweighted() -> None:
    loss = build(
        alpha=2.0, beta=0.1, gamma=0.5, delta=4, perceptual=lambda: Constant(3.0), ssim=Constant(5.0)
    )
    transferred = {"distill": torch.tensor(7.0), "distill/output": torch.tensor(6.0)}
    result = loss(OUTPUT, SHARP, lambda: transferred)
    terms = {name: term.item() for name, term in result.terms.items()}
    expected = {"pixel": 0.5, "perceptual": 1.5, "ssim": 2.5, "distill": 7.0, "distill/output": 6.0}
    assert terms == pytest.approx(expected)
    assert result.total.item() == pytest.approx(2 * 0.5 + 0.1 * 1.5 + 0.5 * 2.5 + 4 * 7)


def test_real_terms_give_the_sum_of_the_parts() -> None:
    generator = torch.Generator().manual_seed(0)
    output, sharp = torch.rand(2, 2, 3, 16, 16, generator=generator)
    result = build(alpha=0.3, gamma=0.7, pixel=MSELoss(), ssim=SSIMLoss())(output, sharp)
    torch.testing.assert_close(result.total, 0.3 * MSELoss()(output, sharp) + 0.7 * SSIMLoss()(output, sharp))


@pytest.mark.parametrize("name", ["alpha", "beta", "gamma", "delta"])
def test_terms_of_weight_zero_are_neither_built_nor_computed_nor_listed(name: str) -> None:
    weights: dict[str, Any] = dict.fromkeys(["alpha", "beta", "gamma", "delta"], 0)
    weights[name] = 2.0
    used: dict[str, dict[str, Any]] = {
        "alpha": {"pixel": Constant(1.0)},
        "beta": {"perceptual": lambda: Constant(1.0)},
        "gamma": {"ssim": Constant(1.0)},
        "delta": {},
    }
    arguments: dict[str, Any] = {"pixel": Never(), **weights, **used[name]}
    loss = build(**arguments)
    distill = (lambda: {"distill": torch.tensor(0.5)}) if name == "delta" else never
    result = loss(OUTPUT, SHARP, distill)
    label = {"alpha": "pixel", "beta": "perceptual", "gamma": "ssim", "delta": "distill"}[name]
    assert list(result.terms) == [label]
    assert result.total.item() == pytest.approx(1.0)


def test_the_perceptual_term_is_built_once() -> None:
    built: list[nn.Module] = []

    def factory() -> nn.Module:
        built.append(Constant(1.0))
        return built[-1]

    loss = build(beta=0.1, perceptual=factory)
    loss(OUTPUT, SHARP)
    loss(OUTPUT, SHARP)
    assert len(built) == 1
    assert loss.perceptual is built[0]


def test_gradients_flow_into_the_output_and_the_transfer_terms() -> None:
    output = OUTPUT.clone().requires_grad_()
    feature = torch.tensor(3.0, requires_grad=True)
    result = build(alpha=2.0, delta=0.5)(output, SHARP, lambda: {"distill": feature * 4})
    result.total.backward()
    assert feature.grad is not None
    assert feature.grad.item() == pytest.approx(2.0)
    assert output.grad is not None
    torch.testing.assert_close(output.grad, torch.full_like(OUTPUT, 2 / OUTPUT.numel()))
    assert not any(term.requires_grad for term in result.terms.values())


def test_terms_get_full_precision_from_a_16_bit_net() -> None:
    output = OUTPUT.bfloat16().requires_grad_()
    result = build()(output, SHARP)
    assert result.total.dtype == torch.float32
    result.total.backward()
    assert output.grad is not None


def test_nothing_of_a_frozen_perceptual_net_is_seen() -> None:
    loss = build(beta=1.0, perceptual=lambda: Frozen(nn.Conv2d(3, 3, 1)), pixel=L1Loss(), ssim=SSIMLoss())
    assert list(loss.parameters()) == []
    assert loss.state_dict() == {}
    assert copy.deepcopy(loss).perceptual is loss.perceptual


def test_distillation_without_a_teacher_says_what_to_do() -> None:
    message = "loss.delta is 0.5 but there is no teacher to learn from; set loss.delta=0, or train with"
    with pytest.raises(ValueError, match=re.escape(message)):
        build(delta=0.5)(OUTPUT, SHARP)


@pytest.mark.parametrize("name", ["alpha", "beta", "gamma", "delta"])
@pytest.mark.parametrize("value", [-0.1, float("nan"), float("inf"), "0.5", None])
def test_bad_weights_are_named(name: str, value: Any) -> None:
    message = f"loss.{name} must be a finite number >= 0, got {value!r}"
    with pytest.raises(ValueError, match=re.escape(message)):
        build(**{name: value})


def test_at_least_one_weight_is_needed() -> None:
    message = "at least one of loss.alpha, loss.beta, loss.gamma, loss.delta must be above 0"
    with pytest.raises(ValueError, match=message):
        build(alpha=0)


def test_a_built_perceptual_term_is_refused() -> None:
    message = "loss.perceptual must be a factory, got a Constant already built; add `_partial_: true`"
    with pytest.raises(ValueError, match=re.escape(message)):
        build(perceptual=Constant(1.0))


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match=r"got \(1, 3, 16, 16\) and \(1, 3, 8, 8\)"):
        build()(OUTPUT, torch.rand(1, 3, 8, 8))
