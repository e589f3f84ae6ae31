"""What a benchmark of speed leaves behind: everything as JSON, its rows as CSV."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sharpkd.runs.folder import write_json


def write_speed(folder: Path, name: str, figures: Mapping[str, Any], key: str, rows: Sequence[Any]) -> None:
    """Write ``<name>.json``, the figures and under ``key`` the rows, and ``<name>.csv``, the rows.

    Args:
        folder: is there.
        name: of both files.
        figures: what the rows have in common.
        key: name of the list of rows.
        rows: at least one, all of one dataclass, whose fields are the columns.
    """
    table = [asdict(row) for row in rows]
    write_json(folder / f"{name}.json", {**figures, key: table})
    with (folder / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(table[0]))
        writer.writeheader()
        writer.writerows(table)
