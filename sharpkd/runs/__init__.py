"""One training run: its folder, its steps from configuration to weights, and its ranks."""

from sharpkd.functional.torchvision_guard import define_missing_operators

# pytorch_lightning imports torchmetrics, which imports torchvision.
define_missing_operators()
