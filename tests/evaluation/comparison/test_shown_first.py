"""What of a comparison is shown first: the user's models, each of them once."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from sharpkd.evaluation.comparison.compare import compare_folders
from sharpkd.evaluation.console import print_comparison
from sharpkd.evaluation.rows import Row


def printed(folders: list[Path], out: Path) -> str:
    console = Console(file=io.StringIO(), width=200)
    print_comparison(compare_folders(folders, out), console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_users_models_are_shown_and_the_rest_is_pointed_to(two: list[Path], tmp_path: Path) -> None:
    text = printed(two, tmp_path / "out")
    assert "│ distilled - scratch │ gaussian │          psnr │" in text
    assert "│ scratch - input     │    noisy │ lpips-squeeze │" in text
    assert "unsharp -" not in text
    assert "- unsharp" not in text
    assert "psnr_y" not in text
    # three pairs, two tracks, three metrics; six pairs, two tracks and two conditions, four metrics
    assert f"18 of 96 differences; single conditions, PSNR on luma and baselines: {tmp_path}" in text


def test_baselines_alone_are_shown(
    tmp_path: Path, rows_of: Callable[..., list[Row]], write: Callable[..., Path]
) -> None:
    folder = write(tmp_path / "a", rows_of({"unsharp": 0.5, "cas": 0.2}))
    assert "│ cas - unsharp   │" in printed([folder], tmp_path / "out")


def test_a_model_is_one_though_an_evaluation_went_without_lpips(
    tmp_path: Path, rows_of: Callable[..., list[Row]], write: Callable[..., Path]
) -> None:
    blank = [replace(row, lpips=None) for row in rows_of({"scratch": 2.0, "distilled": 2.3})]
    folders = [write(tmp_path / "a", rows_of({"scratch": 2.0})), write(tmp_path / "b", blank, None)]
    for given in (folders, folders[::-1]):
        compared = compare_folders(given, tmp_path / "out")
        assert sorted(compared.contestants) == ["distilled", "scratch"]
        lpips = [found for found in compared.differences if found.metric == "lpips-squeeze"]
        assert {(found.first, found.second, found.interval.n) for found in lpips} == {("input", "scratch", 8)}


def test_the_page_starts_against_a_model_and_not_against_a_baseline(
    tmp_path: Path, rows_of: Callable[..., list[Row]], write: Callable[..., Path]
) -> None:
    first = write(tmp_path / "a", rows_of({"unsharp": 0.5, "scratch": 2.0}))
    compared = compare_folders([first, write(tmp_path / "b", rows_of({"distilled": 2.3}))], tmp_path / "out")
    assert re.search(r'"reference": ?"scratch"', compared.page.read_text(encoding="utf-8"))
