"""The teacher inside a student's LightningModule: present, and never trained, saved, averaged or counted."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from sharpkd.distillation.base import Observed
from sharpkd.distillation.taps import capture
from sharpkd.distillation.transfer import KnowledgeTransfer
from sharpkd.functional.frozen import Frozen
from sharpkd.functional.tiles import GLOBAL_HALO, halo_of, round_up, spans
from sharpkd.modules.teacher_answers import TeacherAnswers

log = logging.getLogger(__name__)


class FrozenTeacher(Frozen):
    """A trained net that only answers.

    Args:
        net: the teacher; put into eval mode, without gradients.
        sha256: of its file, kept in checkpoints so that a run cannot resume with another teacher.
        name: for pictures and messages.
        precision: ``fp32`` or ``bf16``; the answer is float32 either way.
        tile: it sees larger inputs in tiles of so many pixels, read with a halo of half its receptive field,
            so that the answer is that for the whole input. Where the receptive field is global or unknown,
            the halo is 64 pixels and the answer another one (a warning says so). None: whole inputs.
        device: where it runs, such as ``cpu`` or ``cuda:1``, whatever becomes of the student; answers come
            back to the device of the question. None: where the student is.
        answers: kept ones, by input; the net runs for the others alone. Without feature maps.

    Raises:
        ValueError: the precision is unknown, ``tile`` is below 1, or the device is none of this machine's.
    """

    def __init__(
        self,
        net: nn.Module,
        sha256: str = "",
        name: str = "teacher",
        precision: str = "fp32",
        tile: int | None = None,
        device: str | None = None,
        answers: TeacherAnswers | None = None,
    ) -> None:
        if precision not in ("fp32", "bf16"):
            raise ValueError(f"teacher.precision is {precision!r}; expected fp32 or bf16")
        if tile is not None and tile < 1:
            raise ValueError(f"teacher.tile is {tile}; expected at least 1 pixel, or null for whole inputs")
        self.device = None if device is None else checked_device(device)
        super().__init__(net if self.device is None else net.to(self.device))
        self.sha256 = sha256
        self.name = name
        self.precision = precision
        self.tile = tile
        self.answers = answers
        self._stride = int(getattr(net, "stride", 1))
        field: int | None = getattr(net, "receptive_field", None)
        self._halo = round_up(GLOBAL_HALO, self._stride) if field is None else halo_of(field, self._stride)
        if tile is not None and field is None:
            log.warning(
                "teacher %s: how far it sees is unknown or the whole image, so teacher.tile=%d changes its "
                "answers (tiles are read with %d pixels around them)",
                name,
                tile,
                self._halo,
            )

    def observe(
        self,
        degraded: Tensor,
        taps: Sequence[str] = (),
        condition: Tensor | None = None,
        sharp: Tensor | None = None,
    ) -> Observed:
        """The teacher's output ``(N, 3, H, W)`` and the features at its taps, all detached, float32.

        The caller's autocast does not reach the teacher: its precision is its own setting. What is true
        (``sharp``) changes nothing here; it is for those who choose between teachers.

        Raises:
            ValueError: features are asked for, which neither kept answers nor tiles have.
        """
        del sharp
        if taps and (self.answers is not None or self.tile is not None):
            setting = "teacher.tile" if self.answers is None else "teacher.cache"
            raise ValueError(
                f"teacher {self.name}: {setting} has its output alone, not the features {list(taps)}"
            )
        if self.answers is not None:
            return Observed(self.answers.recall(degraded, condition, self._output))
        if self.tile is not None:
            return Observed(self._output(degraded, condition))
        return self._run(degraded, taps, condition)

    def teach(
        self,
        transfer: KnowledgeTransfer,
        student: Observed,
        degraded: Tensor,
        condition: Tensor | None = None,
        sharp: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """The transfer terms for one batch, and scalars for the log.

        Args:
            transfer: the terms.
            student: what was seen of the student for these inputs.
            degraded: ``(N, 3, h, w)``.
            condition: ``(N, k)`` or None.
            sharp: ``(n, 3, H, W)``, the truth about the first ``n <= N`` inputs.

        Returns:
            As :class:`~sharpkd.distillation.transfer.KnowledgeTransfer`; with kept answers also
            ``teacher/cached``, the share of these inputs for which the net did not run.
        """
        terms = transfer(student, self.observe(degraded, transfer.teacher_taps, condition, sharp))
        return {**terms, **{f"teacher/{name}": value for name, value in self.reports().items()}}

    def reports(self) -> dict[str, Tensor]:
        """Scalars about the last call of ``observe``, by name."""
        return {} if self.answers is None else {"cached": torch.tensor(self.answers.last_share)}

    def summary(self) -> list[str]:
        """Lines about the whole training, for its end; none where there is nothing to tell."""
        return [] if self.answers is None else [f"teacher {self.name}: {self.answers}"]

    def forward(self, degraded: Tensor, condition: Tensor | None = None) -> Tensor:
        """The teacher's output only."""
        return self.observe(degraded, (), condition).output

    def check(self, scale: int, size: int = 48, asked_by: str = "") -> None:
        """Run once on noise, whatever is kept, and refuse a teacher that cannot teach this task.

        Args:
            scale: how many times it has to enlarge what it is shown.
            size: pixels, of the noise.
            asked_by: the setting that the scale follows from; by default ``task.scale``.

        Raises:
            ValueError: wrong output size (scale), wrong channel count, or values that are not finite.
        """
        probe = torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(0))
        output = self._run(probe, (), None).output
        expected = (1, 3, size * scale, size * scale)
        if tuple(output.shape) != expected:
            raise ValueError(
                f"teacher {self.name}: it turns {size}x{size} into {tuple(output.shape)}, the task needs "
                f"{expected}; its scale or channel count is not the task's "
                f"({asked_by or f'task.scale={scale}'})"
            )
        if not torch.isfinite(output).all():
            raise ValueError(f"teacher {self.name}: its output is not finite; its weights are unusable")

    def _run(self, degraded: Tensor, taps: Sequence[str], condition: Tensor | None) -> Observed:
        device = self.device or degraded.device
        told = None if condition is None else condition.to(device)
        with (
            torch.no_grad(),
            torch.autocast(device.type, torch.bfloat16, enabled=self.precision == "bf16"),
            capture(self.module, taps) as features,
        ):
            output = self.module(degraded.to(device), told)
        back = degraded.device
        return Observed(
            output.float().to(back), {name: value.float().to(back) for name, value in features.items()}
        )

    def _output(self, degraded: Tensor, condition: Tensor | None) -> Tensor:
        """Its output, in tiles where these were asked for and the input is larger than one."""
        rows, columns = degraded.shape[-2:]
        if self.tile is None or max(rows, columns) <= self.tile:
            return self._run(degraded, (), condition).output
        result: Tensor | None = None
        for row in spans(rows, self.tile, self._halo, self._stride):
            for column in spans(columns, self.tile, self._halo, self._stride):
                window = self._run(degraded[..., row.read(), column.read()], (), condition).output
                scale = window.shape[-1] // (column.stop - column.start)
                if result is None:
                    result = window.new_empty((*window.shape[:2], rows * scale, columns * scale))
                result[..., row.kept(scale), column.kept(scale)] = window[
                    ..., row.inner(scale), column.inner(scale)
                ]
        assert result is not None
        return result

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> FrozenTeacher:
        # with a device of its own it does not follow the student
        if self.device is None:
            super()._apply(fn, recurse)
        return self


def checked_device(name: str) -> torch.device:
    """The device of this name.

    Raises:
        ValueError: there is none, on this machine or at all.
    """
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"teacher.device is {name!r}; expected cpu, cuda or cuda:NUMBER") from error
    there = ["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
    if device.type == "cuda" and (device.index or 0) < torch.cuda.device_count():
        return device
    if device.type != "cpu":
        raise ValueError(f"teacher.device is {name!r}; this machine has {', '.join(there)}")
    return device
