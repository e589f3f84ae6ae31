"""Make ``import torchvision`` work beside a torch built for something else.

A torchvision wheel built for CUDA cannot load its extension beside a CPU-only torch. It goes on without, and
then fails to import with ``operator torchvision::nms does not exist``, because it registers shape rules for
two operators that only the extension defines. Nothing here runs those operators: declaring them is enough.
pytorch_lightning, torchmetrics, timm and lpips all import torchvision, so whoever imports one of them calls
this first.
"""

from __future__ import annotations

import importlib
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import torch

_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
# The declarations live only as long as this object.
_library: list[torch.library.Library] = []


def define_missing_operators() -> None:
    """Declare ``torchvision::nms`` and ``torchvision::qnms`` where torchvision's own extension cannot load.

    Does nothing where torchvision is not installed or fits its torch. May be called any number of times.
    """
    if _library or torch.version.cuda is not None:
        return
    spec = find_spec("torchvision")
    if spec is None or spec.origin is None:
        return
    # Declaring what a working extension will declare again would abort the process: let it go first.
    for extension in Path(spec.origin).parent.glob("_C.*"):
        try:
            torch.ops.load_library(str(extension))
        except OSError:
            continue
    if hasattr(torch.ops.torchvision, "nms"):
        return
    library = torch.library.Library("torchvision", "DEF")
    for operator in ("nms", "qnms"):
        library.define(operator + _SCHEMA)
    _library.append(library)


def import_torchvision() -> ModuleType:
    """The torchvision package, imported now (it takes about a second).

    Raises:
        ModuleNotFoundError: it is not installed.
    """
    define_missing_operators()
    return importlib.import_module("torchvision")
