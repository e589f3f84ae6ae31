"""Say in one line which extra is missing, instead of a traceback. Standard library only."""

from __future__ import annotations

import sys
from importlib.util import find_spec

EXTRAS: dict[str, tuple[str, ...]] = {
    "train": (
        "torch",
        "torchvision",
        "pytorch_lightning",
        "hydra",
        "omegaconf",
        "torchmetrics",
        "albumentations",
        "onnx",
        "onnxscript",
    ),
    "int8": ("nncf",),
    "optuna": ("hydra_plugins.hydra_optuna_sweeper", "optuna"),
}


def missing_modules(extra: str) -> list[str]:
    """Modules of ``extra`` (a key of `EXTRAS`) that cannot be imported here, without importing any."""
    if extra not in EXTRAS:
        raise ValueError(f"unknown extra {extra!r}; there are: {', '.join(EXTRAS)}")
    return [name for name in EXTRAS[extra] if not _is_installed(name)]


def _is_installed(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:  # the parent of a dotted name is missing
        return False


def require_extra(extra: str) -> None:
    """End the program with exit code 2 and one line on stderr unless ``extra`` is installed.

    Entry points call it before they import what the extra brings:

        from sharpkd.requires import require_extra
        require_extra("train")
        import hydra
    """
    missing = missing_modules(extra)
    if missing:
        print(
            f"This command needs {', '.join(missing)}: install them with  pip install 'sharpkd[{extra}]'",
            file=sys.stderr,
        )
        raise SystemExit(2)
