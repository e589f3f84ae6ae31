"""``python -m sharpkd.demo``: the whole path in minutes: teacher, student, evaluation, a sharpened photo."""

from __future__ import annotations

from sharpkd.requires import require_extra

require_extra("train")

import sys
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table

from sharpkd.checkpoint import load_net
from sharpkd.config import ConfigError, compose
from sharpkd.data.degradation import GaussianBlur, degrade, name_seed
from sharpkd.data.images import read_image
from sharpkd.data.sample import SampleSource
from sharpkd.evaluation.folder.evaluation import evaluate_folder
from sharpkd.inference.image_io import Picture, write_picture
from sharpkd.inference.sharpener import Sharpener
from sharpkd.train import train

SIGMA = 1.6
NOTE = (
    "A run of minutes on five photographs: it shows that the path works, not what the method can do. "
    "Neither net has seen these two pictures, whose blur (sigma 1.6) they are not told."
)


def run_demo(overrides: list[str], console: Console) -> dict[str, Any]:
    """Train ``experiment=quickstart``, measure both nets on pictures not trained on, sharpen one of them.

    Args:
        overrides: further settings for the student's training, as on the command line of ``sharpkd.train``.
        console: where stages and the table are printed.

    Returns:
        What ``outputs/demo/metrics.json`` holds.
    """
    overrides = ["experiment=quickstart", "overwrite=true", *overrides]
    cfg = compose("train", overrides)
    folder = Path(cfg.paths.output_root) / "demo"
    cfg = compose("train", overrides, output_dir=str(folder / "training"))
    console.rule("1. Training: first the teacher, then the student that imitates it")
    train(cfg, overrides)
    student, teacher = (folder / "training" / part / "net.safetensors" for part in ("", "teacher"))

    console.rule("2. Measuring both on pictures that neither was trained on")
    degradation = GaussianBlur(SIGMA)
    results = evaluate_folder(
        {"teacher": load_net(teacher).net, "student": load_net(student).net},
        SampleSource().val_files(),
        degradation,
        folder,
        title="SharpKD demo",
        notes=[NOTE],
        curves=_curves(cfg, folder),
        progress=lambda done, total, name: console.print(f"  image {done + 1} of {total}: {name}"),
    )

    console.rule("3. Sharpening a photo with the student")
    photo = SampleSource().val_files()[0]
    blurred, _ = degrade(degradation, read_image(photo), name_seed(photo.stem))
    for name, pixels in (("blurred.png", blurred), ("sharpened.png", Sharpener(student).pixels(blurred))):
        write_picture(folder / name, Picture(pixels))
        console.print(f"  {folder / name}", soft_wrap=True)
    console.rule("Result")
    console.print(_table(results))
    console.print(f"Report: {folder / 'report.html'}", soft_wrap=True)
    return results


def _curves(cfg: DictConfig, folder: Path) -> list[tuple[str, Path]]:
    files = {
        "Teacher's training": folder / "training" / "teacher" / "curves.png",
        "Student's training": folder / "training" / "curves.png",
    }
    drawn = cfg.callbacks.get("training_curves") is not None
    return [(caption, file) for caption, file in files.items() if drawn and file.is_file()]


def _table(results: dict[str, Any]) -> Table:
    table = Table()
    for column in ("", "PSNR (dB)", "SSIM", "parameters", "ms per 640x480 image"):
        table.add_column(column, justify="left" if column == "" else "right")
    for name in ("input", "teacher", "student"):
        row = results[name]
        cost = [f"{row['parameters']:,}", f"{row['ms_per_image']:.0f}"] if name != "input" else ["", ""]
        table.add_row(name, f"{row['psnr']:.2f}", f"{row['ssim']:.4f}", *cost)
    return table


def main() -> None:
    """Run the demo; overrides of the training may follow on the command line."""
    try:
        run_demo(sys.argv[1:], Console())
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2 if isinstance(error, ConfigError) else 1)


if __name__ == "__main__":
    main()
