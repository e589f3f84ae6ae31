"""What a scoreboard's settings mean: a student, its methods and its seeds, as settings of trainings."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sharpkd.config import ConfigError, conf_dir
from sharpkd.config.composition import user_folders
from sharpkd.config.hints import choices_of, nearest
from sharpkd.evaluation.model_names import as_list

SCRATCH = "scratch"

MethodSetting = str | Mapping[str, Sequence[str]]


def literal(value: Any) -> str:
    """A plain value as Hydra's command line reads it back.

    Raises:
        ConfigError: it is no number, string, boolean, null or list of them.
    """
    if isinstance(value, bool) or value is None:
        return "null" if value is None else str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str | Path):
        escaped = str(value).replace("'", "\\'")
        return f"'{escaped}'"
    if isinstance(value, Sequence):
        return f"[{','.join(map(literal, value))}]"
    raise ConfigError(f"expected a number, a string or a list, found {value!r}")


def student_overrides(student: str | Mapping[str, Any]) -> list[str]:
    """``pixel_student`` or ``{net: pixel_student, width: 16}`` as settings of a training.

    Raises:
        ConfigError: a mapping without ``net``.
    """
    if isinstance(student, str):
        return [f"net={student}"]
    if "net" not in student:
        raise ConfigError(f"student needs its net: student='{{net:pixel_student,…}}', found {dict(student)}")
    settings = [f"net.{name}={literal(value)}" for name, value in student.items() if name != "net"]
    return [f"net={student['net']}", *settings]


def methods_of(given: MethodSetting | Sequence[MethodSetting]) -> dict[str, list[str]]:
    """What each method adds to a training's settings, by its name.

    Args:
        given: ``scratch``; choices of the group ``distillation`` joined by ``+``; or a name with settings.

    Raises:
        ConfigError: ``scratch`` is missing, a name is there twice or cannot be a folder's, or is no
            choice.
    """
    methods: dict[str, list[str]] = {}
    items: list[MethodSetting] = [given] if isinstance(given, Mapping) else as_list(given)
    for item in items:
        for name, settings in ({item: None} if isinstance(item, str) else item).items():
            if not re.fullmatch(r"\w[\w.+-]*", name) or (name == SCRATCH and settings is not None):
                raise ConfigError(
                    f"methods: {name!r} cannot be a method's name: letters, digits and . + - _ are allowed, "
                    f"and {SCRATCH} has no settings of its own"
                )
            if name in methods:
                raise ConfigError(f"methods: {name!r} is there twice")
            if name == SCRATCH:
                methods[name] = ["experiment=scratch"]
            elif settings is None:
                methods[name] = ["experiment=distill", f"distillation=[{','.join(_terms(name))}]"]
            else:
                methods[name] = ["experiment=distill", *as_list(settings)]
    if SCRATCH not in methods:
        raise ConfigError(f"methods needs {SCRATCH}: what a method gains is a difference to it")
    return methods


def seeds_of(given: int | Sequence[int]) -> list[int]:
    """0 … n - 1 for a number n, or the list itself.

    Raises:
        ConfigError: there are none, or one is there twice.
    """
    seeds = list(range(given)) if isinstance(given, int) else list(given)
    if not seeds or len(set(seeds)) < len(seeds):
        raise ConfigError(f"seeds must be a number of at least 1 or a list of different ones, got {given}")
    return seeds


def _terms(method: str) -> list[str]:
    choices = [name for name in choices_of("distillation", [conf_dir(), *user_folders()]) if name != "none"]
    terms = method.split("+")
    for term in terms:
        if term not in choices:
            raise ConfigError(
                f"methods: there is no distillation={term}. {nearest(term, choices)}Methods are {SCRATCH}, "
                f"{', '.join(choices)}, several joined by +, or a name with settings: "
                "'methods=[scratch,{NAME:[\"KEY=VALUE\"]}]'"
            )
    return terms
