"""``python benchmarks/distillation/collect.py``: keep here what run.sh trained and measured."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
TABLES = ("scoreboard.csv", "cells.csv")


def without_places(facts: dict[str, Any]) -> dict[str, Any]:
    """The facts without where files lay on the machine that trained."""
    kept = {key: value for key, value in facts.items() if key != "differs_from_scratch"}
    kept["teacher"] = Path(facts["teacher"]).name
    kept["settings"] = [setting for setting in facts["settings"] if "/" not in setting]
    kept["differs_from_scratch"] = {
        method: [line for line in lines if "/" not in line]
        for method, lines in facts["differs_from_scratch"].items()
    }
    return kept


def main() -> None:
    """Collect every scoreboard."""
    outputs = Path(os.environ.get("SHARPKD_OUTPUTS", ROOT / "outputs"))
    for board in sorted((outputs / "benchmark" / "distillation").iterdir()):
        target = HERE / board.name
        target.mkdir(exist_ok=True)
        for name in TABLES:
            shutil.copyfile(board / name, target / name)
        facts = json.loads((board / "scoreboard.json").read_text(encoding="utf-8"))
        (target / "scoreboard.json").write_text(json.dumps(without_places(facts), indent=1) + "\n")


if __name__ == "__main__":
    main()
