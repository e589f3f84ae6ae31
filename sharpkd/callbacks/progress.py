"""A progress bar on a terminal, and now and then a plain line where there is none."""

from __future__ import annotations

import math
import time
from collections import deque
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ProgressBar, Timer
from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn
from rich.progress import Progress as RichProgress

from sharpkd.callbacks.lpips_label import lpips_label

KEY_METRICS = {"train/loss": "loss", "val/psnr": "PSNR", "val/ssim": "SSIM"}
RATE_WINDOW = 50


class Progress(ProgressBar):
    """Tells what is being done: stage, epoch, step, steps per second, key metrics and the time left.

    Args:
        title: what is being trained; by default the module's class name (``DistillModule``: "distill").
        line_every: seconds between two lines where the output is not a terminal.
        console: where to write; standard output by default.
    """

    def __init__(
        self, title: str | None = None, line_every: float = 30.0, console: Console | None = None
    ) -> None:
        super().__init__()
        self.title = title
        self.line_every = line_every
        self.console = console or Console()
        self._enabled = True
        self._bar: RichProgress | None = None
        self._task: TaskID | None = None
        self._times: deque[float] = deque(maxlen=RATE_WINDOW)
        self._line_at = -math.inf

    def disable(self) -> None:
        """Say nothing (Lightning calls it on ranks other than 0)."""
        self._enabled = False

    def enable(self) -> None:
        """Speak again."""
        self._enabled = True

    def print(self, *args: Any, **kwargs: Any) -> None:
        """Print above the bar."""
        if self._enabled:
            self.console.print(*args, markup=False, highlight=False)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Open the bar."""
        self._times.clear()
        self._line_at = time.monotonic()
        total = _total_steps(trainer)
        self._show(
            f"{self._stage(pl_module)}: {_of(trainer.global_step, total)} steps done", trainer, force=True
        )

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """One step further."""
        self._times.append(time.monotonic())
        self._show(self._line(trainer, pl_module), trainer)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Say that validation runs, as no step is made meanwhile."""
        self._times.clear()
        if not trainer.sanity_checking and self.console.is_terminal:
            self._show(f"{self._stage(pl_module)}: validating", trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Tell the metrics, always."""
        if not trainer.sanity_checking:
            metrics = _metrics(trainer, pl_module)
            done = f"{_of(trainer.global_step, _total_steps(trainer))} steps"
            parts = [_epoch(trainer), done, "validated", *([metrics] if metrics else [])]
            self._show(f"{self._stage(pl_module)}: {', '.join(parts)}", trainer, force=True)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Close the bar."""
        self._close()

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Give the terminal back before the error is printed."""
        self._close()

    def _stage(self, module: pl.LightningModule) -> str:
        return f"training {self.title or type(module).__name__.removesuffix('Module').lower()}"

    def _line(self, trainer: pl.Trainer, module: pl.LightningModule) -> str:
        parts = [_epoch(trainer), f"step {_of(trainer.global_step, _total_steps(trainer))}"]
        rate = self._rate()
        if rate:
            parts += [f"{rate:.1f} it/s" if rate >= 1 else f"{1 / rate:.1f} s/it"]
            left = _seconds_left(trainer, rate)
            parts += [f"{duration(left)} left"] if left is not None else []
        metrics = _metrics(trainer, module)
        return f"{self._stage(module)}: " + ", ".join([*parts, metrics] if metrics else parts)

    def _rate(self) -> float | None:
        """Batches per second since the last pause."""
        if len(self._times) < 2 or self._times[-1] == self._times[0]:
            return None
        return (len(self._times) - 1) / (self._times[-1] - self._times[0])

    def _show(self, text: str, trainer: pl.Trainer, force: bool = False) -> None:
        if not self._enabled:
            return
        if self.console.is_terminal:
            self._advance_bar(text, trainer)
        elif force or time.monotonic() - self._line_at >= self.line_every:
            self._line_at = time.monotonic()
            self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def _advance_bar(self, text: str, trainer: pl.Trainer) -> None:
        total = _total_steps(trainer)
        if self._bar is None:
            columns = (
                BarColumn(),
                TextColumn("{task.percentage:>3.0f}%"),
                TextColumn("{task.description}", markup=False),
            )
            self._bar = RichProgress(*columns, console=self.console, refresh_per_second=4)
            self._bar.start()
            self._task = self._bar.add_task(text, total=total)
        assert self._task is not None
        self._bar.update(self._task, description=text, completed=trainer.global_step, total=total)

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def duration(seconds: float) -> str:
    """``42 s``, ``3 min 05 s`` or ``2 h 07 min``."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def _total_steps(trainer: pl.Trainer) -> int | None:
    total = trainer.estimated_stepping_batches
    return int(total) if math.isfinite(total) and total > 0 else None


def _seconds_left(trainer: pl.Trainer, batches_per_second: float) -> float | None:
    """By steps or by the time limit of the run, whichever ends first; None when neither is set."""
    total = _total_steps(trainer)
    bounds = []
    if total is not None:
        steps_per_second = batches_per_second / trainer.accumulate_grad_batches
        bounds.append((total - trainer.global_step) / steps_per_second)
    callbacks: list[pl.Callback] = getattr(trainer, "callbacks", [])
    limits = [callback.time_remaining() for callback in callbacks if isinstance(callback, Timer)]
    return min([*bounds, *(limit for limit in limits if limit is not None)], default=None)


def _epoch(trainer: pl.Trainer) -> str:
    last = trainer.max_epochs
    return f"epoch {_of(trainer.current_epoch + 1, last if last and last > 0 else None)}"


def _of(done: int, total: int | None) -> str:
    return f"{done}" if total is None else f"{done} of {total}"


def _metrics(trainer: pl.Trainer, module: pl.LightningModule) -> str:
    known = trainer.callback_metrics
    names = KEY_METRICS | {"val/lpips": lpips_label(module)}
    return ", ".join(f"{short} {float(known[key]):.4g}" for key, short in names.items() if key in known)
