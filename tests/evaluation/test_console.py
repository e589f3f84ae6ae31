"""Results in a terminal, and where there is none."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest
from rich.console import Console

from sharpkd.evaluation.console import console_of_results, mean_gain, print_benchmark, print_opinions
from sharpkd.evaluation.rating.bradley_terry import bradley_terry

TRACKS = ("gaussian", "noisy", "lowres", "conference", "sharp", "sr")


def figures(psnr: float, gain: float | None, harmed: float | None, images: int = 7) -> dict[str, Any]:
    return {"psnr": psnr, "gain_psnr": gain, "harmed_share": harmed, "images": images}


RESULTS: dict[str, Any] = {
    "models": {
        "input": {
            "tracks": {
                track: figures(100.0, None, None) if track == "sharp" else figures(25.0, 0.0, 0.0)
                for track in TRACKS
            },
            "conditions": {"gaussian/1.6": figures(25.0, 0.0, 0.0)},
        },
        "student": {
            "tracks": {
                "gaussian": figures(27.5, 2.5, 0.25),
                "noisy": figures(26.5, 1.5, 0.75),
                "sharp": figures(41.25, None, None),
            },
            "conditions": {
                "gaussian/0.8": figures(27.5, 2.5, 0.5, images=2),
                "gaussian/1.6": figures(27.5, 2.5, 0.0, images=6),
                "noisy": figures(26.5, 1.5, 0.75, images=8),
                "sharp": figures(41.25, None, None),
                "sr/2": figures(30.0, 1.0, 1.0),
            },
        },
    },
    "_meta": {"images": 7},
}

SCALES = {
    "gaussian": figures(26.0, 1.0, 0.0),
    "sr x2": figures(32.0, 4.0, 0.0),
    "sr x3": figures(29.0, 3.0, 0.0),
    "sr x4": figures(27.0, 2.0, 0.0),
}
"""A track and another in three columns."""


def printed(run: Callable[..., None], *arguments: object) -> str:
    console = Console(file=io.StringIO(), width=200)
    run(*arguments, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_benchmark_by_track() -> None:
    lines = printed(print_benchmark, RESULTS).splitlines()
    (student,) = [line for line in lines if "student" in line]
    cells = [cell.strip() for cell in student.strip("│").split("│")]
    assert cells == ["student", "27.50 (+2.50)", "26.50 (+1.50)", "-", "-", "41.25", "-", "44%"]  # 7 of 16
    (unchanged,) = [line for line in lines if "input" in line and "│" in line]
    assert unchanged.strip("│").split("│")[5].strip() == "identical"
    assert "7 images" in lines[-1]


def test_mean_gain_is_of_tracks_that_can_gain_whatever_number_of_columns_they_have() -> None:
    assert mean_gain(RESULTS) == pytest.approx(2.0)
    assert mean_gain({"models": {"input": RESULTS["models"]["input"], "net": {"tracks": SCALES}}}) == 2.0
    assert mean_gain({"models": {"input": RESULTS["models"]["input"]}}) == 0


def test_opinions_beside_how_often_the_input_was_beaten() -> None:
    text = printed(print_opinions, bradley_terry([("student", "input", 1)] * 3 + [("student", "input", 0)]))
    (student,) = [line for line in text.splitlines() if "student" in line]
    assert "75% (" in student
    assert "4 choices, 0 without a preference" in text
    assert "a guess yet" not in text


def test_opinions_that_nobody_contradicted_are_called_a_guess() -> None:
    assert "a guess yet" in printed(print_opinions, bradley_terry([("student", "input", 1)] * 3))


def test_nothing_is_cut_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    print_benchmark(RESULTS, console_of_results())
    text = capsys.readouterr().out
    assert "…" not in text
    assert "27.50 (+2.50)" in text
