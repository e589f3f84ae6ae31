"""Opinions beside the metrics: what scored answers leave in an evaluation's folder."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import pytest

from sharpkd.evaluation.rating.answers import COLUMNS
from sharpkd.evaluation.rating.opinions import RatingSettings, opinions_of, score

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
