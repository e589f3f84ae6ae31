"""Where the numbers of a run go: a CSV file always, Weights & Biases on request."""

from __future__ import annotations

from sharpkd.functional.torchvision_guard import define_missing_operators

define_missing_operators()
