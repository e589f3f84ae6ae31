"""Pictures to measure on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter


def smooth_pictures(folder: Path, height: int, width: int) -> list[Path]:
    """Four PNG files in ``folder``, each smoother than the one before."""
    rng = np.random.default_rng(0)
    for index, smooth in enumerate((0.6, 1.0, 1.6, 3.0)):
        picture = gaussian_filter(rng.standard_normal((height, width, 3)), (smooth, smooth, 0))
        pixels = np.clip(128 + 55 * picture / picture.std(), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"photo{index}.png")
    return sorted(folder.iterdir())
