"""What the progress bar says, on a terminal and without one."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from typing import Any

import pytest
import pytorch_lightning as pl
from rich.console import Console

from sharpkd.callbacks.progress import Progress, duration

Fit = Callable[..., pl.Trainer]


def console(terminal: bool) -> Console:
    return Console(file=io.StringIO(), force_terminal=terminal, width=160, color_system=None)


def written(progress: Progress) -> str:
    file = progress.console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


def test_lines_without_a_terminal_are_few_and_plain(fit: Fit, tiny_module: Any) -> None:
    progress = Progress(console=console(terminal=False))
    fit(tiny_module(), [progress], epochs=2, enable_progress_bar=True)
    lines = written(progress).splitlines()
    assert lines[0] == "training tiny: 0 of 6 steps done"
    assert len(lines) == 3
    for line, epoch, step in zip(lines[1:], (1, 2), (3, 6), strict=True):
        expected = rf"training tiny: epoch {epoch} of 2, {step} of 6 steps, validated, loss \S+, PSNR \S+"
        assert re.fullmatch(expected, line)
    assert "\x1b" not in written(progress)


def test_lines_tell_speed_and_time_left(fit: Fit, tiny_module: Any) -> None:
    progress = Progress(title="student", line_every=0, console=console(terminal=False))
    fit(tiny_module(), [progress], epochs=1, enable_progress_bar=True)
    last = [line for line in written(progress).splitlines() if "step 3 of 3" in line]
    assert re.fullmatch(
        r"training student: epoch 1 of 1, step 3 of 3, [\d.]+ (it/s|s/it), 0 s left, loss \S+", last[0]
    )


def test_a_bar_on_a_terminal_that_is_taken_away(fit: Fit, tiny_module: Any) -> None:
    progress = Progress(console=console(terminal=True))
    fit(tiny_module(), [progress], epochs=2, enable_progress_bar=True)
    text = written(progress)
    assert "100% training tiny: epoch 2 of 2, 6 of 6 steps, validated" in text
    assert "━" in text
    # the cursor is hidden while the bar moves and shown again
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h") == 1
    assert progress._bar is None


def test_the_terminal_is_given_back_when_training_fails(fit: Fit, tiny_module: Any) -> None:
    class Failing(pl.Callback):
        def on_train_batch_end(self, *arguments: Any) -> None:
            raise RuntimeError("no memory")

    progress = Progress(console=console(terminal=True))
    with pytest.raises(RuntimeError, match="no memory"):
        fit(tiny_module(), [Failing(), progress], enable_progress_bar=True)
    assert "\x1b[?25h" in written(progress)


def test_steps_without_an_end_and_with_a_time_limit(fit: Fit, tiny_module: Any) -> None:
    class Stop(pl.Callback):
        def on_train_batch_end(self, trainer: pl.Trainer, *arguments: Any) -> None:
            trainer.should_stop = trainer.global_step >= 5

    progress = Progress(line_every=0, console=console(terminal=False))
    fit(tiny_module(), [progress, Stop()], -1, enable_progress_bar=True, max_time="00:01:00:00")
    text = written(progress)
    assert text.startswith("training tiny: 0 steps done")
    assert re.search(r"epoch 1, step 2, [\d.]+ (it/s|s/it), (59 min \d\d s|1 h 00 min) left", text)


def test_accumulated_batches_count_as_one_step(fit: Fit, tiny_module: Any) -> None:
    progress = Progress(line_every=0, console=console(terminal=False))
    fit(tiny_module(), [progress], epochs=1, enable_progress_bar=True, accumulate_grad_batches=3)
    assert "step 1 of 1" in written(progress)


def test_other_ranks_are_silent(fit: Fit, tiny_module: Any) -> None:
    progress = Progress(console=console(terminal=False))
    progress.disable()
    fit(tiny_module(), [progress], epochs=1, enable_progress_bar=True)
    progress.print("not this either")
    assert written(progress) == ""
    progress.enable()
    progress.print("but [this]")
    assert written(progress) == "but [this]\n"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1, "0 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (185, "3 min 05 s"), (7620, "2 h 07 min")],
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text
