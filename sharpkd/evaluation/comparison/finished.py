"""What finished evaluations left in their folders, and the contestants that are in them."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from sharpkd.config import ConfigError
from sharpkd.evaluation.rows import COLUMNS, INPUT, META, Row, read_rows

FOLDER = "folder"
"""Set, track and condition of the rows of an evaluation on a folder of images."""
FOLDER_COLUMNS = ("image", "model", "psnr", "ssim", "psnr_y", "ssim_y", "lpips")
SAME_DB = 1e-4
"""Two machines differ by less on the same output; another net's by more on some image."""

Test = tuple[str, str, str]
"""Set, image and condition: what two models must share to be compared."""


@dataclass(frozen=True)
class Result:
    """One model's row, and the input's in the same evaluation."""

    row: Row
    before: Row


@dataclass(frozen=True)
class Finished:
    """One evaluation's folder.

    Attributes:
        label: the shortest end of its path that tells it from the others.
        path: where it is.
        models: rows by model and test; ``input`` among the models.
        lpips: backbone of its LPIPS, where it says so.
    """

    label: str
    path: Path
    models: dict[str, dict[Test, Result]]
    lpips: str | None

    @property
    def images(self) -> list[tuple[str, str]]:
        """Set and name of every image, each once."""
        return list(dict.fromkeys((name, image) for name, image, _ in self.models[INPUT]))


@dataclass(frozen=True)
class Contestant:
    """One model as one or several evaluations saw it.

    Attributes:
        label: its name; with its folder's where another contestant has the same name.
        model: its name in its folder.
        folders: labels of the evaluations that agree on it.
        results: by test.
        lpips: backbone of its LPIPS.
    """

    label: str
    model: str
    folders: tuple[str, ...]
    results: dict[Test, Result]
    lpips: str | None


def read_finished(folders: Sequence[str | Path]) -> list[Finished]:
    """Read the ``per_image.csv`` of each evaluation, on SharpBench or on a folder of images.

    An evaluation on a folder has one set, track and condition, ``folder``; of its two SSIM, the one on luma
    is taken, as SharpBench defines it.

    Raises:
        ValueError: no folder, one given twice, unknown columns, a row twice, or one without its ``input``.
        FileNotFoundError: a folder without ``per_image.csv``.
    """
    if not folders:
        raise ConfigError("compare needs the folders of finished evaluations: compare=[DIR,DIR]")
    paths = [Path(folder).expanduser().absolute() for folder in folders]
    real = [path.resolve() for path in paths]
    for path in paths:
        if real.count(path.resolve()) > 1:
            raise ConfigError(f"{path} is given twice; compare needs different evaluations")
    found = []
    for path, label in zip(paths, _labels(paths), strict=True):
        file = path / "per_image.csv"
        if not file.is_file():
            raise FileNotFoundError(
                f"{file} is missing; compare needs folders that python -m sharpkd.evaluate wrote"
            )
        found.append(Finished(label, path, _by_model(_read(file), file), _backbone(path / "metrics.json")))
    return found


def contestants_of(finished: Sequence[Finished]) -> list[Contestant]:
    """Every model but the input, in the order of the folders.

    A model that has the same name in several evaluations and the same numbers on every test that they share
    (a baseline, most often) is one contestant.
    """
    merged: list[Contestant] = []
    for one in finished:
        for model, results in one.models.items():
            if model == INPUT:
                continue
            same = next(
                (known for known in merged if known.model == model and _agree(known, one.lpips, results)),
                None,
            )
            if same is None:
                merged.append(Contestant(model, model, (one.label,), dict(results), one.lpips))
            else:
                # the rows that have an LPIPS count where an evaluation went without
                rows = results | same.results if _has_lpips(same.results) else same.results | results
                lpips = same.lpips if _has_lpips(same.results) else one.lpips
                merged[merged.index(same)] = Contestant(model, model, (*same.folders, one.label), rows, lpips)
    names = [one.model for one in merged]
    return [
        one
        if names.count(one.model) == 1
        else Contestant(
            f"{one.model} ({', '.join(one.folders)})", one.model, one.folders, one.results, one.lpips
        )
        for one in merged
    ]


def _agree(known: Contestant, lpips: str | None, results: Mapping[Test, Result]) -> bool:
    if known.lpips != lpips and _has_lpips(known.results) and _has_lpips(results):
        return False
    shared = [(known.results[test], result) for test, result in results.items() if test in known.results]
    return bool(shared) and all(_same(first, second) for first, second in shared)


def _has_lpips(results: Mapping[Test, Result]) -> bool:
    return any(result.row.lpips is not None for result in results.values())


def _same(first: Result, second: Result) -> bool:
    return all(
        abs(one.psnr - other.psnr) <= SAME_DB
        for one, other in ((first.row, second.row), (first.before, second.before))
    )


def _labels(paths: Sequence[Path]) -> list[str]:
    for length in count(1):
        labels = ["/".join(path.parts[-length:]) for path in paths]
        if len(set(labels)) == len(labels):
            break
    return labels


def _read(file: Path) -> list[Row]:
    with file.open(encoding="utf-8", newline="") as stream:
        reader = csv.DictReader(stream)
        columns = tuple(reader.fieldnames or ())
        if columns == COLUMNS:
            return read_rows(file)
        if columns != FOLDER_COLUMNS:
            raise ValueError(
                f"{file} has the columns {', '.join(columns)}; expected {', '.join(COLUMNS)} "
                f"or {', '.join(FOLDER_COLUMNS)}"
            )
        return [_folder_row(cells, f"{file}, line {reader.line_num}") for cells in reader]


def _folder_row(cells: dict[str, str], where: str) -> Row:
    values: dict[str, float | None] = {}
    for name in FOLDER_COLUMNS[2:]:
        try:
            values[name] = float(cells[name]) if cells[name] else None
        except (TypeError, ValueError) as error:
            raise ValueError(f"{where}: {name} is {cells[name]!r}; expected a number") from error
    psnr, psnr_y = values["psnr"], values["psnr_y"]
    if psnr is None or psnr_y is None:
        raise ValueError(f"{where}: psnr or psnr_y is empty; expected a number")
    model, image = cells["model"], cells["image"]
    return Row(model, FOLDER, image, "", FOLDER, FOLDER, psnr, values["ssim_y"], psnr_y, values["lpips"])


def _by_model(rows: Sequence[Row], file: Path) -> dict[str, dict[Test, Result]]:
    tests: dict[str, dict[Test, Row]] = {INPUT: {}}
    for row in rows:
        test = row.set, row.image, row.condition
        known = tests.setdefault(row.model, {})
        if test in known:
            raise ValueError(f"{file} has two rows of {row.model!r} on {'/'.join(test[:2])}, {test[2]}")
        known[test] = row
    inputs = tests[INPUT]
    for model, known in tests.items():
        for test in known:
            if test not in inputs:
                raise ValueError(
                    f"{file} has a row of {model!r} on {'/'.join(test[:2])}, {test[2]}, and none of {INPUT!r}"
                )
    if not inputs:
        raise ValueError(f"{file} has no rows")
    return {
        model: {test: Result(row, inputs[test]) for test, row in known.items()}
        for model, known in tests.items()
    }


def _backbone(file: Path) -> str | None:
    if not file.is_file():
        return None
    try:
        name = json.loads(file.read_text(encoding="utf-8"))[META]["lpips"]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{file} is not what an evaluation writes: no {META}.lpips in it ({error})"
        ) from error
    return None if name is None else str(name).removeprefix("lpips-")
