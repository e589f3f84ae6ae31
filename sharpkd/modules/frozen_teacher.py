"""The teacher inside a student's LightningModule: present, and never trained, saved, averaged or counted."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sharpkd.distillation.base import Observed
from sharpkd.distillation.taps import capture
from sharpkd.functional.frozen import Frozen


class FrozenTeacher(Frozen):
    """A trained net that only answers.

    Args:
        net: the teacher; put into eval mode, without gradients.
        sha256: of its file, kept in checkpoints so that a run cannot resume with another teacher.
        name: for pictures and messages.
        precision: ``fp32`` or ``bf16``; the answer is float32 either way.

    Raises:
        ValueError: the precision is unknown.
    """

    def __init__(
        self, net: nn.Module, sha256: str = "", name: str = "teacher", precision: str = "fp32"
    ) -> None:
        if precision not in ("fp32", "bf16"):
            raise ValueError(f"teacher.precision is {precision!r}; expected fp32 or bf16")
        super().__init__(net)
        self.sha256 = sha256
        self.name = name
        self.precision = precision

    def observe(
        self, degraded: Tensor, taps: Sequence[str] = (), condition: Tensor | None = None
    ) -> Observed:
        """The teacher's output ``(N, 3, H, W)`` and the features at its taps, all detached, float32.

        The caller's autocast does not reach the teacher: its precision is its own setting.
        """
        device = degraded.device.type
        with (
            torch.no_grad(),
            torch.autocast(device, torch.bfloat16, enabled=self.precision == "bf16"),
            capture(self.module, taps) as features,
        ):
            output = self.module(degraded, condition)
        return Observed(output.float(), {name: feature.float() for name, feature in features.items()})

    def forward(self, degraded: Tensor, condition: Tensor | None = None) -> Tensor:
        """The teacher's output only."""
        return self.observe(degraded, (), condition).output

    def check(self, scale: int, size: int = 48) -> None:
        """Run once on noise and refuse a teacher that cannot teach this task.

        Raises:
            ValueError: wrong output size (scale), wrong channel count, or values that are not finite.
        """
        probe = torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(0))
        output = self.forward(probe)
        expected = (1, 3, size * scale, size * scale)
        if tuple(output.shape) != expected:
            raise ValueError(
                f"teacher {self.name}: it turns {size}x{size} into {tuple(output.shape)}, the task needs "
                f"{expected}; its scale or channel count is not the task's (task.scale={scale})"
            )
        if not torch.isfinite(output).all():
            raise ValueError(f"teacher {self.name}: its output is not finite; its weights are unusable")
