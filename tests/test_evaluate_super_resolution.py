"""``python -m sharpkd.evaluate`` on folders gives the numbers that super-resolution papers print."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sharpkd.evaluate import main

# What papers print for bicubic, in dB on luma, at x2, x3 and x4.
PUBLISHED = {"Set5": (33.66, 30.39, 28.42), "BSD100": (29.56, 27.21, 25.96)}
TOLERANCE = 0.03
CRAFT = 32.40


@pytest.fixture
def measured(call: Callable[..., Any], sharpkd_data: Path, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """``measured(set, scale, model)``: the figures of the command, and what it printed under ``printed``."""

    def run(name: str, scale: int, model: str) -> dict[str, Any]:
        outcome = call(
            main,
            f"model={model}",
            "task=super_resolution",
            f"scale={scale}",
            f"data.val_dir={sharpkd_data / 'eval' / name}",
            "metrics.lpips_weights=null",
            "metrics.latency_sizes=[[32,32]]",
            f"paths.output_root={tmp_path / 'outputs'}",
            "name=papers",
        )
        assert outcome.code == 0, outcome.err
        figures = json.loads((tmp_path / "outputs" / "evaluate" / "papers" / "metrics.json").read_text())
        return {**figures, "printed": outcome.out}

    return run


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "scale"), [("Set5", 2), ("Set5", 3), ("Set5", 4), ("BSD100", 2), ("BSD100", 3), ("BSD100", 4)]
)
def test_bicubic_gives_the_published_numbers(
    name: str, scale: int, measured: Callable[..., dict[str, Any]]
) -> None:
    results = measured(name, scale, "input")
    assert len(results["_meta"]["images"]) == {"Set5": 5, "BSD100": 100}[name]
    assert results["input"]["psnr_y"] == pytest.approx(PUBLISHED[name][scale - 2], abs=TOLERANCE)
    # the table shows luma, as papers do
    assert f"{results['input']['psnr_y']:.2f}" in results["printed"]
    assert f"{results['input']['psnr']:.2f}" not in results["printed"]


@pytest.mark.real_data
# torch.meshgrid without `indexing`, in spandrel's CRAFT
@pytest.mark.filterwarnings("ignore:torch.meshgrid:UserWarning")
def test_craft_gives_its_published_number(
    measured: Callable[..., dict[str, Any]], sharpkd_weights: Path
) -> None:
    results = measured("Set5", 4, str(sharpkd_weights / "craft_x4.pth"))
    assert results["craft_x4"]["psnr_y"] == pytest.approx(CRAFT, abs=TOLERANCE)
    assert results["craft_x4"]["parameters"] == 753_344
