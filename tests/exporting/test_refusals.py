"""What cannot be exported is refused in one line, and leaves no file."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from sharpkd.checkpoint import save_weights
from sharpkd.export import main
from sharpkd.exporting.export import export_net
from sharpkd.exporting.tracing import traced
from sharpkd.nets.pixel_student import PixelStudent


def refused(kind: type[Exception], message: str, checkpoint: Path, *where: Path, **settings: Any) -> None:
    with pytest.raises(kind, match=f"^{re.escape(message)}$"):
        export_net(checkpoint, *where, **settings)


def test_settings_of_other_names(student_checkpoint: Path) -> None:
    for setting, found, expected in (
        ("format", "tflite", "onnx, openvino, all"),
        ("precision", "bf16", "fp32, fp16, int8"),
        ("pixels", "uint16", "float32, uint8"),
    ):
        message = f"{setting} must be one of {expected}, got '{found}'"
        refused(ValueError, message, student_checkpoint, **{setting: found})
    for setting in ("calibration_crops", "measurement_crops", "crop_size"):
        message = f"{setting}: found 0, expected at least 1"
        refused(ValueError, message, student_checkpoint, **{setting: 0})


def test_outputs_of_other_suffixes(student_checkpoint: Path, tmp_path: Path) -> None:
    for format, name, expected in (
        ("openvino", "a.onnx", ".xml"),
        ("onnx", "a.xml", ".onnx"),
        ("all", "a", ".onnx or .xml"),
    ):
        message = f"output: found {tmp_path / name}, expected a name that ends in {expected}"
        refused(ValueError, message, student_checkpoint, tmp_path / name, format=format)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["net.xml", "net.bin", "net.onnx"])
def test_files_that_exist_are_not_replaced_unasked(
    name: str, student_checkpoint: Path, tmp_path: Path
) -> None:
    (tmp_path / name).write_text("old")
    message = f"{tmp_path / name} exists; pass overwrite=true or another output=PATH"
    refused(FileExistsError, message, student_checkpoint, tmp_path / "net.onnx", format="all")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]
    export_net(student_checkpoint, tmp_path / "net.onnx", format="all", overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net.bin", "net.onnx", "net.xml"]
    assert (tmp_path / name).read_bytes() != b"old"


def test_a_net_without_a_convolution_between_the_first_and_the_last(tmp_path: Path) -> None:
    arguments: dict[str, Any] = {"width": 4, "depth": 2}
    torch.manual_seed(0)
    state = PixelStudent(**arguments).state_dict()
    checkpoint = tmp_path / "net.safetensors"
    save_weights(checkpoint, {"_target_": "sharpkd.nets.pixel_student.PixelStudent", **arguments}, state, {})
    message = (
        "precision=int8: no convolution lies between the first and the last, which stay in float, so there "
        "is nothing to quantise; use precision=fp16"
    )
    for format in ("onnx", "openvino"):
        refused(ValueError, message, checkpoint, format=format, precision="int8", calibration_crops=2)
    assert list(tmp_path.iterdir()) == [checkpoint]


def test_without_nncf_int8_says_how_to_get_it(
    student_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sharpkd.exporting.quantising.missing_modules", lambda extra: ["nncf"])
    message = "precision=int8 needs NNCF: install it with  pip install 'sharpkd[int8]'"
    refused(ModuleNotFoundError, message, student_checkpoint, tmp_path / "a.onnx", precision="int8")
    assert list(tmp_path.iterdir()) == []


def test_an_operator_set_that_cannot_be_written(
    student_checkpoint: Path, call: Callable[..., Any], tmp_path: Path
) -> None:
    outcome = call(main, f"checkpoint={student_checkpoint}", "output=a.onnx", "opset=3")
    line = "error: opset: found 3, expected 18 to 25: PyTorch's exporter writes this net in 18 instead\n"
    assert (outcome.code, outcome.err) == (1, line)
    refused(
        ValueError,
        "opset: found new, expected 18 to 25",
        student_checkpoint,
        tmp_path / "a.onnx",
        opset="new",
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("opset", [18, 25])
def test_the_first_and_the_last_operator_set(opset: int) -> None:
    model = traced(torch.nn.Conv2d(3, 3, 3, padding=1).eval(), "a convolution", 1, opset)
    assert [(one.domain, one.version) for one in model.opset_import] == [("", opset)]


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("[a]", "'a'"),
        ("a", "'a'"),
        ("[nan,0,0,0]", "nan"),
        ("inf", "inf"),
        ("[true]", "True"),
        ("[[1]]", "[1]"),
    ],
)
def test_conditions_that_are_no_numbers(
    given: str, found: str, student_checkpoint: Path, call: Callable[..., Any], tmp_path: Path
) -> None:
    outcome = call(main, f"checkpoint={student_checkpoint}", "output=a.onnx", f"condition={given}")
    line = f"error: condition: found {found}, expected finite numbers such as condition=[1.6]\n"
    assert (outcome.code, outcome.err) == (1, line)
    assert list(tmp_path.iterdir()) == []
