"""Fabricated evaluations, as ``python -m sharpkd.evaluate`` leaves them in their folders."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sharpkd.evaluation.rows import Row, write_rows

CONDITIONS = ("gaussian/0.8", "gaussian/1.6", "noisy")
IMAGES = [("Set5", name) for name in ("baby", "bird", "head")] + [("Kodak24", f"{n:02}") for n in range(1, 6)]
RNG = np.random.default_rng(7)
INPUTS = {(image, name): float(RNG.normal(26, 3)) for image in IMAGES for name in CONDITIONS}


def _rows_of(
    models: dict[str, float], images: int | None = None, conditions: int | None = None, shift: float = 0.0
) -> list[Row]:
    rows = []
    for image in IMAGES[:images]:
        for condition in CONDITIONS[:conditions]:
            psnr = INPUTS[image, condition] + shift
            track = condition.split("/")[0]
            row = Row("input", *image, "nature", track, condition, psnr, 0.7, psnr + 1.25, 0.4)
            rows.append(row)
            for model, gain in models.items():
                more = gain + 0.2 * np.sin(100 * psnr + len(model))
                rows.append(replace(row, model=model, psnr=psnr + more, ssim=0.8, lpips=0.4 - more / 50))
    return rows


def _write(folder: Path, rows: list[Row], lpips: str | None = "lpips-squeeze") -> Path:
    folder.mkdir(parents=True)
    write_rows(folder / "per_image.csv", rows)
    (folder / "metrics.json").write_text(json.dumps({"models": {}, "_meta": {"lpips": lpips}}))
    return folder


def _write_photos(folder: Path, models: dict[str, float], shift: float = 0.0) -> Path:
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


@pytest.fixture
def rows_of() -> Callable[..., list[Row]]:
    """``rows_of(models, images, conditions, shift)``: of the input and of models that gain so many dB.

    A little more or less on each image; of so many of the 8 images and 3 conditions, the input shifted by dB.
    """
    return _rows_of


@pytest.fixture
def write() -> Callable[..., Path]:
    """``write(folder, rows, lpips)``: an evaluation on SharpBench; returns the folder."""
    return _write


@pytest.fixture
def write_photos() -> Callable[..., Path]:
    """``write_photos(folder, models, shift)``: one on a folder of images, one of them too small for SSIM."""
    return _write_photos


@pytest.fixture
def two(tmp_path: Path) -> list[Path]:
    """Two evaluations of two models, one of them in both."""
    return [
        _write(tmp_path / "a", _rows_of({"scratch": 2.0, "unsharp": 0.5})),
        _write(tmp_path / "b", _rows_of({"distilled": 2.3, "unsharp": 0.5})),
    ]
