from __future__ import annotations

import copy
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from sharpkd.distillation.attention import AttentionTransfer
from sharpkd.distillation.base import Observed, TransferTerm
from sharpkd.distillation.feature import FeatureDistillation
from sharpkd.distillation.output import OutputDistillation
from sharpkd.distillation.taps import capture
from sharpkd.distillation.transfer import KnowledgeTransfer


class Student(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        layers = [nn.Conv2d(12, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Conv2d(4, 12, 3, padding=1)]
        self.body = nn.Sequential(nn.PixelUnshuffle(2), *layers, nn.PixelShuffle(2))
        self.taps = {"early": "body.1", "middle": "body.2", "late": "body.3"}

    def forward(self, degraded: Tensor, condition: Tensor | None = None) -> Tensor:
        return degraded + self.body(degraded)


class Teacher(nn.Module):
    taps: ClassVar[dict[str, str]] = {"early": "a", "middle": "b", "late": "c"}

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 5, 3), nn.Conv2d(5, 6, 3), nn.Conv2d(6, 3, 5, padding=4)

    def forward(self, degraded: Tensor, condition: Tensor | None = None) -> Tensor:
        result: Tensor = self.c(self.b(self.a(degraded)))
        return result


class Spy(TransferTerm):
    def __init__(self, value: float = 1.0) -> None:
        super().__init__()
        self.value, self.calls, self.built = nn.Parameter(torch.tensor(value)), 0, 0

    @property
    def student_taps(self) -> list[str]:
        return ["no.such.module"]

    def build(self, student_channels: dict[str, int], teacher_channels: dict[str, int]) -> None:
        self.built += 1

    def forward(self, student: Observed, teacher: Observed) -> Tensor:
        self.calls += 1
        return self.value * 1


def every_term(**weights: float) -> dict[str, dict[str, Any]]:
    terms: dict[str, TransferTerm] = {
        "output": OutputDistillation(),
        "feature": FeatureDistillation(),
        "attention": AttentionTransfer(),
    }
    return {name: {"weight": weights[name], "term": terms[name]} for name in weights}


def observe(net: nn.Module, taps: list[str], x: Tensor) -> Observed:
    with capture(net, taps) as features:
        return Observed(net(x), features)


def prepared(**weights: float) -> tuple[KnowledgeTransfer, Student, Teacher, Tensor]:
    torch.manual_seed(0)
    student, teacher, x = Student(), Teacher(), torch.rand(2, 3, 10, 14)
    transfer = KnowledgeTransfer(every_term(**weights))
    transfer.prepare(student, teacher, x[:1], x[:1])
    return transfer, student, teacher, x


def losses(
    transfer: KnowledgeTransfer, student: nn.Module, teacher: nn.Module, x: Tensor
) -> dict[str, Tensor]:
    result: dict[str, Tensor] = transfer(
        observe(student, transfer.student_taps, x), observe(teacher, transfer.teacher_taps, x)
    )
    return result


SUBSETS = [
    {"output": 2.0},
    {"feature": 0.3},
    {"attention": 0.7},
    {"output": 1.0, "attention": 0.5},
    {"output": 1.0, "feature": 0.1, "attention": 3},
]


@pytest.mark.parametrize("weights", SUBSETS)
def test_total_is_the_weighted_sum_of_any_subset(weights: dict[str, float]) -> None:
    values = losses(*prepared(**weights))
    assert set(values) == {"distill"} | {f"distill/{name}" for name in weights}
    expected = sum(weight * values[f"distill/{name}"].item() for name, weight in weights.items())
    assert values["distill"].item() == pytest.approx(expected, rel=1e-6)
    assert all(value.item() > 0 and value.ndim == 0 for value in values.values())


def test_gradients_reach_student_and_adapters_but_not_the_teacher() -> None:
    transfer, student, teacher, x = prepared(output=1.0, feature=1.0, attention=1.0)
    losses(transfer, student, teacher, x)["distill"].backward()
    assert len(list(transfer.parameters())) == 4
    for parameter in (*student.parameters(), *transfer.parameters()):
        assert parameter.grad is not None
        assert parameter.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in teacher.parameters())


def test_training_on_the_term_alone_brings_the_student_closer() -> None:
    transfer, student, teacher, x = prepared(output=1.0, feature=0.5, attention=0.5)
    optimizer = torch.optim.Adam([*student.parameters(), *transfer.parameters()], lr=0.02)
    before = losses(transfer, student, teacher, x)
    for _ in range(30):
        optimizer.zero_grad()
        losses(transfer, student, teacher, x)["distill"].backward()
        optimizer.step()
    after = losses(transfer, student, teacher, x)
    assert all(after[name] < before[name] for name in before)


def test_weight_zero_is_neither_built_nor_computed_nor_tapped() -> None:
    spy, live = Spy(), Spy(3.0)
    transfer = KnowledgeTransfer(
        {
            "off": {"weight": 0, "term": spy},
            "gone": None,
            "output": {"weight": 0.5, "term": OutputDistillation()},
        }
    )
    assert transfer.student_taps == []
    assert transfer.weights == {"off": 0.0, "output": 0.5}
    x = torch.rand(1, 3, 8, 8)
    transfer.prepare(Student(), Teacher(), x, x)
    values = transfer(Observed(x), Observed(x + 1))
    assert set(values) == {"distill", "distill/output"}
    assert (spy.calls, spy.built) == (0, 0)
    assert values["distill"].item() == pytest.approx(0.5)

    both = KnowledgeTransfer({"a": {"weight": 2, "term": live}, "off": {"weight": 0.0, "term": spy}})
    assert both(Observed(x), Observed(x))["distill"].item() == pytest.approx(6)
    assert (live.calls, spy.calls) == (1, 0)


def test_what_a_term_reports_is_logged_by_its_name_and_counts_for_nothing() -> None:
    class Telling(Spy):
        def reports(self) -> dict[str, Tensor]:
            return {"calls": torch.tensor(float(self.calls))}

    transfer = KnowledgeTransfer(
        {"a": {"weight": 2, "term": Telling(3.0)}, "b": {"weight": 1, "term": Spy(0.5)}}
    )
    x = torch.rand(1, 3, 8, 8)
    values = transfer(Observed(x), Observed(x))
    assert {name: value.item() for name, value in values.items()} == {
        "distill": 6.5, "distill/a": 3, "distill/b": 0.5, "distill/a/calls": 1
    }  # fmt: skip


def test_prepare_leaves_no_trace_in_the_nets() -> None:
    torch.manual_seed(0)
    student, teacher, x = Student().train(), Teacher().eval(), torch.rand(1, 3, 9 + 1, 8)
    before = copy.deepcopy(student.state_dict())
    transfer = KnowledgeTransfer(every_term(feature=1.0))
    transfer.prepare(student, teacher, (x, torch.zeros(1, 2)), x)
    assert all(torch.equal(before[key], value) for key, value in student.state_dict().items())
    assert all(module.training for module in student.modules())
    assert not any(module.training for module in teacher.modules())
    assert sum(len(module._forward_hooks) for net in (student, teacher) for module in net.modules()) == 0


def test_unknown_tap_in_prepare_lists_those_that_exist() -> None:
    transfer = KnowledgeTransfer({"at": {"weight": 1, "term": AttentionTransfer([["middle", "centre"]])}})
    x = torch.rand(1, 3, 8, 8)
    with pytest.raises(
        ValueError, match=r"unknown tap of Teacher: 'centre'.*early \(a\), middle \(b\), late \(c\)"
    ):
        transfer.prepare(Student(), Teacher(), x, x)


def test_state_survives_deepcopy_and_reload() -> None:
    transfer, student, teacher, x = prepared(feature=1.0, attention=1.0)
    expected = losses(transfer, student, teacher, x)["distill"]
    owner = nn.ModuleDict({"student": student, "transfer": transfer})
    twin: Any = copy.deepcopy(owner)
    assert torch.equal(losses(twin["transfer"], twin["student"], teacher, x)["distill"], expected)

    again = KnowledgeTransfer(every_term(feature=1.0, attention=1.0))
    again.prepare(student, teacher, x, x)
    again.load_state_dict(transfer.state_dict())
    assert torch.equal(losses(again, student, teacher, x)["distill"], expected)


def test_bf16_autocast_and_channels_last_stay_close_to_float32() -> None:
    transfer, student, teacher, x = prepared(output=1.0, feature=1.0, attention=1.0)
    expected = losses(transfer, student, teacher, x)
    for module in (student, teacher, transfer):
        module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks it
    with torch.autocast("cpu", dtype=torch.bfloat16):
        values = losses(transfer, student, teacher, x.to(memory_format=torch.channels_last))
    assert {value.dtype for value in values.values()} == {torch.float32}
    torch.testing.assert_close(values, expected, rtol=0.05, atol=1e-3)
    values["distill"].backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in student.parameters())


@pytest.mark.parametrize("terms", [{}, {"output": None}, {"spy": {"weight": 0.0, "term": Spy()}}])
def test_nothing_switched_on_is_an_error(terms: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"distillation\.terms switches nothing on .* loss\.delta=0"):
        KnowledgeTransfer(terms)


@pytest.mark.parametrize("weight", [-1, float("nan"), float("inf"), "1", True, None])
def test_bad_weight_is_named(weight: Any) -> None:
    with pytest.raises(ValueError, match=r"distillation\.terms\.output\.weight is .* finite number >= 0"):
        KnowledgeTransfer({"output": {"weight": weight, "term": OutputDistillation()}})


def test_malformed_entries_are_named() -> None:
    with pytest.raises(
        ValueError, match=r"terms\.output has \['term', 'wieght'\], expected the keys weight and"
    ):
        KnowledgeTransfer({"output": {"wieght": 1, "term": OutputDistillation()}})
    with pytest.raises(ValueError, match=r"terms\.output\.term is a Conv2d, expected a TransferTerm"):
        KnowledgeTransfer({"output": {"weight": 1, "term": nn.Conv2d(1, 1, 1)}})
    with pytest.raises(ValueError, match="must not be empty or hold a dot"):
        KnowledgeTransfer({"a.b": {"weight": 1, "term": OutputDistillation()}})


def test_a_term_that_returns_no_scalar_is_named() -> None:
    class Map(TransferTerm):
        def forward(self, student: Observed, teacher: Observed) -> Tensor:
            return student.output

    x = torch.rand(1, 3, 2, 2)
    with pytest.raises(ValueError, match=r"term 'map' returned shape \(1, 3, 2, 2\), expected a scalar"):
        KnowledgeTransfer({"map": {"weight": 1, "term": Map()}})(Observed(x), Observed(x))
