"""A teacher's or student's file in which a bit has changed is refused by name; a full disk spares the old."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from sharpkd.checkpoint import CheckpointError, load_any_net, load_net, save_weights
from sharpkd.nets.pixel_student import PixelStudent

from .conftest import fill

TINY = {"_target_": "sharpkd.nets.pixel_student.PixelStudent", "unshuffle": 2, "width": 4, "depth": 2}


def _weights(path: Path, width: int = 4) -> Path:
    torch.manual_seed(0)
    net = PixelStudent(unshuffle=2, width=width, depth=2)
    save_weights(path, {**TINY, "width": width}, net.state_dict(), {"run": "a test"})
    return path


def _flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("from_end", [1, 100, 500])
def test_one_changed_bit_of_the_weights_is_found(from_end: int, tmp_path: Path) -> None:
    path = _weights(tmp_path / "net.safetensors")
    assert load_net(path).metadata == {"run": "a test"}
    _flip(path, -from_end)
    assert len(load_file(path)) > 0, "safetensors itself sees nothing"
    message = f"{path}: damaged (the SHA-256 of its tensors is not the one that it was written with)"
    with pytest.raises(CheckpointError, match="^" + re.escape(message)):
        load_any_net(path)


def test_a_file_that_was_written_before_there_were_hashes_is_read(tmp_path: Path) -> None:
    path = _weights(tmp_path / "net.safetensors")
    with safe_open(path, framework="pt") as stream:
        kept = {key: value for key, value in stream.metadata().items() if key != "sharpkd.sha256"}
    save_file(load_file(path), tmp_path / "old.safetensors", metadata=kept)
    old = load_net(tmp_path / "old.safetensors").net.state_dict()
    assert all(value.equal(old[key]) for key, value in load_net(path).net.state_dict().items())


def test_one_changed_bit_of_another_projects_weights_is_found(tmp_path: Path) -> None:
    """``torch.save`` stores checksums, ``torch.load`` does not compare them."""
    path = tmp_path / "teacher.pth"
    torch.save({"conv.weight": torch.ones(64, 64)}, path)
    _flip(path, path.read_bytes().index(torch.ones(8).numpy().tobytes()) + 3000)
    assert not torch.load(path, weights_only=True)["conv.weight"].equal(torch.ones(64, 64))
    with pytest.raises(CheckpointError, match=r"teacher\.pth: damaged \(Bad CRC-32 for file .*data/0'\)"):
        load_any_net(path)


def test_a_full_disk_spares_the_old_weights(small_disk: Path) -> None:
    path = _weights(small_disk / "net.safetensors")
    before = path.read_bytes()
    fill(small_disk, left=4096)
    with pytest.raises(OSError, match=r"net\.safetensors cannot be written \(.*No space left on") as said:
        _weights(path, width=64)
    assert "\n" not in str(said.value)
    assert path.read_bytes() == before
    assert sorted(file.name for file in small_disk.iterdir()) == ["filler", "net.safetensors"]
