"""``python benchmarks/shipped/collect.py``: keep weights in sharpkd/weights, and here small results."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import yaml

from sharpkd.evaluation.rows import decibels

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
WEIGHTS = ROOT / "sharpkd" / "weights"
SIZES = ("fast", "balanced", "quality")
LOCAL = ("path", "run")  # where files lay on the machine that measured
WHAT = {
    "fast": "for video: a Wiener filter, then 3 convolutions of 32 channels, pixel-unshuffle 4",
    "balanced": (
        "for photos and small video: three Wiener filters, then 5 convolutions of 48 channels, "
        "pixel-unshuffle 4"
    ),
    "quality": "for photos: three Wiener filters, then 7 convolutions of 48 channels, pixel-unshuffle 2",
}
CHROMA = {
    "fast": "It restores luma; Cb and Cr stay as they were.",
    "balanced": "Luma is restored by filters and net, Cb and Cr by a filter alone.",
    "quality": "Luma is restored by filters and net, Cb and Cr by a filter alone.",
}


def slim(results: dict[str, Any]) -> dict[str, Any]:
    """What tables need: figures by track, condition and domain, edges, and what they were made with."""
    models = {
        name: {key: value for key, value in entry.items() if key not in (*LOCAL, "sets")}
        for name, entry in results["models"].items()
    }
    return {"models": models, **{key: results[key] for key in ("edges", "_meta")}}


def card(size: str, results: dict[str, Any], settings: dict[str, Any]) -> str:
    """The model card of a size, in Markdown.

    Args:
        size: fast, balanced or quality.
        results: what :func:`slim` gives.
        settings: ``config.yaml`` of its training.
    """
    entry, base = results["models"][size], results["models"]["input"]
    lines = ["| track | input | output | images made worse |", "| --- | ---: | ---: | ---: |"]
    for condition, figures in entry["conditions"].items():
        before, worse = base["conditions"][condition]["psnr"], figures["harmed_share"]
        gain = "" if worse is None else f" ({figures['psnr'] - before:+.2f})"
        harm = "" if worse is None else f"{worse:.1%}"
        lines.append(f"| {condition} | {decibels(before)} | {decibels(figures['psnr'])}{gain} | {harm} |")
    harmed = [name for name, figures in entry["conditions"].items() if (figures["harmed_share"] or 0) > 0.005]
    failures = f"- More than 0.5 % of the images get worse on {', '.join(harmed)}.\n" if harmed else ""
    return (
        (HERE / "card.md")
        .read_text(encoding="utf-8")
        .format(
            size=size,
            what=WHAT[size][0].upper() + WHAT[size][1:],
            parameters=entry["parameters"],
            chroma=CHROMA[size],
            steps=settings["trainer"]["max_steps"],
            batch=settings["data"]["batch_size"],
            lr=settings["optimizer"]["lr"],
            seed=settings["seed"],
            table="\n".join(lines),
            failures=failures,
        )
    )


def main() -> None:
    """Collect."""
    outputs = Path(os.environ.get("SHARPKD_OUTPUTS", ROOT / "outputs"))
    results = json.loads((outputs / "evaluate" / "shipped" / "metrics.json").read_text())
    kept = slim(results)
    (HERE / "sharpbench.json").write_text(json.dumps(kept, indent=1) + "\n")
    for size in SIZES:
        run = outputs / "ship" / size
        if (run / "net.safetensors").is_file():
            shutil.copy(run / "net.safetensors", WEIGHTS / f"{size}.safetensors")
            settings = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
            (WEIGHTS / f"{size}.md").write_text(card(size, kept, settings), encoding="utf-8")
            shutil.copy(run / "logs" / "metrics.csv", HERE / f"{size}.csv")
            shutil.copy(run / "curves.png", HERE / f"{size}.png")


if __name__ == "__main__":
    main()
