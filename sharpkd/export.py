"""``python -m sharpkd.export checkpoint=PATH``: a trained net as ONNX or OpenVINO's IR, if as good."""

from __future__ import annotations

from sharpkd.requires import require_extra

require_extra("train")

from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from sharpkd.config import ConfigError, entry, instantiate
from sharpkd.exporting.export import Exported, export_net


def export_onnx(checkpoint: Path, output: Path | None = None, **settings: Any) -> Exported:
    """One ONNX file; settings and errors as of `sharpkd.exporting.export.export_net`, but ``format``."""
    (exported,) = export_net(checkpoint, output, format="onnx", **settings)
    return exported


@entry("export")
def main(cfg: DictConfig) -> float:
    """Export one checkpoint; returns the largest absolute difference from PyTorch."""
    if cfg.checkpoint is None:
        raise ConfigError("checkpoint: none given, expected checkpoint=PATH of a .safetensors or .ckpt file")
    exported = export_net(
        Path(cfg.checkpoint).expanduser(),
        Path(cfg.output).expanduser() if cfg.output else None,
        format=cfg.format,
        precision=cfg.precision,
        pixels=cfg.pixels,
        condition=cfg.condition,
        overwrite=cfg.overwrite,
        opset=cfg.opset,
        sizes=[tuple(size) for size in cfg.sizes],
        max_error=cfg.max_error,
        max_loss_db=cfg.max_loss_db,
        images=Path(cfg.images).expanduser() if cfg.images else None,
        degradation=None if cfg.degradation is None else instantiate(cfg.degradation),
        calibration_crops=cfg.calibration_crops,
        measurement_crops=cfg.measurement_crops,
        crop_size=cfg.crop_size,
        trusted_packages=list(cfg.trusted_packages),
    )
    for one in exported:
        print(
            f"wrote {one.path}, max abs error {one.max_error:.1e} against PyTorch, PSNR "
            f"{one.quality.exported:.2f} dB on {one.quality.images} degraded crops ({-one.quality.loss:+.3f})"
        )
    return max(one.max_error for one in exported)


if __name__ == "__main__":
    main()
