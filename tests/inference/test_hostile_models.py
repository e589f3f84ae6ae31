"""Model files that want files elsewhere, time or memory: refused in one line."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from safetensors.numpy import save_file

from sharpkd.inference.engine import ModelError, open_engine
from sharpkd.inference.onnx_outside import refuse_files_outside

PLAIN = "sharpkd.nets.pixel_student.PixelStudent"


def refused(path: Path, message: str, engine: Any = "auto") -> None:
    with pytest.raises(ModelError, match=message) as caught:
        open_engine(path, engine)
    assert "\n" not in str(caught.value)


def external(location: str, length: int = 4) -> TensorProto:
    tensor = TensorProto(name="bias", dims=[length // 4], data_type=TensorProto.FLOAT)
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "0"), ("length", str(length))):
        tensor.external_data.add(key=key, value=value)
    return tensor


def model(path: Path, tensor: TensorProto, where: str = "initializer") -> Path:
    """An image plus a constant, which lies among the weights, in an operator or in a branch of one."""
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, "h", "w"])
    output = helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, 3, "h", "w"])
    add = helper.make_node("Add", ["image", "bias"], ["output"])
    constant = helper.make_node("Constant", [], ["bias"], value=tensor)
    if where == "initializer":
        graph = helper.make_graph([add], "g", [image], [output], [tensor])
    elif where == "constant":
        graph = helper.make_graph([constant, add], "g", [image], [output])
    else:
        bias = helper.make_tensor_value_info("bias", TensorProto.FLOAT, [1])
        branch = helper.make_graph([constant], "branch", [], [bias])
        yes = helper.make_tensor("yes", TensorProto.BOOL, [], [True])
        chosen = helper.make_node("If", ["yes"], ["bias"], then_branch=branch, else_branch=branch)
        graph = helper.make_graph([chosen, add], "g", [image], [output], [yes])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(made.SerializeToString())
    return path


@pytest.mark.parametrize("where", ["initializer", "constant", "branch"])
@pytest.mark.parametrize("location", ["../secret", "ABSOLUTE", "inner/../../secret", "link", "folder/secret"])
def test_weights_outside_the_models_folder(location: str, where: str, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(np.float32(0.5).tobytes())
    home = tmp_path / "home"
    home.mkdir()
    (home / "link").symlink_to(secret)
    (home / "folder").symlink_to(tmp_path)
    path = model(home / "a.onnx", external(location.replace("ABSOLUTE", str(secret))), where)
    refused(path, "has weights in '.*', which lies outside its folder; not opened")


def test_weights_beside_the_model(tmp_path: Path) -> None:
    (tmp_path / "a.data").write_bytes(np.float32(0.25).tobytes())
    engine: Any = open_engine(model(tmp_path / "a.onnx", external("a.data")))
    output = engine.run(np.zeros((1, 3, 2, 2), np.float32))
    np.testing.assert_array_equal(output, np.full((1, 3, 2, 2), 0.25, np.float32))


def test_weights_that_are_not_there_or_too_short(tmp_path: Path) -> None:
    refused(model(tmp_path / "a.onnx", external("none.data")), r"ONNX Runtime cannot run it \(")
    (tmp_path / "a.data").write_bytes(b"\0\0")
    refused(model(tmp_path / "b.onnx", external("a.data", 1 << 40)), r"ONNX Runtime cannot run it \(")


def test_every_kind_of_damage_is_one_line(tmp_path: Path) -> None:
    whole = model(tmp_path / "whole.onnx", helper.make_tensor("bias", 1, [1], [0.5]), "branch").read_bytes()
    generator = np.random.default_rng(0)
    path = tmp_path / "a.onnx"
    opened, said = 0, list[str]()
    for index in range(40):
        data = bytearray(whole[: len(whole) - index % 7 * 9])
        data[generator.integers(len(data))] ^= 1 << int(generator.integers(8))
        path.write_bytes(data)
        try:
            open_engine(path)
            opened += 1
        except ModelError as error:
            said.append(str(error))
    assert [line for line in said if "\n" in line or not line.startswith(str(path))] == []
    assert opened + len(said) == 40 > opened
    path.write_bytes(b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff")
    with pytest.raises(ModelError, match=r"damaged, or no ONNX file \(a number of more than 64 bits\)"):
        refuse_files_outside(path)


def test_messages_inside_messages(tmp_path: Path) -> None:
    content = b""
    for _ in range(300):  # a graph in an attribute in a node in a graph, ...
        for field in (6, 5, 1):
            size, rest = b"", len(content)
            while rest > 127:
                size, rest = size + bytes([rest & 127 | 128]), rest >> 7
            content = bytes([field << 3 | 2]) + size + bytes([rest]) + content
    size, rest = b"", len(content)
    while rest > 127:
        size, rest = size + bytes([rest & 127 | 128]), rest >> 7
    (tmp_path / "a.onnx").write_bytes(b"\x3a" + size + bytes([rest]) + content)
    refused(tmp_path / "a.onnx", "more than 100 messages inside each other")


def test_the_layout_is_that_of_onnx() -> None:
    """Field numbers, held against the onnx package's own description of its messages."""
    from sharpkd.inference.onnx_outside import LAYOUT

    messages: dict[str, Any] = {
        **{"model": onnx.ModelProto, "training": onnx.TrainingInfoProto, "graph": onnx.GraphProto},
        **{"function": onnx.FunctionProto, "node": onnx.NodeProto, "attribute": onnx.AttributeProto},
        **{"sparse": onnx.SparseTensorProto, "tensor": onnx.TensorProto, "pair": onnx.StringStringEntryProto},
    }
    names = {message.DESCRIPTOR.full_name: name for name, message in messages.items()}
    reaching = {"tensor", "sparse", "node", "attribute", "graph", "function", "training"}
    for name, message in messages.items():
        inner = {
            field.number: names[field.message_type.full_name]
            for field in message.DESCRIPTOR.fields
            if field.message_type is not None and names.get(field.message_type.full_name) in reaching
        }
        if name == "tensor":
            inner = {onnx.TensorProto.EXTERNAL_DATA_FIELD_NUMBER: "pair"}
        assert LAYOUT[name] == inner, name


IR = """<?xml version="1.0"?>{head}
<net name="a" version="11"><layers>
<layer id="0" name="image" type="Parameter" version="opset1"><data shape="1,3,4,4" element_type="f32"/>
<output><port id="0" precision="FP32"><dim>1</dim><dim>3</dim><dim>4</dim><dim>4</dim></port></output></layer>
<layer id="1" name="c" type="Const" version="opset1">
<data element_type="f32" shape="{shape}" offset="{offset}" size="{size}"/>
<output><port id="0" precision="FP32"><dim>1</dim></port></output></layer>
<layer id="2" name="add" type="Add" version="opset1"><data auto_broadcast="numpy"/>
<input><port id="0"/><port id="1"/></input><output><port id="2" precision="FP32"/></output></layer>
<layer id="3" name="out" type="Result" version="opset1"><input><port id="0"/></input></layer></layers>
<edges><edge from-layer="0" from-port="0" to-layer="2" to-port="0"/>
<edge from-layer="1" from-port="0" to-layer="2" to-port="1"/>
<edge from-layer="2" from-port="2" to-layer="3" to-port="0"/></edges></net>"""
USUAL = {"head": "", "shape": "1", "offset": "0", "size": "4"}


@pytest.mark.parametrize(
    "change",
    [
        {"offset": "1000000"},
        {"shape": "1000000000,1000000000", "size": "4000000000000000000"},
        {"size": "1000000000000"},
        {"offset": "18446744073709551612"},
        {"shape": "-1"},
        {"shape": "99999999999999999999999"},
    ],
)
def test_ir_whose_constants_do_not_lie_in_its_bin(change: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "a.xml"
    path.with_suffix(".bin").write_bytes(np.float32(0.5).tobytes())
    path.write_text(IR.format(**USUAL))
    assert open_engine(path).name == "openvino"
    path.write_text(IR.format(**{**USUAL, **change}))
    refused(path, r"a\.xml: OpenVINO cannot run it \(")


def test_ir_without_its_bin_and_xml_that_is_none(tmp_path: Path) -> None:
    path = tmp_path / "a.xml"
    path.write_text(IR.format(**USUAL))
    refused(path, r"a\.xml: the weights a\.bin are not beside it")
    path.with_suffix(".bin").write_bytes(np.float32(0.5).tobytes())
    entities = '<!ENTITY a "1">' + "".join(
        f'<!ENTITY {chr(98 + i)} "{f"&{chr(97 + i)};" * 10}">' for i in range(9)
    )
    for text in (
        "",
        "hello",
        "<net>",
        IR.format(**{**USUAL, "head": f"<!DOCTYPE net [{entities}]>", "shape": "&j;"}),
    ):
        path.write_text(text)
        refused(path, r"a\.xml: OpenVINO cannot run it \(")


def test_a_safetensors_header_that_cannot_be(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    real = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
    for length, entries in [
        (1 << 60, {}),
        (200_000_000, {}),
        (None, {"a": {**real, "shape": [1 << 40, 1 << 40]}}),
        (None, {"a": {**real, "data_offsets": [0, 1 << 50]}}),
        (None, {"a": {**real, "data_offsets": [4, 0]}}),
        (None, {"a": real, "b": real}),
        (None, {"a": {**real, "dtype": "F999"}}),
        (None, {"__metadata__": {"sharpkd.net": "[" * 100_000}, "a": real}),
        (None, {"__metadata__": {"sharpkd.net": "[1]"}, "a": real}),
    ]:
        header = json.dumps(entries).encode()
        path.write_bytes(struct.pack("<Q", length or len(header)) + header + bytes(4))
        refused(path, "a.safetensors holds no net that can be loaded: ")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"depth": 10**9}, "tensors are no such net"),
        ({"depth": "many"}, "depth: found 'many', expected a whole number"),
        ({"width": -1}, "width: found -1, expected a whole number"),
        ({"unshuffle": 0}, "unshuffle, width and depth are 0, "),
        ({"unshuffle": 1e300}, "unshuffle: found 1e\\+300, expected a whole number"),
        ({"width": 10**30}, "its tensors do not fit"),
    ],
)
def test_a_student_whose_arguments_are_absurd(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    described = json.dumps({"_target_": PLAIN, "width": 4, "depth": 3, **change})
    arrays = {
        "tail.bias": np.zeros(12, np.float32),
        "a": np.zeros(1, np.float32),
        "b": np.zeros(1, np.float32),
    }
    save_file(arrays, tmp_path / "a.safetensors", {"sharpkd.net": described})
    refused(tmp_path / "a.safetensors", message)


def test_an_onnx_file_whose_own_story_is_absurd(tmp_path: Path) -> None:
    path = model(tmp_path / "a.onnx", helper.make_tensor("bias", 1, [1], [0.5]))
    story = {"net": "x", "args": "{}", "sha256": "", "receptive_field": "3", "stride": "1", "scale": "1"}
    for change in (
        {"stride": "0"},
        {"stride": '"a"'},
        {"scale": "1e9"},
        {"receptive_field": "-5"},
        {"args": "[1]"},
        {"args": "[" * 100_000},
        {"stride": "9" * 5000},
    ):
        made = onnx.load(path)
        del made.metadata_props[:]
        helper.set_model_props(made, {**story, **change})
        (tmp_path / "b.onnx").write_bytes(made.SerializeToString())
        refused(tmp_path / "b.onnx", "b.onnx: its metadata cannot be read")
