"""Several teachers that answer as one, against calculations by hand."""

from __future__ import annotations

import copy
import hashlib
import math
import re
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sharpkd.data.batch import Batch
from sharpkd.distillation.base import Observed
from sharpkd.distillation.feature import FeatureDistillation
from sharpkd.distillation.output import OutputDistillation
from sharpkd.distillation.transfer import KnowledgeTransfer
from sharpkd.losses.combined import CombinedLoss
from sharpkd.losses.pixel import L1Loss
from sharpkd.modules.distill import DistillModule
from sharpkd.modules.frozen_teacher import FrozenTeacher
from sharpkd.modules.teacher_ensemble import TeacherEnsemble
from sharpkd.nets.pixel_student import PixelStudent


class Shift(nn.Module):
    """Answers with the images brighter by so much each, all further ones by the last number."""

    def __init__(self, *shifts: float) -> None:
        super().__init__()
        self.shifts = nn.Parameter(torch.tensor(shifts))

    def forward(self, degraded: Tensor, condition: Tensor | None = None) -> Tensor:
        index = torch.arange(len(degraded)).clamp(max=len(self.shifts) - 1)
        return degraded + self.shifts[index, None, None, None]


def ensemble(combine: str = "mean", weights: tuple[float, ...] = (1.0, 3.0)) -> TeacherEnsemble:
    members = {
        "dark": FrozenTeacher(Shift(0.1, 0.3, 0.2), sha256="a" * 64, name="dark"),
        "light": FrozenTeacher(Shift(0.2, 0.1, 0.6), sha256="b" * 64, name="light"),
    }
    return TeacherEnsemble(members, weights, combine)


def transfer() -> KnowledgeTransfer:
    return KnowledgeTransfer({"output": {"weight": 2.0, "term": OutputDistillation()}})


def grey(count: int) -> Tensor:
    return torch.full((count, 3, 4, 4), 0.25)


def shifts(output: Tensor) -> list[float]:
    return [round(float(image.mean()) - 0.25, 5) for image in output]


def test_the_mean_follows_the_weights() -> None:
    assert shifts(ensemble()(grey(3))) == pytest.approx([0.175, 0.15, 0.5])
    assert shifts(ensemble(weights=(2.0, 2.0))(grey(3))) == pytest.approx([0.15, 0.2, 0.4])
    known = ensemble().observe(grey(3), sharp=grey(2)).output
    assert shifts(known) == pytest.approx([0.175, 0.15, 0.5])


def test_the_best_is_chosen_image_by_image_and_the_mean_where_the_truth_is_unknown() -> None:
    """Truth is the image itself: dark is nearer for the first, light for the second; two have no truth."""
    output = ensemble("best").observe(grey(4), sharp=grey(2)).output
    assert shifts(output) == pytest.approx([0.1, 0.1, 0.5, 0.5])
    assert shifts(ensemble("best")(grey(2))) == pytest.approx([0.175, 0.15])


def test_each_teacher_is_reported_by_its_name() -> None:
    student = Observed(grey(3) + 0.15)
    terms = ensemble("best").teach(transfer(), student, grey(3), None, grey(2))
    # student 0.15; chosen: 0.1, 0.1 and the mean 0.5
    expected = {
        "distill": 2 * (0.05 + 0.05 + 0.35) / 3,
        "distill/output": (0.05 + 0.05 + 0.35) / 3,
        "teacher/dark/psnr": -10 * (math.log10(0.1**2) + math.log10(0.3**2)) / 2,
        "teacher/light/psnr": -10 * (math.log10(0.2**2) + math.log10(0.1**2)) / 2,
        "teacher/dark/share": 0.5,
        "teacher/light/share": 0.5,
        "teacher/dark/distill": 2 * (0.05 + 0.15 + 0.05) / 3,
        "teacher/light/distill": 2 * (0.05 + 0.05 + 0.45) / 3,
    }
    assert {name: value.item() for name, value in terms.items()} == pytest.approx(expected, rel=1e-4)
    assert not any("share" in name for name in ensemble().teach(transfer(), student, grey(3), None, grey(2)))


def module(teacher: TeacherEnsemble) -> DistillModule:
    torch.manual_seed(0)
    settings: dict[str, Any] = {
        "net": PixelStudent(unshuffle=2, width=8, depth=3),
        "net_config": {},
        "loss": CombinedLoss(1.0, 0.0, 0.0, 0.5, L1Loss(), nn.Identity, nn.Identity()),
        "optimizer": partial(torch.optim.SGD, lr=0.1),
    }
    return DistillModule(teacher=teacher, transfer=transfer(), **settings)


def test_in_a_training_the_extra_inputs_take_the_mean_and_nothing_of_the_teachers_is_trained_or_saved() -> (
    None
):
    teacher = ensemble("best")
    student = module(teacher)
    batch = Batch(grey(2), grey(2), ["a", "b"], extra=grey(1))
    result = student.compute_loss(batch)
    ours = student.net(grey(3)).detach()
    theirs = torch.stack([grey(1)[0] + shift for shift in (0.1, 0.1, 0.5)])
    torch.testing.assert_close(result.terms["distill/output"], (ours - theirs).abs().mean())
    total = result.terms["pixel"] + 0.5 * result.terms["distill"]
    torch.testing.assert_close(result.total.detach(), total)
    result.total.backward()
    assert all(not value.requires_grad for value in result.terms.values())

    held = {id(part) for one in teacher.members for part in one.module.parameters()}  # type: ignore[union-attr]  # FrozenTeachers
    assert len(held) == 2
    assert not held & {id(part) for part in student.parameters()}
    assert {key.split(".")[0] for key in student.state_dict()} == {"net"}
    averaged = copy.deepcopy(student)
    assert isinstance(averaged.teacher, TeacherEnsemble)
    assert list(averaged.teacher.members) == list(teacher.members)
    checkpoint: dict[str, Any] = {}
    student.on_save_checkpoint(checkpoint)
    expected = hashlib.sha256(("a" * 64 + " " + "b" * 64).encode()).hexdigest()
    assert checkpoint["sharpkd"]["teacher_sha256"] == expected


def test_one_of_them_that_cannot_teach_is_named() -> None:
    with pytest.raises(ValueError, match=r"^teacher dark: it turns 48x48 into \(1, 3, 48, 48\)"):
        ensemble().check(scale=2)
    broken = TeacherEnsemble(
        {"good": FrozenTeacher(Shift(0.1)), "bad": FrozenTeacher(Shift(math.nan), name="bad")}, [1, 1]
    )
    with pytest.raises(
        ValueError, match=r"^teacher bad: its output is not finite; its weights are unusable$"
    ):
        broken.check(scale=1)


def test_features_of_several_teachers_do_not_exist() -> None:
    features = KnowledgeTransfer({"feature": {"weight": 1.0, "term": FeatureDistillation()}})
    message = "several teachers have one output but no common features; ['middle', 'late'] asked for"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        ensemble().teach(features, Observed(grey(1)), grey(1))


@pytest.mark.parametrize(
    ("weights", "combine", "message"),
    [
        ((1.0,), "mean", "expected a weight for each teacher, got 1 for 2"),
        ((1.0, 0.0), "mean", "weights of teachers must be finite and above 0, got [1.0, 0.0]"),
        ((1.0, math.inf), "mean", "weights of teachers must be finite and above 0, got [1.0, inf]"),
        ((1.0, 1.0), "median", "teacher.combine is 'median'; expected mean or best"),
    ],
)
def test_settings_that_cannot_be(weights: tuple[float, ...], combine: str, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        ensemble(combine, weights)
