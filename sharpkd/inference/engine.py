"""What runs a net: OpenVINO, ONNX Runtime or PyTorch.

Students in ``.safetensors`` run under each of the three; the first two are told the weights as arrays and
need no torch. ``.onnx`` files run under ONNX Runtime, ``.xml`` files (OpenVINO's IR) under OpenVINO, other
nets in ``.safetensors`` and all ``.ckpt`` under PyTorch, which is imported only then. All engines share one
contract, `Engine`.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from sharpkd.inference import onnx_student, openvino_student
from sharpkd.inference.cells import Run
from sharpkd.inference.errors import ModelError as ModelError
from sharpkd.inference.errors import first_line
from sharpkd.inference.exported import OnnxEngine as OnnxEngine
from sharpkd.inference.exported import OpenVinoEngine as OpenVinoEngine
from sharpkd.inference.model_info import ModelInfo as ModelInfo
from sharpkd.inference.model_info import info_from_metadata as info_from_metadata
from sharpkd.inference.model_info import info_of as info_of
from sharpkd.inference.model_info import metadata_of as metadata_of
from sharpkd.inference.student import Student, can_run
from sharpkd.inference.task import Task as Task
from sharpkd.inference.task import on_floats
from sharpkd.inference.weight_file import read_weights

EngineName = Literal["auto", "openvino", "onnxruntime", "torch"]
PrecisionName = Literal["auto", "bf16", "fp16", "fp32", "int8"]
NATIVE = {".onnx": "onnxruntime", ".xml": "openvino"}
"""The engine of exported files; all others but students run under torch."""
SUFFIXES = (".onnx", ".xml", ".safetensors", ".ckpt")

CPU = "cpu"
MACS_ONCE = 4e9
"""Up to so many multiply-accumulates in all, ONNX Runtime in one thread is done before OpenVINO has compiled.

On two cores, from the pixels to the result, `fast` takes 22 ms in place of 105 for 320x240 (0.2e9), and 179
in place of 203 for 1280x960 (3.7e9): ``python benchmarks/inference/once.py``.
"""

HOW_TO_GET_A_MODEL = (
    "name fast, balanced or quality, or train one with `python -m sharpkd.train experiment=quickstart` and "
    "use its net.safetensors, or a file written by `python -m sharpkd.export`"
)


class Engine(Protocol):
    """Runs one net.

    Attributes:
        name: of the engine.
        info: what the model's file says.
        precision: in which pictures of 8 bits are computed, but for small ones (`MACS_ONCE`).
        condition_size: how many numbers of the condition the net is told; 0 for a blind one.
        luma_only: whether the net looks at luma alone and adds the same to every channel.
    """

    name: str
    info: ModelInfo
    precision: str
    condition_size: int
    luma_only: bool

    def prepare(self, task: Task) -> Run:
        """A function ``(H, W, C)`` -> ``(H * scale, W * scale, C)`` of the same dtype, for any thread."""
        ...


def open_engine(
    model: Path | str,
    engine: EngineName = "auto",
    threads: int | None = None,
    precision: PrecisionName = "auto",
    device: str = CPU,
) -> Engine:
    """Open a model file.

    Args:
        model: an ``.onnx``, ``.xml``, ``.safetensors`` or ``.ckpt`` file.
        engine: "auto" is OpenVINO for students where it is installed, else ONNX Runtime; for all others what
            can run them. If the precision is "auto" too, a small picture by itself (`MACS_ONCE`) goes through
            ONNX Runtime, which begins sooner.
        threads: CPU threads; None leaves the choice to the engine (torch keeps its global setting).
        precision: "auto" is what this CPU computes fastest in under OpenVINO, bf16 or fp16 where it has
            them, for pictures of 8 bits; pictures of more bits, ``.xml`` files and the other engines are
            computed in fp32, but for what an ``.xml`` file has in int8. "int8" is for students under
            OpenVINO: all convolutions but the first in 8 bits, whose ranges a made picture tells.
        device: "cpu", or for torch one of its devices such as "cuda", "cuda:1" or "mps"; with another than
            the CPU "auto" is torch.

    Raises:
        ModelError: no such file, an unknown suffix, an engine, a precision or a device that cannot run this
            kind of file, a broken file, an engine that is not installed, or a device that is not there.
        ValueError: an engine or a precision of another name.
    """
    for given, known, what in ((engine, EngineName, "engine"), (precision, PrecisionName, "precision")):
        if given not in get_args(known):
            raise ValueError(f"{what} must be one of {', '.join(get_args(known))}, got {given!r}")
    path = Path(model)
    suffix = _suffix(path)
    if device != CPU:
        if engine not in ("auto", "torch"):
            raise ModelError(f"the {engine} engine runs on the CPU here: for device {device} use torch")
        engine = "torch"
    file = read_weights(path, description_only=True) if suffix == ".safetensors" else None
    if file is not None and can_run(file):
        chosen = engine if engine != "auto" else "openvino" if find_spec("openvino") else "onnxruntime"
        if chosen != "torch":
            may_choose = engine == "auto" and precision == "auto"
            return StudentEngine(path, chosen, threads, precision, may_choose)
        _only_fp32("torch", precision)
        return TorchEngine(path, device)
    native = NATIVE.get(suffix, "torch")
    if engine not in ("auto", native):
        what = f"a {suffix} file" if file is None else f"a {file.net}"
        raise ModelError(
            f"the {engine} engine cannot run {path.name}: {what} runs on {native}"
            + (" (make an .onnx file with `python -m sharpkd.export`)" if native == "torch" else "")
        )
    if native == "openvino":
        if precision == openvino_student.INT8:
            raise ModelError(f"{path.name} is computed in what it holds: export it with precision=int8")
        return OpenVinoEngine(path, threads, precision)
    _only_fp32(native, precision)
    return OnnxEngine(path, threads) if native == "onnxruntime" else TorchEngine(path, device)


def _suffix(path: Path) -> str:
    if not path.is_file():
        kind = "is a folder, not a model file" if path.is_dir() else "does not exist"
        raise ModelError(f"model {path} {kind}: {HOW_TO_GET_A_MODEL}")
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise ModelError(
            f"model {path} has the suffix {path.suffix!r}; expected one of {', '.join(SUFFIXES)}"
        )
    return suffix


def _only_fp32(engine: str, precision: PrecisionName) -> None:
    if precision not in ("auto", "fp32"):
        raise ModelError(
            f"the {engine} engine computes in fp32, not in {precision}; for students see openvino"
        )


class StudentEngine:
    """A student's weights under OpenVINO or ONNX Runtime, without torch.

    Args:
        path: a ``.safetensors`` file of a net of `sharpkd.inference.student.KNOWN`.
        name, threads, precision: see `open_engine`.
        may_choose: whether small pictures may go through ONNX Runtime.

    Raises:
        ModelError: see `open_engine`.
    """

    def __init__(
        self,
        path: Path,
        name: Literal["openvino", "onnxruntime"] = "openvino",
        threads: int | None = None,
        precision: PrecisionName = "auto",
        may_choose: bool = False,
    ) -> None:
        self.name: str = name
        self._student, self._threads, self._may_choose = Student.read(path), threads, may_choose
        if name == "onnxruntime":
            _only_fp32(name, precision)
            able = ["fp32"]
        elif find_spec("openvino") is None:
            raise ModelError("OpenVINO is not installed: pip install openvino, or use engine onnxruntime")
        else:
            able = [*openvino_student.fast_precisions(), openvino_student.INT8]
        if precision != "auto" and precision not in able:
            raise ModelError(f"this CPU does not compute in {precision} under OpenVINO; in {', '.join(able)}")
        self._asked = precision
        self.precision: str = able[0] if precision == "auto" else precision
        self.condition_size, self.luma_only = self._student.condition_size, self._student.luma_only
        file = self._student.file
        self.info = ModelInfo(
            path=path,
            net=file.net,
            args=file.arguments,
            sha256=file.sha256(),
            receptive_field=self._student.receptive_field,
            stride=self._student.unshuffle,
            metadata=dict(file.metadata),
        )

    def prepare(self, task: Task) -> Run:
        """See `Engine.prepare`: folds the condition, the range and the strength, then compiles."""
        layers = self._student.fold(task.condition).for_pixels(task.pixels, task.strength)
        if self.name == "onnxruntime":
            return onnx_student.compile_student(layers, task.pixels, self._threads)
        if self._may_choose and 0 < task.pixels_once * layers.macs_per_pixel <= MACS_ONCE:
            return onnx_student.compile_student(layers, task.pixels, threads=1)
        # bf16 has 8 significant bits: more of a picture's would be lost before the net has seen them.
        deep = self._asked == "auto" and task.pixels.bits > 8
        precision = "fp32" if deep else self.precision
        return openvino_student.compile_student(
            layers, task.pixels, precision, self._threads, task.condition[: self.condition_size]
        )


class TorchEngine:
    """A training checkpoint or exported weights, under PyTorch.

    Args:
        path: a ``.ckpt`` or ``.safetensors`` file.
        device: of torch.

    Raises:
        ModelError: torch is not installed, the file holds no net, or there is no such device.
    """

    name = "torch"
    precision = "fp32"

    def __init__(self, path: Path, device: str = CPU) -> None:
        if find_spec("torch") is None:
            raise ModelError(f"{path.name} needs PyTorch: pip install 'sharpkd[train]', or use an .onnx file")
        import torch

        from sharpkd.checkpoint import load_net

        try:
            loaded = load_net(path)
        except (OSError, RuntimeError, ValueError, KeyError, TypeError) as error:
            raise ModelError(f"{path} holds no net that can be loaded: {first_line(error)}") from error
        self._torch = torch
        self._device = _device_of(torch, device)
        # a net that is told the blur is folded first, and moved then
        self._net = loaded.net.eval()
        self.info = info_of(loaded, path)
        self.condition_size = int(getattr(loaded.net, "condition_size", 0))
        self.luma_only = bool(getattr(loaded.net, "luma_only", False))

    def prepare(self, task: Task) -> Run:
        """See `Engine.prepare`."""
        net: Any = self._net
        if self.condition_size:
            net = net.fold(self._torch.tensor(task.condition))
        net = net.to(self._device)
        return on_floats(lambda image: self._apply(net, image), task)

    def run(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """``(1, 3, H, W)`` RGB float32 in [0, 1] -> ``(1, 3, H * scale, W * scale)``, not clamped."""
        return self._apply(self._net.to(self._device), image)

    def _apply(self, net: Any, image: NDArray[np.float32]) -> NDArray[np.float32]:
        with self._torch.inference_mode():
            return net(self._torch.from_numpy(image).to(self._device)).cpu().numpy()


def _device_of(torch: Any, name: str) -> Any:
    try:
        device = torch.device(name)
        torch.empty(1, device=device).cpu()
    except (RuntimeError, AssertionError, NotImplementedError) as error:  # as torch says it, device by device
        raise ModelError(f"torch has no device {name!r} here ({first_line(error)})") from error
    return device
