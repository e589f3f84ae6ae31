"""The report: what it contains, and (where a Chromium is installed) how it behaves in a browser."""

from __future__ import annotations

import base64
import io
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sharpkd.evaluation.folder.report import Comparison, format_value, write_report

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    "--no-sandbox --disable-gpu --disable-background-networking --disable-component-update --disable-sync "
    "--no-first-run"
)
TABLE = [
    {"model": "input", "PSNR (dB)": 25.4567, "SSIM": 0.81, "parameters": None},
    {"model": "student <b>", "PSNR (dB)": 28.5, "SSIM": 0.9, "parameters": 44108},
]


class Page(HTMLParser):
    """Cells of the table, addresses, and text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.addresses: list[str] = []
        self.text = ""
        self._open = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
        self._open = tag in ("td", "th")

    def handle_endtag(self, tag: str) -> None:
        self._open = False

    def handle_data(self, data: str) -> None:
        self.text += data
        if self._open:
            self.rows[-1][-1] += data


def pictures() -> list[Comparison]:
    black, white = (np.full((40, 60, 3), value, np.uint8) for value in (0, 255))
    return [
        Comparison("first & best", black, white, "input", "student", "20 dB"),
        Comparison("2nd", black, white),
    ]


@pytest.fixture
def report(tmp_path: Path) -> Path:
    curve = tmp_path / "curve.png"
    Image.new("RGB", (30, 20), "red").save(curve)
    path = tmp_path / "new" / "report.html"
    write_report(
        path, "A <title> & more", TABLE, pictures(), [("Loss", curve)], ["One $note.", "Two <i>notes</i>."]
    )
    return path


def test_everything_is_there_and_nothing_is_markup(report: Path) -> None:
    page = Page(report.read_text(encoding="utf-8"))
    assert page.rows == [
        ["model", "PSNR (dB)", "SSIM", "parameters"],
        ["input", "25.46", "0.8100", ""],
        ["student <b>", "28.50", "0.9000", "44,108"],
    ]
    for expected in ("A <title> & more", "first & best", "20 dB", "Loss", "One $note.", "Two <i>notes</i>."):
        assert expected in page.text


def test_nothing_is_fetched_and_pictures_are_kept_exactly(report: Path) -> None:
    page = Page(report.read_text(encoding="utf-8"))
    assert all(address.startswith("data:") for address in page.addresses)
    images = [address.partition("base64,")[2] for address in page.addresses if "base64," in address]
    decoded = [np.asarray(Image.open(io.BytesIO(base64.b64decode(image))).convert("RGB")) for image in images]
    assert [image.shape for image in decoded] == [(40, 60, 3)] * 4 + [(20, 30, 3)]
    assert [int(image.max()) for image in decoded[:4]] == [255, 0, 255, 0]


def test_an_empty_report_is_a_page(tmp_path: Path) -> None:
    write_report(tmp_path / "r.html", "Nothing", [], [], [], [])
    page = Page((tmp_path / "r.html").read_text(encoding="utf-8"))
    assert page.rows == []
    assert "Nothing" in page.text


@pytest.mark.parametrize(
    ("column", "value", "text"),
    [
        ("PSNR (dB)", 30.126, "30.13"),
        ("SSIM-Y", 0.98765, "0.9877"),
        ("ms / image", 1234.56, "1,234.6"),
        ("parameters", 483587, "483,587"),
        ("MACs / pixel", 11872.4757, "11,872"),
        ("share", 0.012345, "0.0123"),
        ("PSNR (dB)", float("nan"), ""),
        ("PSNR (dB)", None, ""),
        ("PSNR (dB)", 99.99, "99.99"),
        ("PSNR (dB)", 100.0, "identical"),
        ("PSNR (dB)", float("inf"), "identical"),
        ("lpips-squeeze", 0.12345, "0.1235"),
        ("other", float("inf"), "inf"),
        ("done", True, "True"),
        ("model", "teacher", "teacher"),
    ],
)
def test_cells(column: str, value: Any, text: str) -> None:
    assert format_value(column, value) == text


def test_rows_with_different_columns(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=re.escape("differ in their columns: ['a'] and ['b']")):
        write_report(tmp_path / "r.html", "t", [{"a": 1}, {"b": 1}], [], [], [])


def test_pictures_of_different_sizes(tmp_path: Path) -> None:
    wrong = Comparison("x", np.zeros((4, 4, 3), np.uint8), np.zeros((4, 5, 3), np.uint8))
    expected = "picture 'x': before is (4, 4, 3) and after (4, 5, 3); expected one shape"
    with pytest.raises(ValueError, match=re.escape(expected)):
        write_report(tmp_path / "r.html", "t", [], [wrong], [], [])


def test_missing_curve(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"the report's curve 'Loss' is missing: .*none\.png"):
        write_report(tmp_path / "r.html", "t", [], [], [("Loss", tmp_path / "none.png")], [])


if CHROMIUM:
    from playwright.sync_api import Page as Tab
    from playwright.sync_api import sync_playwright

    def white_share(tab: Tab) -> float:
        """How much of the first slider shows its white image."""
        shot = Image.open(io.BytesIO(tab.locator(".compare").first.screenshot())).convert("L")
        middle = np.asarray(shot)[shot.height // 2]
        return float((middle > 128).mean())

    def test_the_slider_moves_by_mouse_and_keyboard_and_the_page_fits(report: Path) -> None:
        problems: list[str] = []
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS.split())
            tab = browser.new_page(viewport={"width": 390, "height": 844}, color_scheme="dark")
            tab.on("console", lambda message: problems.append(message.text))
            tab.on("pageerror", lambda error: problems.append(str(error)))
            tab.on(
                "request", lambda r: None if r.url.startswith(("file:", "data:")) else problems.append(r.url)
            )
            tab.goto(report.as_uri())
            assert tab.evaluate("document.documentElement.scrollWidth") == 390
            assert tab.evaluate("[...document.images].every(image => image.naturalWidth > 0)")
            # black, the image before, is on the left
            assert white_share(tab) == pytest.approx(0.5, abs=0.03)

            box = tab.locator(".compare").first.bounding_box()
            assert box is not None
            tab.mouse.click(box["x"] + 0.8 * box["width"], box["y"] + 10)
            assert white_share(tab) == pytest.approx(0.2, abs=0.05)
            tab.mouse.down()
            tab.mouse.move(box["x"] + 0.3 * box["width"], box["y"] + 10)
            tab.mouse.up()
            assert white_share(tab) == pytest.approx(0.7, abs=0.05)
            tab.keyboard.press("Home")
            assert white_share(tab) > 0.97
            tab.keyboard.press("End")
            assert white_share(tab) < 0.03
            # the other slider stays where it was
            assert tab.locator("input").nth(1).input_value() == "50"

            dark = tab.evaluate("getComputedStyle(document.body).backgroundColor")
            tab.emulate_media(color_scheme="light")
            assert tab.evaluate("getComputedStyle(document.body).backgroundColor") != dark
            tab.set_viewport_size({"width": 1280, "height": 800})
            tops = [tab.locator("figure").nth(i).evaluate("f => f.offsetTop") for i in (0, 1)]
            assert tops[0] == tops[1]
            browser.close()
        assert problems == []
