"""Does distillation help? Students of every method beside twins without a teacher, over several seeds."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from sharpkd.checkpoint import LoadedNet, load_net
from sharpkd.config import ConfigError
from sharpkd.evaluation.folder.evaluation import machine
from sharpkd.evaluation.scoreboard.cells import (
    SCRATCH,
    Cell,
    changed_settings,
    literal,
    methods_of,
    plan_cells,
    refuse_other_settings,
    seeds_of,
    student_overrides,
    train_cell,
)
from sharpkd.evaluation.scoreboard.page import CellReport, method_cells, write_page
from sharpkd.evaluation.scoreboard.scores import Scoring
from sharpkd.evaluation.scoreboard.table import (
    INPUT,
    TEACHER,
    Line,
    Trained,
    lines_of,
    write_cells,
    write_lines,
)
from sharpkd.nets.stats import count_parameters
from sharpkd.runs.folder import write_json

log = logging.getLogger(__name__)

STUDENT = "student"


class DistillationScoreboard:
    """Train every method with every seed, measure the students, and write what each method gains and costs.

    All cells share net, samples, their order and the number of steps; a method differs from ``scratch`` by
    what its teacher adds. Weights are selected on held-out training images, never on those measured here.

    Args:
        student: choice of the group ``net``, or a mapping with ``net`` and that net's settings.
        teacher: weight file.
        methods: ``scratch``, choices of the group ``distillation`` joined by ``+``, or ``{name: settings}``.
        seeds: how many, or which.
        steps: of every training.
        train_dir: folder or folders of images; None leaves the data to ``train``.
        eval_dirs: folders of images to measure on.
        degradation: of these images; any albumentations transform.
        delta: ``loss.delta`` of the methods that do not set their own; None keeps the experiment's.
        train: settings of every training, as on the command line of ``sharpkd.train``.
        settings: likewise, before ``train``.
        roots: ``paths.*`` of every training.

    Raises:
        ValueError: no folder to measure on, or two of one name.
        ConfigError: no teacher, or methods, seeds or student make no sense.
    """

    def __init__(
        self,
        student: str | dict[str, Any],
        teacher: str | None,
        methods: list[str | dict[str, list[str]]],
        seeds: int | list[int],
        steps: int,
        train_dir: str | list[str] | None,
        eval_dirs: list[str],
        degradation: Any,
        delta: float | None = None,
        train: list[str] | None = None,
        settings: list[str] | None = None,
        roots: dict[str, str] | None = None,
    ) -> None:
        if teacher is None:
            raise ConfigError("a scoreboard of distillation needs teacher=FILE, the weights of a trained net")
        self.methods = methods_of(methods)
        self.seeds = seeds_of(seeds)
        self.steps = steps
        self.degradation = degradation
        self.eval_dirs = {Path(name).expanduser().name: Path(name).expanduser() for name in eval_dirs}
        if not eval_dirs or len(self.eval_dirs) < len(eval_dirs):
            raise ValueError(f"eval_dirs must be folders with different names, got {eval_dirs}")
        self.teacher = Path(teacher).expanduser().absolute()
        self.taught = [f"teacher.path={literal(self.teacher)}"]
        self.taught += [] if delta is None else [f"loss.delta={delta}"]
        self.common = [f"paths.{name}={literal(path)}" for name, path in (roots or {}).items()]
        self.common += [*student_overrides(student), f"trainer.max_steps={steps}"]
        if train_dir is not None:
            given = [train_dir] if isinstance(train_dir, str) else train_dir
            folders = [Path(folder).expanduser().absolute() for folder in given]
            self.common += ["data=folder", f"data.train_dir={literal(folders)}"]
        self.common += [*(settings or []), *(train or [])]

    def run(self, folder: Path) -> float:
        """Train what is not there yet; write ``scoreboard.csv``, ``.html``, ``.json`` and ``cells.csv``.

        They are written after every cell. A cell that fails is left for the next call, the others go on.

        Returns:
            The largest mean difference to ``scratch`` of a method, in dB; nan without one.

        Raises:
            FileNotFoundError: the teacher, a folder or its images are missing.
            RunFolderError: a cell in the folder was trained with other settings.
            ChildProcessError: cells failed; the scoreboard shows the others.
        """
        if not self.teacher.is_file():
            raise FileNotFoundError(f"teacher={self.teacher}: no such file")
        cells = plan_cells(folder, self.methods, self.seeds, self.common, self.taught)
        refuse_other_settings(cells, self.teacher)
        config = cells[0].config
        scoring = Scoring(self.eval_dirs, self.degradation, config.task.scale, config.module.use_condition)
        teacher = load_net(self.teacher, config.runtime.trusted_packages)
        reference = scoring.of(teacher, TEACHER, folder / "reference.json")
        facts = self._facts(cells, teacher)
        facts["images"] = {name: len(images) for name, images in reference[INPUT].items()}
        reports = [CellReport(cell.method, cell.seed) for cell in cells]
        lines: list[Line] = []
        for number, (cell, report) in enumerate(zip(cells, reports, strict=True), start=1):
            if not cell.finished():
                log.info("training %d of %d: %s, seed %d", number, len(cells), cell.method, cell.seed)
                try:
                    report.error = train_cell(cell)
                except KeyboardInterrupt:
                    log.warning("interrupted; the same command goes on from here")
                    raise
            if report.error:
                log.warning("%s, seed %d failed: %s", cell.method, cell.seed, report.error)
            else:
                student = load_net(cell.folder.weights_file, config.runtime.trusted_packages)
                scores = scoring.of(student, STUDENT, cell.folder.path / "scores.json")[STUDENT]
                report.trained = Trained(cell.method, cell.seed, scores, cell.seconds())
                facts["parameters"] = count_parameters(student.net)
            trained = [report.trained for report in reports if report.trained]
            lines = lines_of(trained, list(self.methods), reference)
            write_lines(folder / "scoreboard.csv", lines)
            write_cells(folder / "cells.csv", trained)
            write_json(folder / "scoreboard.json", facts)
            write_page(folder / "scoreboard.html", lines, reports, facts)
        print_lines(lines, folder)
        if failed := [report for report in reports if report.error]:
            first = failed[0]
            raise ChildProcessError(
                f"{len(failed)} of {len(cells)} trainings failed, first {first.method}, seed {first.seed}: "
                f"{first.error}\nthe others are in {folder}; the same command tries the failed ones again"
            )
        return max((line.gain.mean for line in lines if line.gain), default=math.nan)

    def _facts(self, cells: Sequence[Cell], teacher: LoadedNet) -> dict[str, Any]:
        return {
            "student": str(cells[0].config.net._target_).rpartition(".")[2],
            "parameters": None,
            "teacher": str(teacher.path),
            "teacher_net": str(teacher.config["_target_"]).rpartition(".")[2],
            "teacher_sha256": teacher.sha256,
            "teacher_parameters": count_parameters(teacher.net),
            "steps": self.steps,
            "seeds": self.seeds,
            "degradation": repr(self.degradation),
            "settings": [setting for setting in self.common if not setting.startswith("paths.")],
            "differs_from_scratch": changed_settings(cells),
            **machine(),
        }


def print_lines(lines: Sequence[Line], folder: Path) -> None:
    """The first rows (all images, or the only set) as a table on the terminal, without SSIM."""
    table = Table(title=f"Gain over {SCRATCH}, images: {lines[0].set}")
    rows = [method_cells(line) for line in lines if line.set == lines[0].set]
    columns = [column for column in rows[0] if "SSIM" not in column]
    for column in columns:
        table.add_column(column, justify="left" if column == "method" else "right")
    for row in rows:
        table.add_row(*(row[column] for column in columns))
    console = Console()
    console.print(table)
    console.print(f"written to {folder}", highlight=False)
