"""The page in a browser; defined only where a Chromium is installed (Linux: apt-get install chromium)."""

from __future__ import annotations

import shutil
from pathlib import Path

from sharpkd.evaluation.sweeps.report import write_sweep_report

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    "--no-sandbox --disable-gpu --disable-background-networking --disable-component-update --disable-sync "
    "--no-first-run"
)

if CHROMIUM:
    from playwright.sync_api import Page, sync_playwright

    def column(page: Page, number: int) -> list[str]:
        return page.locator(f"tbody td:nth-child({number})").all_inner_texts()

    def test_page_sorts_draws_and_reports_no_error(sweep_dir: Path) -> None:
        path = write_sweep_report(sweep_dir)
        problems: list[str] = []
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS.split())
            page = browser.new_page(viewport={"width": 390, "height": 800}, color_scheme="dark")
            page.on("console", lambda m: problems.append(m.text) if m.type == "error" else None)
            page.on("pageerror", lambda error: problems.append(str(error)))
            page.on(
                "request",
                lambda r: None if r.url.startswith(("file:", "data:", "blob:")) else problems.append(r.url),
            )
            page.goto(path.as_uri())
            page.wait_for_selector("#curves .main-svg")

            headings = page.locator("thead button").all_inner_texts()
            psnr, delta = headings.index("val/psnr") + 1, headings.index("loss.delta") + 1
            assert column(page, psnr) == ["29", "28", "28", "27", "", ""]
            page.click(f"thead th:nth-child({delta}) button")
            assert column(page, delta) == ["0", "0", "0", "1", "1", "1"]
            page.click(f"thead th:nth-child({delta}) button")
            assert column(page, delta) == ["1", "1", "1", "0", "0", "0"]
            page.click(f"thead th:nth-child({psnr}) button")
            page.click(f"thead th:nth-child({psnr}) button")
            # ascending now, and blanks still last
            assert column(page, psnr) == ["27", "28", "28", "29", "", ""]

            assert page.locator("#effects .chart .main-svg").count() >= 2
            assert page.locator("#parallel .main-svg").count() >= 1
            assert page.locator("#curves .scatterlayer .trace").count() == 5
            page.select_option("#curve", "train/loss")
            page.click("tbody tr:first-child td:first-child")
            assert page.locator("tr.chosen").count() == 1
            assert page.locator("#pictures img").count() == 2
            # they load as they come into sight
            for picture in page.locator("#pictures img").all():
                picture.scroll_into_view_if_needed()
            page.wait_for_function("[...document.images].every(image => image.naturalWidth > 0)")
            assert page.evaluate("document.documentElement.scrollWidth") == 390
            dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
            page.emulate_media(color_scheme="light")
            assert page.evaluate("getComputedStyle(document.body).backgroundColor") != dark
            # beside each other, no chart is wider than its card
            page.set_viewport_size({"width": 1280, "height": 800})
            page.reload()
            page.wait_for_selector("#curves .main-svg")
            widths = page.evaluate(
                "[...document.querySelectorAll('#effects .js-plotly-plot')]"
                ".map(chart => [chart._fullLayout.width, chart.clientWidth])"
            )
            assert len(widths) >= 2
            assert all(drawn == card for drawn, card in widths), widths
            browser.close()
        assert problems == []
