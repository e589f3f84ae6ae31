"""What raters answered on the pages of :mod:`sharpkd.evaluation.rating.ballot`, turned into scores."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sharpkd.evaluation.rating.bradley_terry import BradleyTerry, bradley_terry

COLUMNS = ("study", "rater", "trial", "left", "right", "answer", "seconds", "time")
OUTCOMES = {"left": 1.0, "right": 0.0, "tie": 0.5}


@dataclass(frozen=True)
class Answer:
    """One choice: which of two models' outputs on one image somebody preferred.

    Attributes:
        rater: name or random code of who answered.
        image: name of the image.
        condition: name of the condition.
        left: model shown on the left.
        right: model shown on the right.
        outcome: 1 where the left one was preferred, 0 where the right one was, 0.5 for neither.
        seconds: time taken.
    """

    rater: str
    image: str
    condition: str
    left: str
    right: str
    outcome: float
    seconds: float


def score_answers(
    answers: Sequence[Path], keys: Sequence[Path] = (), confidence: float = 0.95
) -> BradleyTerry:
    """Scores of the models from the CSV files that raters saved.

    Args:
        answers: CSV files, of one page or several.
        keys: the JSON files that were written beside the pages; without any, those named ``*_key.json`` in
            the folders of ``answers``.
        confidence: of the intervals.

    Raises:
        FileNotFoundError: a file is missing, or no key is found.
        ValueError: a file cannot be understood (it is named, and the line), or the answers do not connect all
            models.
    """
    found = read_answers(answers, keys)
    if not found:
        listed = ", ".join(str(path) for path in answers) or "none given"
        raise ValueError(f"the files of answers hold no answer ({listed}); expected at least one")
    return bradley_terry([(one.left, one.right, one.outcome) for one in found], confidence)


def read_answers(answers: Sequence[Path], keys: Sequence[Path] = ()) -> list[Answer]:
    """The choices in CSV files, each once: of several answers of one rater to one question the latest counts.

    Raises:
        FileNotFoundError, ValueError: as :func:`score_answers`.
    """
    paths = [Path(path) for path in answers]
    for path in paths:
        if not path.is_file():
            raise FileNotFoundError(f"there is no file of answers {path}; save it from the rating page")
    images: dict[str, Mapping[str, str]] = {}
    studies = set()
    for key in _key_files(paths, keys):
        content = _read_key(key)
        studies.add(content["study"])
        images |= content["images"]
    latest: dict[tuple[str, str, str], tuple[str, Answer]] = {}
    for path in paths:
        for where, cells in _read_cells(path):
            if cells["study"] not in studies:
                raise ValueError(
                    f"{where} answers study {cells['study']!r}, and the keys are those of "
                    f"{', '.join(sorted(studies))}; score them in the folder of their own page: name=NAME"
                )
            answer = _answer(cells, images, where)
            same = cells["study"], cells["rater"], cells["trial"]
            if same not in latest or cells["time"] >= latest[same][0]:
                latest[same] = cells["time"], answer
    return [answer for _, answer in latest.values()]


def _key_files(answers: Sequence[Path], keys: Sequence[Path]) -> list[Path]:
    found = [Path(key) for key in keys]
    for key in found:
        if not key.is_file():
            raise FileNotFoundError(f"there is no key {key}; it is written beside the rating page")
    if not found:
        found = sorted({key for path in answers for key in path.absolute().parent.glob("*_key.json")})
    if not found:
        folders = ", ".join(sorted({str(path.absolute().parent) for path in answers})) or "no folder"
        raise FileNotFoundError(
            f"no *_key.json in {folders}: "
            "put the key that was written beside the rating page there, or score the answers in that page's "
            "folder: name=NAME"
        )
    return found


def _read_key(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is no key of a rating page: {error}") from error
    if not isinstance(content, dict) or not {"study", "images"} <= content.keys():
        raise ValueError(f"{path} is no key of a rating page: expected the fields study and images")
    return content


def _read_cells(path: Path) -> list[tuple[str, dict[str, str]]]:
    # spreadsheets save with a byte-order mark
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no file of answers: it is no text in UTF-8") from error
    with io.StringIO(text, newline="") as file:
        reader = csv.DictReader(file)
        if tuple(reader.fieldnames or ()) != COLUMNS:
            columns = ", ".join(reader.fieldnames or ()) or "none"
            raise ValueError(
                f"{path} is no file of answers: its columns are {columns}; expected {', '.join(COLUMNS)}"
            )
        rows = [(f"{path}, line {reader.line_num}", cells) for cells in reader]
    for where, cells in rows:
        if len(cells) != len(COLUMNS) or None in cells.values():
            raise ValueError(f"{where} has not {len(COLUMNS)} cells; save the answers again")
    return rows


def _answer(cells: Mapping[str, str], images: Mapping[str, Mapping[str, str]], where: str) -> Answer:
    for column in ("left", "right"):
        if cells[column] not in images:
            raise ValueError(f"{where}: {column} is {cells[column]!r}, which is not in the key")
    left, right = images[cells["left"]], images[cells["right"]]
    if (left["image"], left["condition"]) != (right["image"], right["condition"]):
        raise ValueError(f"{where}: left and right are outputs of different images; expected one")
    if cells["answer"] not in OUTCOMES:
        raise ValueError(f"{where}: answer is {cells['answer']!r}; expected left, right or tie")
    try:
        seconds = float(cells["seconds"])
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where}: seconds is {cells['seconds']!r}; expected a number") from error
    return Answer(
        rater=cells["rater"],
        image=left["image"],
        condition=left["condition"],
        left=left["model"],
        right=right["model"],
        outcome=OUTCOMES[cells["answer"]],
        seconds=seconds,
    )
