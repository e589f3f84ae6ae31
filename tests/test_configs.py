"""Every YAML of conf/ composes, fits the classes that it names, and begins with a command that uses it."""

from __future__ import annotations

import functools
import re
import shlex
from collections.abc import Iterator
from itertools import zip_longest
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

from sharpkd.config import check, compose, conf_dir
from sharpkd.config.check import PLAIN

CONF = conf_dir()
FILES = sorted(path.relative_to(CONF).as_posix() for path in CONF.rglob("*.yaml"))
PRIMARIES = [name for name in FILES if "/" not in name]
EXPERIMENTS = sorted(path.stem for path in (CONF / "experiment").glob("*.yaml"))
# what a choice cannot be composed without
NEEDS = {
    "data=folder": "data.train_dir=photos",
    "data=shards": "data.train_dir=shards",
    "net=pretrained": "net.path=weights.pth",
    "distillation=multi_teacher": "teacher.several=[{path:a.pth},{path:b.pth}]",
}
# what comes with the choice of another group: data=folder brings evaluate_data=folder
CHOSEN = ("evaluate_data", "evaluate_logger")
COMMAND = re.compile(r"# python -m (sharpkd\.\w+)(?: (.*))?")


def choices(group: str) -> list[str]:
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def train_groups() -> list[str]:
    groups = {name.rpartition("/")[0] for name in FILES} - {"", "experiment", "what", "benchmark", *CHOSEN}
    return sorted(group for group in groups if not group.startswith("hydra"))


def rounds(groups: list[str]) -> list[list[str]]:
    """Few compositions that hold every choice of every group: the first of each, the second of each, ..."""
    columns = [[f"{group}={choice}" for choice in choices(group)] for group in groups]
    rows = [[choice for choice in row if choice] for row in zip_longest(*columns)]
    return [row + [NEEDS[choice] for choice in row if choice in NEEDS] for row in rows]


TRAIN_ROUNDS = rounds(train_groups())
EVALUATE_ROUNDS = rounds(["data", "degradation", "benchmark", "logger"])
BENCHMARK_ROUNDS = rounds(["what"])
PREPARE_ROUNDS = rounds(["data"])


@functools.cache
def composed(primary: str, *overrides: str) -> DictConfig:
    return compose(primary, overrides)


def compositions() -> Iterator[tuple[str, ...]]:
    yield from (("train", *row) for row in TRAIN_ROUNDS)
    yield from (("train", f"experiment={name}") for name in EXPERIMENTS)
    yield from (("train", f"hydra/launcher={name}") for name in choices("hydra/launcher"))
    yield from (("evaluate", *row) for row in EVALUATE_ROUNDS)
    yield from (("benchmark", *row) for row in BENCHMARK_ROUNDS)
    yield from (("prepare", *row) for row in PREPARE_ROUNDS)
    yield from ((name.removesuffix(".yaml"),) for name in PRIMARIES)


def leaves(node: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Every setting of a plain configuration, lists whole."""
    if isinstance(node, dict) and node:
        for name, value in node.items():
            yield from leaves(value, f"{key}.{name}" if key else str(name))
    else:
        yield key, node


def header(name: str) -> list[str]:
    """The comments before anything else in a file, without a package line at the very top."""
    lines = (CONF / name).read_text(encoding="utf-8").splitlines()
    first = 1 if lines[0].startswith("# @package ") else 0
    comments = [line for line in lines[first:] if line.strip()]
    end = next((i for i, line in enumerate(comments) if not line.startswith("#")), len(comments))
    return comments[:end]


@pytest.mark.parametrize("overrides", list(compositions()), ids=",".join)
def test_composes_and_fits_the_signatures(overrides: tuple[str, ...]) -> None:
    config = composed(*overrides)
    check(config)
    targets = [value for key, value in leaves(OmegaConf.to_container(config)) if key.endswith("_target_")]
    assert targets or overrides == ("export",)


def test_every_file_is_composed() -> None:
    named = {f"{override.replace('=', '/')}.yaml" for case in compositions() for override in case[1:]}
    by_primaries: set[str] = set()
    cases = [(name.removesuffix(".yaml"),) for name in PRIMARIES]
    for primary, *overrides in [*cases, *(("evaluate", *row) for row in EVALUATE_ROUNDS)]:
        taken = compose(primary, overrides, run=False).hydra.runtime.choices
        by_primaries |= {f"{group.split('@')[0]}/{choice}.yaml" for group, choice in taken.items() if choice}
    assert set(FILES) - named - by_primaries - set(PRIMARIES) == set()


@pytest.mark.parametrize("name", FILES)
def test_begins_with_a_command_that_uses_it(name: str) -> None:
    comments = header(name)
    assert comments, f"{name} has no comment at its top"
    command = COMMAND.fullmatch(comments[0])
    assert command, f"{name} begins with {comments[0]!r}, not with a command"
    assert (CONF.parent / f"{command[1].replace('.', '/')}.py").is_file()
    arguments = shlex.split(command[2] or "")
    group, _, stem = name.removesuffix(".yaml").rpartition("/")
    if not group:
        assert command[1] == f"sharpkd.{stem}"
    else:
        own = group.split("/")[0]
        shown = [word for word in arguments if word.startswith((f"{group}=", f"{own}=", f"{own}.", "--help"))]
        assert shown or own in CHOSEN, f"{comments[0]!r} does not use {name}"
        chosen = [word.partition("=")[2] for word in arguments if word.startswith(f"{group}=")]
        assert chosen in ([], [stem]), f"{comments[0]!r} uses {chosen}, not {name}"
    _overrides_exist(command[1].removeprefix("sharpkd."), [word for word in arguments if word[0] != "-"])


def _overrides_exist(primary: str, overrides: list[str]) -> None:
    """Groups have the named choice, and settings exist in one of the compositions."""
    for override in overrides:
        key, equals, value = override.partition("=")
        assert equals, override
        if (CONF / key).is_dir():
            assert value in choices(key), override
        elif not key.startswith("hydra."):
            wanted = [case for case in compositions() if case[0] == primary]
            found = any(OmegaConf.select(composed(*case), key, default=...) is not ... for case in wanted)
            assert found, f"{override}: no composition of {primary} has this setting"


@pytest.mark.parametrize("name", PRIMARIES)
def test_own_values_come_before_those_of_the_groups(name: str) -> None:
    """With `_self_` last, what an experiment says about a key of the primary would silently be lost."""
    raw = OmegaConf.to_container(OmegaConf.load(CONF / name))
    assert isinstance(raw, dict)
    assert raw["defaults"][0] == "_self_"


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_values_of_an_experiment_survive(name: str) -> None:
    raw = OmegaConf.to_container(OmegaConf.load(CONF / "experiment" / f"{name}.yaml"), resolve=False)
    assert isinstance(raw, dict)
    defaults = raw.pop("defaults", [])
    config = composed("train", f"experiment={name}")
    plain = [(key, value) for key, value in leaves(raw) if "${" not in str(value)]
    assert plain
    assert {key: OmegaConf.select(config, key) for key, _ in plain} == dict(plain)
    for entry in defaults:
        ((group, choice),) = ((key.removeprefix("override /"), value) for key, value in entry.items())
        chosen = OmegaConf.load(CONF / group / f"{choice}.yaml")
        expected = OmegaConf.select(chosen, "_target_")
        if expected is not None:
            assert OmegaConf.select(config, f"{group.replace('/', '.')}._target_") == expected


def test_command_line_beats_the_experiment() -> None:
    config = compose("train", ["experiment=distill", "loss.delta=0.125", "net=mobile_student", "seed=9"])
    assert (config.loss.delta, config.loss.beta, config.seed) == (0.125, 0.002, 9)
    assert config.net._target_ == "sharpkd.nets.mobile_student.MobileStudent"


def test_default_distillation_uses_all_four_weights_and_three_terms() -> None:
    config = composed("train", "experiment=distill")
    assert all(config.loss[weight] > 0 for weight in ("alpha", "beta", "gamma", "delta"))
    weights = {name: term.weight for name, term in config.distillation.terms.items()}
    assert weights.keys() == {"output", "feature", "attention"}
    assert all(weight > 0 for weight in weights.values())


def test_scratch_differs_from_distill_by_the_teacher_alone() -> None:
    """The control of every claim about distillation: same net, data, optimizer and other weights."""
    scratch, distill = (
        dict(leaves(OmegaConf.to_container(composed("train", f"experiment={name}"))))
        for name in ("scratch", "distill")
    )
    changed = {key for key in scratch.keys() | distill.keys() if scratch.get(key) != distill.get(key)}
    free = ("paths.", "distillation", "callbacks.", "logger.", "trainer.default_root_dir")
    assert {key for key in changed if not key.startswith(free)} == {"loss.delta", "module._target_"}


def test_every_plain_setting_of_train_is_checked() -> None:
    """A new setting that no class takes gets its type in sharpkd.config.check.PLAIN."""
    found: set[str] = set()
    several = "distillation=multi_teacher"
    for overrides in (TRAIN_ROUNDS[0], [several, NEEDS[several]]):
        config = OmegaConf.to_container(composed("train", *overrides))
        assert isinstance(config, dict)
        sections = {name: node for name, node in config.items() if not _names_a_class(node)}
        found |= {key for key, _ in leaves(sections)}
    assert found - PLAIN.keys() == {"paths.run_dir"}
    assert PLAIN.keys() - found == {"trusted_packages"}  # the export's


def _names_a_class(node: Any) -> bool:
    return isinstance(node, dict) and (
        "_target_" in node or any(_names_a_class(part) for part in node.values())
    )


def test_optuna_searches_settings_that_exist() -> None:
    full = compose("train", ["sweep=optuna", "experiment=distill"], run=False)
    assert full.hydra.sweeper._target_.endswith("OptunaSweeper")
    assert full.hydra.sweeper.direction == "maximize"
    assert set(full.hydra.sweeper.params) == {"loss.alpha", "loss.beta", "loss.gamma", "loss.delta"}
    assert all(isinstance(OmegaConf.select(full, key), float) for key in full.hydra.sweeper.params)
    assert full.sweep.mode == "max"
    assert full.hydra.job.chdir is False
