"""What runs a net: OpenVINO, ONNX Runtime or PyTorch.

Students in ``.safetensors`` run under each of the three; the first two are told the weights as arrays and
need no torch. ``.onnx`` files run under ONNX Runtime, other nets in ``.safetensors`` and all ``.ckpt`` under
PyTorch, which is imported only then. All engines share one contract, `Engine`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from sharpkd.inference import onnx_student, openvino_student
from sharpkd.inference.cells import Run
from sharpkd.inference.errors import ModelError as ModelError
from sharpkd.inference.student import PixelFormat, Student, can_run
from sharpkd.inference.weight_file import read_weights

if TYPE_CHECKING:
    from sharpkd.checkpoint import LoadedNet

EngineName = Literal["auto", "openvino", "onnxruntime", "torch"]
PrecisionName = Literal["auto", "bf16", "fp16", "fp32"]
SUFFIXES = (".onnx", ".safetensors", ".ckpt")

HOW_TO_GET_A_MODEL = (
    "name fast, balanced or quality, or train one with `python -m sharpkd.train experiment=quickstart` and "
    "use its net.safetensors, or a file written by `python -m sharpkd.export`"
)


@dataclass(frozen=True)
class ModelInfo:
    """What a model file says about itself.

    Attributes:
        path: the file.
        net: dotted name of the net's class, or "unknown".
        args: the net's constructor arguments.
        sha256: of the weights that the file was made from.
        receptive_field: pixels, odd; None where an output pixel depends on the whole image.
        stride: pixels; tiles start at its multiples.
        scale: output pixels per input pixel along each axis.
        metadata: anything else that the file carries.
    """

    path: Path
    net: str
    args: dict[str, Any] = field(default_factory=dict)
    sha256: str = ""
    receptive_field: int | None = None
    stride: int = 1
    scale: int = 1
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Task:
    """What one net is to be for one picture.

    Attributes:
        pixels: what the picture's numbers mean.
        condition: what was done to it, sigma first; blind nets do not look at it.
        strength: 0 keeps the picture, 1 is the net's output, above exaggerates.
    """

    pixels: PixelFormat
    condition: tuple[float, ...] = ()
    strength: float = 1.0


class Engine(Protocol):
    """Runs one net.

    Attributes:
        name: of the engine.
        info: what the model's file says.
        precision: in which pictures of 8 bits are computed.
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
) -> Engine:
    """Open a model file.

    Args:
        model: an ``.onnx``, ``.safetensors`` or ``.ckpt`` file.
        engine: "auto" is OpenVINO for students where it is installed, else ONNX Runtime; for all others what
            can run them.
        threads: CPU threads; None leaves the choice to the engine (torch keeps its global setting).
        precision: "auto" is what this CPU computes fastest in under OpenVINO, bf16 or fp16 where it has
            them, for pictures of 8 bits; pictures of more bits and the other engines are computed in fp32.

    Raises:
        ModelError: no such file, an unknown suffix, an engine or a precision that cannot run this kind of
            file, a broken file, or an engine that is not installed.
        ValueError: an engine or a precision of another name.
    """
    for given, known, what in ((engine, EngineName, "engine"), (precision, PrecisionName, "precision")):
        if given not in get_args(known):
            raise ValueError(f"{what} must be one of {', '.join(get_args(known))}, got {given!r}")
    path = Path(model)
    suffix = _suffix(path)
    file = read_weights(path, description_only=True) if suffix == ".safetensors" else None
    if file is not None and can_run(file):
        chosen = engine if engine != "auto" else "openvino" if find_spec("openvino") else "onnxruntime"
        if chosen != "torch":
            return StudentEngine(path, chosen, threads, precision)
        _only_fp32("torch", precision)
        return TorchEngine(path)
    native = "onnxruntime" if suffix == ".onnx" else "torch"
    if engine not in ("auto", native):
        what = f"a {suffix} file" if file is None else f"a {file.net}"
        raise ModelError(
            f"the {engine} engine cannot run {path.name}: {what} runs on {native}"
            + (" (make an .onnx file with `python -m sharpkd.export`)" if native == "torch" else "")
        )
    _only_fp32(native, precision)
    return OnnxEngine(path, threads) if native == "onnxruntime" else TorchEngine(path)


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

    Raises:
        ModelError: see `open_engine`.
    """

    def __init__(
        self,
        path: Path,
        name: Literal["openvino", "onnxruntime"] = "openvino",
        threads: int | None = None,
        precision: PrecisionName = "auto",
    ) -> None:
        self.name: str = name
        self._student, self._threads = Student.read(path), threads
        if name == "onnxruntime":
            _only_fp32(name, precision)
            able = ["fp32"]
        elif find_spec("openvino") is None:
            raise ModelError("OpenVINO is not installed: pip install openvino, or use engine onnxruntime")
        else:
            able = openvino_student.fast_precisions()
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
        # bf16 has 8 significant bits: more of a picture's would be lost before the net has seen them.
        deep = self._asked == "auto" and task.pixels.bits > 8
        precision = "fp32" if deep else self.precision
        return openvino_student.compile_student(layers, task.pixels, precision, self._threads)


def _on_floats(run: Callable[[NDArray[np.float32]], NDArray[np.float32]], task: Task) -> Run:
    """A net on ``(1, 3, H, W)`` floats in [0, 1] as a function on integer pixels."""
    pixels, strength = task.pixels, task.strength

    def on_pixels(window: NDArray[Any]) -> NDArray[Any]:
        image = np.ascontiguousarray(window.transpose(2, 0, 1)[None], dtype=np.float32)
        image -= np.float32(pixels.black)
        image /= np.float32(pixels.white - pixels.black)
        output = run(np.repeat(image, 3, axis=1) if pixels.channels == 1 else image)[:, : pixels.channels]
        if strength != 1:
            output = image + np.float32(strength) * (output - image)
        levels = output[0] * np.float32(pixels.white - pixels.black) + np.float32(pixels.black)
        levels = np.rint(np.clip(levels, 0, pixels.top))
        return np.ascontiguousarray(levels.transpose(1, 2, 0).astype(window.dtype))

    return on_pixels


class OnnxEngine:
    """A net exported by ``python -m sharpkd.export``, under ONNX Runtime on the CPU."""

    name = "onnxruntime"
    precision = "fp32"
    condition_size = 0

    def __init__(self, path: Path, threads: int | None = None) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        if threads is not None:
            options.intra_op_num_threads = threads
        try:
            self._session = onnxruntime.InferenceSession(
                str(path), sess_options=options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # ONNX Runtime's exceptions share no base class
            raise ModelError(f"{path}: ONNX Runtime cannot run it ({_first_line(error)})") from error
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        if (
            len(inputs) != 1
            or len(outputs) != 1
            or len(inputs[0].shape) != 4
            or inputs[0].type != "tensor(float)"
        ):
            found = ", ".join(f"{i.name}: {i.type} {i.shape}" for i in inputs)
            raise ModelError(f"{path} takes ({found}); expected one float32 image (N, 3, H, W)")
        self._input = inputs[0].name
        self.info = info_from_metadata(path, self._session.get_modelmeta().custom_metadata_map)
        self.luma_only = bool(self.info.args.get("luma_only", False))

    def prepare(self, task: Task) -> Run:
        """See `Engine.prepare`."""
        return _on_floats(self.run, task)

    def run(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """``(1, 3, H, W)`` RGB float32 in [0, 1] -> ``(1, 3, H * scale, W * scale)``, not clamped."""
        (output,) = self._session.run(None, {self._input: image})
        return output


class TorchEngine:
    """A training checkpoint or exported weights, under PyTorch on the CPU."""

    name = "torch"
    precision = "fp32"

    def __init__(self, path: Path) -> None:
        if find_spec("torch") is None:
            raise ModelError(f"{path.name} needs PyTorch: pip install 'sharpkd[train]', or use an .onnx file")
        import torch

        from sharpkd.checkpoint import load_net

        try:
            loaded = load_net(path)
        except (OSError, RuntimeError, ValueError, KeyError, TypeError) as error:
            raise ModelError(f"{path} holds no net that can be loaded: {_first_line(error)}") from error
        self._torch = torch
        self._net = loaded.net.eval()
        self.info = info_of(loaded, path)
        self.condition_size = int(getattr(loaded.net, "condition_size", 0))
        self.luma_only = bool(getattr(loaded.net, "luma_only", False))

    def prepare(self, task: Task) -> Run:
        """See `Engine.prepare`."""
        net: Any = self._net
        if self.condition_size:
            net = net.fold(self._torch.tensor(task.condition))
        return _on_floats(lambda image: self._apply(net, image), task)

    def run(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """``(1, 3, H, W)`` RGB float32 in [0, 1] -> ``(1, 3, H * scale, W * scale)``, not clamped."""
        return self._apply(self._net, image)

    def _apply(self, net: Any, image: NDArray[np.float32]) -> NDArray[np.float32]:
        with self._torch.inference_mode():
            return net(self._torch.from_numpy(image)).numpy()


def info_of(loaded: LoadedNet, path: Path) -> ModelInfo:
    """What the model file ``path``, made from a loaded net, says about itself."""
    arguments = dict(loaded.config)
    net: Any = loaded.net
    return ModelInfo(
        path=path,
        net=str(arguments.pop("_target_")),
        args=arguments,
        sha256=loaded.sha256,
        receptive_field=getattr(net, "receptive_field", None),
        stride=getattr(net, "stride", 1),
        scale=getattr(net, "scale", 1),
        metadata=dict(loaded.metadata),
    )


def metadata_of(info: ModelInfo) -> dict[str, str]:
    """``info`` as the string pairs that an ONNX file's ``metadata_props`` holds; see `info_from_metadata`."""
    return {
        "net": info.net,
        "args": json.dumps(info.args),
        "sha256": info.sha256,
        "receptive_field": json.dumps(info.receptive_field),
        "stride": json.dumps(info.stride),
        "scale": json.dumps(info.scale),
        "metadata": json.dumps(info.metadata, default=str),
    }


def info_from_metadata(path: Path, pairs: Mapping[str, str]) -> ModelInfo:
    """The inverse of `metadata_of`.

    A file from elsewhere carries none of the pairs: its receptive field is then unknown, so it is run on
    whole images, and its SHA-256 is that of the file itself.

    Raises:
        ModelError: a pair is there but cannot be read.
    """
    if "net" not in pairs:
        return ModelInfo(path=path, net="unknown", sha256=_sha256(path), metadata=dict(pairs))
    try:
        known = {key: json.loads(pairs[key]) for key in ("args", "receptive_field", "stride", "scale")}
        metadata = json.loads(pairs.get("metadata", "{}"))
        return ModelInfo(path=path, net=pairs["net"], sha256=pairs["sha256"], metadata=metadata, **known)
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise ModelError(
            f"{path}: its metadata cannot be read ({type(error).__name__}: {error}); export it again"
        ) from error


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
