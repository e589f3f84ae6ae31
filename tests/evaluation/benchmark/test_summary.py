"""Figures of a small benchmark that can be worked out by hand."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from sharpkd.evaluation.benchmark.summary import GROUPS, flatten, summarise
from sharpkd.evaluation.rows import Row

BASE = Row("input", "Set5", "bird", "nature", "gaussian", "gaussian/1.6", 25.0, 0.75, 26.0, 0.5)


def row(model: str, psnr: float, **more: object) -> Row:
    return replace(BASE, model=model, psnr=psnr, **more)  # type: ignore[arg-type]  # each column has its own type


@pytest.fixture
def rows() -> list[Row]:
    """Two conditions of one track (the second on one image alone), and ``sharp``."""
    second = {"condition": "gaussian/2.4"}
    other = {"set": "Kodak24", "image": "01", "domain": "building"}
    sharp = {"track": "sharp", "condition": "sharp", "lpips": 0.0, "ssim": 1.0}
    return [
        row("input", 25.0),
        row("input", 30.0, **other, lpips=None),
        row("input", 22.0, **second, ssim=None),
        row("input", 100.0, **sharp),
        row("input", 100.0, **sharp, **other),
        row("student", 28.0, ssim=0.875, lpips=0.25),
        row("student", 29.5, **other, ssim=0.625, lpips=None),
        row("student", 25.5, **second, ssim=None, lpips=0.125),
        row("student", 45.0, **sharp),
        row("student", 38.0, **sharp, **other),
    ]


def test_a_condition_is_the_mean_over_its_images(rows: list[Row]) -> None:
    student = summarise(rows, {})["models"]["student"]
    assert student["conditions"]["gaussian/1.6"] == {
        "images": 2,
        "psnr": 28.75,
        "ssim": 0.75,
        "psnr_y": 26.0,
        "lpips": 0.25,
        "gain_psnr": 1.25,
        "gain_ssim": 0.0,
        "gain_lpips": -0.25,
        "harmed_share": 0.5,
        # losses 0 and 0.5 dB
        "harm_p95_db": pytest.approx(0.475),
        "share_under_40": None,
    }
    assert student["conditions"]["gaussian/2.4"]["ssim"] is None
    assert student["conditions"]["gaussian/2.4"]["gain_ssim"] is None


def test_a_track_is_the_mean_over_its_conditions_and_harm_counts_every_pair(rows: list[Row]) -> None:
    track = summarise(rows, {})["models"]["student"]["tracks"]["gaussian"]
    assert track["images"] == 2
    # conditions, not rows, weigh the same: (28.75 + 25.5) / 2
    assert track["psnr"] == 27.125
    assert track["gain_psnr"] == (1.25 + 3.5) / 2
    assert (track["ssim"], track["lpips"]) == (0.75, (0.25 + 0.125) / 2)
    assert track["harmed_share"] == pytest.approx(1 / 3)
    assert track["harm_p95_db"] == pytest.approx(np.percentile([0, 0.5, 0], 95))


def test_on_sharp_the_input_is_the_truth(rows: list[Row]) -> None:
    student = summarise(rows, {})["models"]["student"]
    for sharp in (student["tracks"]["sharp"], student["conditions"]["sharp"]):
        assert (sharp["psnr"], sharp["share_under_40"]) == (41.5, 0.5)
        for name in ("gain_psnr", "gain_ssim", "gain_lpips", "harmed_share", "harm_p95_db"):
            assert sharp[name] is None


def test_sets_and_domains_are_told_apart(rows: list[Row]) -> None:
    student = summarise(rows, {})["models"]["student"]
    assert {name: one["psnr"] for name, one in student["sets"]["gaussian/1.6"].items()} == {
        "Set5": 28.0,
        "Kodak24": 29.5,
    }
    assert list(student["sets"]["gaussian/2.4"]) == ["Set5"]
    domains = student["domains"]["gaussian"]
    assert {name: one["gain_psnr"] for name, one in domains.items()} == {"nature": 3.25, "building": -0.5}
    assert domains["nature"]["harmed_share"] == 0
    assert domains["building"]["harmed_share"] == 1


def test_nets_of_different_scales_share_no_column() -> None:
    def enlarged(model: str, scale: int, psnr: float) -> Row:
        return row(model, psnr, track="sr", condition=f"sr/{scale}")

    inputs = [enlarged("input", 2, 30.0), enlarged("input", 4, 24.0)]
    models = summarise([*inputs, enlarged("twice", 2, 33.0), enlarged("four", 4, 26.0)], {})["models"]
    assert {name: list(entry["tracks"]) for name, entry in models.items()} == {
        "input": ["sr x2", "sr x4"],
        "twice": ["sr x2"],
        "four": ["sr x4"],
    }
    assert {track: one["psnr"] for track, one in models["input"]["tracks"].items()} == {
        "sr x2": 30.0,
        "sr x4": 24.0,
    }
    assert models["twice"]["tracks"]["sr x2"] == models["twice"]["conditions"]["sr/2"]
    assert models["four"]["domains"]["sr x4"]["nature"]["gain_psnr"] == 2.0


def test_images_without_a_domain_are_in_no_domain(rows: list[Row]) -> None:
    unlabelled = [replace(one, domain="") for one in rows]
    assert summarise(unlabelled, {})["models"]["student"]["domains"] == {"gaussian": {}, "sharp": {}}


def test_the_input_gains_and_harms_nothing(rows: list[Row]) -> None:
    track = summarise(rows, {})["models"]["input"]["tracks"]["gaussian"]
    assert (track["gain_psnr"], track["harmed_share"], track["harm_p95_db"]) == (0, 0, 0)


def test_facts_are_kept_and_order_the_models(rows: list[Row]) -> None:
    facts = {"slow": {"parameters": 7}, "student": {"parameters": 44108}}
    models = summarise(rows, facts)["models"]
    assert list(models) == ["input", "slow", "student"]
    assert models["student"]["parameters"] == 44108
    # a model that nothing applied to is still listed
    assert models["slow"] == {"parameters": 7} | {group: {} for group in GROUPS}


def test_a_model_that_repeats_the_input_gains_nothing_anywhere() -> None:
    rng = np.random.default_rng(0)
    inputs = [
        row("input", float(psnr), image=str(i), condition=f"gaussian/{i % 3}")
        for i, psnr in enumerate(rng.normal(25, 3, 30))
    ]
    copies = [replace(one, model="copy") for one in inputs]
    tables = summarise([*inputs, *copies], {})["models"]
    assert tables["copy"] == tables["input"]


def test_a_row_without_its_input_is_named(rows: list[Row]) -> None:
    message = (
        "there is a row of 'student' on Kodak24/01, gaussian/1.6 and none of 'input': "
        "every gain is measured against it"
    )
    with pytest.raises(ValueError, match=f"^{message}$"):
        summarise([rows[0], *rows[2:]], {})


def test_two_rows_of_one_test_are_named(rows: list[Row]) -> None:
    message = "there are two rows of 'student' on Set5/bird, gaussian/1.6; expected one"
    with pytest.raises(ValueError, match=f"^{message}$"):
        summarise([*rows, rows[5]], {})


def test_flat_figures_name_model_track_and_metric_and_leave_blanks_out(rows: list[Row]) -> None:
    flat = flatten(summarise(rows, {"student": {"parameters": 44108}}))
    assert flat["student/gaussian/gain_psnr"] == 2.375
    assert flat["student/sharp/share_under_40"] == 0.5
    assert "student/sharp/gain_psnr" not in flat
    assert all(value == value for value in flat.values())
    assert json.loads(json.dumps(flat, allow_nan=False)) == flat
