"""Nets in ONNX and IR files as functions of torch's tensors."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from sharpkd.inference.engine import ModelError, OnnxEngine, OpenVinoEngine
from sharpkd.inference.errors import first_line

PROBE_SIDE = 64
ENGINES = {".onnx": (OnnxEngine, "ONNX Runtime"), ".xml": (OpenVinoEngine, "OpenVINO")}
"""Suffix -> what runs the file, and its name in results."""


class ExportedNet:
    """A session of an engine, opened anew when torch's number of threads has changed.

    Args:
        path: an ``.onnx`` or ``.xml`` file.

    Attributes:
        engine_name: as results call it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._engine, self.engine_name = ENGINES[path.suffix.lower()]
        self._open()

    @property
    def is_ours(self) -> bool:
        """Whether ``sharpkd.export`` wrote the file, so that it says what it holds."""
        return self.engine.info.net != "unknown"

    @property
    def scale(self) -> int:
        """How many times it enlarges: what the file says, or else what it does.

        Raises:
            ModelError: it cannot run an RGB image, or gives something else than a larger one.
        """
        return self.engine.info.scale if self.is_ours else _probed_scale(self)

    def _open(self) -> None:
        self.threads = torch.get_num_threads()
        self.engine = self._engine(self.path, threads=self.threads)

    def __call__(self, image: Tensor) -> Tensor:
        if torch.get_num_threads() != self.threads:
            self._open()
        return torch.from_numpy(self.engine.run(image.numpy()))


def _probed_scale(net: ExportedNet) -> int:
    """How many times a net enlarges that does not say so."""
    try:
        output = net(torch.zeros(1, 3, PROBE_SIDE, PROBE_SIDE))
    except Exception as error:  # the engines' exceptions share no base class
        reason = first_line(error)
        raise ModelError(
            f"{net.path} cannot run an RGB image of {PROBE_SIDE}x{PROBE_SIDE} pixels ({reason}); expected a "
            "net that takes (1, 3, H, W) for any H and W"
        ) from error
    scale = output.shape[-1] // PROBE_SIDE if output.ndim == 4 else 0
    if scale < 1 or tuple(output.shape) != (1, 3, scale * PROBE_SIDE, scale * PROBE_SIDE):
        raise ModelError(
            f"{net.path} turns (1, 3, {PROBE_SIDE}, {PROBE_SIDE}) into {tuple(output.shape)}; expected an "
            "RGB image, a whole number of times larger"
        )
    return scale
