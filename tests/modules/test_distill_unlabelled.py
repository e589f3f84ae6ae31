"""Inputs without ground truth are for the teacher's terms alone."""

from __future__ import annotations

import re
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sharpkd.data.batch import Batch
from sharpkd.distillation.attention import AttentionTransfer
from sharpkd.distillation.output import OutputDistillation
from sharpkd.distillation.transfer import KnowledgeTransfer
from sharpkd.functional.ssim import ssim
from sharpkd.losses.combined import CombinedLoss
from sharpkd.losses.pixel import L1Loss
from sharpkd.losses.ssim import SSIMLoss
from sharpkd.modules.distill import DistillModule
from sharpkd.modules.frozen_teacher import FrozenTeacher
from sharpkd.modules.restoration import RestorationModule
from sharpkd.modules.teacher import TeacherModule

LABELLED, EXTRA = 3, 6


class Net(nn.Module):
    """A convolution on the image and its condition; remembers what it was given."""

    def __init__(self, seed: int, channels: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.hidden, self.last = nn.Conv2d(4, channels, 3, padding=1), nn.Conv2d(channels, 3, 1)
        self.taps = {"early": "hidden", "middle": "hidden", "late": "last"}
        self.seen: list[tuple[Tensor, Tensor | None]] = []

    def forward(self, degraded: Tensor, condition: Tensor | None = None) -> Tensor:
        self.seen.append((degraded, condition))
        known = torch.zeros(len(degraded), 1) if condition is None else condition
        plane = known[..., None, None].expand(-1, -1, *degraded.shape[-2:])
        return degraded + self.last(self.hidden(torch.cat([degraded, plane], dim=1)))


class Perceptual(nn.Module):
    """Stands for a perceptual network: the mean squared difference of 4x4 averages."""

    def forward(self, output: Tensor, sharp: Tensor) -> Tensor:
        return F.mse_loss(F.avg_pool2d(output, 4), F.avg_pool2d(sharp, 4))


def arguments(delta: float = 0.7, **settings: Any) -> dict[str, Any]:
    return {
        "net": Net(seed=0, channels=5),
        "net_config": {},
        "loss": CombinedLoss(1.0, 0.5, 0.1, delta, L1Loss(), Perceptual, SSIMLoss()),
        "optimizer": partial(torch.optim.SGD, lr=0.1),
        **settings,
    }


def distilling(**settings: Any) -> DistillModule:
    transfer = KnowledgeTransfer(
        {
            "output": {"weight": 1.0, "term": OutputDistillation()},
            "attention": {"weight": 2.0, "term": AttentionTransfer([["middle", "middle"]])},
        }
    )
    teacher = FrozenTeacher(Net(seed=1, channels=7))
    module = DistillModule(teacher=teacher, transfer=transfer, **arguments(**settings))
    for net in nets_of(module):
        net.seen.clear()
    return module


def nets_of(module: DistillModule) -> tuple[Net, Net]:
    """Student and teacher."""
    assert module.teacher is not None
    student, teacher = module.net, module.teacher.module
    assert isinstance(student, Net)
    assert isinstance(teacher, Net)
    return student, teacher


def batch(extra: bool = True, condition: bool = True, extra_condition: bool = True) -> Batch:
    generator = torch.Generator().manual_seed(2)
    sharp, inputs = (torch.rand(n, 3, 16, 16, generator=generator) for n in (LABELLED, EXTRA))
    told, of_extra = (torch.rand(n, 1, generator=generator) for n in (LABELLED, EXTRA))
    return Batch(
        degraded=0.8 * sharp + 0.1,
        sharp=sharp,
        name=[f"image {index}" for index in range(LABELLED)],
        condition=told if condition else None,
        extra=inputs if extra else None,
        extra_condition=of_extra if extra and extra_condition else None,
    )


def attention(features: Tensor) -> Tensor:
    """Zagoruyko & Komodakis: mean square over the channels, of length 1 for each image."""
    flat = features.square().mean(dim=1).flatten(1)
    return flat / flat.norm(dim=1, keepdim=True)


def observed(net: Net, images: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
    """The net's output for each image, and its attention, image by image."""
    plane = condition[..., None, None].expand(-1, -1, *images.shape[-2:])
    hidden = [net.hidden(each[None]) for each in torch.cat([images, plane], dim=1)]
    outputs = [image[None] + net.last(each) for image, each in zip(images, hidden, strict=True)]
    return torch.cat(outputs), torch.cat([attention(each) for each in hidden])


def test_the_loss_is_what_a_calculation_by_hand_gives() -> None:
    module = distilling(use_condition=True)
    given = batch()
    result = module.compute_loss(given)
    assert given.extra is not None
    assert given.condition is not None
    assert given.extra_condition is not None
    images = torch.cat([given.degraded, given.extra])
    condition = torch.cat([given.condition, given.extra_condition])
    with torch.no_grad():
        (ours, our_attention), (theirs, their_attention) = (
            observed(net, images, condition) for net in nets_of(module)
        )
    labelled = ours[:LABELLED]
    expected = {
        "pixel": (labelled - given.sharp).abs().mean(),
        "perceptual": Perceptual()(labelled, given.sharp),
        "ssim": 1 - ssim(labelled, given.sharp).mean(),
        "distill/output": (ours - theirs).abs().mean(),
        "distill/attention": (our_attention - their_attention).square().sum() / (LABELLED + EXTRA),
    }
    expected["distill"] = expected["distill/output"] + 2 * expected["distill/attention"]
    total = expected["pixel"] + 0.5 * expected["perceptual"] + 0.1 * expected["ssim"]
    total = total + 0.7 * expected["distill"]
    assert result.terms.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(result.terms[name], value, rtol=1e-5, atol=1e-7, msg=name)
    torch.testing.assert_close(result.total, total, rtol=1e-5, atol=1e-7)


def test_each_net_runs_once_on_all_inputs_the_labelled_ones_first() -> None:
    module = distilling(use_condition=True)
    given = batch()
    module.compute_loss(given)
    for net in nets_of(module):
        ((images, condition),) = net.seen
        assert condition is not None
        assert given.extra is not None
        assert given.extra_condition is not None
        assert images[:LABELLED].equal(given.degraded)
        assert images[LABELLED:].equal(given.extra)
        assert condition[LABELLED:].equal(given.extra_condition)


def test_extra_inputs_teach_through_the_teacher_alone() -> None:
    """With hardly any weight on the teacher, the gradient is that of a training without it."""

    def gradients(module: RestorationModule, given: Batch) -> list[Tensor]:
        module.compute_loss(given).total.backward()
        return [parameter.grad for parameter in module.net.parameters() if parameter.grad is not None]

    alone = gradients(RestorationModule(**arguments(delta=0.0)), batch(extra=False))
    assert len(alone) == 4
    torch.testing.assert_close(gradients(distilling(delta=1e-30), batch()), alone, rtol=1e-4, atol=1e-7)
    taught, without = (gradients(distilling(), batch(extra=extra)) for extra in (True, False))
    assert not any(torch.allclose(*pair, rtol=1e-3) for pair in zip(taught, without, strict=True))


def test_without_a_use_for_the_condition_none_is_handed_on() -> None:
    module = distilling()
    module.compute_loss(batch(extra_condition=False))
    assert [condition for _, condition in nets_of(module)[0].seen] == [None]


def test_a_condition_of_the_labelled_inputs_alone_is_refused() -> None:
    message = (
        "module.use_condition=true, but nothing is known of the inputs without ground truth; "
        "use data.unlabelled_degraded=true or module.use_condition=false"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        distilling(use_condition=True).compute_loss(batch(extra_condition=False))


@pytest.mark.parametrize(
    "module",
    [
        partial(RestorationModule),
        partial(TeacherModule),
        partial(DistillModule, teacher=None, transfer=None),
    ],
)
def test_without_a_teacher_they_are_refused(module: Any) -> None:
    name = module.func.__name__
    message = (
        f"data.unlabelled_dir needs a teacher: {name} has none to label its images; "
        "use experiment=distill teacher.path=FILE, or data.unlabelled_dir=null"
    )
    untaught = module(**arguments(delta=0.0))
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        untaught.training_step(batch(), 0)
    assert torch.isfinite(untaught.compute_loss(batch(extra=False)).total)
