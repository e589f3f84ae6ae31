"""Metrics as one CSV file that survives kills and resumes.

Lightning's own ``CSVLogger`` deletes an existing file, or rewrites its header from the columns of the new
process alone; here a resumed run continues the file of the run it resumes.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers.logger import rank_zero_experiment
from pytorch_lightning.utilities.rank_zero import rank_zero_only
from torch import Tensor

from sharpkd.loggers.base import RunLogger
from sharpkd.runs.folder import write_json

INDEX_COLUMNS = ("step", "epoch")


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a metrics file, empty cells left out.

    A last line without its line end (the process was killed while it wrote) is dropped, and so is a row
    without a readable step. A missing or empty file gives an empty list.
    """
    if not path.is_file():
        return []
    text = path.read_text(encoding="utf-8")
    text = text[: text.rfind("\n") + 1]
    rows = []
    for row in csv.DictReader(io.StringIO(text)):
        filled = {key: value for key, value in row.items() if key is not None and value not in (None, "")}
        if filled.get("step", "").isdigit():
            rows.append(filled)
    return rows


def read_series(path: Path) -> dict[str, tuple[list[int], list[float]]]:
    """Each column of a metrics file as (steps, values), in the order of the file; steps count from 0."""
    series: dict[str, tuple[list[int], list[float]]] = {}
    for row in read_rows(path):
        for key, value in row.items():
            if key not in INDEX_COLUMNS:
                steps, values = series.setdefault(key, ([], []))
                steps.append(int(row["step"]))
                values.append(float(value))
    return series


class MetricsFile:
    """A CSV file with the columns ``step``, ``epoch`` and one for each metric, one line a logged step.

    Every row is on disk when :meth:`append` returns. A new column rewrites the file through a temporary one,
    so that a kill leaves either the old file or the new one.

    The first row written by a process tells where it resumed: rows of later steps, and a row of the same step
    that has a metric in common with it, are from work that was lost and is being repeated, and are dropped.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.columns: list[str] = []
        self._opened = False

    def append(self, metrics: Mapping[str, float | Tensor], step: int) -> None:
        """Write one row.

        Raises:
            TypeError: a value is not a number.
            OSError: the file cannot be written, as on a full disk.
        """
        row = {"step": str(step)} | {key: _as_text(key, value) for key, value in metrics.items()}
        if not self._opened:
            self._rewrite(_without_repeated(read_rows(self.path), row), row)
            self._opened = True
        elif set(row) - set(self.columns):
            self._rewrite(read_rows(self.path), row)
        else:
            with self._said(), self.path.open("a", encoding="utf-8", newline="") as file:
                csv.DictWriter(file, self.columns, lineterminator="\n").writerow(row)

    def _rewrite(self, rows: list[dict[str, str]], new: dict[str, str]) -> None:
        rows = [*rows, new]
        names = {name for row in rows for name in row} - set(INDEX_COLUMNS)
        self.columns = [*INDEX_COLUMNS, *sorted(names)]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_suffix(".csv.part")
        with self._said():
            with temporary.open("w", encoding="utf-8", newline="") as file:
                writer = csv.DictWriter(file, self.columns, lineterminator="\n")
                writer.writeheader()
                writer.writerows(rows)
            os.replace(temporary, self.path)

    @contextmanager
    def _said(self) -> Iterator[None]:
        """Errors of the block name the file; the one of a full disk names none."""
        try:
            yield
        except OSError as error:
            raise OSError(
                error.errno,
                f"{self.path} cannot be written ({error.strerror or error}): make room, then resume=auto",
            ) from error


def _without_repeated(rows: list[dict[str, str]], first: dict[str, str]) -> list[dict[str, str]]:
    step, names = int(first["step"]), set(first) - set(INDEX_COLUMNS)
    return [
        row for row in rows if int(row["step"]) < step or (int(row["step"]) == step and not names & set(row))
    ]


def _as_text(key: str, value: Any) -> str:
    number = value.item() if isinstance(value, Tensor) else value
    try:
        number = float(number)
    except (TypeError, ValueError):
        raise TypeError(f"metric {key!r} is {value!r}; a number was expected") from None
    return str(int(number)) if math.isfinite(number) and number == int(number) else repr(number)


class CSVLogger(RunLogger):
    """Writes ``<run_dir>/logs/metrics.csv`` and, at the end, ``<run_dir>/logs/summary.json``."""

    def __init__(self, run_dir: str | Path) -> None:
        super().__init__(run_dir)
        self._file = MetricsFile(self.run_dir / "logs" / "metrics.csv")

    @property
    @rank_zero_experiment
    def experiment(self) -> MetricsFile:
        """The file (rank zero; a dummy elsewhere)."""
        return self._file

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float | Tensor], step: int | None = None) -> None:
        """Append one row; without a step the row is filed under step 0."""
        self._file.append(metrics, 0 if step is None else step)

    @rank_zero_only
    def log_summary(self, summary: Mapping[str, Any]) -> None:
        """Write (or extend) ``logs/summary.json``."""
        path = self.run_dir / "logs" / "summary.json"
        known = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, known | dict(summary))
