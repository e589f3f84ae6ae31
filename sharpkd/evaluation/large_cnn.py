"""The 483,587-parameter CNN of the second report under every engine: what students are compared with.

Its weights are random: what it costs does not depend on them.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sharpkd.checkpoint import save_weights
from sharpkd.inference.openvino_student import PRECISIONS
from sharpkd.inference.sharpener import Sharpener
from sharpkd.nets.enhanced_cnn import EnhancedCNN

Frame = NDArray[Any]


class LargeCNN:
    """Opens the CNN under an engine in a precision, for ``(H, W, 3)`` uint8 frames.

    Args:
        folder: for its files; is there.
        threads: of the CPU; None leaves the choice to the engines.
    """

    def __init__(self, folder: Path, threads: int | None = None) -> None:
        self.folder, self.threads = folder, threads

    def open(self, engine: str, precision: str) -> Callable[[Frame], Frame]:
        """A function from frame to frame.

        Args:
            engine: "openvino", "onnxruntime" or "torch".
            precision: "bf16", "fp16" or "fp32" under OpenVINO; the others compute in fp32.
        """
        if engine == "torch":
            return Sharpener(self._weights(), "torch", 0, self.threads)
        if engine == "onnxruntime":
            return Sharpener(self._graph(), "onnxruntime", 0, self.threads)
        return self._under_openvino(precision)

    def _net(self) -> EnhancedCNN:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return EnhancedCNN().eval()

    def _weights(self) -> Path:
        path = self.folder / "enhanced_cnn.safetensors"
        if not path.exists():
            target = f"{EnhancedCNN.__module__}.{EnhancedCNN.__qualname__}"
            save_weights(path, {"_target_": target}, self._net().state_dict(), {})
        return path

    def _graph(self) -> Path:
        path = self.folder / "enhanced_cnn.onnx"
        if not path.exists():
            size = torch.export.Dim.DYNAMIC
            # what torch's own exporter warns of and reports of its rewriting; nothing here can avoid it
            with warnings.catch_warnings(), ExitStack() as after:
                after.callback(logging.disable, logging.root.manager.disable)
                logging.disable(logging.WARNING)
                warnings.simplefilter("ignore")
                torch.onnx.export(
                    self._net(),
                    (torch.rand(1, 3, 32, 40),),
                    path,
                    dynamo=True,
                    dynamic_shapes=({2: size, 3: size},),
                    external_data=False,
                    verbose=False,
                )
        return path

    def _under_openvino(self, precision: str) -> Callable[[Frame], Frame]:
        import openvino as ov
        from openvino.preprocess import PrePostProcessor

        core = ov.Core()
        steps: Any = PrePostProcessor(core.read_model(self._graph()))
        steps.input().tensor().set_element_type(ov.Type.u8).set_layout(ov.Layout("NHWC"))
        steps.input().model().set_layout(ov.Layout("NCHW"))
        steps.input().preprocess().convert_element_type(ov.Type.f32).scale(255.0)
        steps.output().model().set_layout(ov.Layout("NCHW"))
        steps.output().tensor().set_layout(ov.Layout("NHWC"))
        settings: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": PRECISIONS[precision][1],
            "PERFORMANCE_HINT": "LATENCY",
        }
        if self.threads is not None:
            settings["INFERENCE_NUM_THREADS"] = self.threads
        net = core.compile_model(steps.build(), "CPU", settings)

        def restore(frame: Frame) -> Frame:
            found = net(frame[None])[0][0]
            return np.rint(np.clip(found, 0, 1) * np.float32(255)).astype(np.uint8)

        return restore
