"""Tests that need real photographs run where the folder is named, and only there are they left out."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
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
def test_marker(folder: str | None, code: int, line: str, tmp_path: Path, project_root: Path) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "pytest.ini").write_text(CONFIG)
    (tmp_path / "test_case.py").write_text(CASE)
    shutil.copy(project_root / "tests" / "conftest.py", tmp_path)
    environment = {name: value for name, value in os.environ.items() if name != "SHARPKD_DATA"}
    if folder:
        environment["SHARPKD_DATA"] = str(tmp_path / folder)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment,
    )
    assert done.returncode == code, done.stdout
    assert line in done.stdout
