"""LightningModules: what a training step computes and logs."""

from sharpkd.functional.torchvision_guard import define_missing_operators

# pytorch_lightning imports torchmetrics, which imports torchvision.
define_missing_operators()
