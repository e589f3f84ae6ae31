"""The page of a comparison, in a browser."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from sharpkd.evaluation.comparison.compare import compare_folders
from sharpkd.evaluation.rows import Row

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    "--no-sandbox --disable-gpu --disable-background-networking --disable-component-update --disable-sync "
    "--no-first-run"
)

if CHROMIUM:
    from playwright.sync_api import sync_playwright

    def test_the_page_turns_round_and_sorts(
        tmp_path: Path, rows_of: Callable[..., list[Row]], write: Callable[..., Path]
    ) -> None:
        # a model that gives back what it was given, where that is the truth
        untouched = [
            replace(row, model=model, track="sharp", condition="sharp", psnr=psnr)
            for row in rows_of({}, images=2, conditions=1)
            for model, psnr in (("input", 100.0), ("unsharp", 30.0), ("<i>distilled</i>", 100.0))
        ]
        folders = [
            write(tmp_path / "a", rows_of({"scratch": 2.0, "unsharp": 0.5})),
            write(
                tmp_path / "b", [*rows_of({"<i>distilled</i>": 2.5, "unsharp": 0.5}, images=7), *untouched]
            ),
        ]
        compared = compare_folders(folders, tmp_path / "out")
        problems: list[Any] = []
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS.split())
            page = browser.new_page(viewport={"width": 390, "height": 800})
            page.on("console", lambda m: problems.append(m.text) if m.type == "error" else None)
            page.on("pageerror", lambda error: problems.append(str(error)))
            page.on("request", lambda r: None if r.url.startswith("file:") else problems.append(r.url))
            page.goto(compared.page.as_uri())
            headings = page.locator("thead th")
            assert headings.all_inner_texts() == ["minus scratch", "gaussian", "noisy"]
            names = page.locator("tbody th")
            assert names.all_inner_texts() == ["input", "unsharp", "<i>distilled</i>"]
            found = next(
                one
                for one in compared.differences
                if (one.first, one.second) == ("scratch", "<i>distilled</i>") and not one.condition
            )
            assert (found.track, found.metric) == ("gaussian", "psnr")
            cell = page.locator("tbody tr:nth-child(3) td:nth-of-type(1)")
            text = cell.inner_text()
            half = found.interval.half_width
            assert half is not None
            assert text.startswith(f"+{found.interval.mean:.2f} ± {half:.2f}")
            assert "7 images" in text
            assert "2 tests unpaired" in text
            assert "better" in (cell.get_attribute("class") or "")
            page.select_option("#reference", "unsharp")
            sharp = page.locator("tbody tr:nth-child(3) td:nth-of-type(3)").inner_text()
            assert "30.00 → identical" in sharp
            page.select_option("#reference", "scratch")
            page.click("thead th:nth-child(2) button")
            assert names.all_inner_texts() == ["<i>distilled</i>", "unsharp", "input"]
            page.select_option("#reference", "<i>distilled</i>")
            turned = page.locator("tbody tr:nth-child(2) td:nth-of-type(1)").inner_text()
            assert turned.startswith(f"−{found.interval.mean:.2f} ± {half:.2f}")
            page.select_option("#scope", "conditions")
            assert headings.all_inner_texts()[1:] == ["gaussian/0.8", "gaussian/1.6", "noisy", "sharp"]
            page.select_option("#metric", label="lpips-squeeze (lower is better)")
            page.select_option("#reference", "input")
            # less is better
            best = page.locator("tbody tr:nth-child(3) td:nth-of-type(1)")
            assert best.inner_text().startswith("−")
            assert "better" in (best.get_attribute("class") or "")
            page.click("thead th:nth-child(2) button")
            assert names.first.inner_text() == "<i>distilled</i>"
            assert page.evaluate("document.documentElement.scrollWidth") == 390
            browser.close()
        assert problems == []
