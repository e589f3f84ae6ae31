from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from sharpkd.distillation.attention import AttentionTransfer
from sharpkd.distillation.base import Observed, TransferTerm, match_size
from sharpkd.distillation.feature import FeatureDistillation
from sharpkd.distillation.output import OutputDistillation

PAIR = [["a", "b"]]


def seen(a: Tensor, tap: str = "a") -> Observed:
    return Observed(output=torch.zeros(a.shape[0], 3, 2, 2), features={tap: a})


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def block_mean(x: np.ndarray, factor: int) -> np.ndarray:
    n, c, h, w = x.shape
    return x.reshape(n, c, h // factor, factor, w // factor, factor).mean(axis=(3, 5))


def attention_by_hand(student: np.ndarray, teacher: np.ndarray, p: float) -> float:
    maps = [(np.abs(x.astype(np.float64)) ** p).mean(axis=1, keepdims=True) for x in (student, teacher)]
    height = min(x.shape[2] for x in maps)
    flat = [block_mean(x, x.shape[2] // height).reshape(len(x), -1) for x in maps]
    unit = [x / np.sqrt((x**2).sum(axis=1, keepdims=True)) for x in flat]
    return float(((unit[0] - unit[1]) ** 2).sum(axis=1).mean())


@pytest.mark.parametrize(("criterion", "power"), [("l1", 1), ("mse", 2)])
def test_output_is_the_mean_distance(criterion: str, power: int) -> None:
    x, y = random(2, 3, 5, 7), random(2, 3, 5, 7, seed=1)
    expected = (np.abs(x.numpy().astype(np.float64) - y.numpy()) ** power).mean()
    term = OutputDistillation(criterion)
    assert term(Observed(x), Observed(y)).item() == pytest.approx(expected, rel=1e-5)
    assert term(Observed(x), Observed(x)).item() == 0
    assert (term.student_taps, term.teacher_taps) == ([], [])


@pytest.mark.parametrize("p", [1, 2, 3.5])
@pytest.mark.parametrize("teacher_size", [4, 8])
def test_attention_equals_numpy(p: float, teacher_size: int) -> None:
    student, teacher = random(2, 3, 4, 4), random(2, 5, teacher_size, teacher_size, seed=1)
    value = AttentionTransfer(PAIR, p)(seen(student), seen(teacher, "b")).item()
    assert value == pytest.approx(attention_by_hand(student.numpy(), teacher.numpy(), p), rel=1e-5)
    assert 0 < value <= 2


def test_attention_of_disjoint_maps_is_two() -> None:
    student, teacher = torch.zeros(1, 2, 1, 2), torch.zeros(1, 3, 1, 2)
    student[..., 0], teacher[..., 1] = 5, -3
    assert AttentionTransfer(PAIR)(seen(student), seen(teacher, "b")).item() == pytest.approx(2)


def test_attention_ignores_scale_and_sign_and_channel_order() -> None:
    student, teacher = random(2, 4, 6, 6), random(2, 4, 6, 6, seed=1)
    term = AttentionTransfer(PAIR)
    value = term(seen(student), seen(teacher, "b"))
    torch.testing.assert_close(term(seen(-37 * student), seen(0.01 * teacher.flip(1), "b")), value)
    assert term(seen(3 * student), seen(student, "b")).item() == pytest.approx(0, abs=1e-12)


def test_attention_of_a_dead_map_is_finite_with_finite_gradient() -> None:
    student = torch.zeros(1, 2, 3, 3, requires_grad=True)
    value = AttentionTransfer(PAIR)(seen(student), seen(random(1, 2, 3, 3), "b"))
    value.backward()
    assert value.item() == pytest.approx(1)
    assert student.grad is not None
    assert student.grad.isfinite().all()


@pytest.mark.parametrize(("criterion", "power"), [("l1", 1), ("mse", 2)])
def test_feature_with_equal_shapes_has_no_adapter(criterion: str, power: int) -> None:
    x, y = random(2, 3, 5, 7), random(2, 3, 5, 7, seed=1)
    term = FeatureDistillation(PAIR, criterion)
    term.build({"a": 3}, {"b": 3})
    expected = (np.abs(x.numpy().astype(np.float64) - y.numpy()) ** power).mean()
    assert term(seen(x), seen(y, "b")).item() == pytest.approx(expected, rel=1e-5)
    assert term(seen(x), seen(x, "b")).item() == 0
    assert list(term.parameters()) == []


def test_feature_adapts_channels_and_averages_pairs() -> None:
    term = FeatureDistillation([["a", "b"], ["a", "c"]])
    term.build({"a": 2}, {"b": 3, "c": 2})
    student, wide, same = random(2, 2, 4, 4), random(2, 3, 8, 8, seed=1), random(2, 2, 4, 4, seed=2)
    teacher = Observed(torch.zeros(2, 3, 2, 2), {"b": wide, "c": same})
    weight, bias = (p.detach().numpy() for p in term.adapters[0].parameters())
    adapted = np.einsum("oc,nchw->nohw", weight[:, :, 0, 0], student.numpy()) + bias[None, :, None, None]
    first = np.abs(adapted - block_mean(wide.numpy(), 2)).mean()
    second = np.abs(student.numpy() - same.numpy()).mean()
    assert term(seen(student), teacher).item() == pytest.approx((first + second) / 2, rel=1e-5)


def test_feature_rebuild_keeps_trained_adapters_of_the_same_channels() -> None:
    term = FeatureDistillation(PAIR)
    term.build({"a": 2}, {"b": 3})
    kept = term.adapters[0]
    term.build({"a": 2}, {"b": 3})
    assert term.adapters[0] is kept
    term.build({"a": 4}, {"b": 3})
    assert term.adapters[0].weight.shape == (3, 4, 1, 1)


def test_match_size_only_shrinks_each_side_by_averaging() -> None:
    x, y = random(1, 1, 4, 6), random(1, 1, 6, 3, seed=1)
    small_x, small_y = match_size(x, y)
    assert small_x.shape == small_y.shape == (1, 1, 4, 3)
    expected = x.numpy().reshape(1, 1, 4, 3, 2).mean(axis=4)
    np.testing.assert_allclose(small_x.numpy(), expected, rtol=1e-6)
    # 6 rows to 4: windows [0,2) [1,3) [3,5) [4,6), the adaptive pooling of the paper's reference code
    rows = y.numpy()[0, 0]
    expected_y = np.stack([rows[i:j].mean(axis=0) for i, j in ((0, 2), (1, 3), (3, 5), (4, 6))])
    np.testing.assert_allclose(small_y.numpy()[0, 0], expected_y, rtol=1e-5)


@pytest.mark.parametrize("kind", ["output", "feature", "attention"])
def test_gradient_reaches_student_but_never_teacher(kind: str) -> None:
    student, teacher = random(2, 3, 4, 4).requires_grad_(), random(2, 3, 4, 4, seed=1).requires_grad_()
    term: TransferTerm
    if kind == "output":
        term = OutputDistillation()
        value = term(Observed(student), Observed(teacher))
    else:
        term = FeatureDistillation(PAIR) if kind == "feature" else AttentionTransfer(PAIR)
        term.build({"a": 3}, {"b": 3})
        value = term(seen(student), seen(teacher, "b"))
    value.backward()
    assert student.grad is not None
    assert student.grad.abs().sum() > 0
    assert teacher.grad is None


@pytest.mark.parametrize("kind", ["output", "feature", "attention"])
def test_half_precision_and_channels_last_are_compared_in_float32(kind: str) -> None:
    student, teacher = random(2, 3, 4, 4), random(2, 3, 4, 4, seed=1)
    lower = [x.bfloat16().to(memory_format=torch.channels_last) for x in (student, teacher)]
    term: TransferTerm
    term = {"output": OutputDistillation(), "feature": FeatureDistillation(PAIR)}.get(
        kind
    ) or AttentionTransfer(PAIR)
    term.build({"a": 3}, {"b": 3})

    def value(x: Tensor, y: Tensor) -> Tensor:
        result: Tensor = term(Observed(x, {"a": x}), Observed(y, {"b": y}))
        return result

    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = value(*lower)
    assert mixed.dtype == torch.float32
    torch.testing.assert_close(mixed, value(lower[0].float(), lower[1].float()), rtol=1e-6, atol=0)


@pytest.mark.parametrize("pairs", [[], [["a"]], ["ab"], [["a", 3]]])
def test_malformed_pairs_are_refused(pairs: list[list[str]]) -> None:
    with pytest.raises(ValueError, match=r"pairs is .* expected at least one \[student tap, teacher tap\]"):
        AttentionTransfer(pairs)


def test_bad_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="criterion is 'l3', expected one of l1, mse"):
        OutputDistillation("l3")
    for p in (0.5, math.nan, math.inf):
        with pytest.raises(ValueError, match=r"AttentionTransfer\.p is"):
            AttentionTransfer(PAIR, p)


def test_bad_observations_are_refused() -> None:
    term = AttentionTransfer(PAIR)
    with pytest.raises(ValueError, match=r"the student's tap 'a' was not captured; got \['x'\]"):
        term(seen(random(1, 2, 3, 3), "x"), seen(random(1, 2, 3, 3), "b"))
    with pytest.raises(ValueError, match="differ in batch size"):
        term(seen(random(1, 2, 3, 3)), seen(random(2, 2, 3, 3), "b"))
    with pytest.raises(ValueError, match=r"\(1, 3, 4, 4\) and teacher \(1, 3, 4, 5\) differ in shape"):
        OutputDistillation()(Observed(random(1, 3, 4, 4)), Observed(random(1, 3, 4, 5)))
    with pytest.raises(ValueError, match="no adapters yet"):
        FeatureDistillation(PAIR)(seen(random(1, 2, 3, 3)), seen(random(1, 2, 3, 3), "b"))
