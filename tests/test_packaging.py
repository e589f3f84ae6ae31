"""What is in the wheel works away from the checkout, and what is declared is what is used."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest

# Import name -> name of the distribution, where they differ.
DISTRIBUTION = {
    "PIL": "pillow",
    "cv2": "opencv-python-headless",
    "google": "protobuf",
    "hydra": "hydra-core",
    "pytorch_lightning": "pytorch-lightning",
    "skimage": "scikit-image",
}


@pytest.fixture(scope="module")
def project(project_root: Path) -> dict[str, Any]:
    table: dict[str, Any] = tomllib.loads((project_root / "pyproject.toml").read_text())["project"]
    return table


@pytest.fixture(scope="module")
def wheel(project_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built by the backend itself: pip's isolation would need a network."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=project_root,
        check=True,
        capture_output=True,
    )
    (path,) = folder.glob("sharpkd-*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that the wheel is installed in."""
    folder = tmp_path_factory.mktemp("installed")
    command = ["install", "--quiet", "--no-deps", "--no-index", "--target", str(folder), str(wheel)]
    subprocess.run([sys.executable, "-m", "pip", *command], check=True, capture_output=True)
    return folder


def _away(code: str, installed: Path, cwd: Path) -> str:
    """Run ``code`` with the installed package first, from another folder, without the checkout."""
    start = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import sharpkd; assert sharpkd.__file__.startswith(sys.argv[1]), sharpkd.__file__\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", start + code, str(installed)], capture_output=True, text=True, cwd=cwd
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_wheel_holds_every_source_page_and_yaml(wheel: Path, project_root: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    tracked = subprocess.run(
        ["git", "ls-files", "sharpkd"], cwd=project_root, check=True, capture_output=True, text=True
    )
    sources = set(tracked.stdout.split())
    assert {Path(name).suffix for name in sources} >= {".py", ".html", ".css", ".js", ".csv", ".txt"}
    yaml = {
        f"sharpkd/conf/{p.relative_to(project_root / 'conf')}"
        for p in (project_root / "conf").rglob("*.yaml")
    }
    assert len(yaml) > 20
    assert sources | yaml <= names
    assert not [name for name in names if name.startswith(("tests/", "outputs/")) or name.endswith(".ckpt")]


def test_installed_wheel_composes_its_configuration(installed: Path, tmp_path: Path) -> None:
    code = (
        "from sharpkd.config import compose, conf_dir\n"
        "print(conf_dir())\n"
        "print(compose('train', ['net=pixel_student', 'net.width=7']).net.width)\n"
        "print(compose('export', ['checkpoint=a']).max_loss_db)\n"
    )
    assert _away(code, installed, tmp_path).split() == [str(installed / "sharpkd" / "conf"), "7", "0.1"]


def test_installed_script_is_the_command(wheel: Path, installed: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (entry,) = [name for name in archive.namelist() if name.endswith("entry_points.txt")]
        assert "sharpkd = sharpkd.cli:main" in archive.read(entry).decode()
    code = "sys.argv = ['sharpkd', '--help']\nfrom sharpkd.cli import main\nmain()"
    assert "sharpen" in _away(code, installed, tmp_path)


def _distributions(requirements: list[str]) -> set[str]:
    return {re.split(r"[^A-Za-z0-9._-]", line)[0].lower() for line in requirements}


def _imported(files: list[Path]) -> set[str]:
    """Distributions of all third-party packages that the files import."""
    found = set()
    for path in files:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                found.add(node.module.split(".")[0])
    third_party = found - set(sys.stdlib_module_names) - {"sharpkd"}
    return {DISTRIBUTION.get(name, name).lower() for name in third_party}


def test_every_import_is_declared(project: dict[str, Any], project_root: Path) -> None:
    package = project_root / "sharpkd"
    base = _distributions(project["dependencies"])
    extras = {name: _distributions(lines) for name, lines in project["optional-dependencies"].items()}
    rooms = [path for room in ("cli", "inference") for path in sorted((package / room).rglob("*.py"))]
    light = [package / "requires.py", *rooms]
    video = set((package / "inference" / "video").rglob("*.py"))
    cluster = package / "cli" / "cluster.py"
    assert _imported([path for path in light if path not in {*video, cluster}]) - {"torch"} <= base
    assert _imported(sorted(video)) <= base | extras["video"]
    assert _imported([cluster]) <= base | extras["ray"]
    declared = base | extras["train"] | extras["int8"] | extras["optuna"] | extras["video"] | extras["ray"]
    assert _imported(sorted(package.rglob("*.py"))) <= declared


def test_base_dependencies_leave_the_training_framework_out(project: dict[str, Any]) -> None:
    base = _distributions(project["dependencies"])
    assert base == {"numpy", "onnxruntime", "openvino", "pillow", "rich", "safetensors", "typer"}


def test_constraints_pin_every_requirement_and_name_no_host(
    project: dict[str, Any], project_root: Path
) -> None:
    lines = (project_root / "constraints.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if not line.startswith("#"))
    normal = {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in pins.items()}
    wanted = _distributions(project["dependencies"])
    for requirements in project["optional-dependencies"].values():
        wanted |= _distributions(requirements)
    assert wanted <= set(normal)
    assert normal["torch"] == "2.13.0"
    assert normal["torchvision"] == "0.28.0"
    assert not [version for version in normal.values() if "+" in version]
    for name in ("constraints.txt", "pyproject.toml", "Makefile", ".ci/run"):
        text = (project_root / name).read_text()
        assert not re.search(r"https?://|--index-url|--find-links|/work/|/home/|/root/", text), name
