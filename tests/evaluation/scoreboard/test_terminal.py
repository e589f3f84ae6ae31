"""A scoreboard on the terminal."""

from __future__ import annotations

from pathlib import Path

import pytest

from sharpkd.evaluation.scoreboard.board import print_lines
from sharpkd.evaluation.scoreboard.table import Line
from sharpkd.evaluation.statistics import MeanInterval


def test_no_figure_is_broken_where_there_is_no_terminal(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    gain, kept = MeanInterval(-0.012, 3, -0.044, 0.02), MeanInterval(0.026, 3, -0.075, 0.127)
    taught = Line("output+feature+attention", "Set5", 3, 27.635, 0.81, gain=gain, kept=kept)
    print_lines([Line("input", "Set5", 0, 27.545, 0.8), taught], tmp_path)
    text = capsys.readouterr().out
    assert "│ output+feature+attention │     3 │    27.635 │ −0.012 ± 0.032 │ 2.6 ± 10.1 % │" in text
    assert "difference to scratch, ± half its 95 % interval" in text
    assert text.endswith(f"every set and seed: {tmp_path / 'scoreboard.html'}\n")
