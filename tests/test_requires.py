from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from sharpkd.requires import EXTRAS, missing_modules, require_extra

WITHOUT_TORCH = """
import runpy, sys

class Hide:
    def find_spec(self, name, path=None, target=None):
        if name in ("torch", "hydra"):
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Hide())
runpy.run_module(sys.argv[1], run_name="__main__")
"""


@pytest.mark.parametrize("entry", ["train", "export"])
def test_entry_points_without_their_extra_say_so_in_one_line(entry: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, f"sharpkd.{entry}"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 2
    expected = "This command needs torch, hydra: install them with  pip install 'sharpkd[train]'\n"
    assert done.stderr == expected


def test_installed_extras_pass() -> None:
    assert {extra: missing_modules(extra) for extra in EXTRAS} == {extra: [] for extra in EXTRAS}
    require_extra("train")


def test_every_extra_is_declared(project_root: Path) -> None:
    declared = tomllib.loads((project_root / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    assert set(EXTRAS) <= set(declared)


def test_unknown_extra() -> None:
    with pytest.raises(ValueError, match="unknown extra 'video'; there are: train, int8, optuna"):
        missing_modules("video")
