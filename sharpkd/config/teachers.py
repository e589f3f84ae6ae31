"""What the settings of teachers mean, and which of them contradict each other."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from sharpkd.config.error import ConfigError
from sharpkd.config.hints import as_yaml, nearest
from sharpkd.config.trust import located
from sharpkd.distillation.base import TransferTerm
from sharpkd.modules.frozen_teacher import checked_device

ENTRY = ("path", "name", "weight", "precision", "tile", "device")
# names of the files that runs write: the run's folder says whose they are
WRITTEN_BY_RUNS = ("net", "best", "last", "checkpoints")


@dataclass(frozen=True)
class TeacherSettings:
    """One teacher.

    Attributes:
        path: its weight file.
        name: in logs and messages; empty for that of its architecture.
        weight: its share of a mean, above 0; only their ratios matter.
        precision: ``fp32`` or ``bf16``.
        tile: pixels, or None for whole inputs.
        device: or None for the student's.
    """

    path: str
    name: str = ""
    weight: float = 1.0
    precision: str = "fp32"
    tile: int | None = None
    device: str | None = None


def several_teachers(section: DictConfig) -> list[TeacherSettings] | None:
    """The teachers of ``teacher.several``; None where the configuration has one, or none.

    What an entry does not say is as ``teacher.precision``, ``teacher.tile`` and ``teacher.device`` have it. A
    teacher without a name has that of its file, or of the run that wrote it.

    Raises:
        ConfigError: an entry lacks its path, or has a key or a value that it cannot have; two have one name;
            or there are none.
    """
    if "several" not in section:
        return None
    entries = OmegaConf.to_container(section.several, resolve=True)
    assert isinstance(entries, list)
    common = {name: section[name] for name in ("precision", "tile", "device")}
    found = [_entry(index, {**common, **entry}) for index, entry in enumerate(entries)]
    if not found:
        raise ConfigError("teacher.several names no teacher: 'teacher.several=[{path:FILE},{path:FILE}]'")
    names = [teacher.name for teacher in found]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ConfigError(
            f"teacher.several: two teachers are called {twice!r}; give each a name of its own: "
            "{path:FILE,name:NAME}"
        )
    return found


def _entry(index: int, entry: Mapping[str, Any]) -> TeacherSettings:
    where = f"teacher.several[{index}]"
    for key in entry:
        if key not in ENTRY:
            raise ConfigError(
                f"{where}: there is no setting {key!r}. {nearest(str(key), ENTRY)}Allowed: {', '.join(ENTRY)}"
            )
    if not isinstance(entry.get("path"), str):
        raise ConfigError(f"{where}.path: expected a weight file, found {as_yaml(entry.get('path'))}")
    weight = entry.get("weight", 1.0)
    if type(weight) not in (int, float) or not (math.isfinite(weight) and weight > 0):
        raise ConfigError(f"{where}.weight: expected a finite number above 0, found {as_yaml(weight)}")
    if entry["precision"] not in ("fp32", "bf16"):
        raise ConfigError(
            f"{where}.precision: expected 'fp32' or 'bf16', found {as_yaml(entry['precision'])}"
        )
    if entry["tile"] is not None and type(entry["tile"]) is not int:
        raise ConfigError(f"{where}.tile: expected int | null, found {as_yaml(entry['tile'])}")
    if entry["device"] is not None and not isinstance(entry["device"], str):
        raise ConfigError(f"{where}.device: expected str | null, found {as_yaml(entry['device'])}")
    name = entry.get("name") or _name_of(Path(entry["path"]))
    if not isinstance(name, str) or not re.fullmatch(r"\w[\w.+-]*", name):
        raise ConfigError(
            f"{where}.name: {as_yaml(name)} cannot be a name in logs: letters, digits and . + - _ are allowed"
        )
    return TeacherSettings(**{**entry, "name": name, "weight": float(weight)})


def _name_of(path: Path) -> str:
    own = [path.stem, *(parent.name for parent in path.parents)]
    return next((name for name in own if name and name not in WRITTEN_BY_RUNS), path.stem)


def check_teachers(config: DictConfig) -> None:
    """Check the settings of the teachers of a training, if it has any, against each other and this machine.

    Raises:
        ConfigError: see :func:`several_teachers`; a value is out of range; there is no such device; or
            something is asked for that only a single teacher, running whole inputs each time, can give.
    """
    if config.distillation is None or config.loss.delta == 0 or "teacher" not in config:
        return
    section = config.teacher
    several = several_teachers(section)
    if several is not None:
        for key in ("path", "experiment"):
            if section[key] is not None:
                raise ConfigError(
                    f"teacher.{key} and teacher.several exclude each other: put it into the list, or "
                    f"teacher.{key}=null"
                )
    if section.cache is not None and not (math.isfinite(section.cache_gb) and section.cache_gb > 0):
        raise ConfigError(f"teacher.cache_gb: expected a finite number above 0, found {section.cache_gb}")
    single = TeacherSettings("", tile=section.tile, device=section.device)
    for teacher in several or [single]:
        if teacher.tile is not None and teacher.tile < 1:
            raise ConfigError(f"teacher.tile: expected at least 1 pixel, or null, found {teacher.tile}")
        if teacher.device is not None:
            try:
                checked_device(teacher.device)
            except ValueError as error:
                raise ConfigError(str(error)) from error
    _refuse_features(config, [teacher.tile for teacher in several or [single]])


def _refuse_features(config: DictConfig, tiles: list[int | None]) -> None:
    several = "several" in config.teacher
    setting = "teacher.several" if several else "teacher.cache" if config.teacher.cache is not None else None
    if setting is None and any(tile is not None for tile in tiles):
        setting = "teacher.tile"
    names = [f"distillation.terms.{name}" for name in _reading_features(config.distillation)]
    if setting is not None and names:
        use = "distillation=multi_teacher alone" if several else f"distillation=output, or {setting}=null"
        raise ConfigError(
            f"{setting} has the outputs of teachers, not their features, which {' and '.join(names)} "
            f"read{'s' if len(names) == 1 else ''}; use {use}"
        )


def _reading_features(distillation: DictConfig) -> Iterator[str]:
    """Names of the switched-on terms whose class looks at the teacher's feature maps."""
    for name, entry in (distillation.get("terms") or {}).items():
        target = OmegaConf.select(entry, "term._target_") if isinstance(entry, DictConfig) else None
        if target is None or not entry.get("weight"):
            continue
        try:
            term = located("distillation", target)
        except ConfigError:  # the check of all targets says what is wrong with it
            continue
        taps = getattr(term, "teacher_taps", TransferTerm.teacher_taps)
        if taps is not TransferTerm.teacher_taps:
            yield str(name)
