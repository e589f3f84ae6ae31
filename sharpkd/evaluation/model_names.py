"""What the models of an evaluation are called."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from sharpkd.config import ConfigError
from sharpkd.evaluation.rows import INPUT

NAMINGS: tuple[Callable[[Path], str], ...] = (
    lambda path: path.parent.name if path.stem == "net" else path.stem,
    lambda path: path.parent.name,
    lambda path: f"{path.parent.parent.name}/{path.parent.name}",
    lambda path: f"{path.parent.parent.name}/{path.parent.name}/{path.stem}",
)


def named_files(model: Any, no_files: Collection[str] = (INPUT,)) -> dict[str, Path]:
    """Weight files by the name of each in the results.

    A file is called by its own name, or by its folder's where that tells more (every run writes a
    ``net.safetensors``) or tells two apart.

    Args:
        model: one path, a list of paths, or a mapping from names to paths.
        no_files: what is no path in them, but measured without a file; left out of the result.

    Raises:
        ConfigError: no file is named, or one twice.
    """
    if not model:
        raise ConfigError(
            "evaluation needs model=FILE (a .safetensors or .ckpt written by python -m sharpkd.train), "
            "a list of files, or model=input for the degraded images alone"
        )
    if isinstance(model, Mapping):
        return {
            str(name): Path(path).expanduser() for name, path in model.items() if str(path) not in no_files
        }
    paths = [Path(path).expanduser() for path in as_list(model) if str(path) not in no_files]
    for naming in NAMINGS:
        names = [naming(path.absolute()) for path in paths]
        if len(set(names)) == len(names):
            return dict(zip(names, paths, strict=True))
    raise ConfigError(
        f"{names[0]!r} or another model is given twice; name them: model={{first:FILE,second:FILE}}"
    )


def as_list(value: Any) -> list[Any]:
    """One value, several or none, as a list."""
    return [value] if isinstance(value, str | Path) else list(value or [])
