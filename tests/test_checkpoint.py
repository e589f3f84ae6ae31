"""Weight files: what goes in comes out, and a file from a stranger can do nothing but fail."""

from __future__ import annotations

import json
import os
import pickle
import re
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from sharpkd.checkpoint import (
    CheckpointError,
    build_net,
    file_sha256,
    load_net,
    net_state,
    read_lightning,
    save_weights,
)
from sharpkd.config import compose

# nets that come from a file of another project have tests of their own
FROM_FILES = {"pretrained", "swinir"}
NETS = sorted(
    {path.stem for path in (Path(__file__).parents[1] / "conf" / "net").glob("*.yaml")} - FROM_FILES
)
TINY = {"_target_": "sharpkd.nets.pixel_student.PixelStudent", "unshuffle": 2, "width": 4, "depth": 2}
EXPECTED = "expected a checkpoint of python -m sharpkd.train"


def tiny_net() -> nn.Module:
    torch.manual_seed(0)
    return build_net(TINY)


def write(path: Path, config: Any, state: dict[str, torch.Tensor] | None = None) -> Path:
    """A safetensors file with any description of a net."""
    described = config if isinstance(config, str) else json.dumps(config)
    save_file(state or {"a": torch.ones(1)}, path, metadata={"sharpkd.net": described})
    return path


def fails(path: Path, message: str, trusted: tuple[str, ...] = ()) -> None:
    with pytest.raises(CheckpointError, match="^" + re.escape(f"{path}: {message}")):
        load_net(path, trusted)


@pytest.mark.parametrize("name", NETS)
def test_every_net_comes_back_bit_for_bit(name: str, tmp_path: Path) -> None:
    plain: dict[str, Any] = json.loads(
        json.dumps(OmegaConf.to_container(compose("train", [f"net={name}"]).net))
    )
    torch.manual_seed(1)
    net = build_net(plain).eval()
    path = tmp_path / "net.safetensors"
    save_weights(path, plain, net.state_dict(), {"run": "teacher/a", "scale": "1"})
    loaded = load_net(path)
    assert loaded.config == plain
    assert loaded.metadata == {"run": "teacher/a", "scale": "1"}
    assert loaded.sha256 == file_sha256(path)
    assert loaded.path == path
    assert type(loaded.net) is type(net)
    assert not any(module.training for module in loaded.net.modules())
    state = loaded.net.state_dict()
    assert state.keys() == net.state_dict().keys()
    assert all(value.equal(state[key]) for key, value in net.state_dict().items())
    image = torch.rand(1, 3, 17, 23)
    with torch.inference_mode():
        assert loaded.net(image).equal(net(image))


def test_lightning_checkpoint_gives_its_averaged_net(tmp_path: Path) -> None:
    net = tiny_net()
    state = {f"net.{key}": value for key, value in net.state_dict().items()}
    others = {"transfer.adapter.weight": torch.ones(1), "loss.window": torch.ones(1)}
    trained = {key: value + 1 for key, value in state.items()}
    content = {
        "sharpkd": {"net": TINY, "config": {}, "teacher_sha256": ""},
        "state_dict": state | others,
        "current_model_state": trained,
        "global_step": 7,
    }
    path = tmp_path / "last.ckpt"
    torch.save(content, path)
    loaded = load_net(path)
    assert loaded.metadata == {"step": "7"}
    assert loaded.config == TINY
    assert all(value.equal(loaded.net.state_dict()[key]) for key, value in net.state_dict().items())
    assert net_state(content["state_dict"]).keys() == net.state_dict().keys()  # type: ignore[arg-type]  # read back untyped


def test_tied_and_transposed_tensors_are_written(tmp_path: Path) -> None:
    base = torch.arange(6.0).reshape(2, 3)
    save_weights(tmp_path / "a.safetensors", TINY, {"a": base, "b": base, "c": base.T}, {})
    with safe_open(tmp_path / "a.safetensors", framework="pt") as stream:
        assert stream.get_tensor("a").equal(base)
        assert stream.get_tensor("b").equal(base)
        assert stream.get_tensor("c").equal(base.T)


def test_weights_are_as_readable_as_any_other_file(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    save_weights(tmp_path / "new" / "a.safetensors", TINY, tiny_net().state_dict(), {})
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("plain", "new/a.safetensors")]
    assert modes[0] == modes[1]


def test_failing_save_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "net.safetensors"
    save_weights(path, TINY, tiny_net().state_dict(), {})
    before = path.read_bytes()

    def half(tensors: Any, file: Path, metadata: Any) -> None:
        Path(file).write_bytes(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr("sharpkd.checkpoint.save_file", half)
    with pytest.raises(OSError, match="no space left on device"):
        save_weights(path, TINY, tiny_net().state_dict(), {})
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["net.safetensors"]


@pytest.mark.parametrize(("config", "metadata"), [({**TINY, "width": {1, 2}}, {}), (TINY, {"steps": 3})])
def test_what_a_file_cannot_carry_is_refused(
    config: dict[str, Any], metadata: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(TypeError):
        save_weights(tmp_path / "a.safetensors", config, tiny_net().state_dict(), metadata)
    assert os.listdir(tmp_path) == []


def _run_system(marker: Path) -> Any:
    return os.system, (f"touch {marker}",)


def _run_popen(marker: Path) -> Any:
    return subprocess.Popen, (["touch", str(marker)],)


class Malicious:
    """Runs a command when it is unpickled."""

    def __init__(self, call: Callable[[Path], Any], marker: Path) -> None:
        self.call = call(marker)

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize(
    ("call", "named"),
    [(_run_system, "posix.system"), (_run_popen, "commands.Popen")],
    ids=["system", "popen"],
)
def test_pickled_code_is_refused_and_not_run(call: Callable[[Path], Any], named: str, tmp_path: Path) -> None:
    marker = tmp_path / "executed"
    path = tmp_path / "evil.ckpt"
    torch.save({"sharpkd": {"net": TINY}, "state_dict": {}, "more": Malicious(call, marker)}, path)
    fails(path, f"holds pickled code ({named}), which was not run; {EXPECTED}")
    plain = tmp_path / "plain.ckpt"
    plain.write_bytes(pickle.dumps(Malicious(call, marker)))
    fails(plain, f"damaged or incomplete; {EXPECTED}")
    assert not marker.exists()
    # the same pickle does run where it is trusted: the test would see it
    made = pickle.loads(plain.read_bytes())
    if isinstance(made, subprocess.Popen):
        made.wait()
    assert marker.exists()


@pytest.mark.parametrize("suffix", [".ckpt", ".safetensors"])
@pytest.mark.parametrize("size", [0, 1, 100, -1])
def test_truncated_file(suffix: str, size: int, tmp_path: Path) -> None:
    path = tmp_path / f"net{suffix}"
    if suffix == ".ckpt":
        torch.save({"sharpkd": {"net": TINY}, "state_dict": {}}, path)
        expected = f"damaged or incomplete; {EXPECTED}"
    else:
        save_weights(path, TINY, tiny_net().state_dict(), {})
        expected = "not a readable safetensors file ("
    path.write_bytes(path.read_bytes()[:size])
    fails(path, expected)


def test_zip_that_torch_cannot_read(tmp_path: Path) -> None:
    path = tmp_path / "net.ckpt"
    torch.save({"sharpkd": {"net": TINY}, "state_dict": {}}, path)
    path.write_bytes(path.read_bytes().replace(b"data.pkl", b"tata.pkl"))
    fails(path, f"damaged; {EXPECTED}")


@pytest.mark.parametrize(
    "content",
    [
        [1, 2],
        {"state_dict": {}},
        {"sharpkd": 1, "state_dict": {}},
        {"sharpkd": {"net": "PixelStudent"}, "state_dict": {}},
    ],
)
def test_checkpoint_of_another_program(content: Any, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "a.ckpt")
    message = (
        f"{tmp_path / 'a.ckpt'}: a checkpoint of another program; expected one of python -m sharpkd.train"
    )
    with pytest.raises(CheckpointError, match=f"^{re.escape(message)}$"):
        read_lightning(tmp_path / "a.ckpt")


def test_checkpoint_with_other_things_than_tensors(tmp_path: Path) -> None:
    torch.save({"sharpkd": {"net": TINY}, "state_dict": {"net.a": 1}}, tmp_path / "a.ckpt")
    fails(tmp_path / "a.ckpt", "its state_dict holds more than tensors")


def test_safetensors_of_another_program(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    save_file({"conv.weight": torch.ones(3)}, path, metadata={"format": "pt"})
    expected = "expected a file written by python -m sharpkd.train"
    fails(path, f"no net is described in its metadata (key 'sharpkd.net'); {expected}")


@pytest.mark.parametrize(
    ("described", "message"),
    [
        ("{", "the net's description is not JSON ("),
        ("[]", "the net's description is list, expected an object"),
        ("{}", "the net is '', which lies outside the trusted packages ['sharpkd.nets']; "),
    ],
)
def test_description_that_describes_nothing(described: str, message: str, tmp_path: Path) -> None:
    fails(write(tmp_path / "a.safetensors", described), message)


@pytest.mark.parametrize(
    "target",
    [
        "subprocess.Popen",
        "os.system",
        "torch.nn.Linear",
        "sharpkd.nets",
        "sharpkd.netsx.Net",
        "sharpkd.train.main",
    ],
)
def test_class_outside_the_trusted_packages_is_not_called(target: str, tmp_path: Path) -> None:
    marker = tmp_path / "executed"
    argument = {"subprocess.Popen": "args", "os.system": "command"}.get(target, "x")
    path = write(tmp_path / "a.safetensors", {"_target_": target, argument: f"touch {marker}"})
    advice = "if it is yours, add its package to runtime.trusted_packages"
    fails(path, f"the net is {target!r}, which lies outside the trusted packages ['sharpkd.nets']; {advice}")
    assert not marker.exists()


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (
            "sharpkd.nets.pixel_student.Nobody",
            "the net's class 'sharpkd.nets.pixel_student.Nobody' cannot be imported",
        ),
        ("sharpkd.nets.nowhere.Net", "the net's class 'sharpkd.nets.nowhere.Net' cannot be imported"),
        ("sharpkd.nets.base.check_image", "'sharpkd.nets.base.check_image' is not a torch.nn.Module class"),
        ("sharpkd.nets.base.Tensor", "'sharpkd.nets.base.Tensor' is not a torch.nn.Module class"),
        (
            "sharpkd.nets.base.nn.Sequential",
            "the net's class 'sharpkd.nets.base.nn.Sequential' cannot be imported",
        ),
    ],
)
def test_target_inside_that_is_no_net(target: str, message: str, tmp_path: Path) -> None:
    fails(write(tmp_path / "a.safetensors", {"_target_": target}), message)


@pytest.mark.parametrize("change", [{"width": 0}, {"width": "wide"}, {"channels": 3}, {"width": 2**60}])
def test_arguments_that_the_net_refuses(change: dict[str, Any], tmp_path: Path) -> None:
    path = write(tmp_path / "a.safetensors", {**TINY, **change})
    fails(path, f"{TINY['_target_']} refuses its arguments ")


def test_tensors_that_do_not_fit(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_weights(path, {**TINY, "width": 5}, tiny_net().state_dict(), {})
    fails(
        path, "its tensors do not fit sharpkd.nets.pixel_student.PixelStudent: Error(s) in loading state_dict"
    )
    state = tiny_net().state_dict()
    del state["tail.bias"]
    save_weights(path, TINY, state, {})
    with pytest.raises(CheckpointError, match=r'Missing key\(s\) in state_dict: "tail.bias"'):
        load_net(path)


@pytest.mark.parametrize("name", ["net.pth", "net.onnx", "net"])
def test_wrong_suffix(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"anything")
    fails(tmp_path / name, "unknown kind of weight file; expected .safetensors or .ckpt")


def test_missing_file(tmp_path: Path) -> None:
    path = tmp_path / "nowhere.ckpt"
    with pytest.raises(FileNotFoundError, match=f"^{re.escape(f'no weight file at {path}')}$"):
        load_net(path)
    with pytest.raises(FileNotFoundError, match="no weight file at"):
        load_net(tmp_path)


USER_NET = """
from torch import nn

class Net(nn.Module):
    def __init__(self, part, names):
        super().__init__()
        self.received = part, names
        self.conv = nn.Conv2d(3, 3, 1)
"""


def test_trusted_package_and_its_nested_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_own_nets.py").write_text(USER_NET)
    monkeypatch.syspath_prepend(str(tmp_path))
    marker = tmp_path / "executed"
    part = {"_target_": "os.system", "command": f"touch {marker}"}
    config = {"_target_": "my_own_nets.Net", "part": part, "names": ["a", "b"]}
    conv = nn.Conv2d(3, 3, 1)
    path = tmp_path / "net.safetensors"
    save_weights(path, config, {f"conv.{key}": value for key, value in conv.state_dict().items()}, {})
    outside = (
        "the net is 'my_own_nets.Net', which lies outside the trusted packages ['sharpkd.nets', 'other']"
    )
    fails(path, outside, trusted=("other",))
    net = load_net(path, trusted=["my_own_nets"]).net
    assert net.received == (part, ["a", "b"])
    assert not marker.exists()
    assert net.conv.weight.equal(conv.weight)  # type: ignore[union-attr, operator]  # a user class loaded by name
