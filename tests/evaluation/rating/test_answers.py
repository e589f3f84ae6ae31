"""The files that raters save, read back."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from sharpkd.evaluation.rating.answers import COLUMNS, read_answers, score_answers

IMAGES = {
    "x1": {"image": "baby", "condition": "sr/2", "model": "student"},
    "x2": {"image": "baby", "condition": "sr/2", "model": "input"},
    "x3": {"image": "bird", "condition": "sr/2", "model": "student"},
    "x4": {"image": "bird", "condition": "sr/2", "model": "input"},
}
Cells = tuple[str, ...]


def line(
    rater: str = "anna", trial: str = "t1", left: str = "x1", right: str = "x2", answer: str = "left",
    time: str = "2026-01-01T10:00:00.000Z", study: str = "s", seconds: str = "1.25",
) -> Cells:  # fmt: skip
    return (study, rater, trial, left, right, answer, seconds, time)


def save(path: Path, *lines: Cells, columns: tuple[str, ...] = COLUMNS) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join(",".join(cells) for cells in (columns, *lines)) + "\n")
    return path


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "rating_key.json"
    path.write_text(json.dumps({"study": "s", "images": IMAGES}))
    return path


def test_tokens_become_models_whichever_side_they_were_on(key: Path) -> None:
    path = save(
        key.parent / "anna.csv",
        line(),
        line(trial="t2", left="x4", right="x3", answer="right"),
        line(trial="t3", left="x4", right="x3", answer="left"),
        line(trial="t4", left="x4", right="x3", answer="tie"),
    )
    found = read_answers([path])
    assert [(one.image, one.left, one.right, one.outcome) for one in found] == [
        ("baby", "student", "input", 1.0),
        ("bird", "input", "student", 0.0),
        ("bird", "input", "student", 1.0),
        ("bird", "input", "student", 0.5),
    ]
    assert {(one.rater, one.condition, one.seconds) for one in found} == {("anna", "sr/2", 1.25)}
    scores = score_answers([path])
    assert (scores.pairs, scores.ties) == (4, 1)
    # 2.5 wins of 4
    assert scores.scores["student"][0] - scores.scores["input"][0] == pytest.approx(math.log(2.5 / 1.5))


def test_the_latest_answer_of_a_rater_counts_in_whichever_file_it_is(key: Path) -> None:
    late = save(
        key.parent / "all.csv", line(answer="right", time="2026-01-01T10:05:00.000Z"), line(trial="t2")
    )
    early = save(key.parent / "some.csv", line(answer="left"), line(rater="ben"))
    for order in ([late, early], [early, late]):
        found = {(one.rater, one.outcome) for one in read_answers(order)}
        assert found == {("anna", 0.0), ("anna", 1.0), ("ben", 1.0)}
        assert len(read_answers(order)) == 3


def test_keys_of_several_pages_are_used_together(key: Path, tmp_path: Path) -> None:
    other = tmp_path / "keys" / "second_key.json"
    other.parent.mkdir()
    images = {"y1": {**IMAGES["x1"], "model": "teacher"}, "y2": IMAGES["x2"]}
    other.write_text(json.dumps({"study": "s2", "images": images}))
    path = save(tmp_path / "away" / "a.csv", line(), line(study="s2", left="y1", right="y2", answer="right"))
    found = read_answers([path], [key, other])
    assert {(one.left, one.right, one.outcome) for one in found} == {
        ("student", "input", 1.0),
        ("teacher", "input", 0.0),
    }


def test_a_spreadsheet_s_byte_order_mark_is_forgiven(key: Path) -> None:
    path = save(key.parent / "a.csv", line())
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert len(read_answers([path])) == 1


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (line(study="other"), "answers study 'other', and the keys are those of s; score them in"),
        (line(left="zz"), "left is 'zz', which is not in the key"),
        (line(right="x4"), "left and right are outputs of different images; expected one"),
        (line(answer="both"), "answer is 'both'; expected left, right or tie"),
        (line(seconds="soon"), "seconds is 'soon'; expected a number"),
        (line()[:5], "has not 8 cells; save the answers again"),
        ((*line(), "more"), "has not 8 cells; save the answers again"),
    ],
)
def test_a_bad_line_is_named(key: Path, cells: Cells, message: str) -> None:
    path = save(key.parent / "bad.csv", line(), cells)
    with pytest.raises(ValueError, match=rf"bad\.csv, line 3:? {message}"):
        read_answers([path])


def test_files_that_are_something_else(key: Path) -> None:
    folder = key.parent
    with pytest.raises(
        ValueError,
        match=r"rows\.csv is no file of answers: its columns are model, psnr; expected study, rater",
    ):
        read_answers([save(folder / "rows.csv", ("a", "1"), columns=("model", "psnr"))])
    with pytest.raises(
        ValueError, match=r"the files of answers hold no answer .*empty\.csv.*; expected at least one"
    ):
        score_answers([save(folder / "empty.csv")])
    nothing, picture = folder / "nothing.csv", folder / "picture.png"
    nothing.write_bytes(b"")
    picture.write_bytes(b"\x89PNG\r\n")
    with pytest.raises(
        ValueError, match=r"nothing\.csv is no file of answers: its columns are none; expected"
    ):
        read_answers([nothing])
    with pytest.raises(ValueError, match=r"picture\.png is no file of answers: it is no text in UTF-8"):
        read_answers([picture])
    for content, message in (
        ("{", "is no key of a rating page: Expecting"),
        ("[]", "expected the fields study and"),
    ):
        key.write_text(content)
        with pytest.raises(ValueError, match=message):
            read_answers([folder / "empty.csv"])


def test_missing_files_are_named(key: Path) -> None:
    with pytest.raises(
        FileNotFoundError, match=r"there is no file of answers .*gone\.csv; save it from the rating"
    ):
        read_answers([key.parent / "gone.csv"])
    with pytest.raises(
        FileNotFoundError, match=r"there is no key .*no\.json; it is written beside the rating page"
    ):
        read_answers([save(key.parent / "a.csv", line())], [key.parent / "no.json"])
    away = save(key.parent / "away" / "a.csv", line())
    with pytest.raises(
        FileNotFoundError, match=r"no \*_key\.json in .*away: put the key that was written beside"
    ):
        score_answers([away])
