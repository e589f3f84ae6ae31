from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from torch import Tensor

from sharpkd.distillation.base import Observed, Question
from sharpkd.distillation.gated_output import GatedOutputDistillation
from sharpkd.distillation.haar import haar_bands
from sharpkd.distillation.output import OutputDistillation


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def triple(*shape: int) -> tuple[Tensor, Tensor, Tensor]:
    """Student, teacher and truth; now the one is nearer, now the other."""
    truth = random(*shape)
    ours, theirs = (truth + 0.2 * (random(*shape, seed=seed) - 0.5) for seed in (1, 2))
    return ours, theirs, truth


def never(_inputs: Tensor) -> Tensor:
    raise AssertionError("the gate asks nobody")


def asked(output: Tensor, sharp: Tensor) -> Observed:
    return Observed(output, question=Question(torch.zeros_like(output), sharp, never))


def smoothed_error(image: np.ndarray, truth: np.ndarray, row: int, column: int, window: int) -> float:
    reach = window // 2
    rows = slice(max(0, row - reach), row + reach + 1)
    columns = slice(max(0, column - reach), column + reach + 1)
    return float(np.abs(image - truth)[:, rows, columns].mean())


def by_hand(images: tuple[np.ndarray, np.ndarray, np.ndarray], window: int, power: int) -> tuple[float, int]:
    """Sum over the places where the teacher is nearer, and how many there are; one place after the other."""
    ours, theirs, truth = images
    total, passed = 0.0, 0
    for image in range(len(truth)):
        for row in range(ours.shape[2]):
            for column in range(ours.shape[3]):
                our_error, their_error = (
                    smoothed_error(each[image], truth[image], row, column, window) for each in (ours, theirs)
                )
                if their_error < our_error:
                    difference = ours[image, :, row, column] - theirs[image, :, row, column]
                    total += float((np.abs(difference) ** power).sum())
                    passed += 1
    return total, passed


@pytest.mark.parametrize(("criterion", "power"), [("l1", 1), ("mse", 2)])
@pytest.mark.parametrize("window", [1, 3, 7])
def test_equals_a_loop_over_the_places(criterion: str, power: int, window: int) -> None:
    ours, theirs, truth = triple(2, 3, 6, 9)
    term = GatedOutputDistillation(criterion, window)
    value = term(asked(ours, truth), Observed(theirs))
    arrays = (ours.double().numpy(), theirs.double().numpy(), truth.double().numpy())
    total, passed = by_hand(arrays, window, power)
    assert 0 < passed < 2 * 6 * 9
    assert value.item() == pytest.approx(total / ours.numel(), rel=1e-5)
    assert term.reports()["share"].item() == pytest.approx(passed / (2 * 6 * 9))


def test_each_wavelet_coefficient_decides_for_itself() -> None:
    ours, theirs, truth = (x.double() for x in triple(2, 3, 8, 12))
    term = GatedOutputDistillation(window=3, levels=2)
    value = term(asked(ours, truth), Observed(theirs))
    total = passed = 0.0
    for a, b, c in zip(*(haar_bands(x, 2) for x in (ours, theirs, truth)), strict=True):
        found = by_hand((a.numpy(), b.numpy(), c.numpy()), window=3, power=1)
        total, passed = total + found[0], passed + found[1]
    assert value.item() == pytest.approx(total / ours.numel(), rel=1e-5)
    assert term.reports()["share"].item() == pytest.approx(passed / (2 * 8 * 12))


def test_a_better_teacher_is_output_distillation_and_a_worse_one_nothing() -> None:
    ours, theirs, truth = triple(2, 3, 8, 8)
    term, plain = GatedOutputDistillation(), OutputDistillation()
    better = Observed(truth)
    torch.testing.assert_close(term(asked(ours, truth), better), plain(Observed(ours), better))
    assert term.reports()["share"].item() == 1
    assert term(asked(truth, truth), Observed(theirs)).item() == 0
    assert term.reports()["share"].item() == 0
    assert term(asked(ours, truth), Observed(ours)).item() == 0  # equally far: closed
    assert term.reports()["share"].item() == 0


@pytest.mark.parametrize("levels", [0, 2])
def test_inputs_without_truth_pass_whole(levels: int) -> None:
    ours, theirs, truth = triple(3, 3, 8, 8)
    term, plain = GatedOutputDistillation("mse", levels=levels), OutputDistillation("mse")
    unjudged = term(asked(ours, truth[:0]), Observed(theirs))
    # the transform keeps sums of squares, so this is the plain term with it as well
    torch.testing.assert_close(unjudged, plain(Observed(ours), Observed(theirs)))
    assert term.reports() == {}
    one = term(asked(ours[:1], truth[:1]), Observed(theirs[:1]))
    share = term.reports()["share"]
    rest = plain(Observed(ours[1:]), Observed(theirs[1:]))
    torch.testing.assert_close(term(asked(ours, truth[:1]), Observed(theirs)), (one + 2 * rest) / 3)
    assert term.reports()["share"].equal(share)  # of the judged image alone


def test_the_gradient_is_that_of_the_open_places_and_reaches_the_student_alone() -> None:
    ours, theirs, truth = triple(1, 3, 6, 6)
    ours.requires_grad_()
    theirs.requires_grad_()
    GatedOutputDistillation(window=1)(asked(ours, truth), Observed(theirs)).backward()
    assert theirs.grad is None
    assert ours.grad is not None
    with torch.no_grad():
        open_gate = (theirs - truth).abs().mean(1, True) < (ours - truth).abs().mean(1, True)
        expected = open_gate * (ours - theirs).sign() / ours.numel()
    torch.testing.assert_close(ours.grad, expected)


def test_half_precision_is_lifted() -> None:
    half = [x.bfloat16() for x in triple(2, 3, 8, 8)]
    term = GatedOutputDistillation(levels=1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = term(asked(half[0], half[2].float()), Observed(half[1]))
    whole = [x.float() for x in half]
    assert mixed.dtype == torch.float32
    torch.testing.assert_close(mixed, term(asked(whole[0], whole[2]), Observed(whole[1])), rtol=1e-6, atol=0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"criterion": "l3"}, "criterion is 'l3', expected one of l1, mse"),
        ({"window": 4}, "GatedOutputDistillation.window is 4, expected an odd number >= 1"),
        ({"window": -1}, "GatedOutputDistillation.window is -1, expected an odd number >= 1"),
        ({"levels": -1}, "GatedOutputDistillation.levels is -1, expected a number >= 0"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        GatedOutputDistillation(**settings)  # type: ignore[arg-type]  # what the test is about


def test_bad_observations_are_refused() -> None:
    term = GatedOutputDistillation()
    ours, theirs, truth = triple(1, 3, 6, 6)
    message = "GatedOutputDistillation needs what the student was asked: give its Observed a question"
    with pytest.raises(ValueError, match=f"^{message}$"):
        term(Observed(ours), Observed(theirs))
    with pytest.raises(ValueError, match=r"\(1, 3, 6, 6\) and teacher \(1, 3, 6, 5\) differ in shape"):
        term(asked(ours, truth), Observed(theirs[..., 1:]))
