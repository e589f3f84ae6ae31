"""Does distillation help? Students of every method beside twins without a teacher, over several seeds."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.table import Table

from sharpkd.checkpoint import LoadedNet, load_any_net, load_net
from sharpkd.config import ConfigError
from sharpkd.config.teachers import several_teachers
from sharpkd.evaluation.console import console_of_results
from sharpkd.evaluation.machine import machine
from sharpkd.evaluation.model_names import as_list
from sharpkd.evaluation.scoreboard.cells import Cell, changed_settings, plan_cells, refuse_other_settings
from sharpkd.evaluation.scoreboard.images import hold_to_images, refuse_measured_images, training_hashes
from sharpkd.evaluation.scoreboard.methods import (
    SCRATCH,
    MethodSetting,
    literal,
    methods_of,
    seeds_of,
    student_overrides,
)
from sharpkd.evaluation.scoreboard.page import CellReport, method_cells, write_page
from sharpkd.evaluation.scoreboard.processes import train_cell
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
        methods: MethodSetting | list[MethodSetting],
        seeds: int | list[int],
        steps: int,
        train_dir: str | list[str] | None,
        eval_dirs: str | list[str],
        degradation: Any,
        delta: float | None = None,
        train: str | list[str] | None = None,
        settings: str | list[str] | None = None,
        roots: dict[str, str] | None = None,
    ) -> None:
        if teacher is None:
            raise ConfigError("a scoreboard of distillation needs teacher=FILE, the weights of a trained net")
        self.methods = methods_of(methods)
        self.seeds = seeds_of(seeds)
        self.steps = steps
        self.degradation = degradation
        folders = [Path(name).expanduser() for name in as_list(eval_dirs)]
        self.eval_dirs = {folder.absolute().name: folder for folder in folders}
        if not folders or len(self.eval_dirs) < len(folders):
            raise ValueError(f"eval_dirs must be folders with different names, got {eval_dirs}")
        self.teacher = Path(teacher).expanduser().absolute()
        self.taught = [f"teacher.path={literal(self.teacher)}"]
        self.taught += [] if delta is None else [f"loss.delta={delta}"]
        self.common = [f"paths.{name}={literal(path)}" for name, path in (roots or {}).items()]
        self.common += [*student_overrides(student), f"trainer.max_steps={steps}"]
        if train_dir is not None:
            photos = [Path(folder).expanduser().absolute() for folder in as_list(train_dir)]
            self.common += ["data=folder", f"data.train_dir={literal(photos)}"]
        self.common += [*as_list(settings), *as_list(train)]

    def run(self, folder: Path) -> float:
        """Train what is not there yet; write ``scoreboard.csv``, ``.html``, ``.json`` and ``cells.csv``.

        They are written after every cell. A cell that fails is left for the next call, the others go on.

        Returns:
            The largest mean difference to ``scratch`` of a method on all images, in dB; nan without one.

        Raises:
            FileNotFoundError: a teacher, a folder or its images are missing.
            RunFolderError: a cell in the folder was trained with other settings or on other images.
            ConfigError: an image measured on is trained on.
            ChildProcessError: cells failed; the scoreboard shows the others.
        """
        if not self.teacher.is_file():
            raise FileNotFoundError(f"teacher={self.teacher}: no such file")
        cells = plan_cells(folder, self.methods, self.seeds, self.common, self.taught)
        refuse_other_settings(cells)
        config = cells[0].config
        scoring = Scoring(
            self.eval_dirs,
            self.degradation,
            config.task.scale,
            config.module.use_condition,
            config.runtime.trusted_packages,
        )
        teacher = load_any_net(self.teacher, config.runtime.trusted_packages)
        facts = self._facts(cells, teacher)
        facts["training_images"] = self._hold_images(folder, cells, scoring)
        reference = scoring.of(teacher, TEACHER, folder / "reference.json")
        facts["images"] = {name: len(images) for name, images in reference[INPUT].items()}
        reports = [CellReport(cell.method, cell.seed) for cell in cells]
        lines: list[Line] = []

        def write() -> None:
            trained = [report.trained for report in reports if report.trained]
            lines[:] = lines_of(trained, list(self.methods), reference, self._own_teachers(cells))
            write_lines(folder / "scoreboard.csv", lines)
            write_cells(folder / "cells.csv", trained)
            write_json(folder / "scoreboard.json", facts)
            write_page(folder / "scoreboard.html", lines, reports, facts)

        pairs = list(zip(cells, reports, strict=True))
        # what is there is read first: a page never shows less than the one before
        for cell, report in pairs:
            if cell.finished():
                _measure(cell, report, scoring, facts)
        write()
        for number, (cell, report) in enumerate(pairs, start=1):
            if cell.finished():
                continue
            log.info("training %d of %d: %s, seed %d", number, len(cells), cell.method, cell.seed)
            try:
                report.error = train_cell(cell)
            except KeyboardInterrupt as stop:
                stop.add_note("the same command goes on from here")
                raise
            if report.error:
                log.warning("%s, seed %d failed: %s", report.method, report.seed, report.error)
            else:
                _measure(cell, report, scoring, facts)
            write()
        print_lines(lines, folder)
        if failed := [report for report in reports if report.error]:
            first = failed[0]
            raise ChildProcessError(
                f"{len(failed)} of {len(cells)} trainings failed, first {first.method}, seed {first.seed}: "
                f"{first.error}\nthe others are in {folder}; the same command tries the failed ones again"
            )
        return max(
            (line.gain.mean for line in lines if line.gain and line.set == lines[0].set), default=math.nan
        )

    def _hold_images(self, folder: Path, cells: Sequence[Cell], scoring: Scoring) -> dict[str, Any] | None:
        """What each method trains on, checked: the same as before, and nothing that is measured."""
        first = {cell.method: cell.config for cell in reversed(cells)}
        by_data = {str(config.data): training_hashes(config) for config in first.values()}
        hashes = {}
        for method in self.methods:
            found = by_data[str(first[method].data)]
            if found is None:
                log.warning(
                    "the data are of a class of your own: whether an image is trained on and measured on, "
                    "and whether the images change between two calls, is not checked"
                )
                return None
            hashes[method] = found
        refuse_measured_images(
            {one for pair in hashes.values() for part in pair for one in part}, scoring.sets
        )
        kept = hold_to_images(folder, hashes)
        return {method: asdict(images) for method, images in kept.items()}

    def _own_teachers(self, cells: Sequence[Cell]) -> dict[str, str]:
        """Method -> its teacher, where that is not the scoreboard's."""
        others = {cell.method: cell for cell in cells if cell.taught and cell.teacher != self.teacher}
        names = {}
        for method, cell in others.items():
            several = several_teachers(cell.config.teacher)
            if several is not None:
                names[method] = " and ".join(teacher.name for teacher in several)
            else:
                names[method] = "one that is trained first" if cell.teacher is None else cell.teacher.name
        return names

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


def _measure(cell: Cell, report: CellReport, scoring: Scoring, facts: dict[str, Any]) -> None:
    """Scores of a finished cell; one whose weights cannot be used is an error of its own."""
    try:
        student = load_net(cell.folder.weights_file, cell.config.runtime.trusted_packages)
        scores = scoring.of(student, STUDENT, cell.folder.path / "scores.json")[STUDENT]
        report.trained = Trained(cell.method, cell.seed, scores, cell.seconds())
    except (ValueError, OSError, RuntimeError) as error:
        report.error = (
            f"{cell.folder.path} is finished, but cannot be measured: {error}; delete it to train anew"
        )
    else:
        facts["parameters"] = count_parameters(student.net)


def print_lines(lines: Sequence[Line], folder: Path) -> None:
    """The first rows (all images, or the only set) as a table on the terminal, without SSIM."""
    table = Table(title=f"Gain over {SCRATCH}, images: {lines[0].set}")
    rows = [method_cells(line) for line in lines if line.set == lines[0].set]
    columns = [column for column in rows[0] if "SSIM" not in column]
    for column in columns:
        table.add_column(column, justify="left" if column == "method" else "right", no_wrap=True)
    for row in rows:
        table.add_row(*(row[column] for column in columns))
    console = console_of_results()
    console.print(table)
    console.print(
        f"gain: mean over the seeds of the difference to {SCRATCH}, ± half its 95 % interval (Student's t)\n"
        f"every set and seed: {folder / 'scoreboard.html'}",
        highlight=False,
        soft_wrap=True,
    )
