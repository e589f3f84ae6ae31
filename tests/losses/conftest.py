from __future__ import annotations

from sharpkd.functional.torchvision_guard import define_missing_operators

# The tests import torchvision and timm before anything of sharpkd.
define_missing_operators()
