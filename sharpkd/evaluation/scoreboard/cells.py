"""The trainings behind a scoreboard: which there are, what each is made with, and how one is run."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from sharpkd.checkpoint import file_sha256, read_lightning
from sharpkd.config import ConfigError, check, compose, conf_dir
from sharpkd.config.composition import user_folders
from sharpkd.config.hints import choices_of, nearest
from sharpkd.evaluation.sweeps.jobs import read_jobs
from sharpkd.runs.folder import RunFolder, RunFolderError, differences

SCRATCH = "scratch"
# it counts the seconds of training alone, across interruptions, and keeps them in the checkpoint
STOPWATCH = "+callbacks.stopwatch._target_=pytorch_lightning.callbacks.Timer"
# what would make a method's students no twins of those trained from scratch
HELD = ("seed", "task", "net", "data", "degradation", "trainer", "optimizer", "scheduler")
GRACE_SECONDS = 60

MethodSetting = str | Mapping[str, Sequence[str]]


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
        raise ConfigError(f"student needs its net: student={{net:pixel_student,…}}, found {dict(student)}")
    settings = [f"net.{name}={literal(value)}" for name, value in student.items() if name != "net"]
    return [f"net={student['net']}", *settings]


def methods_of(given: Sequence[MethodSetting]) -> dict[str, list[str]]:
    """What each method adds to a training's settings, by its name.

    Args:
        given: ``scratch``; choices of the group ``distillation`` joined by ``+``; or a name with settings.

    Raises:
        ConfigError: ``scratch`` is missing, a name is there twice or cannot be a folder's, or is no
            choice.
    """
    methods: dict[str, list[str]] = {}
    for item in given:
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
                methods[name] = ["experiment=distill", *settings]
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
        methods: see :func:`methods_of`.
        seeds: of each method.
        common: settings of every training.
        taught: settings of every one with a teacher.

    Raises:
        ConfigError: a setting does not exist or does not fit, or a method changes what its twin without a
            teacher has to share.
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
    return cells


def changed_settings(cells: Sequence[Cell]) -> dict[str, list[str]]:
    """For each method, the settings in which it differs from ``scratch``: ``key: before -> now``."""
    first = {cell.method: cell for cell in reversed(cells)}
    plain = {name: _plain(cell.config) for name, cell in first.items()}
    return {cell.method: differences(plain[SCRATCH], plain[cell.method]) for cell in cells}


def refuse_other_settings(cells: Sequence[Cell], teacher: Path) -> None:
    """Hold what has been trained to what would be trained now.

    Raises:
        RunFolderError: a cell was made with other settings or another teacher, or is being trained by another
            process.
    """
    digest = file_sha256(teacher)
    for cell in cells:
        folder = cell.folder
        if not folder.last_checkpoint.is_file():
            continue
        saved = read_lightning(folder.last_checkpoint)["sharpkd"]
        changed = differences(saved["config"], _plain(cell.config))
        if cell.taught and not changed and saved["teacher_sha256"] != digest:
            changed = [f"SHA-256 of {teacher}: {saved['teacher_sha256'][:16]}… -> {digest[:16]}…"]
        if changed:
            raise RunFolderError(
                f"{folder.path} was trained with other settings:\n  "
                + "\n  ".join(changed)
                + "\nput them back, start another scoreboard with name=NAME, or delete that folder"
            )


def train_cell(cell: Cell) -> str:
    """Train one cell in a process of its own, continuing where it was interrupted.

    Returns:
        An empty string, or why it failed.

    Raises:
        RunFolderError: another process is training it.
    """
    root = cell.folder.path.parents[1]
    for job in read_jobs(root) if root.is_dir() else []:
        if job.folder == cell.folder.path and job.state == "running":
            raise RunFolderError(
                f"{job.folder} is being trained by process {cell.folder.status().get('pid')}; let it end"
            )
    folders = [f"--config-dir={folder}" for folder in user_folders()[:1]]
    command = [sys.executable, "-m", "sharpkd.train", *folders, *cell.overrides]
    code = _run([*command, f"hydra.run.dir={literal(cell.folder.path)}"])
    if code == 0 and cell.finished():
        return ""
    return cell.error() or f"sharpkd.train ended with exit code {code}; its message stands above"


def _terms(method: str) -> list[str]:
    choices = [name for name in choices_of("distillation", [conf_dir(), *user_folders()]) if name != "none"]
    terms = method.split("+")
    for term in terms:
        if term not in choices:
            raise ConfigError(
                f"methods: there is no distillation={term}. {nearest(term, choices)}Methods are {SCRATCH}, "
                f'{", ".join(choices)}, several joined by +, or a name with settings: {{NAME:["KEY=VALUE"]}}'
            )
    return terms


def _plain(config: DictConfig) -> dict[str, Any]:
    container = OmegaConf.to_container(config, resolve=True)
    assert isinstance(container, dict)
    return {str(key): value for key, value in container.items()}


def _refuse_no_twins(cells: Sequence[Cell]) -> None:
    for method, changed in changed_settings(cells).items():
        for line in changed:
            key = line.partition(":")[0]
            if key.split(".")[0] in HELD:
                raise ConfigError(
                    f"methods: {method} changes {line}; only what the teacher adds may differ from "
                    f"{SCRATCH}. train=[…] sets it for all"
                )


def _hear_interrupts() -> None:
    # what a shell starts in the background is deaf to them, and so would be its children
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _ended(number: int, frame: object) -> None:
    raise SystemExit(128 + number)


def _run(command: Sequence[str]) -> int:
    """Exit code of a command; on Ctrl-C or SIGTERM it is asked to save its state, and outlives nobody."""
    process = subprocess.Popen(command, start_new_session=True, preexec_fn=_hear_interrupts)
    before = signal.signal(signal.SIGTERM, _ended)
    try:
        return process.wait()
    except BaseException:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        raise
    finally:
        signal.signal(signal.SIGTERM, before)
