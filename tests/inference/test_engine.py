from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sharpkd.checkpoint import load_net
from sharpkd.inference import openvino_student
from sharpkd.inference.engine import (
    EngineName,
    ModelError,
    ModelInfo,
    OnnxEngine,
    StudentEngine,
    TorchEngine,
    info_from_metadata,
    metadata_of,
    open_engine,
)
from sharpkd.inference.sharpener import Sharpener

SaveOnnx = Callable[..., Path]


def test_all_engines_tell_the_same_about_a_net(student_checkpoint: Path, student_onnx: Path) -> None:
    files: list[tuple[Path, EngineName]] = [
        (student_onnx, "onnxruntime"),
        (student_checkpoint, "openvino"),
        (student_checkpoint, "onnxruntime"),
        (student_checkpoint, "torch"),
    ]
    for path, engine in files:
        opened = open_engine(path, engine)
        assert opened.name == engine
        assert (opened.condition_size, opened.luma_only) == (0, False)
        assert opened.info == ModelInfo(
            path=path,
            net="sharpkd.nets.pixel_student.PixelStudent",
            args={"unshuffle": 2, "width": 8, "depth": 3},
            sha256=hashlib.sha256(student_checkpoint.read_bytes()).hexdigest(),
            receptive_field=15,
            stride=2,
            scale=1,
            metadata={"run": "a test"} | ({"licence": "MIT"} if path == student_onnx else {}),
        )


def test_both_engines_compute_the_net(student_checkpoint: Path, student_onnx: Path) -> None:
    import torch

    image = np.random.default_rng(0).random((1, 3, 23, 37), dtype=np.float32)
    with torch.inference_mode():
        expected = load_net(student_checkpoint).net(torch.from_numpy(image)).numpy()
    assert np.abs(expected - image).max() > 0.05
    np.testing.assert_array_equal(TorchEngine(student_checkpoint).run(image), expected)
    np.testing.assert_allclose(OnnxEngine(student_onnx, threads=1).run(image), expected, atol=1e-5)


def test_auto_prefers_openvino_then_onnxruntime_then_torch(
    student_checkpoint: Path, student_onnx: Path, mobile_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert open_engine(student_checkpoint).name == "openvino"
    assert open_engine(student_onnx).name == "onnxruntime"
    assert open_engine(mobile_checkpoint).name == "torch"
    monkeypatch.setattr("sharpkd.inference.engine.find_spec", lambda name: None)
    assert open_engine(student_checkpoint).name == "onnxruntime"
    message = "OpenVINO is not installed: pip install openvino, or use engine onnxruntime"
    with pytest.raises(ModelError, match=message):
        open_engine(student_checkpoint, "openvino")


def test_precisions(student_checkpoint: Path, student_onnx: Path) -> None:
    able = openvino_student.fast_precisions()
    assert able[-1] == "fp32"
    assert open_engine(student_checkpoint).precision == able[0]
    assert open_engine(student_checkpoint, precision="fp32").precision == "fp32"
    for engine in ("onnxruntime", "torch"):
        assert open_engine(student_checkpoint, engine).precision == "fp32"
        message = f"the {engine} engine computes in fp32, not in bf16; for students see openvino"
        with pytest.raises(ModelError, match=message):
            open_engine(student_checkpoint, engine, precision="bf16")
    with pytest.raises(ModelError, match="the onnxruntime engine computes in fp32, not in fp16"):
        open_engine(student_onnx, precision="fp16")
    with pytest.raises(ValueError, match="precision must be one of auto, bf16, fp16, fp32, int8, got 'int4'"):
        open_engine(student_onnx, precision="int4")  # type: ignore[arg-type]  # wrong on purpose
    with pytest.raises(ValueError, match="engine must be one of auto, openvino, onnxruntime, torch, got 'x'"):
        open_engine(student_onnx, "x")  # type: ignore[arg-type]  # wrong on purpose


def test_a_precision_that_the_cpu_lacks(student_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvino_student, "fast_precisions", lambda: ["fp32"])
    assert StudentEngine(student_checkpoint).precision == "fp32"
    with pytest.raises(ModelError, match="this CPU does not compute in bf16 under OpenVINO; in fp32"):
        StudentEngine(student_checkpoint, precision="bf16")


@pytest.mark.parametrize("field", [None, 31])
def test_metadata_survives_the_file(field: int | None, tmp_path: Path) -> None:
    info = ModelInfo(
        tmp_path / "a.onnx", "my.Net", {"depths": [1, 2], "b": True}, "ab", field, 4, 2, {"x": 1.5}
    )
    assert info_from_metadata(info.path, metadata_of(info)) == info


def test_a_foreign_model_is_run_on_whole_images(tmp_path: Path, save_onnx: SaveOnnx) -> None:
    path = save_onnx(tmp_path / "foreign.onnx", "Abs", None)
    info = open_engine(path).info
    assert (info.net, info.receptive_field, info.stride) == ("unknown", None, 1)
    assert info.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def _raises(path: Path, message: str, engine: str = "auto") -> None:
    with pytest.raises(ModelError, match=re.escape(message)):
        open_engine(path, engine)  # type: ignore[arg-type]  # wrong on purpose


def test_bad_models(
    tmp_path: Path,
    save_onnx: SaveOnnx,
    student_onnx: Path,
    student_checkpoint: Path,
    mobile_checkpoint: Path,
) -> None:
    _raises(
        tmp_path / "no.onnx",
        f"model {tmp_path / 'no.onnx'} does not exist: name fast, balanced or quality, or train one",
    )
    _raises(tmp_path, f"model {tmp_path} is a folder, not a model file: name fast, balanced or quality")
    other = tmp_path / "model.pt"
    other.write_bytes(b"x")
    _raises(other, f"model {other} has the suffix '.pt'; expected one of .onnx, .xml, .safetensors, .ckpt")
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"not a model")
    _raises(broken, f"{broken}: damaged, or no ONNX file (")
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(student_checkpoint.read_bytes()[:300])
    _raises(damaged, f"{damaged} holds no net that can be loaded: ")
    _raises(
        student_onnx, "the torch engine cannot run student.onnx: a .onnx file runs on onnxruntime", "torch"
    )
    _raises(
        mobile_checkpoint,
        "the onnxruntime engine cannot run mobile.safetensors: a sharpkd.nets.mobile_student.MobileStudent "
        "runs on torch (make an .onnx file with `python -m sharpkd.export`)",
        "onnxruntime",
    )
    bad = ModelInfo(tmp_path / "bad.onnx", "Net")
    path = save_onnx(bad.path, "Identity", bad, {"stride": "two"})
    _raises(path, f"{path}: its metadata cannot be read (JSONDecodeError: ")


def test_another_device_means_torch_and_net_and_pictures_are_sent_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The CPU under its other name stands for a GPU; what is sent there is watched."""
    import torch

    sent: list[tuple[str, torch.device]] = []
    for kind in (torch.nn.Module, torch.Tensor):
        move = kind.to

        def watched(self: Any, *arguments: Any, _move: Any = move, _kind: Any = kind, **named: Any) -> Any:
            sent.extend((_kind.__name__, one) for one in arguments if isinstance(one, torch.device))
            return _move(self, *arguments, **named)

        monkeypatch.setattr(kind, "to", watched)
    photograph = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    sharpener = Sharpener("fast", device="cpu:0")
    assert sharpener.engine == "torch"
    found = sharpener(photograph, sigma=1.5)
    assert {("Module", torch.device("cpu:0")), ("Tensor", torch.device("cpu:0"))} <= set(sent)
    np.testing.assert_array_equal(found, Sharpener("fast", "torch")(photograph, sigma=1.5))


def test_devices_that_cannot_be_had(student_checkpoint: Path, student_onnx: Path) -> None:
    for engine in ("openvino", "onnxruntime"):
        message = f"the {engine} engine runs on the CPU here: for device cuda use torch"
        with pytest.raises(ModelError, match=f"^{message}$"):
            open_engine(student_checkpoint, engine, device="cuda")
    for device in ("cuda:99", "warp", "meta"):
        with pytest.raises(ModelError, match=rf"^torch has no device '{device}' here \("):
            open_engine(student_checkpoint, device=device)
    with pytest.raises(ModelError, match=r"the torch engine cannot run student\.onnx"):
        open_engine(student_onnx, device="cuda")


def test_a_model_of_something_else_than_images(tmp_path: Path, save_onnx: SaveOnnx) -> None:
    path = save_onnx(tmp_path / "flat.onnx", "Identity", None, shape=["n", 10])
    _raises(path, f"{path} takes (image: tensor(float) ['n', 10]); expected one float32 image (N, 3, H, W)")


def test_without_torch_the_message_says_what_to_install(mobile_checkpoint: Path) -> None:
    code = (
        "import sys, importlib.util as u\n"
        "find = u.find_spec\n"
        "u.find_spec = lambda name, *a: None if name == 'torch' else find(name, *a)\n"
        "from sharpkd.inference.engine import ModelError, open_engine\n"
        "try: open_engine(sys.argv[1])\n"
        "except ModelError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(mobile_checkpoint)], capture_output=True, text=True, check=True
    )
    expected = "mobile.safetensors needs PyTorch: pip install 'sharpkd[train]', or use an .onnx file\n"
    assert done.stdout == expected
