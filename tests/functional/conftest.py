from __future__ import annotations

import pytest
import skimage.data
import torch
from torch import Tensor

from sharpkd.functional.torchvision_guard import define_missing_operators

# The tests import torchmetrics, which imports torchvision, before anything of sharpkd.metrics.
define_missing_operators()


@pytest.fixture(scope="session")
def photograph() -> Tensor:
    """``(1, 3, 160, 160)`` in [0, 1]: the astronaut's face and suit."""
    pixels = torch.from_numpy(skimage.data.astronaut()[40:200, 140:300].copy())
    return pixels.permute(2, 0, 1).unsqueeze(0) / 255
