"""README's numbers are those of the committed files, and what it points to exists."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="module")
def tables(project_root: Path) -> ModuleType:
    """The script that writes the tables."""
    file = project_root / "benchmarks" / "readme_tables.py"
    spec = importlib.util.spec_from_file_location("readme_tables", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_tables_are_those_of_the_files(project_root: Path, tables: ModuleType) -> None:
    text = (project_root / "README.md").read_text(encoding="utf-8")
    written = text
    for name, content in tables.committed_tables().items():
        assert content.count("\n") >= 2, name
        written = tables.replace_between(written, name, content)
    assert written == text, "run python benchmarks/readme_tables.py"


def test_tables_of_the_docs_are_those_of_the_files(project_root: Path, tables: ModuleType) -> None:
    for page, found in tables.docs_tables().items():
        text = (project_root / "docs" / page).read_text(encoding="utf-8")
        written = text
        for name, content in found.items():
            assert content.count("\n") >= 2, name
            written = tables.replace_between(written, name, content, page)
        assert written == text, "run python benchmarks/readme_tables.py"


def test_missing_markers_are_named(tables: ModuleType) -> None:
    with pytest.raises(ValueError, match=r"README\.md lacks the markers <!-- sweep --> … <!-- /sweep -->"):
        tables.replace_between("no markers", "sweep", "x")


def test_files_that_it_points_to_exist(project_root: Path) -> None:
    text = (project_root / "README.md").read_text(encoding="utf-8")
    targets = re.findall(r"\]\(([^)]+)\)", text)
    assert targets
    assert not [target for target in targets if not (project_root / target).exists()]


def test_experiments_and_make_targets_that_it_names_exist(project_root: Path) -> None:
    text = (project_root / "README.md").read_text(encoding="utf-8")
    experiments = set(re.findall(r"experiment=(\w+)", text))
    assert {"teacher", "distill", "scratch"} <= experiments
    for name in experiments:
        assert (project_root / "conf" / "experiment" / f"{name}.yaml").is_file(), name
    makefile = (project_root / "Makefile").read_text(encoding="utf-8")
    for target in set(re.findall(r"make (\w+)  ", text)) | {"help"}:
        assert f"\n{target}:" in makefile, target
