"""Finished evaluations lined up, against scipy's paired t test."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from sharpkd.evaluation.comparison.compare import COLUMNS, ComparedFolders, Difference, compare_folders
from sharpkd.evaluation.rows import Row


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


def test_one_name_with_other_numbers_is_told_apart_by_its_folder(
    tmp_path: Path, rows_of: Callable[..., list[Row]], write: Callable[..., Path]
) -> None:
    folders = [
        write(tmp_path / name / "quick", rows_of({"net": gain})) for name, gain in (("a", 1), ("b", 2))
    ]
    compared = compare_folders(folders, tmp_path / "out")
    assert compared.contestants == ["net (a/quick)", "net (b/quick)"]
    assert difference(compared, "net (a/quick)", "net (b/quick)", "gaussian").interval.mean == pytest.approx(
        1
    )


def test_models_of_one_evaluation_are_compared(
    tmp_path: Path, rows_of: Callable[..., list[Row]], write: Callable[..., Path]
) -> None:
    folder = write(tmp_path / "a", rows_of({"student": 1.0, "teacher": 3.0}))
    compared = compare_folders([folder], tmp_path / "out")
    assert difference(compared, "student", "teacher", "noisy").interval.mean == pytest.approx(2, abs=0.3)


def test_scales_of_super_resolution_are_compared_apart(
    tmp_path: Path, rows_of: Callable[..., list[Row]], write: Callable[..., Path]
) -> None:
    rows = [
        replace(row, track="sr", condition=f"sr/{scale}")
        for scale in (2, 4)
        for row in rows_of({"both": 1.0, "x4": 2.0}, conditions=1)
        if (row.model, scale) != ("x4", 2)
    ]
    compared = compare_folders([write(tmp_path / "a", rows)], tmp_path / "out")
    assert {(found.second, found.track, found.condition) for found in compared.differences} == {
        ("both", "sr x2", ""),
        ("both", "sr x4", ""),
        ("x4", "sr x4", ""),
    }
    # nothing is missing on the scale that both do
    assert {found.only_first for found in compared.differences if found.track == "sr x4"} == {0}


def test_on_sharp_models_are_compared_but_not_with_the_truth(
    tmp_path: Path, rows_of: Callable[..., list[Row]], write: Callable[..., Path]
) -> None:
    rows = rows_of({"scratch": 2.0, "other": 3.0}, conditions=1)
    rows += [replace(row, track="sharp", condition="sharp") for row in rows]
    compared = compare_folders([write(tmp_path / "a", rows)], tmp_path / "out")
    assert {found.first for found in compared.differences if found.track == "sharp"} == {"scratch"}
    alone = [row for row in rows if row.track == "sharp" and row.model != "other"]
    with pytest.raises(ValueError, match="b holds one model, on 'sharp' alone: there is nothing to compare"):
        compare_folders([write(tmp_path / "b", alone)], tmp_path / "out")


def test_images_in_only_one_are_counted_and_named(
    tmp_path: Path, rows_of: Callable[..., list[Row]], write: Callable[..., Path]
) -> None:
    folders = [
        write(tmp_path / "full", rows_of({"scratch": 2.0})),
        write(tmp_path / "quick", rows_of({"distilled": 2.3}, images=6, conditions=2)),
    ]
    compared = compare_folders(folders, tmp_path / "out")
    found = difference(compared, "scratch", "distilled", "gaussian")
    # two images that quick lacks, each under two conditions
    assert (found.interval.n, found.only_first, found.only_second) == (6, 4, 0)
    assert found.first_mean == pytest.approx(
        np.mean(
            [values(folders[0], "scratch", condition)[:6] for condition in ("gaussian/0.8", "gaussian/1.6")]
        )
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


def test_many_missing_images_are_named_in_part(
    tmp_path: Path, rows_of: Callable[..., list[Row]], write: Callable[..., Path]
) -> None:
    folder = tmp_path / "a"
    write(folder, rows_of({"scratch": 2.0}))
    more = [replace(row, image=f"{row.image}-{i:02}") for row in rows_of({"other": 1.0}) for i in range(3)]
    write(tmp_path / "b", more + rows_of({"other": 1.0}))
    (note,) = compare_folders([folder, tmp_path / "b"], tmp_path / "out").notes
    assert re.fullmatch(r"24 images of b are not in every evaluation: Set5/baby-00, .* and 14 more", note)


def test_another_input_is_no_pair(
    tmp_path: Path, rows_of: Callable[..., list[Row]], write: Callable[..., Path]
) -> None:
    moved = [
        replace(row, psnr=row.psnr + 0.2) if row.image == "bird" and row.track == "noisy" else row
        for row in rows_of({"distilled": 2.3})
    ]
    folders = [write(tmp_path / "a", rows_of({"scratch": 2.0})), write(tmp_path / "b", moved)]
    compared = compare_folders(folders, tmp_path / "out")
    found = difference(compared, "scratch", "distilled", "noisy")
    assert (found.interval.n, found.other_input) == (7, 1)
    before = values(folders[0], "input", "noisy")[1]
    assert compared.notes == [
        "1 test of scratch and distilled is left out, because the input was another one: "
        f"Set5/bird, noisy, had {before:.2f} and {before + 0.2:.2f} dB"
    ]


def test_lpips_of_another_backbone_is_not_compared(
    tmp_path: Path, rows_of: Callable[..., list[Row]], write: Callable[..., Path]
) -> None:
    folders = [
        write(tmp_path / "a", rows_of({"scratch": 2.0})),
        write(tmp_path / "b", rows_of({"distilled": 2.3}), lpips="lpips-alex"),
    ]
    compared = compare_folders(folders, tmp_path / "out")
    lpips = {
        (found.first, found.second, found.metric)
        for found in compared.differences
        if found.metric.startswith("lpips")
    }
    assert lpips == {("input", "scratch", "lpips-squeeze"), ("input", "distilled", "lpips-alex")}
    assert compared.notes == [
        "LPIPS is compared only where its backbone is the same; "
        "here are lpips-alex: distilled; lpips-squeeze: scratch"
    ]


def test_lpips_of_an_unknown_backbone_is_left_out(two: list[Path], tmp_path: Path) -> None:
    for folder in two:
        (folder / "metrics.json").unlink()
    compared = compare_folders(two, tmp_path / "out")
    assert {found.metric for found in compared.differences} == {"psnr", "ssim", "psnr_y"}
    assert compared.notes[-1] == (
        "LPIPS is left out where no metrics.json names its backbone: scratch, unsharp, distilled"
    )


def test_evaluations_on_a_folder_of_images(tmp_path: Path, write_photos: Callable[..., Path]) -> None:
    folders = [
        write_photos(tmp_path / "a", {"scratch": 1.0}),
        write_photos(tmp_path / "b", {"distilled": 1.5}),
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


def test_a_single_image_has_no_interval(
    tmp_path: Path, rows_of: Callable[..., list[Row]], write: Callable[..., Path]
) -> None:
    folder = write(tmp_path / "a", rows_of({"student": 1.0}, images=1))
    compared = compare_folders([folder], tmp_path / "out")
    assert difference(compared, "input", "student", "noisy").interval.low is None
    with (tmp_path / "out" / "comparison.csv").open() as file:
        assert {(row["low"], row["high"]) for row in csv.DictReader(file)} == {("", "")}
