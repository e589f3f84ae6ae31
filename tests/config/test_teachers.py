"""Settings of teachers that cannot be, or contradict each other, are one line before anything is built."""

from __future__ import annotations

import re

import pytest
import torch

from sharpkd.config import ConfigError, check, compose
from sharpkd.config.teachers import TeacherSettings, several_teachers

DISTIL = ["experiment=distill", "distillation=output", "teacher.path=a.pth"]
SEVERAL = ["experiment=distill", "distillation=multi_teacher"]
TWO = "teacher.several=[{path:a.pth},{path:b.pth}]"
OUTPUTS = "has the outputs of teachers, not their features, which distillation.terms."


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["experiment=distill", "teacher.path=a.pth", "teacher.cache=kept"],
            f"teacher.cache {OUTPUTS}feature and distillation.terms.attention read; "
            "use distillation=output, or teacher.cache=null",
        ),
        (
            ["experiment=distill", "distillation=attention", "teacher.path=a.pth", "teacher.tile=64"],
            f"teacher.tile {OUTPUTS}attention reads; use distillation=output, or teacher.tile=null",
        ),
        (
            ["experiment=distill", "distillation=[feature,multi_teacher]", TWO],
            f"teacher.several {OUTPUTS}feature reads; use distillation=multi_teacher alone",
        ),
        (
            [*DISTIL, "teacher.cache=kept", "teacher.cache_gb=0"],
            "teacher.cache_gb: expected a finite number above 0, found 0",
        ),
        ([*DISTIL, "teacher.cache=3"], "teacher.cache: expected str | null, found 3"),
        (
            [*DISTIL, "teacher.cache_format=png"],
            "teacher.cache_format: expected 'fp16' or 'uint8', found 'png'",
        ),
        ([*DISTIL, "teacher.tile=0"], "teacher.tile: expected at least 1 pixel, or null, found 0"),
        ([*DISTIL, "teacher.device=gpu"], "teacher.device is 'gpu'; expected cpu, cuda or cuda:NUMBER"),
        (
            [*SEVERAL, TWO, "teacher.path=c.pth"],
            "teacher.path and teacher.several exclude each other: put it into the list, or teacher.path=null",
        ),
        (
            [*SEVERAL, TWO, "teacher.combine=max"],
            "teacher.combine: expected 'mean' or 'best', found 'max'",
        ),
        (
            [*SEVERAL, "teacher.several=a.pth"],
            "teacher.several: expected list[dict[str, Any]], found 'a.pth'",
        ),
        (
            [*SEVERAL, "teacher.several=[]"],
            "teacher.several names no teacher: 'teacher.several=[{path:FILE},{path:FILE}]'",
        ),
        (
            [*SEVERAL, "teacher.several=[{weight:1}]"],
            "teacher.several[0].path: expected a weight file, found null",
        ),
        (
            [*SEVERAL, "teacher.several=[{path:a.pth},{path:b.pth,wieght:2}]"],
            "teacher.several[1]: there is no setting 'wieght'. did you mean 'weight'? "
            "Allowed: path, name, weight, precision, tile, device",
        ),
        (
            [*SEVERAL, "teacher.several=[{path:a.pth,weight:0}]"],
            "teacher.several[0].weight: expected a finite number above 0, found 0",
        ),
        (
            [*SEVERAL, "teacher.several=[{path:a.pth,precision:fp8}]"],
            "teacher.several[0].precision: expected 'fp32' or 'bf16', found 'fp8'",
        ),
        (
            [*SEVERAL, "teacher.several=[{path:a.pth,tile:big}]"],
            "teacher.several[0].tile: expected int | null, found 'big'",
        ),
        (
            [*SEVERAL, "teacher.several=[{path:a.pth,device:0}]"],
            "teacher.several[0].device: expected str | null, found 0",
        ),
        (
            [*SEVERAL, "teacher.several=[{path:a.pth,name:a b}]"],
            "teacher.several[0].name: 'a b' cannot be a name in logs: "
            "letters, digits and . + - _ are allowed",
        ),
        (
            [*SEVERAL, "teacher.several=[{path:one/a.pth},{path:two/a.pth}]"],
            "teacher.several: two teachers are called 'a'; give each a name of its own: "
            "{path:FILE,name:NAME}",
        ),
    ],
)
def test_one_line_says_what_is_wrong(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        check(compose("train", overrides))


def test_a_device_that_is_not_there() -> None:
    name = f"cuda:{torch.cuda.device_count()}"
    message = rf"^teacher\.device is '{name}'; this machine has cpu"
    for overrides in (
        [*DISTIL, f"teacher.device='{name}'"],
        [*SEVERAL, f"teacher.several=[{{path:a.pth}},{{path:b.pth,device:'{name}'}}]"],
    ):
        with pytest.raises(ConfigError, match=message):
            check(compose("train", overrides))


@pytest.mark.parametrize(
    "overrides",
    [
        [*DISTIL, "teacher.cache=kept", "teacher.tile=64", "teacher.device=cpu"],
        # terms of weight 0 read nothing
        [
            "experiment=distill",
            "teacher.cache=kept",
            "distillation.terms.feature.weight=0",
            "distillation.terms.attention.weight=0",
        ],
        # nobody is taught
        ["experiment=distill", "loss.delta=0", "teacher.cache=kept"],
        ["experiment=scratch", "teacher.cache=kept"],
        [*SEVERAL, TWO, "teacher.combine=best", "teacher.cache=kept"],
    ],
)
def test_what_goes_together_passes(overrides: list[str]) -> None:
    check(compose("train", overrides))


def test_entries_take_what_they_do_not_say_from_the_section_and_their_names_from_the_files() -> None:
    entries = (
        "teacher.several=[{path:x/a.pth,weight:2,tile:null},{path:runs/photos/net.safetensors,precision:fp32},"
        "{path:runs/night/checkpoints/last.ckpt,name:night-1}]"
    )
    section = compose("train", [*SEVERAL, entries, "teacher.precision=bf16", "teacher.tile=96"]).teacher
    assert several_teachers(section) == [
        TeacherSettings("x/a.pth", "a", 2.0, "bf16", None, None),
        TeacherSettings("runs/photos/net.safetensors", "photos", 1.0, "fp32", 96, None),
        TeacherSettings("runs/night/checkpoints/last.ckpt", "night-1", 1.0, "bf16", 96, None),
    ]
    assert several_teachers(compose("train", DISTIL).teacher) is None
