"""Logger tests import Lightning, and with it torchvision."""

from __future__ import annotations

from sharpkd.functional.torchvision_guard import define_missing_operators

define_missing_operators()
