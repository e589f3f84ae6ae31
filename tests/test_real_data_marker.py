"""Tests that need real photographs run where the folder is named, and only there are they left out."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

CASE = """
import pytest

@pytest.mark.real_data
def test_photos(sharpkd_data):
    assert sharpkd_data.is_dir()
"""
CONFIG = "[pytest]\nmarkers = real_data\n"


@pytest.mark.parametrize(
    ("folder", "code", "line"),
    [
        (None, 5, "1 deselected in"),
        ("here", 0, "1 passed in"),
        ("gone", 1, "is not a folder; correct it, or unset it to leave these tests out"),
    ],
)
def test_marker(
    folder: str | None,
    code: int,
    line: str,
    pytester: pytest.Pytester,
    monkeypatch: pytest.MonkeyPatch,
    project_root: Path,
) -> None:
    (pytester.path / "here").mkdir()
    pytester.makeini(CONFIG)
    pytester.makepyfile(CASE)
    shutil.copy(project_root / "tests" / "conftest.py", pytester.path)
    monkeypatch.delenv("SHARPKD_DATA", raising=False)
    if folder:
        monkeypatch.setenv("SHARPKD_DATA", str(pytester.path / folder))
    done = pytester.runpytest_inprocess("-q", "-p", "no:cacheprovider")
    assert done.ret == code
    done.stdout.fnmatch_lines(f"*{line}*")
