"""What figures were made with."""

from __future__ import annotations

import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from sharpkd import __version__

PACKAGES = (
    "torch",
    "numpy",
    "pillow",
    "opencv-python-headless",
    "albumentations",
    "scikit-image",
    "onnxruntime",
    "spandrel",
    "lpips",
)


def machine() -> dict[str, Any]:
    """The versions and the processor that figures were made with, and the GPUs that the machine has.

    Evaluations run on the processor; trainings may have used a GPU.
    """
    return {
        "versions": {"sharpkd": __version__, "python": platform.python_version()}
        | {package: version(package) for package in PACKAGES},
        "cpu": _cpu_name(),
        "gpus": [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())],
        "threads": torch.get_num_threads(),
    }


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
