"""SharpBench's report: what it holds, how it stays small, and (with a Chromium) how it behaves."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sharpkd.evaluation.benchmark import report as benchmark_report
from sharpkd.evaluation.benchmark.edges import EdgeScore
from sharpkd.evaluation.benchmark.report import LIMIT_BYTES, add_opinions, write_benchmark_report
from sharpkd.evaluation.benchmark.summary import summarise
from sharpkd.evaluation.pages.examples import Example
from sharpkd.evaluation.rows import Row

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    "--no-sandbox --disable-gpu --disable-background-networking --disable-component-update --disable-sync "
    "--no-first-run"
)
PATIENCE = 180_000
"""Milliseconds: shared machines can be slow."""
# Gain in dB of each model, by condition; "student" harms face b under the strong blur
CONDITIONS = {"gaussian/0.8": "gaussian", "gaussian/2.4": "gaussian", "noisy": "noisy", "sharp": "sharp"}
GAINS = {"unsharp": 0.5, "wiener-oracle": 4.0, "small <i>": 1.0, "student": 3.0}
MS = {"unsharp": 2.0, "small <i>": 20.0, "student": 100.0, "slow": 400.0}

OPINIONS = {
    "scores": {
        name: {"score": score, "low": low, "high": high, "comparisons": count, "preferred_to_input": share}
        for name, score, low, high, count, share in (
            ("student", 0.9, 0.2, 1.6, 12, [0.85, 0.7, 0.93]),
            ("a guest", -0.1, -0.5, 0.3, 8, [0.67, 0.5, 0.8]),
            ("input", -0.8, -1.2, -0.4, 10, None),
        )
    },
    "choices": 15,
    "ties": 2,
    "confidence": 0.95,
    "regularised": True,
}


def rows() -> list[Row]:
    found = []
    for condition, track in CONDITIONS.items():
        for image, domain in (("a", "text"), ("b", "face")):
            start = 100.0 if track == "sharp" else 25.0 + (image == "b")
            found.append(Row("input", "Set5", image, domain, track, condition, start, 0.8, start + 1, 0.3))
            for model, gain in GAINS.items():
                if model == "wiener-oracle" and track == "sharp":
                    continue
                worse = 4.0 if (model, image, condition) == ("student", "b", "gaussian/2.4") else 0.0
                psnr = 38.0 + gain if track == "sharp" else start + gain - worse
                ssim, lpips = 0.8 + gain / 100, 0.3 - gain / 100
                found.append(Row(model, "Set5", image, domain, track, condition, psnr, ssim, psnr + 1, lpips))
    return found


def facts() -> dict[str, dict[str, Any]]:
    kinds = dict.fromkeys(("input", "unsharp", "wiener-oracle"), "baseline")
    return {
        name: {"kind": kinds.get(name, "torch"), "parameters": None if name in kinds else 44108, "path": None}
        for name in ("input", *GAINS)
    }


def speed() -> dict[str, Any]:
    def timing(ms: float | None, cnn: float | None = None) -> dict[str, Any]:
        ratio = None if ms is None else ms / 2
        to_cnn = None if ms is None or cnn is None else ms / cnn
        return {"ms": ms, "repeats": 30, "vs_unsharp": ratio, "vs_enhanced_cnn": to_cnn}

    models = {
        name: {"sizes": {"640x480": timing(ms / 3, 1378.0), "1280x720": timing(ms)}}
        for name, ms in MS.items()
    }
    cnn = {"sizes": {"640x480": timing(1378.0, 1378.0), "1280x720": timing(None)}}
    return {
        "sizes": ["640x480", "1280x720"],
        "cpu": "A <CPU>",
        "threads": 2,
        "models": models,
        "references": {"enhanced_cnn": cnn},
    }


def examples(count: int = 2) -> list[Example]:
    sharp = np.zeros((40, 60, 3), np.uint8)
    sharp[:, 30:] = 255
    outputs = {
        "input": sharp // 2,
        "student": np.full_like(sharp, 255),
        "unsharp": np.zeros_like(sharp),
    }
    return [Example(f"Set5/{'ba'[i % 2]}", "gaussian/2.4", sharp, outputs) for i in range(count)]


def write(path: Path, **changed: Any) -> Path:
    """The page of all of the above."""
    log = path.parent / "metrics.csv"
    log.write_text(
        "step,val/psnr,train/loss\n" + "".join(f"{i},{20 + i / 9},{1 / (i + 1)}\n" for i in range(9))
    )
    given: dict[str, Any] = {
        "rows": rows(),
        "examples": examples(),
        "speed": speed(),
        "edges": {"student": [EdgeScore(s, 0.0, 3.0, 2.5 * s, 1.9 * s, 1.3) for s in (0.8, 2.4)]},
        "curves": [("student", log)],
        "notes": ["A $note & <more>."],
        **changed,
    }
    meta = {"lpips": "lpips-squeeze", "cpu": "A <CPU>", "versions": {"sharpkd": "1.2.3"}}
    summary = given.pop("summary", None) or {**summarise(given["rows"], facts()), "_meta": meta}
    write_benchmark_report(path, summary, **given)
    return path


def data_of(path: Path) -> Any:
    text = path.read_text(encoding="utf-8")
    found = re.search(r'<script id="data" type="application/json">(.*?)</script>', text, re.DOTALL)
    assert found is not None
    return json.loads(found[1])


@pytest.fixture
def no_plotly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages that nobody draws are written at once."""
    monkeypatch.setattr(benchmark_report, "plotly_script", lambda: "// plotly")


@pytest.mark.usefixtures("no_plotly")
def test_the_page_holds_the_figures_by_image(tmp_path: Path) -> None:
    data = data_of(write(tmp_path / "r.html"))
    assert data["lpips"] == "lpips-squeeze"
    assert [one["name"] for one in data["conditions"]] == list(CONDITIONS)
    assert data["conditions"][1] == {"name": "gaussian/2.4", "track": "gaussian", "number": 2.4}
    assert data["images"] == ["Set5/a", "Set5/b"]
    assert data["values"]["gaussian/2.4"]["psnr"]["student"] == {"at": [0, 1], "value": [3.0, -1.0]}
    assert data["values"]["gaussian/2.4"]["lpips"]["unsharp"] == {"at": [0, 1], "value": [-0.005, -0.005]}
    # the input is the truth there, so that a gain over it says nothing
    assert data["values"]["sharp"]["psnr"]["student"]["value"] == [41, 41]
    assert "input" not in data["values"]["noisy"]["psnr"]
    models = {one["name"]: one for one in data["models"]}
    assert [one["kind"] for one in data["models"]] == ["input", "baseline", "baseline", "torch", "torch"]
    assert [name for name, one in models.items() if one["told"]] == ["wiener-oracle"]
    assert models["wiener-oracle"]["facts"]["source"].startswith("Wiener 1949")
    assert models["student"]["facts"] == {"parameters": 44108}
    assert models["student"]["tracks"]["gaussian"]["harmed_share"] == 0.25
    assert models["student"]["domains"]["gaussian"]["text"]["gain_psnr"] == 3.0
    assert data["edges"]["student"][0]["acutance_gain"] == 1.3
    assert list(data["curves"]) == ["val/psnr", "train/loss"]
    assert data["examples"][0]["worst"] == "student"


@pytest.mark.usefixtures("no_plotly")
def test_the_page_fetches_nothing_and_names_stay_text(tmp_path: Path) -> None:
    text = write(tmp_path / "new.html").read_text(encoding="utf-8")
    assert "http" not in text
    assert "small <i>" not in text
    assert "A $note &amp; &lt;more&gt;." in text
    assert "2 images of Set5; 4 conditions. SharpKD 1.2.3. Measured on A &lt;CPU&gt;." in text


@pytest.mark.usefixtures("no_plotly")
def test_opinions_that_come_later_change_nothing_else(tmp_path: Path) -> None:
    path = write(tmp_path / "r.html")
    before = path.read_text(encoding="utf-8")
    place = '<script id="opinions" type="application/json">'
    assert before.count(f"{place}null</script>") == 1
    scores = {"scores": {"</script>\\1": OPINIONS["scores"]}}
    add_opinions(path, scores)
    head, _, rest = path.read_text(encoding="utf-8").partition(place)
    written, end, tail = rest.partition("</script>")
    assert json.loads(written) == scores
    assert f"{head}{place}null{end}{tail}" == before
    path.write_text("<p>another page</p>", encoding="utf-8")
    with pytest.raises(ValueError, match="has no place for opinions"):
        add_opinions(path, scores)


@pytest.mark.usefixtures("no_plotly")
def test_parts_may_be_missing(tmp_path: Path) -> None:
    path = write(tmp_path / "r.html", examples=[], speed=None, edges=None, curves=[], notes=[])
    data = data_of(path)
    assert (data["speed"], data["edges"], data["curves"], data["examples"]) == (None, {}, {}, [])


@pytest.mark.usefixtures("no_plotly")
def test_examples_give_way_to_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bare = write(tmp_path / "bare.html", examples=[]).stat().st_size
    one = write(tmp_path / "one.html", examples=examples(1)).stat().st_size - bare
    limit = bare + 2000 + 3 * one
    monkeypatch.setattr(benchmark_report, "LIMIT_BYTES", limit)
    path = write(tmp_path / "r.html", examples=examples(30))
    shown = [example["image"] for example in data_of(path)["examples"]]
    assert 1 <= len(shown) <= 4
    assert shown[0] == "Set5/b"
    text = path.read_text(encoding="utf-8")
    assert f"The last {30 - len(shown)} of 30 examples were left out" in text
    assert path.stat().st_size <= limit


@pytest.mark.usefixtures("no_plotly")
def test_single_images_give_way_next_and_then_it_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = write(tmp_path / "bare.html", examples=[]).stat().st_size
    monkeypatch.setattr(benchmark_report, "LIMIT_BYTES", bare - 100)
    path = write(tmp_path / "r.html")
    assert list(data_of(path)["values"]["noisy"]) == ["psnr"]
    assert "Some values of single images were left out" in path.read_text(encoding="utf-8")
    monkeypatch.setattr(benchmark_report, "LIMIT_BYTES", 9000)
    with pytest.raises(
        ValueError, match=r"r\.html: the page has [\d,]+ bytes without a picture; expected at most 9,000"
    ):
        write(path)


@pytest.mark.usefixtures("no_plotly")
def test_errors(tmp_path: Path) -> None:
    path = tmp_path / "r.html"
    summary = summarise(rows(), facts())
    alone = [row for row in rows() if (row.model, row.image) != ("input", "b")]
    expected = "there is a row of 'unsharp' on Set5/b, gaussian/0.8 and none of 'input'"
    with pytest.raises(ValueError, match=re.escape(expected)):
        write(path, rows=alone, summary=summary)
    with pytest.raises(ValueError, match="the summary names no model"):
        write(path, summary={"models": {}})
    missing = tmp_path / "none.csv"
    expected = f"the training curve of 'x' is missing: {missing}"
    with pytest.raises(FileNotFoundError, match=re.escape(expected)):
        write(path, curves=[("x", missing)])
    assert not path.exists()


if CHROMIUM:
    from playwright.sync_api import Page, sync_playwright

    def column(page: Page, table: str, heading: str) -> list[str]:
        headings = page.locator(f"#{table} thead button").all_inner_texts()
        cells = page.locator(f"#{table} tbody tr > :nth-child({headings.index(heading) + 1})")
        return [" ".join(text.split()) for text in cells.all_inner_texts()]

    def sort(page: Page, table: str, heading: str) -> None:
        buttons = page.locator(f"#{table} thead button")
        buttons.nth(buttons.all_inner_texts().index(heading)).click()

    def traces(page: Page, chart: str) -> int:
        return int(page.evaluate(f"document.getElementById('{chart}').data.length"))

    def look_at_tables(page: Page) -> None:
        names = ["wiener-oracle told", "student", "small <i>", "unsharp", "input"]
        # what was left as it is has no PSNR to itself
        assert sorted(column(page, "results", "sharp"))[-1] == "identical"
        assert column(page, "results", "model") == names
        assert column(page, "results", "gaussian")[:2] == ["29.50 +4.00", "27.50 +2.00"]
        assert column(page, "results", "sharp")[:3] == ["", "41.00 0 % < 40", "39.00 100 % < 40"]
        assert page.locator("#results td.best").all_inner_texts()[0].startswith("29.50")
        assert page.locator("#results td.fair").all_inner_texts()[0].startswith("27.50")
        number = page.locator("#results td.best .main").first
        assert number.evaluate("cell => getComputedStyle(cell).fontWeight") == "700"
        sort(page, "results", "gaussian")
        assert column(page, "results", "model") == names[::-1]
        sort(page, "results", "ms")
        assert column(page, "results", "ms") == ["2.0 1.0×", "20 10×", "100 50×", "", ""]
        page.select_option("#metric", "lpips")
        # the order stays, less is better, and the best is found anew
        assert column(page, "results", "model")[:2] == ["unsharp", "small <i>"]
        assert column(page, "results", "noisy")[0] == "0.2950 −0.0050"
        hint = page.inner_text("#results-hint")
        assert "lpips-squeeze, lower is better" in hint
        assert hint.endswith("Beside the milliseconds: how many times those of OpenCV's unsharp mask.")
        # the CNN was too slow for the larger frame
        assert sorted(column(page, "models", "CNN")) == ["", "0.00048×", "0.0048×", "0.024×"]
        assert "CNN: the ratio to the 483,587-parameter one." in page.inner_text("#models-hint")
        best = page.locator("#results td.best .main").all_inner_texts()
        assert sorted(best) == ["0.2600", "0.2600", "0.2700"]
        page.select_option("#metric", "psnr")
        page.select_option("#columns", label="gaussian")
        assert page.locator("#results thead button").all_inner_texts()[1:3] == ["σ 0.8", "σ 2.4"]
        assert column(page, "harm", "gaussian") == ["0 %", "0 %", "0 %", "25 % −0.85 dB"]

    def look_at_charts(page: Page) -> None:
        # the front, and all dots in one trace; an oracle is not timed
        assert traces(page, "speed") == 2
        assert page.evaluate("document.getElementById('speed').layout.xaxis.type") == "log"
        points = [{"ms": ms, "gain": gain} for ms, gain in ((5, 1), (9, 0), (2, -1), (7, 3), (7, 2))]
        assert page.evaluate("points => front(points)", points) == [points[2], points[0], points[3]]
        assert page.evaluate("document.getElementById('speed').data[0].x.slice(0, 3)") == [2, 20, 100]
        page.evaluate("Plotly.Fx.hover('speed', [{curveNumber: 1, pointNumber: 1}])")
        hover = page.locator("#speed .hoverlayer").text_content() or ""
        assert all(text in hover for text in ("student", "+2.00 dB in 100 ms", "50.0 × OpenCV", "44,108"))
        # three at the weak blur; at the strong one the loss on face b counts as well
        assert page.evaluate("document.getElementById('sigma').data[1].y") == [3, 1]
        counts = {"sigma": 4, "images": 4, "domains": 4, "overshoot": 1, "acutance": 1, "curves": 1}
        assert {chart: traces(page, chart) for chart in counts} == counts
        page.locator("#legend button", has_text="student").click()
        assert traces(page, "sigma") == 3
        assert page.evaluate("document.getElementById('speed').data[0].x.slice(0, 2)") == [2, 20]
        page.locator("#legend button", has_text="student").click()
        page.select_option("#images-condition", "sharp")
        assert traces(page, "images") == 3
        page.select_option("#curve", "train/loss")
        assert page.evaluate("document.getElementById('curves').data[0].y[0]") == 1

    def look_at_examples(page: Page) -> None:
        first = page.locator(".example").first
        assert page.locator(".example").count() == 2
        assert first.locator(".verdict").inner_text() == "student makes it worse: −1.00 dB."
        captions = [" ".join(text.split()) for text in first.locator(".crops button").all_inner_texts()]
        shown = ["sharp image", "input 26.00 dB", "student 25.00 dB −1.00", "unsharp 26.50 dB +0.50"]
        assert captions == shown
        zoom, whole = (first.locator(f".stage .{kind}") for kind in ("zoom", "whole"))
        width = zoom.evaluate("box => box.clientWidth")
        zoom.locator("input").click(position={"x": 0.8 * width, "y": 10})
        # both sliders move, those of the other example do not
        sliders = page.locator(".compare input")
        at = [float(sliders.nth(i).input_value()) for i in range(4)]
        assert at == pytest.approx([80, 80, 50, 50], abs=3)
        assert whole.evaluate("box => box.style.getPropertyValue('--at')").startswith(str(at[0])[:2])
        before = zoom.locator(".after").get_attribute("src")
        first.locator(".crops button", has_text="unsharp").click()
        assert zoom.locator(".after").get_attribute("src") != before
        assert whole.locator(".tag.right").inner_text() == "unsharp"
        assert first.locator(".crops button[aria-pressed=true]").inner_text().startswith("unsharp")
        assert page.evaluate("[...document.images].every(image => image.naturalWidth > 0)")

    def look_at_opinions(page: Page) -> None:
        assert column(page, "opinions-table", "model") == ["student", "a guest", "input"]
        assert column(page, "opinions-table", "score") == [
            "+0.90 +0.20 … +1.60",
            "−0.10 −0.50 … +0.30",
            "−0.80 −1.20 … −0.40",
        ]
        assert column(page, "opinions-table", "preferred to the input")[0] == "85 % 70 % … 93 %"
        assert column(page, "opinions-table", "comparisons") == ["12", "8", "10"]
        hint = page.inner_text("#opinions-hint")
        assert "15 choices, 2 without a preference" in hint
        assert "a guess yet" in hint
        # beside the metrics too, where the model was measured
        beside = dict(zip(column(page, "results", "model"), column(page, "results", "opinion"), strict=True))
        assert (beside["student"], beside["unsharp"], beside["input"]) == ("+0.90 ± 0.70", "", "−0.80 ± 0.40")

    def test_the_page_in_a_browser(tmp_path: Path) -> None:
        path = write(tmp_path / "r.html")
        add_opinions(path, OPINIONS)
        assert path.stat().st_size < LIMIT_BYTES
        problems: list[str] = []
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=CHROMIUM, args=FLAGS.split(), timeout=PATIENCE
            )
            page = browser.new_page(viewport={"width": 390, "height": 844}, color_scheme="dark")
            page.set_default_timeout(PATIENCE)
            page.on("console", lambda message: problems.append(message.text))
            page.on("pageerror", lambda error: problems.append(str(error)))
            page.on(
                "request",
                lambda r: None if r.url.startswith(("file:", "data:", "blob:")) else problems.append(r.url),
            )
            page.goto(path.as_uri())
            look_at_opinions(page)
            look_at_tables(page)
            look_at_charts(page)
            look_at_examples(page)
            assert page.evaluate("document.documentElement.scrollWidth") == 390
            dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
            paper = page.evaluate("document.getElementById('sigma').layout.paper_bgcolor")
            page.emulate_media(color_scheme="light")
            assert page.evaluate("getComputedStyle(document.body).backgroundColor") != dark
            # the charts are told a moment later
            page.wait_for_function(
                "old => document.getElementById('sigma').layout.paper_bgcolor !== old", arg=paper
            )
            page.set_viewport_size({"width": 1280, "height": 800})
            assert page.evaluate("document.documentElement.scrollWidth") == 1280
            browser.close()
        assert problems == []
