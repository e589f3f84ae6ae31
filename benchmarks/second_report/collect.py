"""``python benchmarks/second_report/collect.py``: keep here what run.sh measured, as far as it has come."""

from __future__ import annotations

import csv
import json
import os
import shutil
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
FACTORS = ("1.25", "1.5", "1.75", "2", "2.5", "3", "4")
NETS = {"teacher": "teacher", "distilled": "students", "scratch": "students"}
SCORES = ("psnr", "ssim", "ssim_above", "psnr_y", "ssim_y", "ssim_y_above")
COSTS = ("parameters", "macs_per_pixel", "ms_by_size")
MACHINE = ("cpu", "threads", "versions", "ssim_threshold")


def measured(outputs: Path, name: str) -> dict[str, Any] | None:
    """What one evaluation found, or None where it has not been made."""
    file = outputs / "evaluate" / f"second_report_{name}" / "metrics.json"
    return json.loads(file.read_text()) if file.is_file() else None


def collect(outputs: Path) -> dict[str, Any]:
    """``bicubic`` by factor, ``nets`` by name, the number of images, and the machine that timed the nets."""
    found: dict[str, Any] = {"bicubic": {}, "nets": {}}
    for factor in FACTORS:
        if results := measured(outputs, f"bicubic_{factor}"):
            found["bicubic"][factor] = {key: results["input"][key] for key in SCORES}
            found["images"] = len(results["_meta"]["images"])
    for name, evaluation in NETS.items():
        if results := measured(outputs, evaluation):
            found["nets"][name] = {key: results[name][key] for key in (*SCORES, *COSTS)}
            found["machine"] = {key: results["_meta"][key] for key in MACHINE}
    for run in ("distilled", "scratch"):
        if run in found["nets"]:
            status = json.loads((outputs / "enhanced_cnn_swinir" / run / "status.json").read_text())
            found["nets"][run]["steps"] = int(status["metrics"]["steps"])
    return found


def draw_curves(outputs: Path) -> None:
    """SSIM on held-out training photographs against steps, of the student and of its control."""
    figure, axis = plt.subplots(figsize=(7, 3.6))
    for run in ("distilled", "scratch"):
        with (outputs / "enhanced_cnn_swinir" / run / "logs" / "metrics.csv").open() as stream:
            rows = [row for row in csv.DictReader(stream) if row["val/ssim"]]
        axis.plot(
            [int(row["step"]) + 1 for row in rows], [float(row["val/ssim"]) for row in rows], ".-", label=run
        )
    axis.set(xlabel="steps of 16 crops of 100×100", ylabel="SSIM on held-out photos, ÷4")
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(HERE / "curves.png", dpi=90)
    plt.close(figure)


def main() -> None:
    """Collect, and draw where both trainings have ended."""
    outputs = Path(os.environ.get("SHARPKD_OUTPUTS", ROOT / "outputs"))
    found = collect(outputs)
    (HERE / "results.json").write_text(json.dumps(found, indent=1) + "\n")
    if {"distilled", "scratch"} <= found["nets"].keys():
        draw_curves(outputs)
        shutil.copy(outputs / "evaluate" / "second_report_students" / "per_image.csv", HERE / "per_image.csv")


if __name__ == "__main__":
    main()
