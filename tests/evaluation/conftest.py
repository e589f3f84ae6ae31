"""Fabricated sweeps."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

ERROR = "RuntimeError: loss is nan at step 7 <script>alert('x')</script>\nTraceback:\n  train.py, line 3"
# no process has this id: Linux hands out ids below 2^22
NO_PID = 2**22 + 5


def _write_job(folder: Path, state: str, overrides: list[str], **status: Any) -> Path:
    folder.mkdir(parents=True)
    content = {"state": state, "overrides": overrides, "error": "", "metrics": {}, **status}
    (folder / "status.json").write_text(json.dumps(content))
    (folder / "config.yaml").write_text("seed: 0\n")
    return folder


def _write_curve(folder: Path, values: list[float]) -> None:
    (folder / "logs").mkdir()
    lines = ["step,epoch,val/psnr,train/loss"]
    lines += [f"{10 * i},{i},{value},\n{10 * i + 5},{i},,{1 / value}" for i, value in enumerate(values)]
    # the last line was cut off by a kill
    (folder / "logs" / "metrics.csv").write_text("\n".join(lines) + "\n990,99,9")


def _write_grid(folder: Path, size: tuple[int, int], seed: int) -> None:
    (folder / "images").mkdir()
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    for name in ("0003.png", "0010.png"):
        Image.fromarray(pixels).save(folder / "images" / name)


@pytest.fixture
def write_job() -> Callable[..., Path]:
    """``write_job(folder, state, overrides, **more of status.json)``."""
    return _write_job


@pytest.fixture
def sweep_dir(tmp_path: Path) -> Path:
    """Four jobs that finished (PSNR is 28 + delta - 10 beta), one that failed, one that was killed."""
    root = tmp_path / "loss.beta,loss.delta"
    for beta in (0.0, 0.1):
        for delta in (0, 1):
            psnr = 28 + delta - 10 * beta
            overrides = ["experiment=distill", f"loss.beta={beta}", f"+loss.delta={delta}"]
            metrics = {"val/psnr": psnr, "val/ssim": psnr / 40, "parameters": 44108}
            job = _write_job(root / f"beta={beta},delta={delta}", "finished", overrides, metrics=metrics)
            _write_curve(job, [psnr - 2, psnr - 1, psnr])
            _write_grid(job, (60, 90), delta)
    common = ["experiment=distill", "loss.beta=0.01", "+loss.delta=1"]
    _write_job(root / "broken", "failed", common, error=ERROR)
    killed = _write_job(root / "killed", "running", [*common[:2], "+loss.delta=0"], pid=NO_PID)
    _write_curve(killed, [20, 21])
    return root
