"""Holds the rules of who may import whom, by reading the source of the whole package."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import sharpkd

PACKAGE = Path(sharpkd.__file__).resolve().parent

ENTRY_POINTS = {"train", "evaluate", "export", "benchmark", "prepare", "cli", "demo"}
# Highest first. Within one row everything may import everything, except among the leaves.
LAYERS: list[set[str]] = [
    ENTRY_POINTS,
    {"config", "config_check", "config_hints", "callbacks", "evaluation", "exporting", "loggers", "runs"},
    {"modules", "inference"},
    {"data", "checkpoint"},
    {"nets", "estimation", "losses", "distillation", "metrics"},
    {"functional"},
    {"weights", "requires"},
]
LEVEL = {room: level for level, rooms in enumerate(LAYERS) for room in rooms}
LEAVES = LAYERS[4]
# Stricter than their layer.
ONLY: dict[str, set[str]] = {
    "inference": {"weights", "checkpoint", "nets", "functional"},
    "modules": LEVEL.keys() - ENTRY_POINTS - LAYERS[1] - {"inference"},
    **{leaf: {"functional"} for leaf in LEAVES},
    "weights": set(),
    "requires": set(),
}
# What of functional needs no torch, so that whoever sharpens may import it.
WITHOUT_TORCH = {f"sharpkd.functional.{name}" for name in ("file_lock", "quiet", "tiles")}
# Third-party packages that are the business of a few rooms.
CONFINED: dict[str, set[str]] = {
    "wandb": {"loggers"},
    "lightning": set(),
    "pytorch_lightning": ENTRY_POINTS - {"cli"} | LAYERS[1] | {"modules", "data"},
    "hydra": ENTRY_POINTS - {"cli"} | LAYERS[1],
    "omegaconf": ENTRY_POINTS - {"cli"} | LAYERS[1],
}


@dataclass(frozen=True)
class Import:
    """One imported module, and how it is imported."""

    where: str
    room: str
    module: str
    at_start: bool

    @property
    def package(self) -> str:
        return self.module.split(".")[0]

    @property
    def target(self) -> str:
        """The room of sharpkd that is imported."""
        return self.module.split(".")[1]


def _room(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return parts[0]


def _modules(node: ast.AST, path: Path) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if not isinstance(node, ast.ImportFrom):
        return []
    base = node.module or ""
    if node.level:
        package = ("sharpkd", *path.relative_to(PACKAGE).parent.parts)
        base = ".".join((*package[: len(package) - node.level + 1], *([base] if base else [])))
    # `from sharpkd import nets` names the room in the alias.
    return [f"{base}.{alias.name}" for alias in node.names] if base == "sharpkd" else [base]


def _start_nodes(tree: ast.Module) -> set[ast.AST]:
    """Nodes that run when the module is imported: not in functions, not under TYPE_CHECKING."""
    found: set[ast.AST] = set()
    waiting: list[ast.AST] = list(tree.body)
    while waiting:
        node = waiting.pop()
        typing_only = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) or typing_only:
            continue
        found.add(node)
        waiting += list(ast.iter_child_nodes(node))
    return found


def imports_of(path: Path, source: str) -> Iterator[Import]:
    tree = ast.parse(source)
    at_start = _start_nodes(tree)
    for node in ast.walk(tree):
        for module in _modules(node, path):
            where = f"{path.relative_to(PACKAGE.parent)}:{getattr(node, 'lineno', 0)}"
            yield Import(where, _room(path), module, node in at_start)


def faults(path: Path, source: str) -> list[str]:
    """Every broken rule in one file of the package, one line each."""
    found = []
    room = _room(path)
    if room == "__init__":
        room = "cli"  # the package itself is imported by everything: as light as the command
    for one in imports_of(path, source):
        if one.package == "sharpkd" and one.module != "sharpkd" and not one.target.startswith("__"):
            found += _layer_fault(one, room)
        elif room not in CONFINED.get(one.package, {room}):
            found.append(f"{one.where}: {room} may not import {one.module}")
        elif one.package == "torch" and room in ("inference", "cli") and one.at_start:
            found.append(f"{one.where}: torch is imported when {room} is, not only for its engine")
    return found


def _layer_fault(one: Import, room: str) -> list[str]:
    if one.target == room:
        return []
    if room not in LEVEL or one.target not in LEVEL:
        unknown = room if room not in LEVEL else one.target
        return [f"{one.where}: {unknown} has no place in LAYERS; give it one"]
    if (
        room == "inference"
        and one.target == "functional"
        and one.at_start
        and one.module not in WITHOUT_TORCH
    ):
        return [f"{one.where}: {room} may not import {one.module} at its start; it may need torch"]
    if one.target in ONLY.get(room, LEVEL.keys()) and LEVEL[one.target] >= LEVEL[room]:
        return []
    return [f"{one.where}: {room} may not import sharpkd.{one.target}"]


def _files() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if "__pycache__" not in path.parts)


def test_every_room_keeps_the_rules() -> None:
    files = _files()
    broken = [line for path in files for line in faults(path, path.read_text(encoding="utf-8"))]
    assert len(files) > 40, "the walk found too few files to mean anything"
    assert broken == []


@pytest.mark.parametrize(
    ("file", "source", "fault"),
    [
        ("nets/a.py", "from sharpkd.losses.pixel import L1Loss", "nets may not import sharpkd.losses"),
        ("nets/a.py", "from sharpkd import losses", "nets may not import sharpkd.losses"),
        ("nets/a.py", "from ..losses import pixel", "nets may not import sharpkd.losses"),
        ("nets/a.py", "def f():\n    import pytorch_lightning", "nets may not import pytorch_lightning"),
        ("data/a.py", "import sharpkd.modules.teacher", "data may not import sharpkd.modules"),
        ("modules/a.py", "import hydra.utils", "modules may not import hydra.utils"),
        ("modules/a.py", "import sharpkd.inference.engine", "modules may not import sharpkd.inference"),
        ("inference/a.py", "import sharpkd.data", "inference may not import sharpkd.data"),
        (
            "inference/a.py",
            "from sharpkd.functional.psnr import psnr",
            "import sharpkd.functional.psnr at its start",
        ),
        ("inference/a.py", "if True:\n    import torch", "torch is imported when inference is"),
        ("callbacks/a.py", "import wandb", "callbacks may not import wandb"),
        ("modules/a.py", "import lightning.pytorch as pl", "modules may not import lightning.pytorch"),
        ("cli.py", "def f():\n    import hydra", "cli may not import hydra"),
        ("__init__.py", "import torch", "torch is imported when cli is"),
        ("newroom/a.py", "import sharpkd.nets", "newroom has no place in LAYERS"),
    ],
)
def test_a_broken_rule_is_found(file: str, source: str, fault: str) -> None:
    found = faults(PACKAGE / file, source)
    assert len(found) == 1
    assert fault in found[0]


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("nets/a.py", "from sharpkd.nets.base import RestorationNet\nfrom sharpkd.functional import ssim"),
        ("inference/a.py", "from sharpkd.functional.tiles import spans"),
        ("inference/a.py", "def f():\n    import torch\n    from sharpkd.checkpoint import load_net"),
        ("inference/a.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch"),
        ("train.py", "import hydra\nfrom sharpkd.modules.teacher import TeacherModule"),
        ("modules/a.py", "import pytorch_lightning as pl\nfrom sharpkd.data.batch import Batch"),
        ("loggers/a.py", "import wandb"),
    ],
)
def test_what_is_allowed_passes(file: str, source: str) -> None:
    assert faults(PACKAGE / file, source) == []


@pytest.mark.parametrize("module", sorted(WITHOUT_TORCH))
def test_what_is_said_to_need_no_torch_imports_the_standard_library_alone(module: str) -> None:
    path = PACKAGE.parent / f"{module.replace('.', '/')}.py"
    packages = {one.package for one in imports_of(path, path.read_text(encoding="utf-8"))}
    assert packages <= sys.stdlib_module_names
