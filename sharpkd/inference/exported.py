"""Nets that ``python -m sharpkd.export`` wrote: ONNX under ONNX Runtime, OpenVINO's IR under OpenVINO."""

from __future__ import annotations

from abc import ABC, abstractmethod
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sharpkd.inference import openvino_student
from sharpkd.inference.cells import Run
from sharpkd.inference.errors import ModelError, first_line, openvino_said
from sharpkd.inference.model_info import ModelInfo, info_from_metadata
from sharpkd.inference.onnx_outside import refuse_files_outside
from sharpkd.inference.task import Task, on_floats

RT_INFO = "sharpkd"
"""Under this key an IR's ``rt_info`` holds the pairs of `sharpkd.inference.model_info.metadata_of`."""
EXPECTED = "expected one float32 image (N, 3, H, W), or one uint8 image (N, H, W, 3)"


class ExportedNet(ABC):
    """A net as one graph, which takes float32 ``(1, 3, H, W)`` in [0, 1], or uint8 ``(1, H, W, 3)``.

    A subclass calls the constructor here, and computes in :meth:`infer`.

    Attributes:
        takes_uint8: the second of the two; conversion, clamp and rounding are then in the graph.
    """

    condition_size = 0

    def __init__(self, info: ModelInfo, takes_uint8: bool, precision: str = "fp32") -> None:
        self.info, self.takes_uint8 = info, takes_uint8
        self.precision = precision
        self.luma_only = bool(info.args.get("luma_only", False))

    @abstractmethod
    def infer(self, image: NDArray[Any]) -> NDArray[Any]:
        """What the graph gives for what it takes; several threads may call it at a time.

        Raises:
            ModelError: the runtime cannot compute it for an image of this size.
        """

    def prepare(self, task: Task) -> Run:
        """See `sharpkd.inference.engine.Engine.prepare`.

        Raises:
            ModelError: the graph takes uint8, and the pixels are not that, or not of the full range.
        """
        if not self.takes_uint8:
            return on_floats(self.infer, task)
        if task.pixels.bits != 8 or task.pixels.studio:
            found = "studio swing" if task.pixels.studio else f"{task.pixels.bits} bits"
            raise ModelError(
                f"{self.info.path.name} takes pixels of 8 bits from 0 to 255, these are of {found}: export "
                "the net with pixels=float32"
            )
        channels, strength = task.pixels.channels, np.float32(task.strength)

        def on_pixels(window: NDArray[Any]) -> NDArray[Any]:
            image = np.repeat(window, 3, axis=2) if channels == 1 else window
            output = self.infer(np.ascontiguousarray(image[None]))[0, ..., :channels]
            if strength != 1:
                levels = window + strength * (output.astype(np.float32) - window)
                output = np.rint(np.clip(levels, 0, 255)).astype(np.uint8)
            return np.ascontiguousarray(output)

        return on_pixels

    def _failed(self, runtime: str, reason: str, image: NDArray[Any]) -> ModelError:
        height, width = image.shape[1:3] if self.takes_uint8 else image.shape[2:]
        return ModelError(
            f"{self.info.path.name}: {runtime} cannot compute {width}x{height} pixels ({reason})"
        )

    def run(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """``(1, 3, H, W)`` RGB float32 in [0, 1] -> ``(1, 3, H * scale, W * scale)``.

        Not clamped; of a graph that takes uint8 rounded to 8 bits before and behind it.
        """
        if not self.takes_uint8:
            return self.infer(image)
        levels = np.rint(np.clip(image, 0, 1) * np.float32(255)).astype(np.uint8)
        output = self.infer(np.ascontiguousarray(levels.transpose(0, 2, 3, 1)))
        return np.ascontiguousarray(output.transpose(0, 3, 1, 2), dtype=np.float32) / np.float32(255)


class OnnxEngine(ExportedNet):
    """An ``.onnx`` file under ONNX Runtime on the CPU, which computes in fp32.

    Of a file in int8 it computes rounded numbers in fp32 wherever anything but ReLU stands between a
    convolution and the next rounding, such as the students' PReLU.

    Args:
        path: the file.
        threads: of the CPU; None leaves the choice to ONNX Runtime.

    Raises:
        ModelError: the file is broken, has weights in a file outside its folder, or takes something else
            than images.
    """

    name = "onnxruntime"

    def __init__(self, path: Path, threads: int | None = None) -> None:
        import onnxruntime

        refuse_files_outside(path)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        if threads is not None:
            options.intra_op_num_threads = threads
        try:
            self._session = onnxruntime.InferenceSession(
                str(path), sess_options=options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # ONNX Runtime's exceptions share no base class
            raise ModelError(f"{path}: ONNX Runtime cannot run it ({first_line(error)})") from error
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        one = len(inputs) == len(outputs) == 1 and len(inputs[0].shape) == 4
        takes_uint8 = one and inputs[0].type == "tensor(uint8)" and inputs[0].shape[3] == 3
        if not one or not (takes_uint8 or inputs[0].type == "tensor(float)"):
            found = ", ".join(f"{i.name}: {i.type} {i.shape}" for i in inputs)
            raise ModelError(f"{path} takes ({found}); {EXPECTED}")
        self._input = inputs[0].name
        pairs = self._session.get_modelmeta().custom_metadata_map
        super().__init__(info_from_metadata(path, pairs), takes_uint8)

    def infer(self, image: NDArray[Any]) -> NDArray[Any]:
        """See :meth:`ExportedNet.infer`."""
        try:
            (output,) = self._session.run(None, {self._input: image})
        except Exception as error:  # ONNX Runtime's exceptions share no base class
            raise self._failed("ONNX Runtime", first_line(error), image) from error
        return output


class OpenVinoEngine(ExportedNet):
    """OpenVINO's IR, an ``.xml`` file with its ``.bin`` beside it, on the CPU.

    Args:
        path: the ``.xml`` file.
        threads: of the CPU; None leaves the choice to OpenVINO.
        precision: "auto" is fp32: the graph may hold Wiener filters, whose kernels sum to 1 only if they are
            not rounded to bf16's 8 significant bits. "bf16" and "fp16" have OpenVINO compute all of it so.

    Raises:
        ModelError: the file or its ``.bin`` is missing or broken, it takes something else than images,
            OpenVINO is not installed, or this CPU does not compute in that precision.
    """

    name = "openvino"

    def __init__(self, path: Path, threads: int | None = None, precision: str = "auto") -> None:
        if find_spec("openvino") is None:
            raise ModelError(f"{path.name} needs OpenVINO: pip install openvino, or use an .onnx file")
        weights = path.with_suffix(".bin")
        if not weights.is_file():
            raise ModelError(f"{path}: the weights {weights.name} are not beside it")
        chosen = "fp32" if precision == "auto" else precision
        settings = openvino_student.settings_for(chosen, threads)
        try:
            model = openvino_student.core().read_model(path, weights)
            self._run = openvino_student.compiled(model, settings)
        except RuntimeError as error:
            raise ModelError(f"{path}: OpenVINO cannot run it ({first_line(error)})") from error
        found = [(one.get_element_type().get_type_name(), one.get_partial_shape()) for one in model.inputs]
        one = len(found) == len(model.outputs) == 1 and found[0][1].rank.get_length() == 4
        takes_uint8 = one and found[0][0] == "u8" and str(found[0][1][3]) == "3"
        if not one or not (takes_uint8 or found[0][0] == "f32"):
            shown = ", ".join(f"{kind} {shape.to_string()}" for kind, shape in found)
            raise ModelError(f"{path} takes ({shown}); {EXPECTED}")
        info = info_from_metadata(path, _pairs(model))
        super().__init__(info, takes_uint8, "int8" if info.precision == "int8" else chosen)

    def infer(self, image: NDArray[Any]) -> NDArray[Any]:
        """See :meth:`ExportedNet.infer`."""
        try:
            return self._run(image)
        except RuntimeError as error:
            raise self._failed("OpenVINO", openvino_said(error), image) from error


def _pairs(model: Any) -> dict[str, str]:
    """What an IR says about itself; nothing where it is not of this project."""
    if not model.has_rt_info([RT_INFO]):
        return {}
    return {key: value.astype(str) for key, value in model.get_rt_info([RT_INFO]).astype(dict).items()}
