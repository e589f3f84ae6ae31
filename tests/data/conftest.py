"""Small photographs to load."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sharpkd.functional.torchvision_guard import define_missing_operators

# Tests that import pytorch_lightning, and with it torchvision, do so before anything of sharpkd.
define_missing_operators()


def picture(seed: int, height: int = 48, width: int = 56) -> np.ndarray:
    """Noise, ``(height, width, 3)`` uint8; no two crops are alike."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


class InMemory:
    """Decoded images without files."""

    def __init__(self, *images: np.ndarray) -> None:
        self.images = images
        self.files = [Path(f"photos/{index}.png") for index in range(len(images))]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> np.ndarray:
        return self.images[index]


@pytest.fixture
def make_folder(tmp_path: Path) -> Callable[..., Path]:
    """``make_folder(name, count)``: a folder with PNG files ``a00.png``, ``a01.png``, ..."""

    def make(name: str = "photos", count: int = 5, first: int = 0, **size: int) -> Path:
        folder = tmp_path / name
        folder.mkdir(parents=True, exist_ok=True)
        for index in range(count):
            Image.fromarray(picture(first + index, **size)).save(folder / f"a{first + index:02d}.png")
        return folder

    return make
