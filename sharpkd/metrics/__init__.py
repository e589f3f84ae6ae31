"""Image quality and speed, as torchmetrics."""

from sharpkd.functional.torchvision_guard import define_missing_operators

# torchmetrics imports torchvision.
define_missing_operators()
