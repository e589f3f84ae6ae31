"""``python benchmarks/aware/collect.py``: keep here what run.sh measured."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
SIGMAS = ("0.8", "1.2", "1.6", "2.4", "3.0")
MODELS = ("input", "blind", "blind_rep", "told", "forgiving", "rep")
DIGITS = 4


def main() -> None:
    """Write ``results.json``: PSNR and SSIM by model and sigma, and PSNR where the told sigma is wrong."""
    outputs = Path(os.environ.get("SHARPKD_OUTPUTS", ROOT / "outputs"))
    models: dict[str, dict[str, Any]] = {name: {"psnr": {}, "ssim": {}} for name in MODELS}
    images = 0
    for sigma in SIGMAS:
        metrics = json.loads((outputs / "evaluate" / f"aware_{sigma}" / "metrics.json").read_text())
        images = len(metrics["_meta"]["images"])
        for name, entry in models.items():
            for metric in ("psnr", "ssim"):
                entry[metric][f"{float(sigma):g}"] = round(metrics[name][metric], DIGITS)
            if name != "input":
                entry |= {key: metrics[name][key] for key in ("parameters", "macs_per_pixel")}
    wrong = json.loads((outputs / "evaluate" / "aware_misjudged.json").read_text())
    misjudged: dict[str, dict[str, dict[str, float]]] = {}
    for factor, rows in wrong.items():
        for name, row in rows.items():
            rounded = {sigma: round(value, DIGITS) for sigma, value in row.items()}
            misjudged.setdefault(factor, {})[name] = rounded
    results = {"set": "Set14", "images": images, "models": models, "misjudged": misjudged}
    (HERE / "results.json").write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
