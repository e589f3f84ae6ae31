"""What people read in place of ``val/lpips``."""

from __future__ import annotations

import pytorch_lightning as pl

from sharpkd.evaluation.rows import lpips_name


def lpips_label(module: pl.LightningModule) -> str:
    """LPIPS with the backbone that this module validates with, such as ``lpips-squeeze``."""
    metrics = getattr(module, "metrics", {})
    return lpips_name(getattr(metrics["lpips"], "backbone", None) if "lpips" in metrics else None)
