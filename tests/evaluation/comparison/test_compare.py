"""Finished evaluations lined up: against scipy's paired t test, and in a browser."""

from __future__ import annotations

import csv
import json
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from sharpkd.evaluation.comparison.compare import COLUMNS, ComparedFolders, Difference, compare_folders
from sharpkd.evaluation.rows import Row, write_rows

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    "--no-sandbox --disable-gpu --disable-background-networking --disable-component-update --disable-sync "
    "--no-first-run"
)
CONDITIONS = ("gaussian/0.8", "gaussian/1.6", "noisy")
IMAGES = [("Set5", name) for name in ("baby", "bird", "head")] + [("Kodak24", f"{n:02}") for n in range(1, 6)]
RNG = np.random.default_rng(7)
INPUTS = {(image, name): float(RNG.normal(26, 3)) for image in IMAGES for name in CONDITIONS}


def rows_of(
    models: dict[str, float],
    images: Sequence[tuple[str, str]] = IMAGES,
    conditions: Sequence[str] = CONDITIONS,
    shift: float = 0.0,
) -> list[Row]:
    """Rows of the input and of models that gain so many dB, a little more or less on each image."""
    rows = []
    for image in images:
        for condition in conditions:
            psnr = INPUTS[image, condition] + shift
            track = condition.split("/")[0]
            row = Row("input", *image, "nature", track, condition, psnr, 0.7, psnr + 1.25, 0.4)
            rows.append(row)
            for model, gain in models.items():
                more = gain + 0.2 * np.sin(100 * psnr + len(model))
                rows.append(replace(row, model=model, psnr=psnr + more, ssim=0.8, lpips=0.4 - more / 50))
    return rows


def write(folder: Path, rows: list[Row], lpips: str | None = "lpips-squeeze") -> Path:
    folder.mkdir(parents=True)
    write_rows(folder / "per_image.csv", rows)
    (folder / "metrics.json").write_text(json.dumps({"models": {}, "_meta": {"lpips": lpips}}))
    return folder


def write_folder_evaluation(folder: Path, models: dict[str, float], shift: float = 0.0) -> Path:
    """As an evaluation on a folder of images writes it, one image too small for SSIM."""
    folder.mkdir(parents=True)
    lines = ["image,model,psnr,ssim,psnr_y,ssim_y,lpips"]
    for i in range(4):
        before = 24.0 + i + shift
        lines.append(f"photo{i},input,{before},0.7,{before + 1},0.75,")
        ssim = "," if i == 3 else f"{0.8 + i / 100},"
        luma = "," if i == 3 else f"{0.85 + i / 100},"
        lines += [
            f"photo{i},{model},{before + gain + i / 10},{ssim}{before + gain + 1},{luma}"
            for model, gain in models.items()
        ]
    (folder / "per_image.csv").write_text("\n".join(lines) + "\n")
    return folder


def difference(
    compared: ComparedFolders, first: str, second: str, track: str, condition: str = "", metric: str = "psnr"
) -> Difference:
    (found,) = (
        found
        for found in compared.differences
        if (found.first, found.second, found.track, found.condition, found.metric)
        == (first, second, track, condition, metric)
    )
    return found


@pytest.fixture
def two(tmp_path: Path) -> list[Path]:
    return [
        write(tmp_path / "a", rows_of({"scratch": 2.0, "unsharp": 0.5})),
        write(tmp_path / "b", rows_of({"distilled": 2.3, "unsharp": 0.5})),
    ]


def values(folder: Path, model: str, condition: str) -> np.ndarray:
    with (folder / "per_image.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["model"] == model]
    return np.array([float(row["psnr"]) for row in rows if row["condition"] == condition])


def test_a_condition_equals_the_paired_t_test(two: list[Path], tmp_path: Path) -> None:
    found = difference(
        compare_folders(two, tmp_path / "out"), "scratch", "distilled", "gaussian", "gaussian/1.6"
    )
    first, second = values(two[0], "scratch", "gaussian/1.6"), values(two[1], "distilled", "gaussian/1.6")
    expected = stats.ttest_rel(second, first).confidence_interval(0.95)
    assert (found.interval.low, found.interval.high) == pytest.approx((expected.low, expected.high))
    assert (found.first_mean, found.second_mean) == pytest.approx((first.mean(), second.mean()))
    assert (found.interval.n, found.only_first, found.only_second, found.other_input) == (8, 0, 0, 0)


def test_a_tracks_interval_is_over_images_not_over_rows(two: list[Path], tmp_path: Path) -> None:
    found = difference(compare_folders(two, tmp_path / "out"), "scratch", "distilled", "gaussian")
    both = [
        sum(values(folder, model, f"gaussian/{sigma}") for sigma in (0.8, 1.6)) / 2
        for folder, model in zip(two, ("scratch", "distilled"), strict=True)
    ]
    expected = stats.ttest_rel(both[1], both[0]).confidence_interval(0.95)
    assert found.interval.n == 8
    assert (found.interval.low, found.interval.high) == pytest.approx((expected.low, expected.high))


def test_every_model_is_compared_with_every_other_and_with_the_input(two: list[Path], tmp_path: Path) -> None:
    compared = compare_folders(two, tmp_path / "out")
    assert compared.contestants == ["scratch", "unsharp", "distilled"]
    pairs = list(dict.fromkeys((found.first, found.second) for found in compared.differences))
    assert pairs == [
        ("input", "scratch"),
        ("input", "unsharp"),
        ("input", "distilled"),
        ("scratch", "unsharp"),
        ("scratch", "distilled"),
        ("unsharp", "distilled"),
    ]
    gain = difference(compared, "input", "unsharp", "noisy")
    assert gain.interval.mean == pytest.approx(0.5, abs=0.2)
    # a track's only condition is not listed again
    assert {found.condition for found in compared.differences if found.track == "noisy"} == {""}
    assert compared.notes == ["the same numbers in several evaluations, shown once: unsharp"]
    assert not (tmp_path / "out" / "unpaired.csv").exists()


def test_one_name_with_other_numbers_is_told_apart_by_its_folder(tmp_path: Path) -> None:
    folders = [
        write(tmp_path / name / "quick", rows_of({"net": gain})) for name, gain in (("a", 1), ("b", 2))
    ]
    compared = compare_folders(folders, tmp_path / "out")
    assert compared.contestants == ["net (a/quick)", "net (b/quick)"]
    assert difference(compared, "net (a/quick)", "net (b/quick)", "gaussian").interval.mean == pytest.approx(
        1
    )


def test_models_of_one_evaluation_are_compared(tmp_path: Path) -> None:
    folder = write(tmp_path / "a", rows_of({"student": 1.0, "teacher": 3.0}))
    compared = compare_folders([folder], tmp_path / "out")
    assert difference(compared, "student", "teacher", "noisy").interval.mean == pytest.approx(2, abs=0.3)


def test_on_sharp_models_are_compared_but_not_with_the_truth(tmp_path: Path) -> None:
    rows = rows_of({"scratch": 2.0, "other": 3.0}, conditions=CONDITIONS[:1])
    rows += [replace(row, track="sharp", condition="sharp") for row in rows]
    compared = compare_folders([write(tmp_path / "a", rows)], tmp_path / "out")
    assert {found.first for found in compared.differences if found.track == "sharp"} == {"scratch"}
    alone = [row for row in rows if row.track == "sharp" and row.model != "other"]
    with pytest.raises(ValueError, match="b holds one model, on 'sharp' alone: there is nothing to compare"):
        compare_folders([write(tmp_path / "b", alone)], tmp_path / "out")


def test_images_in_only_one_are_counted_and_named(tmp_path: Path) -> None:
    folders = [
        write(tmp_path / "full", rows_of({"scratch": 2.0})),
        write(tmp_path / "quick", rows_of({"distilled": 2.3}, images=IMAGES[:6], conditions=CONDITIONS[:2])),
    ]
    compared = compare_folders(folders, tmp_path / "out")
    found = difference(compared, "scratch", "distilled", "gaussian")
    # two images that quick lacks, each under two conditions
    assert (found.interval.n, found.only_first, found.only_second) == (6, 4, 0)
    assert found.first_mean == pytest.approx(
        np.mean([values(folders[0], "scratch", condition)[:6] for condition in CONDITIONS[:2]])
    )
    assert "noisy" not in {found.track for found in compared.differences if found.first == "scratch"}
    assert compared.notes == [
        "2 images of full are not in every evaluation: Kodak24/04, Kodak24/05",
    ]
    with (tmp_path / "out" / "unpaired.csv").open() as file:
        assert list(csv.reader(file)) == [
            ["only_in", "set", "image"],
            ["full", "Kodak24", "04"],
            ["full", "Kodak24", "05"],
        ]
    compare_folders([folders[0]], tmp_path / "out")
    assert not (tmp_path / "out" / "unpaired.csv").exists()


def test_many_missing_images_are_named_in_part(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    write(folder, rows_of({"scratch": 2.0}))
    more = [replace(row, image=f"{row.image}-{i:02}") for row in rows_of({"other": 1.0}) for i in range(3)]
    write(tmp_path / "b", more + rows_of({"other": 1.0}))
    (note,) = compare_folders([folder, tmp_path / "b"], tmp_path / "out").notes
    assert re.fullmatch(r"24 images of b are not in every evaluation: Set5/baby-00, .* and 14 more", note)


def test_another_input_is_no_pair(tmp_path: Path) -> None:
    moved = [
        replace(row, psnr=row.psnr + 0.2) if row.image == "bird" and row.track == "noisy" else row
        for row in rows_of({"distilled": 2.3})
    ]
    folders = [write(tmp_path / "a", rows_of({"scratch": 2.0})), write(tmp_path / "b", moved)]
    compared = compare_folders(folders, tmp_path / "out")
    found = difference(compared, "scratch", "distilled", "noisy")
    assert (found.interval.n, found.other_input) == (7, 1)
    before = INPUTS[("Set5", "bird"), "noisy"]
    assert compared.notes == [
        "1 test of scratch and distilled is left out, because the input was another one: "
        f"Set5/bird, noisy, had {before:.2f} and {before + 0.2:.2f} dB"
    ]


def test_lpips_of_another_backbone_is_not_compared(tmp_path: Path) -> None:
    folders = [
        write(tmp_path / "a", rows_of({"scratch": 2.0})),
        write(tmp_path / "b", rows_of({"distilled": 2.3}), lpips="lpips-alex"),
    ]
    compared = compare_folders(folders, tmp_path / "out")
    lpips = {(found.first, found.second) for found in compared.differences if found.metric == "lpips"}
    assert lpips == {("input", "scratch"), ("input", "distilled")}
    assert compared.notes == ["LPIPS is compared only where its backbone is the same; here are alex, squeeze"]


def test_evaluations_on_a_folder_of_images(tmp_path: Path) -> None:
    folders = [
        write_folder_evaluation(tmp_path / "a", {"scratch": 1.0}),
        write_folder_evaluation(tmp_path / "b", {"distilled": 1.5}),
    ]
    compared = compare_folders(folders, tmp_path / "out")
    found = difference(compared, "scratch", "distilled", "folder")
    assert found.interval.mean == pytest.approx(0.5)
    assert found.interval.n == 4
    # on luma, and without the image that has none
    ssim = difference(compared, "input", "scratch", "folder", metric="ssim")
    assert (ssim.first_mean, ssim.second_mean, ssim.interval.n) == (
        pytest.approx(0.75),
        pytest.approx(0.86),
        3,
    )
    assert {found.metric for found in compared.differences} == {"psnr", "ssim", "psnr_y"}


def test_the_table_holds_every_difference(two: list[Path], tmp_path: Path) -> None:
    compared = compare_folders(two, tmp_path / "out")
    with (tmp_path / "out" / "comparison.csv").open() as file:
        rows = list(csv.reader(file))
    assert tuple(rows[0]) == COLUMNS
    assert rows[1:] == [["" if cell is None else str(cell) for cell in row] for row in compared.rows()]
    assert len(rows) == 1 + len(compared.differences) > 40


def test_a_single_image_has_no_interval(tmp_path: Path) -> None:
    folder = write(tmp_path / "a", rows_of({"student": 1.0}, images=IMAGES[:1]))
    compared = compare_folders([folder], tmp_path / "out")
    assert difference(compared, "input", "student", "noisy").interval.low is None
    with (tmp_path / "out" / "comparison.csv").open() as file:
        assert {(row["low"], row["high"]) for row in csv.DictReader(file)} == {("", "")}


def edit(old: str, new: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / "per_image.csv"
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))

    return change


def without_inputs(folder: Path) -> None:
    path = folder / "per_image.csv"
    lines = path.read_text().splitlines()
    path.write_text("\n".join(line for line in lines if not line.startswith("input,Set5,bird")) + "\n")


def repeat_last(folder: Path) -> None:
    path = folder / "per_image.csv"
    text = path.read_text()
    path.write_text(text + text.splitlines()[-1] + "\n")


def only_header(folder: Path) -> None:
    path = folder / "per_image.csv"
    path.write_text(path.read_text().splitlines()[0] + "\n")


def no_meta(folder: Path) -> None:
    (folder / "metrics.json").write_text("{}")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            edit("psnr_y", "luma"),
            "per_image.csv has the columns model, set, image, domain, track, condition, ",
        ),
        (
            without_inputs,
            "per_image.csv has a row of 'scratch' on Set5/bird, gaussian/0.8, and none of 'input'",
        ),
        (repeat_last, "per_image.csv has two rows of 'unsharp' on Kodak24/05, noisy"),
        (only_header, "per_image.csv has no rows"),
        (edit("Set5,baby", "Set5,baby,1"), "psnr is 'gaussian/0.8'; expected a number"),
        (no_meta, "metrics.json is not what an evaluation writes: no _meta.lpips in it"),
    ],
)
def test_files_that_are_no_evaluation(
    two: list[Path], tmp_path: Path, change: Callable[[Path], None], message: str
) -> None:
    change(two[0])
    with pytest.raises(ValueError, match=re.escape(message)):
        compare_folders(two, tmp_path / "out")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("24.0,0.7,", "none,0.7,", "line 2: psnr is 'none'; expected a number"),
        ("24.0,0.7,25.0", ",0.7,25.0", "line 2: psnr or psnr_y is empty; expected a number"),
    ],
)
def test_wrong_numbers_of_a_folder_evaluation(tmp_path: Path, old: str, new: str, message: str) -> None:
    folder = write_folder_evaluation(tmp_path / "a", {"scratch": 1.0})
    edit(old, new)(folder)
    with pytest.raises(ValueError, match=re.escape(message)):
        compare_folders([folder], tmp_path / "out")


def test_what_cannot_be_compared(two: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(ValueError, match=r"compare=\[DIR,DIR\]"):
        compare_folders([], out)
    with pytest.raises(ValueError, match=re.escape(f"{two[0]} is given twice")):
        compare_folders([two[0], two[0]], out)
    with pytest.raises(FileNotFoundError, match=re.escape(f"{tmp_path / 'c' / 'per_image.csv'} is missing")):
        compare_folders([*two, tmp_path / "c"], out)
    inputs = write(tmp_path / "inputs", rows_of({}))
    with pytest.raises(ValueError, match="holds no model but 'input': there is nothing to compare"):
        compare_folders([inputs], out)
    photos = write_folder_evaluation(tmp_path / "photos", {"net": 1.0})
    message = (
        "no two models were measured on the same input: a has Set5, Kodak24 under gaussian/0.8, "
        "gaussian/1.6, noisy; photos has folder under folder"
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        compare_folders([two[0], photos], out)
    # the same images, degraded in another way
    other = write_folder_evaluation(tmp_path / "other", {"net2": 1.0}, shift=-2.0)
    with pytest.raises(ValueError, match="no two models were measured on the same input"):
        compare_folders([photos, other], out)
    assert not out.exists()


if CHROMIUM:
    from playwright.sync_api import Page, sync_playwright

    def column(page: Page, number: int) -> list[str]:
        return page.locator(f"tbody td:nth-of-type({number}) b").all_inner_texts()

    def test_the_page_turns_round_and_sorts(tmp_path: Path) -> None:
        folders = [
            write(tmp_path / "a", rows_of({"scratch": 2.0, "unsharp": 0.5})),
            write(tmp_path / "b", rows_of({"<i>distilled</i>": 2.5, "unsharp": 0.5}, images=IMAGES[:7])),
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
            found = difference(compared, "scratch", "<i>distilled</i>", "gaussian")
            cell = page.locator("tbody tr:nth-child(3) td:nth-of-type(1)")
            text = cell.inner_text()
            half = found.interval.half_width
            assert half is not None
            assert text.startswith(f"+{found.interval.mean:.2f} ± {half:.2f}")
            assert "7 images" in text
            assert "2 tests unpaired" in text
            assert "better" in (cell.get_attribute("class") or "")
            page.click("thead th:nth-child(2) button")
            assert names.all_inner_texts() == ["<i>distilled</i>", "unsharp", "input"]
            page.select_option("#reference", "<i>distilled</i>")
            turned = page.locator("tbody tr:nth-child(2) td:nth-of-type(1)").inner_text()
            assert turned.startswith(f"−{found.interval.mean:.2f} ± {half:.2f}")
            page.select_option("#scope", "conditions")
            assert headings.all_inner_texts()[1:] == ["gaussian/0.8", "gaussian/1.6", "noisy"]
            page.select_option("#metric", "lpips")
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
