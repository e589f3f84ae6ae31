"""What ``python -m sharpkd.evaluate`` would ignore beside benchmark=, compare= or answers= is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sharpkd.config import ConfigError, compose
from sharpkd.evaluate import compare, evaluate_benchmark, main


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ("use_condition=true", "use_condition"),
        ("task.scale=2", "task.scale"),
        ("degradation=noisy", "degradation"),
        ("degradation.sigma=1.6", "degradation"),
        ("data=sample", "data"),
        ("data.val_limit=3", "data.val_limit"),
        ("data.train_dir=photos", "data.train_dir"),
        ("data.val_dir=photos", "data.val_dir"),
    ],
)
def test_what_only_a_folder_is_measured_with(setting: str, named: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=rf"measures on its own sets.*: leave out {named}, or benchmark=$"):
        evaluate_benchmark(compose("evaluate", ["benchmark=sharpbench_quick", setting], str(tmp_path)))
    with pytest.raises(ConfigError, match=rf"measures nothing: leave out {named}, or compare=$"):
        compare(compose("evaluate", ["compare=[a]", setting], str(tmp_path)))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ("model=input", "model"),
        ("benchmark=sharpbench", "benchmark"),
        ("rating=true", "rating"),
        ("rating.answers=[a.csv]", "rating.answers"),
        ("metrics.lpips_backbone=alex", "metrics.lpips_backbone"),
        ("metrics.lpips_weights=null", "metrics.lpips_weights"),
    ],
)
def test_a_comparison_measures_nothing(setting: str, named: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=rf"measures nothing: leave out {named}, or compare=$"):
        compare(compose("evaluate", ["compare=[a]", setting], str(tmp_path)))


def test_what_follows_another_root_is_no_setting(tmp_path: Path) -> None:
    roots = [f"paths.{name}_root={tmp_path}" for name in ("data", "cache", "weights")]
    with pytest.raises(FileNotFoundError):
        compare(compose("evaluate", [f"compare=[{tmp_path / 'none'}]", *roots], str(tmp_path)))
    with pytest.raises(FileNotFoundError, match="benchmark folder"):
        evaluate_benchmark(compose("evaluate", ["benchmark=sharpbench_quick", *roots], str(tmp_path)))


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ("data.val_dir=photos", "data.val_dir"),
        ("degradation=noisy", "degradation"),
        ("rating.page=true", "rating.page"),
        ("rating.images=3", "rating.images"),
        ("metrics.lpips_backbone=alex", "metrics.lpips_backbone"),
        ("logger=wandb", "logger"),
    ],
)
def test_answers_alone_measure_nothing(
    setting: str, named: str, tmp_path: Path, call: Callable[..., Any]
) -> None:
    outcome = call(main, "rating.answers=[a.csv]", setting, f"paths.output_root={tmp_path}", "name=asked")
    assert outcome.code == 2
    assert outcome.err == (
        "error: rating.answers= scores answers, and nothing is measured without model= or benchmark=: "
        f"leave out {named}, or say what to measure\n"
    )


def test_answers_alone_are_looked_for(tmp_path: Path, call: Callable[..., Any]) -> None:
    given = f"rating.answers=[{tmp_path / 'a.csv'}]"
    outcome = call(main, given, f"paths.output_root={tmp_path}", f"paths.cache_root={tmp_path}", "name=asked")
    assert outcome.code == 1
    assert "there is no file of answers" in outcome.err
