"""The trainings behind a scoreboard: which there are, and whether they may stand in one table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from sharpkd.checkpoint import file_sha256, read_lightning
from sharpkd.config import ConfigError, check, compose
from sharpkd.evaluation.scoreboard.methods import SCRATCH, literal
from sharpkd.runs.folder import RunFolder, RunFolderError, differences

# it counts the seconds of training alone, across interruptions, and keeps them in the checkpoint
STOPWATCH = "+callbacks.stopwatch._target_=pytorch_lightning.callbacks.Timer"
# what a teacher adds; in anything else the students of one seed are twins. The pixel term's weight is among
# it because the teacher's output may take the truth's place, and inputs that only a teacher can label.
ADDED_BY_TEACHER = (
    "distillation",
    "teacher",
    "loss.alpha",
    "loss.delta",
    "module._target_",
    "data.unlabelled_dir",
    "data.unlabelled_per_crop",
    "data.unlabelled_degraded",
)
# free when a training goes on, but they change the seconds that are compared here
TIMED = ("runtime.threads", "data.workers")


@dataclass(frozen=True)
class Cell:
    """One training of a scoreboard.

    Attributes:
        method: its name.
        seed: of weights, samples and their order.
        folder: the run's.
        overrides: command line of ``sharpkd.train``.
        config: what they compose to.
    """

    method: str
    seed: int
    folder: RunFolder
    overrides: list[str]
    config: DictConfig

    @property
    def taught(self) -> bool:
        """Whether a teacher takes part."""
        return self.config.distillation is not None and self.config.loss.delta > 0

    @property
    def teacher(self) -> Path | None:
        """The weights of its teacher; None where none takes part, or one is trained first."""
        path = self.config.teacher.path
        return Path(path).expanduser().absolute() if self.taught and path is not None else None

    def finished(self) -> bool:
        """Whether it has been trained to its end."""
        return self.folder.status().get("state") == "finished"

    def error(self) -> str:
        """What its last training said when it failed; empty where it did not."""
        status = self.folder.status()
        failed = status.get("state") == "failed"
        return str(status.get("error") or "no reason given") if failed else ""

    def seconds(self) -> float:
        """Seconds spent in training, without starting up, all attempts together."""
        callbacks = read_lightning(self.folder.last_checkpoint)["callbacks"]
        (state,) = (state for name, state in callbacks.items() if name.startswith("Timer"))
        return float(state["time_elapsed"]["train"])


def plan_cells(
    folder: Path,
    methods: Mapping[str, Sequence[str]],
    seeds: Sequence[int],
    common: Sequence[str],
    taught: Sequence[str],
) -> list[Cell]:
    """Every training of a scoreboard, seed by seed, composed and checked; nothing is trained.

    Args:
        folder: of the scoreboard; a cell's is ``cells/<method>/seed<n>`` in it.
        methods: see :func:`sharpkd.evaluation.scoreboard.methods.methods_of`.
        seeds: of each method.
        common: settings of every training.
        taught: settings of every one with a teacher.

    Raises:
        ConfigError: a setting does not exist or does not fit, the common ones speak of a teacher, or a method
            changes what its twin without a teacher has to share.
        FileNotFoundError: a teacher is missing.
    """
    cells = []
    for seed in seeds:
        for name, settings in methods.items():
            run = RunFolder(folder / "cells" / name / f"seed{seed}")
            overrides = [*common, f"seed={seed}", f"run={literal(f'{name}-seed{seed}')}", STOPWATCH]
            overrides += [*([] if name == SCRATCH else taught), *settings, "resume=auto"]
            config = compose("train", overrides, output_dir=str(run.path))
            if seed == seeds[0]:
                check(config)
            cells.append(Cell(name, seed, run, overrides, config))
    _refuse_no_twins(cells)
    for path in {cell.teacher for cell in cells}:
        if path is not None and not path.is_file():
            raise FileNotFoundError(f"teacher={path}: no such file")
    return cells


def changed_settings(cells: Sequence[Cell]) -> dict[str, list[str]]:
    """For each method, the settings in which it differs from ``scratch``: ``key: before -> now``."""
    first = {cell.method: cell for cell in reversed(cells)}
    plain = {name: _plain(cell.config) for name, cell in first.items()}
    return {cell.method: differences(plain[SCRATCH], plain[cell.method]) for cell in cells}


def refuse_other_settings(cells: Sequence[Cell]) -> None:
    """Hold what has been trained to what would be trained now.

    The same teacher may lie elsewhere by now.

    Raises:
        RunFolderError: a cell was made with other settings or another teacher, or is finished without the
            checkpoint that tells so.
    """
    digests = {path: file_sha256(path) for path in {cell.teacher for cell in cells} if path is not None}
    for cell in cells:
        folder = cell.folder
        if not folder.last_checkpoint.is_file():
            if cell.finished():
                raise RunFolderError(
                    f"{folder.path} is finished, but {folder.last_checkpoint} is gone: delete the folder, "
                    "and it is trained anew"
                )
            continue
        saved = read_lightning(folder.last_checkpoint)["sharpkd"]
        changed = _changed(saved, cell, digests)
        if changed:
            raise RunFolderError(
                f"{folder.path} was trained with other settings:\n  "
                + "\n  ".join(changed)
                + "\nput them back, start another scoreboard with name=NAME, or delete that folder"
            )


def _changed(saved: Mapping[str, Any], cell: Cell, digests: Mapping[Path, str]) -> list[str]:
    config = _plain(cell.config)
    changed = differences(saved["config"], config)
    if cell.teacher is not None:
        before, now = str(saved["teacher_sha256"]), digests[cell.teacher]
        if before == now:
            changed = [line for line in changed if not line.startswith("teacher.path:")]
        elif not changed:
            changed = [f"SHA-256 of {cell.teacher}: {before[:16]}… -> {now[:16]}…"]
    if cell.finished():
        old, new = (OmegaConf.create(dict(container)) for container in (saved["config"], config))
        for key in TIMED:
            before, now = OmegaConf.select(old, key), OmegaConf.select(new, key)
            changed += [] if before == now else [f"{key}: {before} -> {now}"]
    return changed


def _plain(config: DictConfig) -> dict[str, Any]:
    container = OmegaConf.to_container(config, resolve=True)
    assert isinstance(container, dict)
    return {str(key): value for key, value in container.items()}


def _refuse_no_twins(cells: Sequence[Cell]) -> None:
    for cell in cells:
        if cell.method == SCRATCH and (cell.config.distillation is not None or cell.config.loss.delta):
            raise ConfigError(
                f"train=[…] is for all trainings, and {SCRATCH} has no teacher: leave distillation and "
                "loss.delta out of it. delta=NUMBER sets the latter for all methods, "
                "'methods=[scratch,{NAME:[\"KEY=VALUE\"]}]' both for one"
            )
    for method, changed in changed_settings(cells).items():
        for line in changed:
            key = line.partition(":")[0]
            if not any(key == part or key.startswith(f"{part}.") for part in ADDED_BY_TEACHER):
                raise ConfigError(
                    f"methods: {method} changes {line}; only what the teacher adds may differ from "
                    f"{SCRATCH}. train=[…] sets it for all"
                )
