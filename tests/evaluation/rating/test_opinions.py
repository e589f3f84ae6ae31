"""Opinions beside the metrics: what scored answers leave in an evaluation's folder."""

from __future__ import annotations

import csv
import json
import logging
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sharpkd.config import ConfigError
from sharpkd.evaluation.pages.examples import Example
from sharpkd.evaluation.rating.answers import COLUMNS
from sharpkd.evaluation.rating.opinions import (
    RatingSettings,
    opinions_of,
    score,
    tell_of_earlier_scores,
    write_page,
)

IMAGES = {
    f"x{index}": {"image": "baby", "condition": "noisy", "model": model}
    for index, model in enumerate(("student", "input", "unsharp"))
}
REPORT = '<p>1</p><script id="opinions" type="application/json">null</script><p>2</p>'


def answers(folder: Path, *choices: tuple[str, str, str]) -> RatingSettings:
    """A file of choices (left, right, answer) beside its page's key."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "rating_key.json").write_text(json.dumps({"study": "s", "images": IMAGES}))
    lines = [",".join(COLUMNS)]
    lines += [
        f"s,anna,t{index},{left},{right},{answer},1.5,2026-01-01T10:00:00Z"
        for index, (left, right, answer) in enumerate(choices)
    ]
    (folder / "anna.csv").write_text("\n".join(lines) + "\n")
    return RatingSettings(answers=[str(folder / "anna.csv")])


CONTESTED = (
    ("x0", "x1", "left"),
    ("x1", "x0", "left"),
    ("x0", "x1", "tie"),
    ("x0", "x2", "left"),
    ("x2", "x0", "left"),
)


def evaluation(folder: Path, **more: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    results = {"models": {"input": {}}, "_meta": {"benchmark": "SharpBench"}, **more}
    (folder / "metrics.json").write_text(json.dumps(results))
    (folder / "report.html").write_text(REPORT)
    return folder


def opinions_in(report: Path) -> Any:
    found = re.fullmatch(r"<p>1</p><script id=[^>]*>(.*)</script><p>2</p>", report.read_text(), re.DOTALL)
    assert found is not None
    return json.loads(found[1])


def test_the_table_says_what_each_score_rests_on(tmp_path: Path) -> None:
    found = score(tmp_path / "out", answers(tmp_path, *CONTESTED))
    with (tmp_path / "out" / "rating.csv").open(newline="") as file:
        rows = {row["model"]: row for row in csv.DictReader(file)}
    assert list(rows) == list(found.scores)
    assert {model: int(row["comparisons"]) for model, row in rows.items()} == {
        "student": 5,
        "input": 3,
        "unsharp": 2,
    }
    assert {row["regularised"] for row in rows.values()} == {"False"}
    assert float(rows["student"]["score"]) == found.scores["student"][0]
    score(tmp_path / "out", answers(tmp_path, ("x0", "x1", "left")))
    with (tmp_path / "out" / "rating.csv").open(newline="") as file:
        assert {row["regularised"] for row in csv.DictReader(file)} == {"True"}


def test_scores_join_the_metrics_and_the_report(tmp_path: Path) -> None:
    folder = evaluation(tmp_path / "run", speed=None)
    found = score(folder, answers(folder, *CONTESTED))
    results = json.loads((folder / "metrics.json").read_text())
    assert list(results) == ["models", "_meta", "speed", "opinions"]
    opinions = results["opinions"]
    assert opinions == json.loads(json.dumps(opinions_of(found))) == opinions_in(folder / "report.html")
    assert (opinions["choices"], opinions["ties"], opinions["regularised"]) == (5, 1, False)
    assert list(opinions["scores"]) == list(found.scores)
    student = opinions["scores"]["student"]
    assert student["low"] < student["score"] < student["high"]
    assert student["preferred_to_input"] == list(found.preference("student", "input"))
    assert opinions["scores"]["input"]["preferred_to_input"] is None


def test_later_answers_take_the_place_of_earlier_ones(tmp_path: Path) -> None:
    folder = evaluation(tmp_path / "run")
    score(folder, answers(folder, *CONTESTED))
    score(folder, answers(folder, *CONTESTED[:3]))
    assert json.loads((folder / "metrics.json").read_text())["opinions"]["choices"] == 3
    assert opinions_in(folder / "report.html")["choices"] == 3


def test_another_kind_of_evaluation_is_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    settings = answers(folder, *CONTESTED)
    before = json.dumps({"input": {"psnr": 25.0}, "_meta": {"images": []}})
    (folder / "metrics.json").write_text(before)
    score(folder, settings)
    assert (folder / "metrics.json").read_text() == before
    assert (folder / "rating.csv").is_file()


def test_a_report_without_a_place_for_opinions_is_named_and_nothing_half_done(tmp_path: Path) -> None:
    folder = evaluation(tmp_path / "run")
    (folder / "report.html").write_text("<p>an older one</p>")
    before = (folder / "metrics.json").read_text()
    with pytest.raises(ValueError, match=r"report\.html has no place for opinions; evaluate again"):
        score(folder, answers(folder, *CONTESTED))
    assert (folder / "metrics.json").read_text() == before


def answer_the_page(folder: Path, name: str) -> Path:
    """A file in which somebody preferred the left picture everywhere on the page that is there now."""
    page = (folder / "rating.html").read_text(encoding="utf-8")
    found = re.search(r'<script type="application/json" id="study">(.*?)</script>', page)
    assert found is not None
    study = json.loads(found[1])
    lines = [",".join(COLUMNS)]
    lines += [
        f"{study['study']},anna,{trial},{left},{right},left,1.5,2026-01-01T10:00:00Z"
        for trial, (left, right) in study["trials"].items()
    ]
    path = folder / name
    path.write_text("\n".join(lines) + "\n")
    return path


def test_answers_to_an_earlier_page_of_the_folder_still_count(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "run"
    plain = np.zeros((9, 9, 3), np.uint8)
    files = []
    with caplog.at_level(logging.INFO):
        for image in ("baby", "bird"):
            example = Example(image, "noisy", plain, {"student": plain, "input": plain})
            write_page([example], folder, 0, RatingSettings())
            files.append(str(answer_the_page(folder, f"{image}.csv")))
    assert [score(folder, RatingSettings(answers=[file])).pairs for file in files] == [1, 1]
    assert score(folder, RatingSettings(answers=files)).pairs == 2
    # people are to be kept from every one of them
    keys = {path.name for path in folder.glob("*_key.json")}
    assert len(keys) == 2
    assert all(f"keep {key} to yourself" in caplog.text for key in keys)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"images": 0}, "rating.images: expected a whole number of at least 1, found 0"),
        ({"images": 2.5}, "rating.images: expected a whole number of at least 1, found 2.5"),
        ({"images": True}, "rating.images: expected a whole number of at least 1, found True"),
        ({"pairs_per_image": 0}, "rating.pairs_per_image: expected a whole number of at least 1, found 0"),
        ({"pairs_per_image": "all"}, "rating.pairs_per_image: expected a whole number .*, found 'all'"),
        (None, "rating: expected true, false or rating.page=…, found None"),
    ],
)
def test_settings_that_cannot_work(setting: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{message}$"):
        RatingSettings.of(setting)
    assert RatingSettings.of({"page": True, "pairs_per_image": None}).pairs_per_image is None


def test_a_new_evaluation_says_that_answers_have_to_be_scored_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("asked", "model=a,rating=true"):
        folder = evaluation(tmp_path / name)
        tell_of_earlier_scores(folder)
        assert not caplog.records
        score(folder, answers(folder, *CONTESTED))
        tell_of_earlier_scores(folder)
        assert f"{folder / 'rating.csv'} has people's scores of an earlier evaluation" in caplog.text
        quoted = f"\"name='{name}'\"" if "=" in name else f"name={name}"
        assert caplog.records[-1].message.endswith(f"rating.answers=[FILES] {quoted}")
        caplog.clear()
