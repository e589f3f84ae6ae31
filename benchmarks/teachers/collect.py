"""``python benchmarks/teachers/collect.py``: keep here what run.sh measured."""

from __future__ import annotations

import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent))

from kept import keep_evaluation  # noqa: E402  # found through the line above

SETS = ("Set14", "Kodak24")


def main() -> None:
    """Collect."""
    outputs = Path(os.environ.get("SHARPKD_OUTPUTS", HERE.parent.parent / "outputs"))
    for name in SETS:
        keep_evaluation(outputs / "evaluate" / f"teachers_{name}", HERE / name)


if __name__ == "__main__":
    main()
