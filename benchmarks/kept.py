"""What several collect.py share: keeping an evaluation, without the places of the machine that made it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

LOCAL = ("path", "val_dir", "data", "folder")  # where files lay on the machine that measured


def keep_evaluation(source: Path, target: Path) -> dict[str, Any]:
    """Copy ``metrics.json`` and ``per_image.csv`` of a folder that ``sharpkd.evaluate`` wrote.

    Raises:
        FileNotFoundError: the evaluation is not finished.
    """
    target.mkdir(parents=True, exist_ok=True)
    results: dict[str, Any] = json.loads((source / "metrics.json").read_text(encoding="utf-8"))
    for entry in results.values():
        for key in LOCAL:
            entry.pop(key, None)
    (target / "metrics.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    shutil.copy(source / "per_image.csv", target / "per_image.csv")
    return results
