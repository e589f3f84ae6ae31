from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from sharpkd.exporting.placing import place


@pytest.fixture
def drafts(tmp_path: Path) -> list[Path]:
    folder = tmp_path / "drafts"
    folder.mkdir()
    for name in ("net.xml", "net.bin"):
        (folder / name).write_text("new")
    (tmp_path / "spare").mkdir()
    return sorted(folder.iterdir())


def contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir() if path.is_file()}


def test_all_appear(drafts: list[Path], tmp_path: Path) -> None:
    (tmp_path / "net.bin").write_text("old")
    place(drafts, [tmp_path / path.name for path in drafts], tmp_path / "spare")
    assert contents(tmp_path) == {"net.xml": "new", "net.bin": "new"}


@pytest.mark.parametrize("failing", range(4))
@pytest.mark.parametrize("old", [[], ["net.xml", "net.bin"]], ids=["new", "replaced"])
def test_where_one_cannot_be_all_is_as_before(
    failing: int, old: list[str], drafts: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in old:
        (tmp_path / name).write_text(f"old {name}")
    before = contents(tmp_path)
    seen: list[dict[str, str]] = []
    replace = os.replace

    def faulty(source: Any, target: Any) -> None:
        if len(seen) == failing:
            seen.append({})
            raise PermissionError("no")
        replace(source, target)
        seen.append(contents(tmp_path))

    monkeypatch.setattr(os, "replace", faulty)
    targets = [tmp_path / path.name for path in drafts]
    if not old and failing > 1:
        place(drafts, targets, tmp_path / "spare")
        assert contents(tmp_path) == {"net.xml": "new", "net.bin": "new"}
        return
    with pytest.raises(PermissionError, match=r"^no$"):
        place(drafts, targets, tmp_path / "spare")
    assert contents(tmp_path) == before
    # killed at any moment, there would be no new file beside an old one
    assert all(len({text.split()[0] for text in state.values()}) <= 1 for state in seen)
