"""``python benchmarks/real_input/collect.py``: keep here what run.sh measured, and draw it."""

from __future__ import annotations

import csv
import os
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from PIL import Image

from sharpkd.data.degradation import GaussianBlur, degrade, name_seed
from sharpkd.data.images import read_image
from sharpkd.data.sample import SampleSource
from sharpkd.inference.sharpener import Sharpener

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.append(str(HERE.parent))

from kept import keep_evaluation  # noqa: E402  # found through the line above

SETS = ("Set14", "Kodak24")
WEIGHTS = {"alpha": 1.0, "beta": 0.002, "gamma": 0.02, "delta": 0.5}
SWEPT = {"val/psnr": "PSNR (dB)", "val/ssim": "SSIM", "val/lpips": "LPIPS (squeeze)"}
RUNS = (
    "distill/pixel_student",
    "scratch/pixel_student",
    "distill/mobile_student",
    "scratch/mobile_student",
    "scratch/enhanced_cnn",
)
COSTS = ("parameters", "macs_per_pixel", "ms_per_image")


def collect_sweep(outputs: Path) -> list[dict[str, str]]:
    """Copy the sweep's rows: the four weights and the figures, best first."""
    with (outputs / "sweeps" / "distill" / "weights" / "sweep.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    columns = ["rank", "state", *(f"loss.{name}" for name in WEIGHTS), *SWEPT]
    kept = [{column: row.get(column, "") for column in columns} for row in rows]
    with (HERE / "sweep.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(kept)
    return kept


def draw_sweep(rows: list[dict[str, str]]) -> None:
    """One row of axes a figure, one column a weight: what turning that weight alone does."""
    figure, axes = plt.subplots(len(SWEPT), len(WEIGHTS), figsize=(11, 6.5), sharey="row", sharex="col")
    for column, name in enumerate(WEIGHTS):
        others = {f"loss.{other}": value for other, value in WEIGHTS.items() if other != name}
        chosen = [row for row in rows if all(float(row[key]) == value for key, value in others.items())]
        chosen.sort(key=lambda row: float(row[f"loss.{name}"]))
        labels = [f"{float(row[f'loss.{name}']):g}" for row in chosen]
        for line, (metric, title) in enumerate(SWEPT.items()):
            axis = axes[line, column]
            axis.plot(labels, [float(row[metric]) for row in chosen], "o-", color="#2a6f97")
            axis.grid(alpha=0.3)
            if column == 0:
                axis.set_ylabel(title)
        axes[-1, column].set_xlabel(f"loss.{name}")
    figure.tight_layout()
    figure.savefig(HERE / "sweep.png", dpi=90)
    plt.close(figure)


def draw_curves(outputs: Path) -> None:
    """Validation PSNR of the table's runs against steps."""
    figure, axis = plt.subplots(figsize=(7, 3.6))
    for run in ("teacher/real", *RUNS):
        with (outputs / run / "logs" / "metrics.csv").open() as stream:
            points = [
                (int(row["step"]) + 1, float(row["val/psnr"]))
                for row in csv.DictReader(stream)
                if row["val/psnr"]
            ]
        axis.plot(*zip(*points, strict=True), ".-", label=run)
    axis.set(xlabel="steps of 8 crops of 96×96", ylabel="PSNR on held-out photos (dB)")
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(HERE / "curves.png", dpi=90)
    plt.close(figure)


def draw_before_after(outputs: Path) -> None:
    """A photograph of scikit-image's (CC0), blurred, and the distilled student's answer, side by side."""
    file = SampleSource().val_files()[0]
    blurred, _ = degrade(GaussianBlur(1.6), read_image(file), name_seed(file.stem))
    sharpened = Sharpener(outputs / "distill" / "pixel_student" / "net.safetensors").pixels(blurred)
    window = (slice(20, 260), slice(70, 390))
    pair = Image.new("RGB", (2 * 320 + 8, 240), "white")
    for column, pixels in enumerate((blurred, sharpened)):
        pair.paste(Image.fromarray(pixels[window]), (column * 328, 0))
    pair.save(HERE / "before_after.png", optimize=True)


def main() -> None:
    """Collect and draw."""
    outputs = Path(os.environ.get("SHARPKD_OUTPUTS", ROOT / "outputs"))
    for name in SETS:
        keep_evaluation(outputs / "evaluate" / f"real_{name}", HERE / name)
    draw_sweep(collect_sweep(outputs))
    draw_curves(outputs)
    draw_before_after(outputs)


if __name__ == "__main__":
    main()
