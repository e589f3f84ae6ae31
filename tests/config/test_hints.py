"""Mistakes on the command line are answered by one readable line that says what is allowed."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Command = Callable[..., Any]

NETS = (
    "attention_teacher, attention_teacher_small, attention_teacher_tiny, aware_student, balanced, "
    "enhanced_cnn, fast, mobile_student, nafnet, pixel_student, pretrained, quality, swinir, wiener_student"
)
QUOTING = "accents is quoted twice, once for the shell and once for Hydra: "

MISTAKES = {
    "los.alpha=1": "there is no setting 'los.alpha'. did you mean 'loss'? Allowed at the top level: ",
    "loss.alpa=1": (
        "there is no setting 'loss.alpa'. did you mean 'alpha'? Allowed in loss: "
        "alpha, beta, delta, gamma, perceptual, pixel, ssim"
    ),
    "trainer.max_step=3": (
        "there is no setting 'trainer.max_step'. did you mean 'max_steps'? Allowed in trainer: accelerator, "
    ),
    "trainer.max_steps.y=3": "there is no setting 'trainer.max_steps.y': trainer.max_steps is 100000 here.",
    "data.train_dir=x": (
        "there is no setting 'data.train_dir'. It exists with data=folder or data=shards. Allowed in data: "
    ),
    "distillation.terms.output.weight=1": (
        "there is no setting 'distillation.terms.output.weight': distillation is null here. "
        "It exists with distillation=output."
    ),
    "hydra.run.dri=x": "there is no setting 'hydra.run.dri'; --cfg hydra prints those of Hydra",
    "loss={alpha:1,alpa:2}": "there is no setting 'loss.alpa'. did you mean 'alpha'? Allowed in loss: ",
    "~nett": "there is no setting 'nett'. did you mean 'net'? Allowed at the top level: ",
    "net=pixel_studnt": f"there is no net=pixel_studnt. did you mean 'pixel_student'? Choices: {NETS}",
    "net=null": f"there is no net=null. Choices: {NETS}",
    "loss/pixel=l3": "there is no loss/pixel=l3. Choices: charbonnier, l1, mse",
    "loss/pixl=l1": "there is no group 'loss/pixl'. did you mean 'loss/pixel'? Groups: ",
    "loss/alpha=1": "there is no group 'loss/alpha'. Settings are written with dots: loss.alpha. Groups: ",
    "loss.pixel=l1": (
        "loss.pixel: expected Module, found 'l1'; a choice of a group is written with a slash: loss/pixel=l1"
    ),
    "loss.alpha=abc": "loss.alpha: expected float, found 'abc'",
    "data=folder": "no value for data.train_dir: set data.train_dir=VALUE",
    "loss.alpha": "cannot read 'loss.alpha': expected KEY=VALUE, or ~KEY to remove one",
    "teacher.path=epoch=3-step=100.ckpt": (
        "cannot read 'teacher.path=epoch=3-step=100.ckpt': a value with = , : ( ) [ ] { } or "
        f"{QUOTING}'teacher.path=\"epoch=3-step=100.ckpt\"'"
    ),
    "loss.alpha=${nothing}": "hydra.run.dir: Interpolation key 'nothing' not found",
    "net=pixel_student,enhanced_cnn": "Ambiguous value for argument 'net=pixel_student,enhanced_cnn'",
}


@pytest.mark.parametrize("override", MISTAKES)
def test_mistake_is_one_readable_line_before_anything_is_made(
    override: str, command: Command, tmp_path: Path
) -> None:
    outcome = command(override)
    assert outcome.err.startswith(f"error: {MISTAKES[override]}")
    assert outcome.err.count("\n") == 1
    assert (outcome.code, outcome.out, outcome.jobs) == (2, "", [])
    assert os.listdir(tmp_path) == []


def test_advice_about_quoting_works(command: Command) -> None:
    advice = re.search(r"'(teacher.path=\S+)'$", command("teacher.path=a=1(b).ckpt").err.strip())
    assert advice
    assert command(advice[1]).jobs[0].teacher.path == "a=1(b).ckpt"
    advice = re.search(r"'(teacher.over\S+)'$", command("teacher.overrides=[seed=1,run=a]").err.strip())
    assert advice
    assert command(advice[1]).jobs[0].teacher.overrides == ["seed=1", "run=a"]


def test_other_overrides_do_not_hide_a_mistake(command: Command) -> None:
    outcome = command("data=folder", "loss.alpa=1", "data.val_dri=x", "net=mobile_student")
    assert outcome.err.startswith("error: there is no setting ")
    assert outcome.err.count("\n") == 1
