from __future__ import annotations

import re
from itertools import product

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from sharpkd.distillation.base import Observed, Question
from sharpkd.distillation.consistency import ConsistencyDistillation, InvertibleChange, drawn_change

EVERY = ("flip", "turn", "invert", "exchange")


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


class Student:
    """Enlarges ``scale`` times and shifts the brightness by a weight; remembers what it was shown."""

    def __init__(self, scale: int = 1, shift: float = 0.0) -> None:
        self.scale, self.weight = scale, torch.tensor(shift, requires_grad=True)
        self.shown: list[Tensor] = []

    def __call__(self, inputs: Tensor) -> Tensor:
        self.shown.append(inputs)
        return F.interpolate(inputs, scale_factor=self.scale) + self.weight


def asked(student: Student, degraded: Tensor, turn: tuple[int, ...] = (0, 0)) -> Observed:
    return Observed(torch.zeros_like(degraded), question=Question(degraded, degraded[:0], student, turn))


def all_changes() -> list[InvertibleChange]:
    permutations = [(0, 1, 2), (1, 2, 0), (2, 0, 1), (0, 2, 1), (2, 1, 0), (1, 0, 2)]
    settings = product((False, True), range(4), (False, True), permutations)
    return [InvertibleChange(*setting) for setting in settings]


def test_every_change_is_undone() -> None:
    image = random(3, 4, 6)
    for change in all_changes():
        torch.testing.assert_close(change.undo(change.apply(image)), image)
    assert len({tuple(change.apply(image).flatten().tolist()) for change in all_changes()}) == 96


def test_a_change_is_what_it_says() -> None:
    image = random(3, 4, 4).numpy()
    change = InvertibleChange(flip=True, turns=1, invert=True, channels=(2, 0, 1))
    expected = 1 - np.rot90(image[:, :, ::-1], axes=(1, 2))[[2, 0, 1]]
    np.testing.assert_array_equal(change.apply(torch.from_numpy(image)).numpy(), expected)


@pytest.mark.parametrize("scale", [1, 2])
def test_a_student_that_sees_through_every_change_is_told_nothing(scale: int) -> None:
    """Nearest neighbours commute with flips, turns, inversion and exchange."""
    degraded = random(6, 3, 5, 5)
    student = Student(scale)
    teacher = Observed(F.interpolate(degraded, scale_factor=scale))
    value = ConsistencyDistillation(among=EVERY)(asked(student, degraded), teacher)
    assert value.item() == pytest.approx(0, abs=1e-7)
    (shown,) = student.shown
    assert shown.shape == degraded.shape
    assert not any(torch.equal(*pair) for pair in zip(shown, degraded, strict=True))


@pytest.mark.parametrize(("criterion", "power"), [("l1", 1), ("mse", 2)])
def test_a_shift_that_inversion_does_not_commute_with_costs_itself(criterion: str, power: int) -> None:
    """Undone, x + 0.1 of an inverted image is x - 0.1: as far from the plain image either way."""
    degraded = random(8, 3, 6, 6)
    term = ConsistencyDistillation(criterion, among=["invert"])
    student = Student(shift=0.1)
    value = term(asked(student, degraded), Observed(degraded))
    assert value.item() == pytest.approx(0.1**power, rel=1e-4)
    # from the teacher's x + 0.1 only the inverted images are away, by 0.2
    inverted = sum(not torch.equal(*pair) for pair in zip(student.shown[0], degraded, strict=True))
    assert 0 < inverted < 8
    value = term(asked(student, degraded), Observed(degraded + 0.1))
    assert value.item() == pytest.approx(0.2**power * inverted / 8, rel=1e-4)


def test_what_is_drawn_follows_from_seed_and_turn_alone() -> None:
    degraded = random(8, 3, 6, 6)

    def shown(seed: int, turn: tuple[int, ...]) -> Tensor:
        student = Student()
        ConsistencyDistillation(among=EVERY, seed=seed)(asked(student, degraded, turn), Observed(degraded))
        return student.shown[0]

    state = torch.get_rng_state()
    first = shown(0, (5, 0))
    torch.rand(3)
    np.random.default_rng().random()
    assert shown(0, (5, 0)).equal(first)
    torch.set_rng_state(state)
    for other in ((1, (5, 0)), (0, (6, 0)), (0, (5, 1))):
        assert not shown(*other).equal(first)
    assert torch.get_rng_state().equal(state)  # it draws from no one else's generator


def test_kinds_are_chosen_and_shapes_are_kept() -> None:
    draw = np.random.default_rng(0)
    drawn = [drawn_change(draw, EVERY, square=True) for _ in range(2000)]
    assert set(drawn) == set(all_changes())
    for kind, still in (
        ("flip", {"turns": 0, "invert": False, "channels": (0, 1, 2)}),
        ("turn", {"flip": False, "invert": False, "channels": (0, 1, 2)}),
        ("invert", {"flip": False, "turns": 0, "channels": (0, 1, 2)}),
        ("exchange", {"flip": False, "turns": 0, "invert": False}),
    ):
        alone = [drawn_change(draw, [kind], square=True) for _ in range(100)]
        assert all(getattr(change, name) == value for change in alone for name, value in still.items())
        assert len(set(alone)) == {"flip": 2, "turn": 4, "invert": 2, "exchange": 6}[kind]
    assert {drawn_change(draw, ["turn"], square=False).turns for _ in range(50)} == {0, 2}
    degraded = random(16, 3, 4, 6)
    value = ConsistencyDistillation(among=EVERY)(asked(Student(), degraded), Observed(degraded))
    assert value.item() == pytest.approx(0, abs=1e-7)


def test_the_gradient_goes_through_the_second_answer_and_never_to_the_teacher() -> None:
    degraded = random(8, 3, 4, 4)
    student, output = Student(shift=0.1), degraded.clone().requires_grad_()
    ConsistencyDistillation(among=["flip"])(asked(student, degraded), Observed(output)).backward()
    assert output.grad is None
    assert student.weight.grad is not None
    assert student.weight.grad.item() == pytest.approx(1)


@pytest.mark.parametrize("among", [[], ["flip", "zoom"], "flip"])
def test_unknown_changes_are_refused(among: list[str] | str) -> None:
    message = f"ConsistencyDistillation.among is {among!r}, expected a list of flip, turn, invert, exchange"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        ConsistencyDistillation(among=among)


def test_bad_observations_are_refused() -> None:
    degraded = random(2, 3, 4, 4)
    with pytest.raises(ValueError, match=r"^ConsistencyDistillation needs what the student was asked"):
        ConsistencyDistillation()(Observed(degraded), Observed(degraded))
    with pytest.raises(ValueError, match=r"\(2, 3, 4, 4\) and teacher \(2, 3, 8, 8\) differ in shape"):
        ConsistencyDistillation()(asked(Student(), degraded), Observed(random(2, 3, 8, 8)))
