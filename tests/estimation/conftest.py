"""A real photograph."""

from __future__ import annotations

import numpy as np
import pytest
import skimage.data


@pytest.fixture(scope="session")
def photograph() -> np.ndarray:
    """(400, 600, 3) uint8, RGB."""
    return np.ascontiguousarray(skimage.data.coffee())
