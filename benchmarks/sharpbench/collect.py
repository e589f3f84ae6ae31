"""``python benchmarks/sharpbench/collect.py``: keep here what run.sh measured."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
LOCAL = ("path", "run")  # where files lay on the machine that measured
LONG = ("sets",)


def slim(results: dict[str, Any]) -> dict[str, Any]:
    """What tables need: figures by track, condition and domain, edges, and what they were made with."""
    models = {
        name: {key: value for key, value in entry.items() if key not in (*LOCAL, *LONG)}
        for name, entry in results["models"].items()
    }
    return {"models": models, **{key: results[key] for key in ("edges", "_meta")}}


def main() -> None:
    """Collect."""
    outputs = Path(os.environ.get("SHARPKD_OUTPUTS", ROOT / "outputs"))
    for name in ("quick", "full"):
        results = json.loads((outputs / "evaluate" / name / "metrics.json").read_text())
        (HERE / f"{name}.json").write_text(json.dumps(slim(results), indent=1) + "\n")


if __name__ == "__main__":
    main()
