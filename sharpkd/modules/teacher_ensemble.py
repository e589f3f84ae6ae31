"""Several frozen teachers that answer as one."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from sharpkd.distillation.base import Observed
from sharpkd.distillation.transfer import KnowledgeTransfer
from sharpkd.functional.psnr import psnr
from sharpkd.modules.frozen_teacher import FrozenTeacher


class TeacherEnsemble(nn.Module):
    """The weighted mean of several teachers' outputs, or for each image the output of the best of them.

    The mean of teachers is what You et al. learn from, "Learning from Multiple Teacher Networks", KDD 2017.
    The best is the one whose output, clamped to [0, 1], has the highest PSNR against the sharp image; on
    inputs whose truth is not known it is the mean.

    Each teacher is a :class:`~sharpkd.modules.frozen_teacher.FrozenTeacher` with a precision, tiles, device
    and kept outputs of its own. Like one, all together are in no state dict, optimizer, EMA copy, DDP bucket
    or parameter count. Feature maps of several nets have no mean, so there are none.

    Args:
        members: the teachers, by the names under which they are logged.
        weights: of each in the mean, above 0; only their ratios matter.
        combine: ``mean`` or ``best``.

    Raises:
        ValueError: there is no teacher, a weight is missing or not above 0, or ``combine`` is neither.
    """

    device = None

    def __init__(
        self, members: Mapping[str, FrozenTeacher], weights: Sequence[float], combine: str = "mean"
    ) -> None:
        super().__init__()
        if not members or len(weights) != len(members):
            raise ValueError(f"expected a weight for each teacher, got {len(weights)} for {len(members)}")
        if not all(math.isfinite(weight) and weight > 0 for weight in weights):
            raise ValueError(f"weights of teachers must be finite and above 0, got {list(weights)}")
        if combine not in ("mean", "best"):
            raise ValueError(f"teacher.combine is {combine!r}; expected mean or best")
        self.names = list(members)
        self.members = nn.ModuleList(members.values())
        self.shares = [weight / sum(weights) for weight in weights]
        self.combine = combine
        self._reports: dict[str, Tensor] = {}

    @property
    def name(self) -> str:
        """Of all, for pictures and messages."""
        return " + ".join(self.names)

    @property
    def sha256(self) -> str:
        """Of the SHA-256 of all files, in their order."""
        return hashlib.sha256(" ".join(teacher.sha256 for teacher in self._teachers()).encode()).hexdigest()

    @property
    def module(self) -> nn.Module:
        """What answers: all of them, so there are no feature maps to tap."""
        return self

    def observe(
        self,
        degraded: Tensor,
        taps: Sequence[str] = (),
        condition: Tensor | None = None,
        sharp: Tensor | None = None,
    ) -> Observed:
        """One output ``(N, 3, H, W)`` for each input, detached, float32.

        Args:
            degraded: ``(N, 3, h, w)``.
            taps: none: several nets have no common features.
            condition: ``(N, k)`` or None.
            sharp: ``(n, 3, H, W)``, the truth about the first ``n <= N`` inputs.

        Raises:
            ValueError: features are asked for.
        """
        return self._combined(self._outputs(degraded, taps, condition), sharp)

    def teach(
        self,
        transfer: KnowledgeTransfer,
        student: Observed,
        degraded: Tensor,
        condition: Tensor | None = None,
        sharp: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """The transfer terms for one batch, and scalars for the log; see ``FrozenTeacher.teach``.

        Returns:
            As :class:`~sharpkd.distillation.transfer.KnowledgeTransfer`, and of every teacher, under
            ``teacher/<name>/``: ``distill``, the weighted terms against this teacher alone; where the truth
            is known, ``psnr`` (dB, mean over those images) and with ``combine=best`` the ``share`` of them
            for which it was chosen; and ``cached`` where it keeps its outputs.
        """
        outputs = self._outputs(degraded, transfer.teacher_taps, condition)
        terms = transfer(student, self._combined(outputs, sharp))
        for name, output, teacher in zip(self.names, outputs, self._teachers(), strict=True):
            with torch.no_grad():
                alone = transfer(student, Observed(output))["distill"]
            self._reports[f"{name}/distill"] = alone
            self._reports |= {f"{name}/{key}": value for key, value in teacher.reports().items()}
        return {**terms, **{f"teacher/{name}": value for name, value in self._reports.items()}}

    def summary(self) -> list[str]:
        """Lines about the whole training, for its end."""
        return [line for teacher in self._teachers() for line in teacher.summary()]

    def forward(self, degraded: Tensor, condition: Tensor | None = None) -> Tensor:
        """The mean of the teachers' outputs."""
        return self.observe(degraded, (), condition).output

    def check(self, scale: int, size: int = 48, asked_by: str = "") -> None:
        """Refuse teachers that cannot teach this task; see ``FrozenTeacher.check``."""
        for teacher in self._teachers():
            teacher.check(scale, size, asked_by)

    def _teachers(self) -> list[FrozenTeacher]:
        return [teacher for teacher in self.members if isinstance(teacher, FrozenTeacher)]

    def _outputs(self, degraded: Tensor, taps: Sequence[str], condition: Tensor | None) -> Tensor:
        """``(teachers, N, 3, H, W)``."""
        if taps:
            raise ValueError(
                f"several teachers have one output but no common features; {list(taps)} asked for"
            )
        return torch.stack([teacher(degraded, condition) for teacher in self._teachers()])

    def _combined(self, outputs: Tensor, sharp: Tensor | None) -> Observed:
        self._reports = {}
        shares = torch.tensor(self.shares, device=outputs.device)
        result = torch.einsum("t,tnchw->nchw", shares, outputs)
        if sharp is None:
            return Observed(result)
        labelled = outputs[:, : len(sharp)].clamp(0.0, 1.0)
        scores = torch.stack([psnr(output, sharp) for output in labelled])
        best = scores.argmax(dim=0)
        for index, name in enumerate(self.names):
            self._reports[f"{name}/psnr"] = scores[index].mean()
            if self.combine == "best":
                self._reports[f"{name}/share"] = (best == index).float().mean()
        if self.combine == "best":
            images = torch.arange(len(sharp), device=outputs.device)
            result = torch.cat([outputs[best, images], result[len(sharp) :]])
        return Observed(result)
