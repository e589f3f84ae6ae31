"""What SharpBench's report says of models that gain nothing, or have nothing to mend, in a Chromium."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from sharpkd.evaluation.benchmark import report as benchmark_report
from sharpkd.evaluation.benchmark.report import write_benchmark_report
from sharpkd.evaluation.benchmark.summary import summarise
from sharpkd.evaluation.pages.examples import Example
from sharpkd.evaluation.rows import Row
from sharpkd.functional.psnr import PSNR_CAP

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    "--no-sandbox --disable-gpu --disable-background-networking --disable-component-update --disable-sync "
    "--no-first-run"
)
PATIENCE = 180_000
NO_CHARTS = "const Plotly = {react() {}, Plots: {resize() {}}};"
"""In place of plotly.js: only words are looked at."""


def write(path: Path, gain: float, untouched: float) -> Path:
    """A page about a student: its gain on ``gaussian``, and its PSNR on ``sharp``."""
    rows = [
        Row(model, "Set5", "a", "face", track, condition, psnr, 0.8, psnr, None)
        for track, condition, before, after in (
            ("gaussian", "gaussian/1.6", 25.0, 25.0 + gain),
            ("sharp", "sharp", PSNR_CAP, untouched),
        )
        for model, psnr in (("input", before), ("student", after))
    ]
    sharp = np.zeros((20, 30, 3), np.uint8)
    changed = sharp if untouched == PSNR_CAP else sharp + np.uint8(2)
    examples = [Example("Set5/a", "sharp", sharp, {"input": sharp, "student": changed})]
    summary = summarise(rows, {"input": {"kind": "baseline"}, "student": {"kind": "torch"}})
    write_benchmark_report(path, summary, rows, examples, None, None, [], [])
    return path


if CHROMIUM:
    from playwright.sync_api import sync_playwright

    def test_what_is_lost_or_left_alone_is_called_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(benchmark_report, "plotly_script", lambda: NO_CHARTS)
        problems: list[str] = []
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=CHROMIUM, args=FLAGS.split(), timeout=PATIENCE
            )
            page = browser.new_page()
            page.set_default_timeout(PATIENCE)
            page.on("pageerror", lambda error: problems.append(str(error)))

            page.goto(write(tmp_path / "idle.html", -0.5, PSNR_CAP).as_uri())
            card = page.locator(".card").first
            assert card.locator(".label").text_content() == "Least loss on gaussian"
            assert card.locator(".figure").text_content() == "−0.50dB"
            verdict = page.locator(".verdict")
            assert verdict.inner_text() == "student leaves it as it is, as it should."

            page.goto(write(tmp_path / "busy.html", 0.5, 42.11).as_uri())
            assert card.locator(".label").text_content() == "Highest gain on gaussian"
            assert verdict.inner_text() == (
                "student changes what needs no change: 42.11 dB to the untouched image."
            )
            browser.close()
        assert problems == []
