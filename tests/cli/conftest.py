from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from sharpkd.cli import app


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A small PNG in a folder of its own."""
    pixels = np.random.default_rng(0).integers(0, 256, (31, 45, 3), np.uint8)
    path = tmp_path / "in" / "photo.png"
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def sharpkd() -> Callable[..., Result]:
    """``sharpkd(*arguments)``: the command in this process; ``given`` is its standard input."""

    def run(*arguments: object, given: bytes = b"") -> Result:
        return CliRunner().invoke(app, [str(argument) for argument in arguments], input=given)

    return run
