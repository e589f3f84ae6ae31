"""A teacher that enlarges the small image by itself, beside a student of the same size."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sharpkd.callbacks.image_grid import ImageGrid
from sharpkd.data.batch import Batch
from sharpkd.distillation.feature import FeatureDistillation
from sharpkd.distillation.output import OutputDistillation
from sharpkd.distillation.transfer import KnowledgeTransfer, TeacherInput
from sharpkd.losses.combined import CombinedLoss
from sharpkd.losses.pixel import L1Loss
from sharpkd.losses.ssim import SSIMLoss
from sharpkd.modules.distill import PROBE_SIZE, DistillModule
from sharpkd.modules.frozen_teacher import FrozenTeacher
from sharpkd.nets.pixel_student import PixelStudent

FACTOR = 4


class Enlarging(nn.Module):
    """A convolution and a sub-pixel convolution; remembers the shapes that it was shown."""

    scale = FACTOR

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.hidden, self.last = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 3 * FACTOR**2, 1)
        self.taps = {"early": "hidden", "middle": "hidden", "late": "hidden"}
        self.seen: list[tuple[int, ...]] = []

    def forward(self, degraded: Tensor, condition: Tensor | None = None) -> Tensor:
        self.seen.append(tuple(degraded.shape))
        return F.pixel_shuffle(self.last(self.hidden(degraded)), FACTOR)


def no_perceptual() -> nn.Module:
    raise AssertionError("beta is 0: nothing may be built")


def module_of(teacher_input: TeacherInput, terms: dict[str, Any] | None = None) -> DistillModule:
    torch.manual_seed(0)
    return DistillModule(
        teacher=FrozenTeacher(Enlarging()),
        transfer=KnowledgeTransfer(
            terms or {"output": {"weight": 1.0, "term": OutputDistillation()}}, teacher_input=teacher_input
        ),
        net=PixelStudent(width=8, depth=3),
        net_config={},
        loss=CombinedLoss(0.5, 0.0, 0.0, 0.7, L1Loss(), no_perceptual, SSIMLoss()),
        optimizer=partial(torch.optim.SGD, lr=0.1),
    )


def batch_of(count: int = 2, extra: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(2)
    small = torch.rand(count + extra, 3, 5, 6, generator=generator)
    degraded = F.interpolate(small, scale_factor=FACTOR, mode="bicubic")
    sharp = torch.rand(count, 3, 20, 24, generator=generator)
    return Batch(
        degraded[:count],
        sharp,
        [f"image {index}" for index in range(count)],
        low_res=small[:count],
        extra=degraded[count:] if extra else None,
        extra_low_res=small[count:] if extra else None,
    )


@pytest.mark.parametrize("extra", [0, 3])
def test_the_student_matches_what_the_teacher_makes_of_the_small_image(extra: int) -> None:
    module, batch = module_of("low_res"), batch_of(2, extra)
    assert module.teacher is not None
    assert batch.low_res is not None
    result = module.compute_loss(batch)
    inputs, small = [batch.degraded], [batch.low_res]
    if batch.extra is not None and batch.extra_low_res is not None:
        inputs.append(batch.extra)
        small.append(batch.extra_low_res)
    with torch.no_grad():
        answer = module.teacher.module(torch.cat(small))
        student = module.net(torch.cat(inputs))
    pixel = (student[:2] - batch.sharp).abs().mean()
    imitation = (student - answer).abs().mean()
    assert result.total.item() == pytest.approx((0.5 * pixel + 0.7 * imitation).item(), rel=1e-5)
    assert result.terms["distill/output"].item() == pytest.approx(imitation.item(), rel=1e-5)


def test_degraded_is_what_the_student_sees() -> None:
    module, batch = module_of("degraded"), batch_of(2, 3)
    assert batch.extra is not None
    assert torch.equal(module.teacher_input_of(batch), torch.cat([batch.degraded, batch.extra]))


def test_feature_maps_are_probed_at_the_teachers_size() -> None:
    pairs = [["middle", "middle"]]
    module = module_of("low_res", {"feature": {"weight": 1.0, "term": FeatureDistillation(pairs)}})
    assert module.teacher is not None
    side = PROBE_SIZE // FACTOR
    net: Any = module.teacher.module
    assert net.seen == [(1, 3, side, side)]
    result = module.compute_loss(batch_of())
    assert result.terms["distill/feature"] > 0
    result.total.backward()
    assert all(parameter.grad is not None for parameter in module.net.parameters())


@pytest.mark.parametrize(("field", "which"), [("low_res", ""), ("extra_low_res", " without ground truth")])
def test_a_batch_without_small_images_is_refused(field: str, which: str) -> None:
    module, batch = module_of("low_res"), batch_of(2, 3)
    setattr(batch, field, None)
    message = (
        f"distillation.teacher_input=low_res, but the inputs{which} come without low-resolution images; use "
        "degradation=lowres degradation.carry_low_res=true, or distillation.teacher_input=degraded"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        module.compute_loss(batch)


def test_an_unknown_teacher_input_is_refused() -> None:
    terms = {"output": {"weight": 1.0, "term": OutputDistillation()}}
    with pytest.raises(
        ValueError, match=r"^distillation\.teacher_input is 'lowres', expected degraded or low_res$"
    ):
        KnowledgeTransfer(terms, teacher_input="lowres")  # type: ignore[arg-type]  # wrong on purpose


def test_the_grid_shows_the_teachers_answer_to_the_small_image(tmp_path: Path) -> None:
    module, batch = module_of("low_res"), batch_of(1)
    assert module.teacher is not None
    grid = ImageGrid(str(tmp_path), size=64)
    shown = grid._keep(module, batch, batch.sharp, 0)
    assert shown.teacher is not None
    assert shown.sharp.shape == shown.teacher.shape == (20, 20, 3)
    # a window of 20 pixels is five small ones; the answer to the whole image agrees away from its border
    whole = (module.teacher.module(batch.low_res).clamp(0, 1) * 255)[0].permute(1, 2, 0)
    places = [
        column
        for column in range(0, 5, FACTOR)
        if (whole[4:16, column + 4 : column + 16] - torch.from_numpy(shown.teacher[4:16, 4:16])).abs().max()
        <= 1
    ]
    assert len(places) == 1


def test_a_teacher_of_another_scale_is_told_what_it_is_for() -> None:
    asked_by = "distillation.teacher_input=low_res, which is 3 times smaller"
    with pytest.raises(
        ValueError,
        match=r"into \(1, 3, 192, 192\), the task needs \(1, 3, 144, 144\); its scale or channel count is "
        rf"not the task's \({re.escape(asked_by)}\)$",
    ):
        FrozenTeacher(Enlarging()).check(3, asked_by=asked_by)
