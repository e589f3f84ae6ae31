from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from sharpkd.benchmark import Benchmark
from sharpkd.data.degradation import GaussianBlur
from sharpkd.evaluation.data_speed import DataSpeed


def test_the_cache_is_at_least_20_times_faster_than_decoding_a_2k_png_for_every_crop(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    benchmark: Benchmark = DataSpeed(GaussianBlur(), [1], images=1, cached_crops=600, decoded_crops=24)
    assert benchmark.run(tmp_path) >= 20
    figures = json.loads((tmp_path / "data_speed.json").read_text())
    (speed,) = figures["crops_per_second"]
    assert (figures["width"], figures["height"], speed["workers"]) == (2040, 1356, 1)
    assert speed["times_faster"] == pytest.approx(speed["cached"] / speed["decoded"], rel=0.01)
    with (tmp_path / "data_speed.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert {name: float(value) for name, value in row.items()} == speed
    # shards of decoded pixels beside the cache, tiles beside whole files: what each is for
    assert speed["shards"] > 10 * speed["decoded"]
    assert speed["shards_of_tiles"] > 2 * speed["decoded"]
    assert "Training crops a second" in capsys.readouterr().out


def test_settings_out_of_range() -> None:
    with pytest.raises(ValueError, match=r"what\.workers must be numbers of at least 1, got \[0\]"):
        DataSpeed(GaussianBlur(), [0])
    with pytest.raises(ValueError, match=r"what\.decoded_crops must be at least 24, .* got 23"):
        DataSpeed(GaussianBlur(), [1, 2], decoded_crops=23)
