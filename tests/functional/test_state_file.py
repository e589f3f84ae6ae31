from __future__ import annotations

import hashlib
import re
import socket
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from sharpkd.functional import state_file
from sharpkd.functional.state_file import fetch, load_state, read_state


def small_net() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_round_trip(tmp_path: Path, suffix: str) -> None:
    saved, loaded = small_net(), small_net()
    path = tmp_path / f"net{suffix}"
    (save_file if suffix == ".safetensors" else torch.save)(saved.state_dict(), path)
    load_state(loaded, read_state(path), path)
    assert all(torch.equal(a, b) for a, b in zip(saved.parameters(), loaded.parameters(), strict=True))


def test_half_precision_is_widened_and_extra_entries_are_ignored() -> None:
    net = small_net()
    state = {name: tensor.half() for name, tensor in net.state_dict().items()}
    load_state(net, state | {"classifier.weight": torch.ones(1)}, "here")
    assert next(net.parameters()).dtype == torch.float32


def test_the_same_net_under_other_names_is_matched_in_order() -> None:
    saved, loaded = small_net(), small_net()
    state = {f"stem.{name}": tensor for name, tensor in saved.state_dict().items()}
    load_state(loaded, state, "here")
    assert torch.equal(next(saved.parameters()), next(loaded.parameters()))


def test_other_kinds_in_the_same_order_are_not_mixed_up() -> None:
    state = {f"stem.{name}": tensor for name, tensor in small_net().state_dict().items()}
    renamed = {name.replace("running_mean", "scale"): tensor for name, tensor in state.items()}
    with pytest.raises(ValueError, match="here does not fit Sequential: 7 of 7 tensors are missing"):
        load_state(small_net(), renamed, "here")


def test_a_wrong_shape_is_named() -> None:
    state = small_net().state_dict() | {"0.weight": torch.ones(5, 3, 1, 1)}
    message = "'0.weight' has shape (5, 3, 1, 1), expected (4, 3, 1, 1)"
    with pytest.raises(ValueError, match=re.escape(message)):
        load_state(small_net(), state, "here")


class Payload:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return eval, ("1/0",)


@pytest.mark.parametrize("content", [b"", b"not a weight file", b"PK\x03\x04 cut short"])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_damaged_files_are_named(tmp_path: Path, content: bytes, suffix: str) -> None:
    path = tmp_path / f"net{suffix}"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(f"{path} is damaged or is no plain weight file")):
        read_state(path)


def test_code_in_a_file_is_not_run(tmp_path: Path) -> None:
    torch.save({"a": Payload()}, tmp_path / "net.pth")
    with pytest.raises(ValueError, match="is damaged or is no plain weight file"):
        read_state(tmp_path / "net.pth")


def test_something_else_than_weights_is_named(tmp_path: Path) -> None:
    torch.save([1, 2], tmp_path / "net.pth")
    with pytest.raises(ValueError, match="holds a list, expected a mapping from names to tensors"):
        read_state(tmp_path / "net.pth")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=re.escape(f"no weight file at {tmp_path / 'net.pth'}")):
        read_state(tmp_path / "net.pth")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path / "torch" / "hub" / "checkpoints"


def published(folder: Path, content: bytes, digest: str) -> str:
    path = folder / f"net-{digest[:8]}.pth"
    path.write_bytes(content)
    return path.as_uri()


def test_fetch_downloads_once(tmp_path: Path, cache: Path) -> None:
    content = b"weights"
    url = published(tmp_path, content, hashlib.sha256(content).hexdigest())
    path = fetch(url)
    assert path.parent == cache
    assert path.read_bytes() == content
    (tmp_path / path.name).unlink()
    assert fetch(url) == path


def test_fetch_refuses_a_wrong_hash_and_leaves_nothing(tmp_path: Path, cache: Path) -> None:
    url = published(tmp_path, b"tampered", hashlib.sha256(b"weights").hexdigest())
    with pytest.raises(FileNotFoundError, match=r"cannot download .*invalid hash value"):
        fetch(url)
    assert list(cache.iterdir()) == []


def test_fetch_gives_up_on_a_silent_server(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_file, "CONNECT_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/net-12345678.pth"
        start = time.monotonic()
        message = f"cannot download {url} (timed out); it belongs at {cache / 'net-12345678.pth'}"
        with pytest.raises(FileNotFoundError, match=re.escape(message)):
            fetch(url)
        assert time.monotonic() - start < 5
