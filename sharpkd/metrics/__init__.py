"""Image quality and speed, as torchmetrics, averaged per image."""
