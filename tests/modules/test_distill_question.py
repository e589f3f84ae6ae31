"""Terms that need more than two answers are told the truth, the inputs, and how to ask the student again."""

from __future__ import annotations

import copy
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from sharpkd.data.batch import Batch
from sharpkd.distillation.base import Observed, Question, TransferTerm
from sharpkd.distillation.gated_output import GatedOutputDistillation
from sharpkd.distillation.transfer import KnowledgeTransfer
from sharpkd.losses.combined import CombinedLoss
from sharpkd.losses.pixel import L1Loss
from sharpkd.losses.ssim import SSIMLoss
from sharpkd.modules.distill import DistillModule
from sharpkd.modules.frozen_teacher import FrozenTeacher
from sharpkd.modules.teacher_ensemble import TeacherEnsemble


class Net(nn.Module):
    """Adds to each pixel a share of its own brightness and of the image's condition."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = nn.Parameter(torch.tensor(share))

    def forward(self, degraded: Tensor, condition: Tensor | None = None) -> Tensor:
        told = 0 if condition is None else condition[:, :, None, None]
        return degraded + self.share * (degraded + told)


class Listener(TransferTerm):
    """Keeps the question and asks the student about darker inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[Question] = []

    def forward(self, student: Observed, teacher: Observed) -> Tensor:
        question = student.asked(self)
        self.heard.append(question)
        return (question.ask(question.degraded / 2) - teacher.output).abs().mean()


def no_perceptual() -> nn.Module:
    raise AssertionError("beta is 0: nothing may be built")


def module_with(
    term: TransferTerm,
    teacher: FrozenTeacher | TeacherEnsemble | None = None,
    condition_noise: float = 0.0,
) -> DistillModule:
    return DistillModule(
        teacher=teacher or FrozenTeacher(Net(0.3)),
        transfer=KnowledgeTransfer({"term": {"weight": 2.0, "term": term}}),
        net=Net(0.1),
        net_config={},
        loss=CombinedLoss(1.0, 0.0, 0.0, 0.5, L1Loss(), no_perceptual, SSIMLoss()),
        optimizer=partial(torch.optim.SGD, lr=0.1),
        use_condition=True,
        condition_noise=condition_noise,
    )


def batch(extra: int) -> Batch:
    generator = torch.Generator().manual_seed(0)
    sharp, inputs = (torch.rand(n, 3, 12, 12, generator=generator) for n in (2, extra))
    return Batch(
        degraded=0.8 * sharp,
        sharp=sharp,
        name=["a", "b"],
        condition=torch.tensor([[0.1], [0.2]]),
        extra=inputs if extra else None,
        extra_condition=torch.full((extra, 1), 0.4) if extra else None,
    )


@pytest.mark.parametrize("extra", [0, 4])
def test_a_term_is_told_what_the_student_was_asked(extra: int) -> None:
    listener, given = Listener(), batch(extra)
    module = module_with(listener)
    result = module.compute_loss(given)
    (question,) = listener.heard
    images = torch.cat([given.degraded, *([] if given.extra is None else [given.extra])])
    assert question.degraded.equal(images)
    assert question.sharp is given.sharp
    assert question.turn == (0, 0)
    # asked again, the student is told the same condition
    condition = torch.tensor([0.1, 0.2, *[0.4] * extra])[:, None, None, None]
    again = images / 2 + 0.1 * (images / 2 + condition)
    expected = (again - (images + 0.3 * (images + condition))).abs().mean()
    torch.testing.assert_close(result.terms["distill/term"], expected)
    result.total.backward()
    assert module.net.share.grad is not None


@pytest.mark.parametrize("extra", [0, 4])
def test_asked_again_the_student_is_told_the_same_error(extra: int) -> None:
    class Twice(TransferTerm):
        def forward(self, student: Observed, teacher: Observed) -> Tensor:
            question = student.asked(self)
            return (question.ask(question.degraded) - student.output).abs().mean()

    given = batch(extra)
    given.seed = torch.tensor([3, 4])
    module = module_with(Twice(), condition_noise=0.5)
    assert module.compute_loss(given).terms["distill/term"] == 0
    exact = module_with(Twice()).compute_loss(given)
    assert module.compute_loss(given).terms["pixel"] != exact.terms["pixel"]


@pytest.mark.parametrize("extra", [0, 4])
def test_the_gate_is_opened_by_the_truth_and_its_share_is_logged(extra: int) -> None:
    """The truth is 1.25 times the input; the student says 1.1 times, the teachers 1.3 and 1.6 times."""
    given = batch(extra)
    given.condition = torch.zeros(2, 1)
    if extra:
        given.extra_condition = torch.zeros(extra, 1)
    terms = module_with(GatedOutputDistillation()).compute_loss(given).terms
    assert set(terms) == {"pixel", "distill", "distill/term", "distill/term/share"}
    assert terms["distill/term/share"].item() == 1
    worse = module_with(GatedOutputDistillation(), FrozenTeacher(Net(0.6))).compute_loss(given).terms
    assert worse["distill/term/share"].item() == 0
    images = given.extra if given.extra is not None else torch.zeros(1, 3, 12, 12)
    # behind the closed gate is what has a truth; the rest counts whole
    expected = 0.5 * images.mean() * extra / (2 + extra)
    assert worse["distill/term"].item() == pytest.approx(expected.item(), rel=1e-5)


def test_several_teachers_are_judged_together_and_their_gate_is_logged_once() -> None:
    members = {"good": FrozenTeacher(Net(0.3)), "bad": FrozenTeacher(Net(0.6))}
    given = batch(0)
    given.condition = torch.zeros(2, 1)
    terms = module_with(GatedOutputDistillation(), TeacherEnsemble(members, [1, 1])).compute_loss(given).terms
    # their mean, 1.45 times the input, is farther from the truth than the student; so is the bad one alone
    assert terms["distill/term/share"].item() == 0
    assert terms["teacher/bad/distill"].item() == 0
    good = 2 * 0.2 * given.degraded.mean()
    assert terms["teacher/good/distill"].item() == pytest.approx(good.item(), rel=1e-5)


def test_a_module_whose_gate_has_answered_can_be_copied() -> None:
    module = module_with(GatedOutputDistillation())
    result = module.compute_loss(batch(0))
    result.total.backward()
    again = copy.deepcopy(module).compute_loss(batch(0))
    assert again.total.equal(result.total)
