"""Weight files that want memory, or code to be run."""

from __future__ import annotations

import io
import os
import pickle
import re
import subprocess
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from sharpkd.checkpoint import CheckpointError, load_any_net, load_net, save_weights
from sharpkd.nets.hostile_weights import TooLargeError, is_plain, no_larger_than, reason_to_refuse
from sharpkd.nets.pixel_student import PixelStudent

TARGET = f"{PixelStudent.__module__}.PixelStudent"
TINY = {"_target_": TARGET, "width": 4, "depth": 3}


class Call:
    """Pickled as a call."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.call


def state() -> dict[str, torch.Tensor]:
    return PixelStudent(width=4, depth=3).state_dict()


def packed(path: Path, method: int = zipfile.ZIP_DEFLATED) -> Path:
    """The same archive with its entries compressed."""
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def refused(path: Path, message: str) -> None:
    """As another project's weights and as a checkpoint, in one line."""
    with pytest.raises(CheckpointError, match=re.escape(message)) as caught:
        load_any_net(path)
    assert "\n" not in str(caught.value)
    checkpoint = path.rename(path.with_suffix(".ckpt"))
    with pytest.raises(CheckpointError) as caught:
        load_net(checkpoint)
    assert "\n" not in str(caught.value)


def test_an_archive_that_unpacks_to_more_than_it_has(tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(2_000_000)}, tmp_path / "a.pth")
    path = packed(tmp_path / "a.pth")
    assert path.stat().st_size < 20_000
    refused(path, f"an archive of {path.stat().st_size:,} bytes that unpacks to 8,000,")


def test_a_bomb_takes_no_memory(tmp_path: Path) -> None:
    """In a process that may have 128 MiB more than it has, of which the archive would take 256."""
    torch.save({"weight": torch.zeros(1)}, tmp_path / "a.pth")
    with zipfile.ZipFile(tmp_path / "a.pth") as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(tmp_path / "a.pth", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, content in files.items():
            with archive.open(name, "w") as entry:
                entry.write(content)
                for _ in range(256 if name.endswith("data/0") else 0):
                    entry.write(bytes(1 << 20))
    with (tmp_path / "b.pth").open("wb") as stream:
        pickle.dump(Call(bytearray, 1 << 30), stream, protocol=2)
    code = (
        "import pathlib, resource, sys\n"
        "from sharpkd.checkpoint import CheckpointError, load_any_net\n"
        "used = int(pathlib.Path('/proc/self/statm').read_text().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used + 2**27, used + 2**27))\n"
        "for name in sys.argv[1:]:\n"
        "    try: load_any_net(name)\n"
        "    except CheckpointError as error: print(error)\n"
    )
    names = [str(tmp_path / name) for name in ("a.pth", "b.pth")]
    done = subprocess.run([sys.executable, "-c", code, *names], capture_output=True, text=True, check=True)
    first, second = done.stdout.splitlines()
    assert "bytes that unpacks to 268,43" in first
    assert f"{names[1]}: holds pickled code (" in second
    assert "bytearray), which was not run" in second


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (os.system, ("touch TRACE",)),
        (eval, ("open('TRACE', 'w')",)),
        (bytearray, (1 << 40,)),
        (torch.Tensor, (1 << 20, 1 << 20)),
        (torch.load, ("TRACE",)),
    ],
)
def test_no_call_of_a_pickle_is_made(
    function: Callable[..., Any], arguments: tuple[Any, ...], legacy: bool, tmp_path: Path
) -> None:
    trace = tmp_path / "trace"
    given = [str(trace) if one == "TRACE" else one for one in arguments]
    given = [one.replace("TRACE", str(trace)) if isinstance(one, str) else one for one in given]
    path = tmp_path / "a.pth"
    torch.save({**state(), "more": Call(function, *given)}, path, _use_new_zipfile_serialization=not legacy)
    refused(path, "holds pickled code (")
    assert not trace.exists()


def test_a_tensor_that_claims_more_rows_than_there_are(tmp_path: Path) -> None:
    one = torch.zeros(1)
    torch.save({"body.0.weight": one.expand(1 << 20, 1 << 16)}, tmp_path / "a.pth")
    refused(tmp_path / "a.pth", "bytes claim to hold tensors of 274,877,906,944")
    meta = torch.empty(1 << 20, 1 << 16, device="meta")
    torch.save({"body.0.weight": meta}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=r"holds pickled code \(torch\._utils\._rebuild_meta_tensor"):
        load_any_net(tmp_path / "a.pth")


def test_many_tensors_that_share_their_numbers(tmp_path: Path) -> None:
    numbers = torch.zeros(10_000)
    torch.save({f"body.{index}.weight": numbers for index in range(1000)}, tmp_path / "a.pth")
    refused(tmp_path / "a.pth", "bytes claim to hold tensors of ")


def test_what_torch_writes_is_read(tmp_path: Path) -> None:
    tied = torch.zeros(100)
    content = OrderedDict(
        a=tied, b=nn.Parameter(tied), c=torch.zeros(2, dtype=torch.int64), d=torch.Size([1])
    )
    for legacy in (False, True):
        torch.save(content, tmp_path / "a.pth", _use_new_zipfile_serialization=not legacy)
        assert reason_to_refuse(tmp_path / "a.pth") is None


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04", b"\x80\x02.", b"\x80\x02K\x01"])
def test_damage_is_left_to_torch(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.pth").write_bytes(content)
    assert reason_to_refuse(tmp_path / "a.pth") is None
    refused(tmp_path / "a.pth", "a.pth: ")


@pytest.mark.parametrize(
    "change",
    [{"width": 1 << 20}, {"depth": 1 << 30}, {"unshuffle": 1 << 14}, {"scale": 1 << 12}],
)
def test_a_net_that_is_larger_than_its_file(change: dict[str, int], tmp_path: Path) -> None:
    save_weights(tmp_path / "a.safetensors", {**TINY, **change}, state(), {})
    with pytest.raises(
        CheckpointError, match=f"{TARGET} refuses its arguments .*(larger than its file|memory)"
    ):
        load_net(tmp_path / "a.safetensors")


def test_only_this_threads_nets_are_bounded() -> None:
    with pytest.raises(TooLargeError, match="'weight' would be one tensor too many"), no_larger_than([]):
        nn.Linear(1 << 14, 1 << 14)
    nn.Linear(3, 3)
    with no_larger_than([torch.zeros(10)]):
        nn.Linear(1000, 1000)


@pytest.mark.parametrize(
    "described",
    [
        "[" * 100_000,
        '{"_target_": ' + "9" * 5000 + "}",
        '{"_target_": "x"',
        "\ud800".encode("utf-8", "replace"),
    ],
)
def test_a_description_that_no_parser_likes(described: Any, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    text = described if isinstance(described, str) else described.decode()
    save_file(state(), tmp_path / "a.safetensors", metadata={"sharpkd.net": text})
    with pytest.raises(CheckpointError, match=r"the net's description is ") as caught:
        load_net(tmp_path / "a.safetensors")
    assert "\n" not in str(caught.value)


def test_a_description_that_grows_when_it_is_shown(tmp_path: Path) -> None:
    deep: Any = ["x"]
    for _ in range(60):
        deep = [deep, deep]
    assert not is_plain(deep)
    assert is_plain({"a": [1, 2.5, "b", None, True], "b": {"c": (1, 2)}})
    assert not is_plain({"a": torch.zeros(1)})
    stream = io.BytesIO()
    net = {**TINY, "more": deep}
    torch.save({"sharpkd": {"net": net}, "state_dict": {"net.a": torch.zeros(1)}}, stream)
    (tmp_path / "a.ckpt").write_bytes(stream.getvalue())
    with pytest.raises(CheckpointError, match="its net's description is no short list of plain values"):
        load_net(tmp_path / "a.ckpt")
