"""Training a student with a frozen teacher beside it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from sharpkd.data.batch import Batch
from sharpkd.distillation.base import Observed, Question
from sharpkd.distillation.taps import capture
from sharpkd.distillation.transfer import KnowledgeTransfer
from sharpkd.losses.combined import CombinedLoss, LossResult
from sharpkd.modules.frozen_teacher import FrozenTeacher
from sharpkd.modules.restoration import RestorationModule
from sharpkd.modules.teacher_ensemble import TeacherEnsemble

PROBE_SIZE = 64


def _probe(side: int) -> Tensor:
    return torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0))


class DistillModule(RestorationModule):
    """``total = α·L_pixel + β·L_perceptual + γ·L_SSIM + δ·L_distill`` with a teacher that never changes.

    The student and the transfer terms' adapters are trained; the teacher is in no state dict, optimizer, EMA
    copy, DDP bucket or parameter count (see :class:`~sharpkd.modules.frozen_teacher.FrozenTeacher`).

    Inputs without ground truth (``Batch.extra``) go through both nets together with the others. The pixel,
    perceptual and SSIM terms are means over the labelled images, L_distill over all.

    The teacher sees what :meth:`teacher_input_of` says: the student's input, or with
    ``distillation.teacher_input=low_res`` the small image that it was enlarged from. Its answer has the size
    of the sharp image either way.

    Args:
        teacher: the frozen net, or nets, that the student imitates; None only where ``loss.delta`` is 0.
        transfer: the distillation terms; their adapters are built here from one probe of both nets. None only
            where ``loss.delta`` is 0.
        **arguments: those of :class:`~sharpkd.modules.restoration.RestorationModule`.
    """

    def __init__(
        self,
        teacher: FrozenTeacher | TeacherEnsemble | None,
        transfer: KnowledgeTransfer | None,
        **arguments: Any,
    ) -> None:
        super().__init__(**arguments)
        self.teacher: FrozenTeacher | TeacherEnsemble | None = teacher
        self.transfer = transfer
        if teacher is None or transfer is None:
            super()._refuse_delta(self.loss)
            return
        probe = _probe(PROBE_SIZE)
        shown = probe
        if transfer.teacher_input == "low_res":
            shown = _probe(PROBE_SIZE // int(getattr(teacher.module, "scale", 1)))
        transfer.prepare(self.net, teacher.module, probe, shown.to(teacher.device or shown.device))

    def _refuse_delta(self, loss: CombinedLoss) -> None:
        """Distillation is what this module is for: every delta is welcome."""

    def trainable_parameters(self) -> Iterator[nn.Parameter]:
        """The student's parameters and the adapters' of the transfer terms."""
        adapters = () if self.transfer is None else self.transfer.parameters()
        return chain(self.net.parameters(), adapters)

    def teacher_input_of(self, batch: Batch) -> Tensor:
        """What the teacher sees of a batch: the labelled images, then those without ground truth.

        Returns:
            ``(N + N * n, 3, h, w)``; h and w are the student's, or s times less with ``low_res``.

        Raises:
            ValueError: ``distillation.teacher_input=low_res``, and the batch lacks low-resolution images.
        """
        if self.transfer is None or self.transfer.teacher_input == "degraded":
            labelled, extra = batch.degraded, batch.extra
        else:
            if batch.low_res is None or (batch.extra is not None and batch.extra_low_res is None):
                which = "inputs" if batch.low_res is None else "inputs without ground truth"
                raise ValueError(
                    f"distillation.teacher_input=low_res, but the {which} come without low-resolution "
                    "images; use degradation=lowres degradation.carry_low_res=true, or "
                    "distillation.teacher_input=degraded"
                )
            labelled, extra = batch.low_res, batch.extra_low_res
        return labelled if extra is None else torch.cat([labelled, extra])

    def compute_loss(self, batch: Batch) -> LossResult:
        """The weighted sum and its terms for one batch.

        Raises:
            ValueError: the condition is known of the labelled inputs alone.
        """
        teacher, transfer = self.teacher, self.transfer
        if teacher is None or transfer is None:
            return super().compute_loss(batch)
        degraded = batch.degraded if batch.extra is None else torch.cat([batch.degraded, batch.extra])
        # the truth for the teacher: its answers are to be right, and those that are kept to be found again
        condition = self._conditions(batch)
        told = self._conditions(self.estimated(batch))
        with capture(self.net, transfer.student_taps) as features:
            output = self(degraded, told)

        def distill() -> dict[str, Tensor]:
            shown = self.teacher_input_of(batch)
            turn = (self.global_step, self.global_rank)
            question = Question(degraded, batch.sharp, lambda inputs: self(inputs, told), turn)
            seen = Observed(output, features, question)
            return teacher.teach(transfer, seen, shown, condition, batch.sharp)

        labelled = output if batch.extra is None else output[: len(batch)]
        return self.loss(labelled, batch.sharp, distill)

    def _conditions(self, batch: Batch) -> Tensor | None:
        """Of the labelled inputs, then of those without ground truth."""
        condition = self.condition_of(batch)
        if condition is None or batch.extra is None:
            return condition
        if batch.extra_condition is None:
            raise ValueError(
                "module.use_condition=true, but nothing is known of the inputs without ground truth; "
                "use data.unlabelled_degraded=true or module.use_condition=false"
            )
        return torch.cat([condition, batch.extra_condition])

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        if self.teacher is not None:
            checkpoint["sharpkd"]["teacher_sha256"] = self.teacher.sha256
