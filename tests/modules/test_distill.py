"""The teacher changes by not one bit, is saved and averaged nowhere, and only answers."""

from __future__ import annotations

import copy
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from sharpkd.callbacks.ema import EMA
from sharpkd.data.batch import Batch, collate
from sharpkd.distillation.attention import AttentionTransfer
from sharpkd.distillation.feature import FeatureDistillation
from sharpkd.distillation.output import OutputDistillation
from sharpkd.distillation.transfer import KnowledgeTransfer
from sharpkd.losses.combined import CombinedLoss
from sharpkd.losses.pixel import L1Loss
from sharpkd.losses.ssim import SSIMLoss
from sharpkd.modules.distill import DistillModule
from sharpkd.modules.frozen_teacher import FrozenTeacher
from sharpkd.modules.restoration import RestorationModule
from sharpkd.modules.schedule import warmup_cosine
from sharpkd.modules.teacher import TeacherModule
from sharpkd.nets.attention_teacher import AttentionTeacher
from sharpkd.nets.pixel_student import PixelStudent

SAMPLES = 8


def _batches() -> DataLoader[Batch]:
    generator = torch.Generator().manual_seed(0)
    sharp = torch.rand(SAMPLES, 1, 3, 24, 24, generator=generator)
    samples = [Batch(image * 0.8 + 0.1, image, [f"image {i}"]) for i, image in enumerate(sharp)]
    return DataLoader(samples, batch_size=4, collate_fn=collate)  # type: ignore[arg-type]  # a list serves as a data set


def _loss(delta: float) -> CombinedLoss:
    def no_perceptual() -> nn.Module:
        raise AssertionError("beta is 0: nothing may be built")

    return CombinedLoss(1.0, 0.0, 0.1, delta, L1Loss(), no_perceptual, SSIMLoss())


def _arguments(delta: float) -> dict[str, Any]:
    torch.manual_seed(0)
    return {
        "net": PixelStudent(unshuffle=2, width=8, depth=3),
        "net_config": {"_target_": "sharpkd.nets.pixel_student.PixelStudent", "width": 8, "depth": 3},
        "loss": _loss(delta),
        "optimizer": partial(torch.optim.AdamW, lr=1e-2, weight_decay=0.1),
        "scheduler": partial(warmup_cosine, warmup_steps=1),
    }


@pytest.fixture
def teacher() -> FrozenTeacher:
    torch.manual_seed(1)
    net = AttentionTeacher(width=8, depths=[1, 1, 1], unshuffle=2)
    net.add_module("norm", nn.BatchNorm2d(3))  # statistics would change if it ever went into training mode
    return FrozenTeacher(net, sha256="abc", name="AttentionTeacher")


@pytest.fixture
def module(teacher: FrozenTeacher) -> DistillModule:
    transfer = KnowledgeTransfer(
        {
            "output": {"weight": 1.0, "term": OutputDistillation()},
            "feature": {"weight": 0.5, "term": FeatureDistillation()},
            "attention": {"weight": 2.0, "term": AttentionTransfer()},
        }
    )
    return DistillModule(teacher=teacher, transfer=transfer, **_arguments(delta=0.7))


def _trainer(folder: Path, *callbacks: pl.Callback, steps: int = 4) -> pl.Trainer:
    return pl.Trainer(
        accelerator="cpu",
        max_steps=steps,
        callbacks=list(callbacks),
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        num_sanity_val_steps=0,
        default_root_dir=folder,
    )


def _snapshot(net: nn.Module) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in net.state_dict().items()}


# Lightning's remarks on a small training, and its own use of a name that torch is about to drop
@pytest.mark.filterwarnings("ignore:.*does not have many workers.*", "ignore:Found .* module.*in eval mode")
@pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec.*")
def test_training_leaves_the_teacher_as_it_was(module: DistillModule, tmp_path: Path) -> None:
    teacher, transfer = module.teacher, module.transfer
    assert teacher is not None
    assert transfer is not None
    before, student = _snapshot(teacher.module), _snapshot(module.net)
    adapters = _snapshot(transfer)
    ema = EMA(decay=0.9)
    trainer = _trainer(tmp_path, ema)
    trainer.fit(module, _batches(), _batches())
    assert all(value.equal(before[key]) for key, value in teacher.module.state_dict().items())
    assert not any(value.equal(student[key]) for key, value in module.net.state_dict().items())
    assert adapters
    assert not any(value.equal(adapters[key]) for key, value in transfer.state_dict().items())
    assert all(parameter.grad is None for parameter in teacher.module.parameters())

    trainer.save_checkpoint(tmp_path / "x.ckpt")
    content = torch.load(tmp_path / "x.ckpt", weights_only=True)
    names = {
        key.split(".")[0] for part in ("state_dict", "current_model_state") for key in content.get(part, {})
    }
    assert names == {"net", "transfer"}
    assert content["sharpkd"]["teacher_sha256"] == "abc"
    assert content["sharpkd"]["net"]["width"] == 8
    optimized = {id(p) for group in trainer.optimizers[0].param_groups for p in group["params"]}
    assert optimized == {id(p) for p in (*module.net.parameters(), *transfer.parameters())}


def test_teacher_is_in_no_list_and_stays_in_eval_mode(module: DistillModule, teacher: FrozenTeacher) -> None:
    module.train()
    assert module.net.training
    assert not any(part.training for part in teacher.module.modules())
    assert not any(parameter.requires_grad for parameter in teacher.module.parameters())
    held = {id(parameter) for parameter in teacher.module.parameters()}
    assert not held & {id(parameter) for parameter in module.parameters()}
    assert not any("teacher" in key for key in module.state_dict())
    averaged = copy.deepcopy(module)
    assert averaged.teacher is teacher
    assert averaged.net is not module.net


def test_loss_is_the_weighted_sum_of_its_terms(module: DistillModule, teacher: FrozenTeacher) -> None:
    batch = next(iter(_batches()))
    result = module.compute_loss(batch)
    terms = result.terms
    assert set(terms) == {
        "pixel", "ssim", "distill", "distill/output", "distill/feature", "distill/attention"
    }  # fmt: skip
    total = terms["pixel"] + 0.1 * terms["ssim"] + 0.7 * terms["distill"]
    assert result.total.item() == pytest.approx(total.item(), rel=1e-6)
    distill = terms["distill/output"] + 0.5 * terms["distill/feature"] + 2.0 * terms["distill/attention"]
    assert terms["distill"].item() == pytest.approx(distill.item(), rel=1e-6)
    with torch.no_grad():
        expected = (module.net(batch.degraded) - teacher.module(batch.degraded)).abs().mean()
    assert terms["distill/output"].item() == pytest.approx(expected.item(), rel=1e-5)


def test_delta_zero_needs_no_teacher_and_equals_training_from_scratch() -> None:
    batch = next(iter(_batches()))
    student = DistillModule(teacher=None, transfer=None, **_arguments(delta=0.0))
    scratch = RestorationModule(**_arguments(delta=0.0))
    assert student.compute_loss(batch).total.equal(scratch.compute_loss(batch).total)
    assert len(list(student.trainable_parameters())) == len(list(scratch.trainable_parameters()))


def test_distillation_without_a_teacher_is_refused() -> None:
    with pytest.raises(ValueError, match=r"loss\.delta=0\.5 but DistillModule has no teacher"):
        DistillModule(teacher=None, transfer=None, **_arguments(delta=0.5))
    for kind in (RestorationModule, TeacherModule):
        with pytest.raises(
            ValueError, match=r"loss\.delta=0\.5 but .* has no teacher; use experiment=distill"
        ):
            kind(**_arguments(delta=0.5))


def test_not_finite_loss_names_the_images(tmp_path: Path) -> None:
    module = RestorationModule(**_arguments(delta=0.0))
    batch = next(iter(_batches()))
    batch.degraded[1] = float("nan")
    with pytest.raises(
        FloatingPointError, match="the loss is nan at step 0; images: image 0, image 1, image 2"
    ):
        module.training_step(batch, 0)


class _Wrong(nn.Module):
    def __init__(self, answer: Any) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, degraded: Tensor, condition: Tensor | None = None) -> Tensor:
        return self.answer(degraded)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda x: x[:, :1], r"into \(1, 1, 48, 48\), the task needs \(1, 3, 48, 48\)"),
        (lambda x: x.repeat(1, 1, 2, 2), r"into \(1, 3, 96, 96\), the task needs \(1, 3, 48, 48\)"),
        (lambda x: x / 0.0 * 0.0, "its output is not finite; its weights are unusable"),
    ],
)
def test_useless_teachers_are_refused_before_training(answer: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FrozenTeacher(_Wrong(answer)).check(scale=1)


def test_unknown_teacher_precision_is_refused(teacher: FrozenTeacher) -> None:
    with pytest.raises(ValueError, match=r"teacher\.precision is 'fp8'; expected fp32 or bf16"):
        FrozenTeacher(teacher.module, precision="fp8")


def test_teacher_answers_in_its_own_precision(teacher: FrozenTeacher) -> None:
    image = next(iter(_batches())).degraded
    exact = teacher(image)
    with torch.autocast("cpu", torch.bfloat16):
        assert teacher(image).equal(exact)
    coarse = FrozenTeacher(teacher.module, precision="bf16")(image)
    assert coarse.dtype == torch.float32
    assert not coarse.equal(exact)
    assert torch.allclose(coarse, exact, atol=0.02)
