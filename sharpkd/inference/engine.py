"""What runs a net: ONNX Runtime for ``.onnx``, PyTorch for ``.safetensors`` and ``.ckpt``.

Torch is imported only when its engine is opened. All engines share one contract, `Engine`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from sharpkd.inference.errors import ModelError as ModelError

if TYPE_CHECKING:
    from sharpkd.checkpoint import LoadedNet

EngineName = Literal["auto", "onnxruntime", "torch"]
ENGINE_OF_SUFFIX: dict[str, EngineName] = {".onnx": "onnxruntime", ".safetensors": "torch", ".ckpt": "torch"}

HOW_TO_GET_A_MODEL = (
    "train one with `python -m sharpkd.train experiment=quickstart` and use its net.safetensors, "
    "or a file written by `python -m sharpkd.export`"
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


class Engine(Protocol):
    """Runs one net."""

    name: str
    info: ModelInfo

    def run(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """``(1, 3, H, W)`` RGB float32 in [0, 1] -> ``(1, 3, H * scale, W * scale)``, not clamped."""
        ...


def open_engine(model: Path | str, engine: EngineName = "auto", threads: int | None = None) -> Engine:
    """Open a model file.

    Args:
        model: an ``.onnx``, ``.safetensors`` or ``.ckpt`` file.
        engine: "auto" chooses by the file's suffix.
        threads: CPU threads for ONNX Runtime; None leaves the choice to it (torch keeps its global setting).

    Raises:
        ModelError: no such file, an unknown suffix, an engine that cannot run this kind of file, a broken
            file, or an engine that is not installed.
    """
    path = Path(model)
    chosen = _choose(path, engine)
    if chosen == "onnxruntime":
        return OnnxEngine(path, threads)
    return TorchEngine(path)


def _choose(path: Path, engine: EngineName) -> EngineName:
    if not path.is_file():
        kind = "is a folder, not a model file" if path.is_dir() else "does not exist"
        raise ModelError(f"model {path} {kind}: {HOW_TO_GET_A_MODEL}")
    native = ENGINE_OF_SUFFIX.get(path.suffix.lower())
    if native is None:
        raise ModelError(
            f"model {path} has the suffix {path.suffix!r}; expected one of {', '.join(ENGINE_OF_SUFFIX)}"
        )
    if engine not in ("auto", native):
        raise ModelError(
            f"the {engine} engine cannot run {path.name}: a {path.suffix} file runs on {native}"
            + (" (make an .onnx file with `python -m sharpkd.export`)" if native == "torch" else "")
        )
    return native


class OnnxEngine:
    """A net exported by ``python -m sharpkd.export``, under ONNX Runtime on the CPU."""

    name = "onnxruntime"

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

    def run(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """See `Engine.run`."""
        (output,) = self._session.run(None, {self._input: image})
        return output


class TorchEngine:
    """A training checkpoint or exported weights, under PyTorch on the CPU."""

    name = "torch"

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

    def run(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """See `Engine.run`."""
        with self._torch.inference_mode():
            output = self._net(self._torch.from_numpy(image))
        return output.numpy()


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
