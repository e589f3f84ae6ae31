"""Whatever changes what a model computes changes its fingerprint, or the hash of its code."""

from __future__ import annotations

import importlib
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from sharpkd.checkpoint import file_sha256, load_net, save_weights
from sharpkd.evaluation import fingerprints
from sharpkd.evaluation.fingerprints import external_files, hash_of_code, hash_of_model
from sharpkd.evaluation.models import specs_of

NET = """
from torch import nn
from user_nets.parts.blocks import brighter

class Brighter(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(3, 3, 1)

    def forward(self, degraded, condition=None):
        return brighter(degraded)
"""


def brightening_onnx(folder: Path, levels: float) -> Path:
    """Adds a constant that lies in a file of its own, and one in a branch that lies in another."""
    folder.mkdir(exist_ok=True)
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, "h", "w"]) for name in ("x", "y")]
    constants = [
        numpy_helper.from_array(np.full((1, 3, 1, 1), value, np.float32), name)
        for name, value in (("a", levels / 255), ("b", 0.0))
    ]
    for constant in constants:
        onnx.external_data_helper.set_external_data(constant, f"{constant.name}.data")
    nodes = [
        helper.make_node("Constant", [], ["c"], value=constants[1]),
        helper.make_node("Add", ["x", "a"], ["z"]),
        helper.make_node("Add", ["z", "c"], ["y"]),
    ]
    graph = helper.make_graph(nodes, "brighten", ends[:1], ends[1:], constants[:1])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    path = folder / "net.onnx"
    onnx.external_data_helper.write_external_data_tensors(model, str(folder))
    path.write_bytes(model.SerializeToString())
    return path


def test_a_file_of_its_own_is_its_fingerprint(student_checkpoint: Path, student_onnx: Path) -> None:
    for path in (student_checkpoint, student_onnx):
        assert hash_of_model(path) == file_sha256(path)


def test_external_data_of_an_onnx_file_counts(tmp_path: Path) -> None:
    path = brightening_onnx(tmp_path / "one", 10)
    other = brightening_onnx(tmp_path / "two", 20)
    assert path.read_bytes() == other.read_bytes()
    assert external_files(path) == [tmp_path / "one" / "a.data", tmp_path / "one" / "b.data"]
    assert hash_of_model(path) != hash_of_model(other)
    # the place does not matter
    copy = shutil.copytree(tmp_path / "one", tmp_path / "three") / "net.onnx"
    assert hash_of_model(copy) == hash_of_model(path)
    (tmp_path / "one" / "b.data").unlink()
    with pytest.raises(FileNotFoundError, match=r"net.onnx keeps tensors in .*b.data, which is not there"):
        hash_of_model(path)


def test_a_damaged_onnx_file_is_for_its_engine_to_name(tmp_path: Path) -> None:
    path = tmp_path / "torn.onnx"
    path.write_bytes(b"torn")
    assert hash_of_model(path) == file_sha256(path)


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[float], nn.Module]:
    """``written(levels)``: the net of a user's package, whose helper in another folder adds so many."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    package = tmp_path / "user_nets"

    def write(levels: float) -> nn.Module:
        for folder in (package, package / "parts"):
            folder.mkdir(exist_ok=True)
            (folder / "__init__.py").touch()
        (package / "net.py").write_text(NET)
        (package / "parts" / "blocks.py").write_text(f"def brighter(image):\n    return image + {levels}\n")
        # as in the next process
        for name in [name for name in sys.modules if name.partition(".")[0] == "user_nets"]:
            monkeypatch.delitem(sys.modules, name)
        fingerprints._hash_of_sources.cache_clear()
        importlib.invalidate_caches()
        net: nn.Module = importlib.import_module("user_nets.net").Brighter()
        return net

    return write


@pytest.mark.parametrize("trusted", ["user_nets", "user_nets.net", "another"])
def test_code_of_a_users_package_counts(written: Callable[[float], nn.Module], trusted: str) -> None:
    first = hash_of_code(written(0.1), [trusted])
    assert len(first) == 64
    assert hash_of_code(written(0.1), [trusted]) == first
    assert hash_of_code(written(0.2), [trusted]) != first


def test_a_part_of_a_users_module_counts(written: Callable[[float], nn.Module]) -> None:
    assert hash_of_code(nn.Sequential(nn.ReLU(), written(0.1))) == hash_of_code(written(0.1))


def test_what_is_no_file_of_code_does_not_count(
    written: Callable[[float], nn.Module], tmp_path: Path
) -> None:
    before = hash_of_code(written(0.1))
    # an editor's lock, and a folder with an unusual name
    (tmp_path / "user_nets" / ".#net.py").symlink_to("somebody@somewhere.1234")
    (tmp_path / "user_nets" / "old.py").mkdir()
    assert hash_of_code(written(0.1)) == before


def test_sharpkds_own_nets_have_no_code_of_a_users(student_checkpoint: Path) -> None:
    assert hash_of_code(load_net(student_checkpoint).net) == ""


def test_a_model_tells_its_code(written: Callable[[float], nn.Module], tmp_path: Path) -> None:
    net = written(0.1)
    path = tmp_path / "brighter.safetensors"
    save_weights(path, {"_target_": "user_nets.net.Brighter"}, net.state_dict(), {})
    (spec,) = specs_of(str(path), ["user_nets"])
    assert spec.open().code == hash_of_code(net, ["user_nets"])
