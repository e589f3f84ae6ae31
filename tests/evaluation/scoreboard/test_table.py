"""Rows by hand, and the page in a browser; that only where a Chromium is installed."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path
from typing import Any

import pytest
from scipy import stats

from sharpkd.evaluation.scoreboard.page import (
    CellReport,
    kind_of,
    method_cells,
    plus_minus,
    verdict_on,
    write_page,
)
from sharpkd.evaluation.scoreboard.table import ImageScores, Line, Trained, lines_of, write_cells, write_lines
from sharpkd.evaluation.statistics import mean_interval

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
METHODS = ("scratch", "output", "attention")
GAINS = {"output": (0.30, 0.10, 0.20), "attention": (-0.02, 0.05, -0.04)}


def scores(first: float, second: float, ssim: float | None = 0.9) -> ImageScores:
    """Two images in the set A and one in B."""
    return {
        "A": {"x": {"psnr": first - 1, "ssim": ssim}, "y": {"psnr": first + 1, "ssim": ssim}},
        "B": {"z": {"psnr": second, "ssim": ssim}},
    }


def trained() -> list[Trained]:
    """Three seeds; a method that gains on both sets alike."""
    cells = []
    for seed, base in enumerate((27.0, 27.4, 26.9)):
        cells.append(Trained("scratch", seed, scores(base, base + 3), 10.0 + seed))
        for method, gains in GAINS.items():
            gain = gains[seed]
            cells.append(Trained(method, seed, scores(base + gain, base + 3 + gain), 2 * (10.0 + seed)))
    return cells


def reference(teacher: float) -> dict[str, ImageScores]:
    return {"input": scores(25.0, 28.0, 0.7), "teacher": scores(teacher, teacher + 3)}


def by_name(lines: list[Line]) -> dict[tuple[str, str], Line]:
    return {(line.set, line.method): line for line in lines}


def test_differences_are_paired_by_seed_and_their_interval_is_students() -> None:
    lines = by_name(lines_of(trained(), METHODS, reference(29.0)))
    assert [name for name, _ in lines] == ["all"] * 5 + ["A"] * 5 + ["B"] * 5
    for method, gains in GAINS.items():
        for name in ("all", "A", "B"):
            gain = lines[name, method].gain
            assert gain is not None
            low, high = stats.t.interval(0.95, 2, loc=stats.tmean(gains), scale=stats.sem(gains))
            assert (gain.mean, gain.low, gain.high) == pytest.approx((stats.tmean(gains), low, high))
            assert lines[name, method].gains == pytest.approx(dict(enumerate(gains)))
    scratch = lines["all", "scratch"]
    assert scratch.gain is None
    # three images count alike: two of A and one of B, 3 dB above
    assert scratch.psnr == pytest.approx((27.0 + 27.4 + 26.9) / 3 + 1)
    assert lines["B", "scratch"].psnr == pytest.approx((27.0 + 27.4 + 26.9) / 3 + 3)
    assert (scratch.seconds, scratch.cost) == (11.0, 1.0)
    assert (lines["A", "output"].seconds, lines["A", "output"].cost) == (22.0, 2.0)
    assert lines["all", "output"].ssim == pytest.approx(0.9)


def test_a_twin_that_is_missing_counts_for_nothing() -> None:
    cells = [cell for cell in trained() if (cell.method, cell.seed) not in {("scratch", 2), ("output", 1)}]
    lines = by_name(lines_of(cells, METHODS, reference(29.0)))
    output = lines["A", "output"]
    assert output.gains == pytest.approx({0: 0.30})
    assert output.gain is not None
    assert (output.gain.low, output.seeds) == (None, 2)
    assert output.cost == pytest.approx(20.0 / 10.0)
    alone = by_name(lines_of([cell for cell in cells if cell.method == "output"], METHODS, reference(29.0)))
    assert ("A", "scratch") not in alone
    assert alone["A", "output"].gain is None
    assert alone["A", "output"].note == "no finished scratch to hold the teacher against"


def test_the_share_of_the_teachers_gain_is_told_only_of_a_teacher_worth_it() -> None:
    kept = by_name(lines_of(trained(), METHODS, reference(29.0)))["A", "output"].kept
    assert kept is not None
    assert kept.mean == pytest.approx((27.1 + 0.2 - 25.0) / 4.0)
    for teacher, note in (
        (28.0, "the teacher is +0.90 dB from scratch; a share needs +1 dB"),
        (26.0, "the teacher is -1.10 dB from scratch; a share needs +1 dB"),
        (24.0, "the teacher does not beat the input (-1.00 dB)"),
    ):
        line = by_name(lines_of(trained(), METHODS, reference(teacher)))["A", "output"]
        assert (line.kept, line.note) == (None, note)


def test_two_seeds_show_nothing_however_well_they_agree() -> None:
    cells = []
    for seed in range(3):
        cells.append(Trained("scratch", seed, scores(27.0, 30.0), 10.0))
        cells.append(Trained("output", seed, scores(27.5 + seed / 1000, 30.5), 10.0))
    two = by_name(lines_of(cells[:4], METHODS, reference(29.0)))["A", "output"]
    three = by_name(lines_of(cells, METHODS, reference(29.0)))["A", "output"]
    for line, verdict, kind in (
        (two, "fewer than 3 seeds tell nothing about chance", ""),
        (three, "better than scratch", "better"),
    ):
        assert line.gain is not None
        assert line.gain.excludes_zero
        assert (verdict_on(line.gain), kind_of(line.gain)) == (verdict, kind)
    one_twin = by_name(lines_of([*cells[:2], cells[3]], METHODS, reference(29.0)))["A", "output"]
    assert method_cells(one_twin)["seeds"] == "2, 1 with a twin"
    assert method_cells(two)["seeds"] == "2"


def test_a_method_with_a_teacher_of_its_own_keeps_no_share() -> None:
    lines = by_name(lines_of(trained(), METHODS, reference(29.0), {"output": "other.safetensors"}))
    assert lines["A", "output"].kept is None
    assert lines["A", "output"].note == "output has another teacher, other.safetensors"
    assert lines["A", "attention"].kept is not None


def test_csv_leaves_blank_what_does_not_apply(tmp_path: Path) -> None:
    write_lines(tmp_path / "scoreboard.csv", lines_of(trained(), METHODS, reference(28.0)))
    with (tmp_path / "scoreboard.csv").open(newline="") as file:
        table = {(row["set"], row["method"]): row for row in csv.DictReader(file)}
    assert len(table) == 15
    assert float(table["A", "output"]["psnr_gain"]) == pytest.approx(0.2)
    assert (table["A", "output"]["seeds"], table["A", "output"]["pairs"]) == ("3", "3")
    assert table["A", "scratch"]["psnr_gain"] == table["A", "input"]["seeds"] == ""
    assert table["A", "output"]["gain_kept"] == ""
    assert table["A", "output"]["gain_kept_note"].startswith("the teacher is +0.90 dB")
    small = [Trained("scratch", 0, scores(27.0, 30.0, None), 1.234)]
    write_cells(tmp_path / "cells.csv", small)
    with (tmp_path / "cells.csv").open(newline="") as file:
        first, *others = csv.DictReader(file)
    assert first == {
        "method": "scratch",
        "seed": "0",
        "set": "all",
        "psnr": "28.0",
        "ssim": "",
        "seconds": "1.23",
    }
    assert [row["set"] for row in others] == ["A", "B"]
    write_cells(tmp_path / "cells.csv", [])
    assert not (tmp_path / "cells.csv").exists()


def test_texts() -> None:
    assert plus_minus(mean_interval([-0.5]), 2) == "−0.50"
    assert plus_minus(mean_interval([0.5, 0.5]), 2) == "+0.50 ± 0.00"
    assert plus_minus(None, 2) == ""
    texts = method_cells(by_name(lines_of(trained(), METHODS, reference(29.0)))["A", "output"])
    assert texts["gain (dB)"] == "+0.200 ± 0.248"
    assert texts["gain kept"].startswith("57.5 ± ")
    assert (texts["time"], texts["times scratch"]) == ("22 s", "2.00")


def page(tmp_path: Path, methods: tuple[str, ...] = METHODS) -> Path:
    path = tmp_path / "default" / "scoreboard.html"
    path.parent.mkdir(exist_ok=True)
    cells = {(cell.method, cell.seed): cell for cell in trained()}
    reports = [CellReport(method, seed, cells[method, seed]) for method in METHODS for seed in range(3)]
    reports[-1] = CellReport("attention", 2, None, "RuntimeError: loss is nan <script>alert('x')</script>")
    reports.append(CellReport("attention", 3))
    facts: dict[str, Any] = {
        "student": "PixelStudent",
        "parameters": 8172,
        "teacher": "teacher.safetensors",
        "teacher_net": "AttentionTeacher",
        "teacher_parameters": 200000,
        "teacher_sha256": "0" * 64,
        "steps": 4000,
        "images": {"A": 2, "B": 1},
        "degradation": "GaussianBlur(sigma=(1.6, 1.6))",
        "settings": ["net=pixel_student", "a_setting_without_a_place_to_break=" + "x" * 200],
        "differs_from_scratch": {
            "scratch": [],
            "output": ["loss.delta: 0.0 -> 0.5", "teacher.path: None -> t"],
        },
        "versions": {"torch": "2"},
        "cpu": "a processor",
    }
    finished = [report.trained for report in reports if report.trained]
    write_page(path, lines_of(finished, methods, reference(28.0)), reports, facts)
    return path


def test_page_says_what_was_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = page(tmp_path).read_text(encoding="utf-8")
    assert "8 of 10 trainings finished" in text
    assert "output: no difference shown, the interval holds zero" in text
    assert "Gain kept is blank on A: the teacher is +0.90 dB from scratch" in text
    assert "output: 2 settings differ from scratch" in text
    assert "<script" not in text
    assert "&lt;script&gt;" in text
    assert "http" not in text
    assert 'href="cells/output/seed0/"' in text
    assert "Images: 2 of A, 1 of B; GaussianBlur" in text
    assert "Largest gain" in text
    monkeypatch.setitem(GAINS, "attention", (-0.02, -0.05, -0.04))
    lost = page(tmp_path, ("scratch", "attention")).read_text(encoding="utf-8")
    assert "Largest gain" not in lost
    assert "Least loss" in lost


if CHROMIUM:
    from playwright.sync_api import sync_playwright

    FLAGS = "--no-sandbox --disable-gpu --disable-background-networking --disable-sync --no-first-run"

    def test_page_fits_a_phone_and_follows_the_colour_scheme(tmp_path: Path) -> None:
        path = page(tmp_path)
        problems: list[str] = []
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS.split())
            view = browser.new_page(viewport={"width": 390, "height": 800}, color_scheme="dark")
            view.on("console", lambda m: problems.append(m.text) if m.type == "error" else None)
            view.on("pageerror", lambda error: problems.append(str(error)))
            view.goto(path.as_uri())
            assert view.evaluate("document.documentElement.scrollWidth") == 390
            dots = view.locator("#gains .panel >> nth=0").locator(".mean")
            centre, zero = (view.locator(f"#gains .{name}").first.bounding_box() for name in ("mean", "zero"))
            assert dots.count() == 2
            assert centre is not None
            assert zero is not None
            assert centre["x"] + centre["width"] / 2 > zero["x"]
            assert view.locator("#gains .seed").count() == 3 * (3 + 2)
            assert view.locator("#trainings tbody tr").count() == 10
            dark = view.evaluate("getComputedStyle(document.body).backgroundColor")
            view.emulate_media(color_scheme="light")
            assert view.evaluate("getComputedStyle(document.body).backgroundColor") != dark
            browser.close()
        assert problems == []
