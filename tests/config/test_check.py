"""What a configuration holds against the signatures of what it names."""

from __future__ import annotations

import collections.abc
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import pytest
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn

from sharpkd.config import ConfigError, check, check_targets, compose
from sharpkd.config.check import _accepts, _describe

VALUES: list[tuple[str, Any, str]] = [
    ("loss.alpha", True, "expected float, found True"),
    ("loss.pixel", None, "expected Module, found null"),
    ("optimizer.lr", "fast", "expected float | Tensor, found 'fast'"),
    ("data.batch_size", "a", "expected int, found 'a'"),
    ("degradation.sigma", [1, "b"], "expected float | Sequence[float], found [1, 'b']"),
    ("teacher.precision", "fp16", "expected 'fp32' or 'bf16', found 'fp16'"),
    ("teacher.overrides", "seed=1", "expected list[str], found 'seed=1'"),
    ("runtime.matmul_precision", "higher", "expected 'highest' or 'high' or 'medium', found 'higher'"),
    ("seed", 1.5, "expected int, found 1.5"),
    ("metrics", 3, "expected settings such as metrics.lpips_backbone, found 3"),
    (
        "net.size",
        3,
        "sharpkd.nets.pixel_student.PixelStudent has no such setting. Allowed: unshuffle, width, depth",
    ),
    (
        "module.use_conditions",
        True,
        "sharpkd.modules.restoration.RestorationModule has no such setting. did you mean 'use_condition'? ",
    ),
    (
        "net._target_",
        "sharpkd.nets.pixel_student.Pixel",
        "'sharpkd.nets.pixel_student.Pixel' cannot be imported: ",
    ),
    ("net._target_", "sharpkd.nets", "'sharpkd.nets' is module, no class"),
]


@pytest.fixture(scope="module")
def composed() -> DictConfig:
    return compose("train")


@pytest.mark.parametrize(("key", "value", "message"), VALUES)
def test_wrong_value_is_named(key: str, value: Any, message: str, composed: DictConfig) -> None:
    config = composed.copy()
    OmegaConf.set_readonly(config, False)
    OmegaConf.update(config, key, value)
    with pytest.raises(ConfigError, match=f"^{re.escape(f'{key}: {message}')}"):
        check(config)


@pytest.mark.parametrize(
    ("annotation", "good", "bad"),
    [
        (int, [1, -1], [1.5, True, "1", None, [1]]),
        (float, [1, 1.5, float("nan")], [True, "1.5", None, [1.0]]),
        (bool, [True], [1, "true", None]),
        (str, ["", "a"], [1, None, ["a"]]),
        (str | None, ["a", None], [1, []]),
        (list[str], [[], ["a"]], ["a", [1], ["a", None]]),
        (list[list[str]], [[["a", "b"]]], [["a"], "a"]),
        (float | Sequence[float], [1, [1, 2.5]], ["1", ["a"], [True], None]),
        (tuple[float, float], [[1, 2]], [[1], [1, 2, 3], 1, ["a", 1]]),
        (tuple[int, ...], [[], [1, 2, 3]], [[1.5], 1]),
        (dict[str, Any], [{}, {"a": 1}], [[], "a"]),
        (Literal["a", 1], ["a", 1], ["b", 2, True, None]),
        (nn.Module, [{"_target_": "x"}], ["x", 1, [1], None]),
        (collections.abc.Callable[[], nn.Module], [{"_target_": "x"}], ["x", 1]),
        (float | Tensor, [1.0], ["x"]),
        (Path, ["a"], []),
        (Any, ["a", 1, None, [], {}], []),
    ],
)
def test_values_against_annotations(annotation: Any, good: list[Any], bad: list[Any]) -> None:
    assert [value for value in good if not _accepts(annotation, value)] == []
    assert [value for value in bad if _accepts(annotation, value)] == []


@pytest.mark.parametrize(
    ("annotation", "text"),
    [
        (int, "int"),
        (str | None, "str | null"),
        (float | collections.abc.Sequence[float], "float | Sequence[float]"),
        (nn.Module, "Module"),
        (Literal["a", 1], "'a' or 1"),
    ],
)
def test_annotations_as_people_write_them(annotation: Any, text: str) -> None:
    assert _describe(annotation) == text


class Parent:
    def __init__(self, size: int, name: str = "a") -> None: ...


class Child(Parent):
    def __init__(self, width: float, **rest: Any) -> None: ...


def open_ended(**anything: Any) -> None: ...


def target(of: Any, **settings: Any) -> DictConfig:
    part = {"_target_": f"{__name__}.{of.__name__}", **settings}
    return OmegaConf.create({"part": part, "trusted_packages": [__name__]})


def test_signatures_include_those_of_the_classes_above() -> None:
    check_targets(target(Child, width=1, size=2, name="b"))
    check_targets(target(Child, _partial_=True))
    check_targets(target(open_ended, whatever=1))
    for settings, message in [
        (
            {"width": 1, "size": 2, "nam": 1},
            "has no such setting. did you mean 'name'? Allowed: size, name, width",
        ),
        ({"width": 1}, "needs a value for size"),
        ({}, "needs a value for size, width"),
        ({"width": 1, "size": "a"}, "part.size: expected int, found 'a'"),
        ({"width": 1, "size": None}, "part.size: expected int, found null"),
    ]:
        with pytest.raises(ConfigError, match=re.escape(message)):
            check_targets(target(Child, **settings))  # type: ignore[arg-type]  # wrong on purpose


UNLABELLED = ["data=sample", "data.unlabelled_dir=photos"]


@pytest.mark.parametrize(
    ("overrides", "untaught"),
    [
        (["experiment=scratch"], "distillation=none"),
        (["experiment=teacher"], "distillation=none"),
        (["experiment=distill", "loss.delta=0"], "loss.delta=0"),
    ],
)
def test_images_without_ground_truth_need_a_teacher(overrides: list[str], untaught: str) -> None:
    message = (
        f"data.unlabelled_dir needs a teacher: its images have no ground truth, and with {untaught} "
        "nobody labels them; use experiment=distill teacher.path=FILE, or data.unlabelled_dir=null"
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        check(compose("train", [*UNLABELLED, *overrides]))
    check(compose("train", ["data=sample", *overrides]))
    check(compose("train", [*UNLABELLED, "experiment=distill"]))
    check(compose("evaluate", ["data=div2k", "data.unlabelled_dir=photos"]))


def test_the_blur_of_images_taken_as_they_are_cannot_be_told() -> None:
    told = [*UNLABELLED, "experiment=distill", "module.use_condition=true"]
    check(compose("train", told))
    message = (
        "module.use_condition=true, but nothing is known of the blur of images taken as they are; "
        "use data.unlabelled_degraded=true or module.use_condition=false"
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        check(compose("train", [*told, "data.unlabelled_degraded=false"]))


def test_an_unknown_teacher_input_is_named() -> None:
    with pytest.raises(
        ConfigError, match=r"^distillation\.teacher_input: expected 'degraded' or 'low_res', found 'small'$"
    ):
        check(compose("train", ["experiment=distill", "distillation.teacher_input=small"]))


def test_images_taken_as_they_are_have_no_small_version() -> None:
    shown = [*UNLABELLED, "experiment=enhanced_cnn_swinir"]
    check(compose("train", shown))
    check(
        compose("train", ["data=sample", "experiment=enhanced_cnn_swinir", "data.unlabelled_degraded=false"])
    )
    message = (
        "distillation.teacher_input=low_res, but images taken as they are have no low-resolution version; "
        "use data.unlabelled_degraded=true or distillation.teacher_input=degraded"
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        check(compose("train", [*shown, "data.unlabelled_degraded=false"]))


def test_part_inside_a_net_is_refused() -> None:
    config = compose("train")
    OmegaConf.set_readonly(config, False)
    config.net = {"_target_": "torch.nn.Sequential", "_args_": [{"_target_": "torch.nn.ReLU"}]}
    message = "net._args_[0]._target_: a net takes plain values only (numbers, strings, lists), so that"
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}"):
        check(config)


def test_albumentations_settings_are_checked_though_it_would_only_warn() -> None:
    good = {"degradation": {"_target_": "albumentations.GaussNoise", "std_range": [0.1, 0.2], "p": 1.0}}
    check_targets(OmegaConf.create(good))
    bad = {"degradation": {"_target_": "albumentations.GaussNoise", "std_rang": [0.1, 0.2]}}
    with pytest.raises(ConfigError, match=r"degradation\.std_rang: .* did you mean 'std_range'\?"):
        check_targets(OmegaConf.create(bad))
