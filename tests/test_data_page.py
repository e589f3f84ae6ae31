"""The figures of docs/data.md are those of the committed files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest


@pytest.mark.parametrize("name", ["speed", "memory"])
def test_tables_are_those_of_the_files(project_root: Path, name: str) -> None:
    text = (project_root / "docs" / "data.md").read_text(encoding="utf-8")
    rows = json.loads((project_root / "benchmarks" / "shards" / f"{name}.json").read_text())
    assert len(rows) >= 3
    written = "\n".join("| " + " | ".join(map(str, row.values())) + " |" for row in rows)
    assert written in text, f"docs/data.md lacks the rows of benchmarks/shards/{name}.json:\n{written}"
