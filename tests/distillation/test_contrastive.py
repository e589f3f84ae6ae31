from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter1d
from torch import Tensor

from sharpkd.distillation.base import Observed, Question
from sharpkd.distillation.contrastive import ContrastiveDistillation, blurred
from sharpkd.distillation.haar import haar_bands


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


class Student:
    """Scales its input; remembers what it was shown and whether its gradient was wanted."""

    def __init__(self) -> None:
        self.weight = torch.tensor(0.9, requires_grad=True)
        self.shown: list[Tensor] = []
        self.followed: list[bool] = []

    def __call__(self, inputs: Tensor) -> Tensor:
        self.shown.append(inputs)
        answer = inputs * self.weight
        self.followed.append(answer.requires_grad)
        return answer


def asked(student: Student, degraded: Tensor, turn: tuple[int, ...] = (0, 0)) -> Observed:
    question = Question(degraded, degraded[:0], student, turn)
    return Observed(degraded * student.weight, question=question)


@pytest.mark.parametrize("sigma", [0.5, 1.3])
def test_blur_is_scipys(sigma: float) -> None:
    image = random(3, 12, 9).double()
    radius = int(np.ceil(3 * sigma))
    expected = image.numpy()
    for axis in (1, 2):
        expected = gaussian_filter1d(expected, sigma, axis=axis, radius=radius, mode="nearest")
    np.testing.assert_allclose(blurred(image, sigma).numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("levels", [0, 2])
def test_is_the_distance_to_the_teacher_over_that_to_the_worse_answer(levels: int) -> None:
    degraded, teacher = random(3, 3, 16, 16), random(3, 3, 16, 16, seed=1)
    student = Student()
    value = ContrastiveDistillation((0.5, 1.5), levels)(asked(student, degraded), Observed(teacher))

    def far(x: Tensor, y: Tensor) -> float:
        pairs = zip(haar_bands(x[None], levels), haar_bands(y[None], levels), strict=True)
        return sum(float(np.abs((a - b).detach().double().numpy()).mean()) for a, b in pairs)

    (worse,) = student.shown
    ratios = [
        far(0.9 * x, t) / (far(0.9 * x, 0.9 * w) + 1e-3)
        for x, t, w in zip(degraded, teacher, worse, strict=True)
    ]
    assert value.item() == pytest.approx(sum(ratios) / 3, rel=1e-4)
    assert student.followed == [False]


def test_the_inputs_are_made_worse_within_the_bounds_and_each_differently() -> None:
    degraded = random(1, 3, 20, 20).repeat(4, 1, 1, 1)
    student = Student()
    ContrastiveDistillation((0.5, 1.5))(asked(student, degraded), Observed(degraded))
    least, most = (blurred(degraded[0], sigma).var() for sigma in (0.5, 1.5))
    variances = [image.var() for image in student.shown[0]]
    assert all(most <= variance <= least for variance in variances)
    assert len({round(variance.item(), 7) for variance in variances}) == 4


def test_it_falls_all_the_way_from_the_worse_answer_to_the_teacher() -> None:
    degraded, teacher = random(2, 3, 16, 16), random(2, 3, 16, 16, seed=1)
    student, term = Student(), ContrastiveDistillation()
    question = Question(degraded, degraded[:0], student, (0, 0))
    term(Observed(degraded, question=question), Observed(teacher))
    with torch.no_grad():
        worse = student(student.shown[0])
    values = [
        term(Observed(worse + way * (teacher - worse), question=question), Observed(teacher)).item()
        for way in (0, 0.1, 0.5, 0.9, 1)
    ]
    # near is (1 - way) and far is way times their distance, so the share is (1 - way) / way
    assert values == sorted(values, reverse=True)
    assert values[1:] == pytest.approx([9, 1, 1 / 9, 0], rel=0.02, abs=1e-6)


def test_what_is_drawn_follows_from_seed_and_turn_alone() -> None:
    degraded = random(2, 3, 16, 16)

    def shown(seed: int, turn: tuple[int, ...]) -> Tensor:
        student = Student()
        ContrastiveDistillation(seed=seed)(asked(student, degraded, turn), Observed(degraded))
        return student.shown[0]

    state = torch.get_rng_state()
    first = shown(0, (5, 0))
    assert shown(0, (5, 0)).equal(first)
    for other in ((1, (5, 0)), (0, (6, 0)), (0, (5, 1))):
        assert not shown(*other).equal(first)
    assert torch.get_rng_state().equal(state)


def test_equal_answers_are_finite_and_the_teacher_gets_no_gradient() -> None:
    degraded = torch.full((1, 3, 8, 8), 0.5)  # blur changes nothing
    student, output = Student(), torch.zeros(1, 3, 8, 8, requires_grad=True)
    value = ContrastiveDistillation()(asked(student, degraded), Observed(output))
    value.backward()
    assert value.isfinite()
    assert output.grad is None
    assert student.weight.grad is not None
    assert student.weight.grad.isfinite()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sigma": [1.0]}, "sigma is [1.0], expected [least, most] in pixels, above 0"),
        ({"sigma": [2, 1]}, "sigma is [2, 1], expected [least, most] in pixels, above 0"),
        ({"sigma": [0, 1]}, "sigma is [0, 1], expected [least, most] in pixels, above 0"),
        ({"levels": -2}, "levels is -2, expected a number >= 0"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=rf"^ContrastiveDistillation\.{re.escape(message)}$"):
        ContrastiveDistillation(**settings)  # type: ignore[arg-type]  # what the test is about


def test_bad_observations_are_refused() -> None:
    degraded = random(2, 3, 4, 4)
    with pytest.raises(ValueError, match=r"^ContrastiveDistillation needs what the student was asked"):
        ContrastiveDistillation()(Observed(degraded), Observed(degraded))
    with pytest.raises(
        ValueError, match=r"^student \(2, 3, 4, 4\) and teacher \(2, 3, 8, 8\) differ in shape"
    ):
        ContrastiveDistillation()(asked(Student(), degraded), Observed(random(2, 3, 8, 8)))
