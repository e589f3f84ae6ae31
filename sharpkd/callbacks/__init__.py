"""Lightning callbacks: pictures, curves, progress, averaged weights."""

from sharpkd.functional.torchvision_guard import define_missing_operators

# pytorch_lightning imports torchmetrics, which imports torchvision.
define_missing_operators()
