"""``python benchmarks/distillation/collect.py``: keep here what run.sh trained and measured."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
BOARDS = ("methods", "gentle", "short", "weights", "terms", "few", "teacher", "size")
TEACHERS = {"strong": "real", "weak": "weak"}
TABLES = ("scoreboard.csv", "cells.csv")


def without_places(text: str, places: dict[str, Path]) -> str:
    """A text in which the folders of the machine that trained are called by their names."""
    for name, folder in places.items():
        text = text.replace(str(folder), name)
    return text


def facts_of(board: Path, places: dict[str, Path]) -> dict[str, Any]:
    """What ``scoreboard.json`` holds, with names in place of folders."""
    text = (board / "scoreboard.json").read_text(encoding="utf-8")
    facts: dict[str, Any] = json.loads(without_places(text, places))
    facts["teacher"] = Path(facts["teacher"]).name
    return facts


def quality_of(run: Path) -> dict[str, float]:
    """A training's steps, and what its net reaches on held-out training photographs."""
    figures = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    return {key: figures[key] for key in ("steps", "val/psnr", "val/ssim")}


def main() -> None:
    """Collect the scoreboards of run.sh.

    Raises:
        FileNotFoundError: one is not there yet.
    """
    outputs = Path(os.environ.get("SHARPKD_OUTPUTS", ROOT / "outputs")).absolute()
    data = Path(os.environ["SHARPKD_DATA"]).absolute()
    places = {"SHARPKD_DATA": data, "SHARPKD_OUTPUTS": outputs}
    # how good the two teachers of the board `teacher` are, on held-out training photographs
    teachers = {name: quality_of(outputs / "teacher" / run) for name, run in TEACHERS.items()}
    (HERE / "teachers.json").write_text(json.dumps(teachers, indent=1) + "\n", encoding="utf-8")
    for name in BOARDS:
        board, target = outputs / "benchmark" / "distillation" / name, HERE / name
        if not (board / "scoreboard.csv").is_file():
            raise FileNotFoundError(f"{board} is not finished: call benchmarks/distillation/run.sh")
        target.mkdir(exist_ok=True)
        for table in TABLES:
            shutil.copyfile(board / table, target / table)
        facts = facts_of(board, places)
        (target / "scoreboard.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
