"""``python benchmarks/aware/misjudged.py NAME=FILE …``: what nets lose that are told a wrong sigma.

Writes ``$SHARPKD_OUTPUTS/evaluate/aware_misjudged.json``: PSNR on Set14, on 8-bit output as everywhere, by
the factor that the told sigma is wrong by, net and sigma.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from sharpkd.checkpoint import load_net
from sharpkd.data.degradation import GaussianBlur
from sharpkd.data.images import find_images
from sharpkd.evaluation.folder.evaluation import FolderEvaluation, score
from sharpkd.runs.folder import write_json

SIGMAS = (0.8, 1.2, 1.6, 2.4, 3.0)
FACTORS = (0.8, 0.9, 1.1, 1.25)


class Misjudged(GaussianBlur):
    """A Gaussian blur that says of its sigma that it was ``factor`` times as large."""

    def __init__(self, sigma: float, factor: float) -> None:
        super().__init__(sigma)
        self.factor = factor

    def condition(self, params: dict[str, Any]) -> list[float]:
        """``[sigma * factor]``."""
        return [self.factor * value for value in super().condition(params)]


def main() -> None:
    """Measure every net at every sigma and factor."""
    nets = {name: load_net(file).net for name, _, file in (one.partition("=") for one in sys.argv[1:])}
    images = find_images(Path(os.environ["SHARPKD_DATA"]) / "eval" / "Set14")
    found: dict[str, dict[str, dict[str, float]]] = {}
    for factor in FACTORS:
        at_factor = found.setdefault(f"{factor:g}", {name: {} for name in nets})
        for sigma in SIGMAS:
            evaluation = FolderEvaluation(nets, images, Misjudged(sigma, factor), use_condition=True)
            totals = dict.fromkeys(nets, 0.0)
            for index in range(len(images)):
                sharp, versions = evaluation.restored(index)
                for name in nets:
                    totals[name] += score(versions[name], sharp)["psnr"] or 0.0
            for name, total in totals.items():
                at_factor[name][f"{sigma:g}"] = total / len(images)
    folder = Path(os.environ["SHARPKD_OUTPUTS"]) / "evaluate"
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "aware_misjudged.json", found)


if __name__ == "__main__":
    main()
