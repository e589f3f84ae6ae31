"""The rating page in a browser, answered by a script whose preference is known."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sharpkd.evaluation.pages.examples import Example
from sharpkd.evaluation.rating.answers import read_answers, score_answers
from sharpkd.evaluation.rating.ballot import RatingPage, make_rating_page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    "--no-sandbox --disable-gpu --disable-background-networking --disable-component-update --disable-sync "
    "--no-first-run --force-color-profile=srgb"
)
# what the scripted rater likes, best first
LIKED = ("teacher", "student", "unsharp", "input")
SIDE = 48


def examples() -> list[Example]:
    generator = np.random.default_rng(0)

    def noise() -> np.ndarray:
        return generator.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)

    return [
        Example(f"image {k}", "gaussian/1.6", noise(), {name: noise() for name in LIKED}) for k in range(2)
    ]


if CHROMIUM:
    from playwright.sync_api import Browser, TimeoutError, sync_playwright
    from playwright.sync_api import Page as Tab

    @pytest.fixture(scope="module")
    def browser() -> Iterator[Browser]:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS.split())
            yield browser
            browser.close()

    @pytest.fixture(scope="module")
    def page(tmp_path_factory: pytest.TempPathFactory) -> RatingPage:
        return make_rating_page(examples(), tmp_path_factory.mktemp("rating") / "rating.html", seed=5)

    @contextmanager
    def opened(browser: Browser, page: RatingPage, rater: str = "", **settings: Any) -> Iterator[Tab]:
        """A tab in a profile of its own; it must not complain nor fetch anything."""
        problems: list[str] = []
        with browser.new_context(**{"viewport": {"width": 1280, "height": 800}, **settings}) as context:
            tab = context.new_page()
            tab.on("console", lambda message: problems.append(message.text))
            tab.on("pageerror", lambda error: problems.append(str(error)))
            tab.on(
                "request",
                lambda r: None if r.url.startswith(("file:", "data:", "blob:")) else problems.append(r.url),
            )
            tab.goto(page.page.as_uri() + (f"#rater={rater}" if rater else ""))
            yield tab
        assert problems == []

    def shown(tab: Tab) -> tuple[str, str, str]:
        """The question in view: trial, and the tokens on the left and on the right."""
        try:
            tab.wait_for_selector("main[data-trial]", timeout=60_000)
        except TimeoutError as error:
            # seen twice in months, after loading again on a busy machine: what was there instead?
            state = "[document.querySelector('main').outerHTML, document.visibilityState, {...localStorage}]"
            raise AssertionError(f"no question is shown: {tab.evaluate(state)}") from error
        trial, left, right = tab.evaluate(
            """[document.querySelector("main").dataset.trial,
                ...[...document.images].map(image => image.dataset.token)]"""
        )
        return trial, left, right

    def press(tab: Tab, key: str) -> None:
        """Press a key that leads to another question or to another stage."""
        state = "(m => m.dataset.stage + ' ' + (m.dataset.trial ?? ''))(document.querySelector('main'))"
        before = tab.evaluate(state)
        tab.keyboard.press(key)
        tab.wait_for_function(f"before => {state} !== before && !/trial $/.test({state})", arg=before)

    def answer_all(
        tab: Tab, page: RatingPage, key_of: Callable[[str, str], str]
    ) -> list[tuple[str, str, str]]:
        models = {token: one["model"] for token, one in json.loads(page.key.read_text())["images"].items()}
        asked = []
        while tab.evaluate("document.querySelector('main').dataset.stage") == "trial":
            question = shown(tab)
            asked.append(question)
            press(tab, key_of(models[question[1]], models[question[2]]))
        return asked

    def prefer(left: str, right: str) -> str:
        """By the order of ``LIKED``; neighbours in it are sometimes told apart, sometimes not."""
        return "ArrowLeft" if LIKED.index(left) < LIKED.index(right) else "ArrowRight"

    def saved(tab: Tab, folder: Path, button: str = "#save") -> Path:
        with tab.expect_download() as download:
            tab.click(button)
        path = folder / download.value.suggested_filename
        download.value.save_as(path)
        return path

    def test_scores_of_a_scripted_rater_are_its_preference(
        browser: Browser, page: RatingPage, tmp_path: Path
    ) -> None:
        with opened(browser, page, "anna") as tab:
            press(tab, "Enter")
            asked = answer_all(tab, page, prefer)
            assert len({trial for trial, _, _ in asked}) == len(asked) == page.pairs == 12
            with tab.expect_download() as download:
                tab.keyboard.press("Enter")
            path = tmp_path / download.value.suggested_filename
            download.value.save_as(path)
            assert tab.is_visible(".saved")
        found = read_answers([path], [page.key])
        assert len(found) == 12
        assert {one.rater for one in found} == {"anna"}
        assert {one.outcome for one in found} == {0.0, 1.0}
        scores = score_answers([path], [page.key])
        assert tuple(scores.scores) == LIKED
        assert scores.preference("teacher", "input")[1] > 0.5

    def test_a_rater_who_cannot_tell_ranks_nothing(
        browser: Browser, page: RatingPage, tmp_path: Path
    ) -> None:
        with opened(browser, page) as tab:
            press(tab, "Enter")
            answer_all(tab, page, lambda left, right: " ")
            scores = score_answers([saved(tab, tmp_path)], [page.key])
        assert scores.ties == scores.pairs == 12
        assert [score for score, _, _ in scores.scores.values()] == pytest.approx([0] * 4, abs=1e-9)

    def test_a_browser_that_never_says_that_a_picture_is_decoded_still_shows_it(
        browser: Browser, page: RatingPage
    ) -> None:
        with opened(browser, page) as tab:
            tab.add_init_script("HTMLImageElement.prototype.decode = () => new Promise(() => {})")
            tab.reload()
            press(tab, "Enter")
            first = shown(tab)
            press(tab, "ArrowLeft")
            assert shown(tab) != first

    def test_undo_and_reload_keep_the_place_and_the_answers(
        browser: Browser, page: RatingPage, tmp_path: Path
    ) -> None:
        with opened(browser, page) as tab:
            press(tab, "Enter")
            first = shown(tab)
            press(tab, "ArrowLeft")
            second = shown(tab)
            press(tab, "ArrowLeft")
            third = shown(tab)
            press(tab, "Backspace")
            assert shown(tab) == second
            press(tab, "Backspace")
            assert shown(tab) == first
            assert tab.is_disabled("#back")
            press(tab, "ArrowRight")
            press(tab, " ")
            tab.reload()
            assert shown(tab) == third
            assert tab.inner_text("#count") == "3 of 12"
            path = saved(tab, tmp_path, "#save-now")
            with path.open(newline="") as file:
                rows = list(csv.DictReader(file))
            assert [(row["trial"], row["left"], row["right"], row["answer"]) for row in rows] == [
                (*first, "right"),
                (*second, "tie"),
            ]
            assert all(float(row["seconds"]) > 0 for row in rows)

    def test_order_and_sides_are_each_rater_s_own_and_stay(browser: Browser, page: RatingPage) -> None:
        runs = []
        for rater in ("anna", "ben", "anna"):
            with opened(browser, page, rater) as tab:
                press(tab, "Enter")
                runs.append(answer_all(tab, page, prefer))
        anna, ben, again = runs
        assert anna == again
        assert [trial for trial, _, _ in anna] != [trial for trial, _, _ in ben]
        sides = {trial: left for trial, left, _ in ben}
        swapped = sum(sides[trial] != left for trial, left, _ in anna)
        # 12 coins, always the same ones
        assert 2 <= swapped <= 10

    @pytest.mark.parametrize(("ratio", "zoom"), [(1, 1), (2, 2)])
    def test_each_pixel_is_a_whole_number_of_screen_pixels(
        browser: Browser, page: RatingPage, ratio: int, zoom: int
    ) -> None:
        outputs = {(one.image, name): pixels for one in examples() for name, pixels in one.outputs.items()}
        key = json.loads(page.key.read_text())["images"]
        with opened(browser, page, device_scale_factor=ratio) as tab:
            press(tab, "Enter")
            _, left, right = shown(tab)
            shot = np.asarray(Image.open(io.BytesIO(tab.screenshot())).convert("RGB"))
            for number, token in enumerate((left, right)):
                box = tab.locator(".pair img").nth(number).bounding_box()
                assert box is not None
                # the box may begin between two screen pixels, and is drawn from one of them
                x, y = int(box["x"] * ratio), int(box["y"] * ratio)
                output = outputs[key[token]["image"], key[token]["model"]]
                expected = output.repeat(zoom, 0).repeat(zoom, 1)
                exact = [
                    np.array_equal(shot[y + j :, x + i :][: zoom * SIDE, : zoom * SIDE], expected)
                    for i in (0, 1)
                    for j in (0, 1)
                ]
                assert sum(exact) == 1

    def test_on_a_phone_by_touch_in_the_dark(browser: Browser, page: RatingPage, tmp_path: Path) -> None:
        phone: dict[str, Any] = {
            "viewport": {"width": 390, "height": 700},
            "has_touch": True,
            "is_mobile": True,
            "color_scheme": "dark",
        }
        with opened(browser, page, **phone) as tab:
            assert tab.evaluate("document.documentElement.scrollWidth") == 390
            tab.tap("#begin")
            first = shown(tab)
            tab.tap(".pair img >> nth=1")
            tab.wait_for_function("document.getElementById('count').textContent === '2 of 12'")
            second = shown(tab)
            tab.tap("[data-answer=left]")
            tab.wait_for_function("document.getElementById('count').textContent === '3 of 12'")
            shown(tab)
            assert tab.evaluate("document.documentElement.scrollWidth") == 390
            rows = saved(tab, tmp_path, "#save-now").read_text().splitlines()[1:]
            assert [row.split(",")[2:6] for row in rows] == [[*first, "right"], [*second, "left"]]
            dark = tab.evaluate("getComputedStyle(document.body).backgroundColor")
            tab.emulate_media(color_scheme="light")
            assert tab.evaluate("getComputedStyle(document.body).backgroundColor") != dark

    def test_the_next_person_starts_afresh_on_the_same_computer(
        browser: Browser, page: RatingPage, tmp_path: Path
    ) -> None:
        with opened(browser, page) as tab:
            press(tab, "Enter")
            answer_all(tab, page, prefer)
            assert not tab.is_visible("#next")
            one = saved(tab, tmp_path)
            tab.click("#next")
            press(tab, "Enter")
            answer_all(tab, page, prefer)
            two = saved(tab, tmp_path)
        found = read_answers([one, two], [page.key])
        assert len({one.rater for one in found}) == 2
        assert len(found) == 24

    def test_a_browser_that_stores_nothing_says_so(browser: Browser, page: RatingPage) -> None:
        with opened(browser, page) as tab:
            tab.add_init_script(
                "Storage.prototype.setItem = () => { throw new DOMException('', 'QuotaExceededError') }"
            )
            tab.reload()
            assert "does not keep your answers (QuotaExceededError)" in tab.inner_text("#warning")
            press(tab, "Enter")
            press(tab, "ArrowLeft")
            assert tab.inner_text("#count") == "2 of 12"
