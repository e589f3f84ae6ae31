from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from sharpkd.data.shards.manifest import ShardError
from sharpkd.data.shards.tar_file import DamagedShard, Record, UnsafeShard, samples_of

RECORD = Record("a.png", 4, 3, "0" * 64).to_bytes()


def archive(path: Path, *members: tarfile.TarInfo | tuple[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as opened:  # type: ignore[call-overload]  # the mode is not known to mypy
        for member in members:
            data = b""
            if isinstance(member, tuple):
                name, data = member
                member = tarfile.TarInfo(name)
                member.size = len(data)
            opened.addfile(member, io.BytesIO(data))
    return path


def special(name: str, kind: bytes, link: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, link
    return member


def test_where_files_lie(tmp_path: Path) -> None:
    """In folders, in either order, and beside a folder's own entry."""
    path = archive(
        tmp_path / "a.tar",
        special("photos", tarfile.DIRTYPE),
        ("photos/0.PNG", b"first"),
        ("photos/0.json", RECORD),
        ("1.json", b"{}"),
        ("1.npy", b"second"),
    )
    data = path.read_bytes()
    first, second = samples_of(path)
    assert (first.ending, second.ending) == (".png", ".npy")
    assert data[first.offset :][: first.size] == b"first"
    assert data[first.record_offset :][: first.record_size] == RECORD
    assert data[second.offset :][: second.size] == b"second"
    assert data[second.record_offset :][: second.record_size] == b"{}"


@pytest.mark.parametrize(
    ("member", "message"),
    [
        (("../0.png", b""), r"'\.\./0\.png', a path that could lead out of the folder"),
        (("a/../../0.png", b""), r"'a/\.\./\.\./0\.png', a path that could lead out"),
        (("/etc/0.png", b""), r"'/etc/0\.png', a path that could lead out"),
        (("..\\0.png", b""), r"a path that could lead out"),
        (("C:0.png", b""), r"'C:0\.png', a path that could lead out"),
        (("a\x1b[2J.png", b""), r"expected printable characters"),
        (
            special("0.png", tarfile.SYMTYPE, "/etc/passwd"),
            r"the link '0\.png' to '/etc/passwd', expected only",
        ),
        (special("0.png", tarfile.LNKTYPE, "../b"), r"the link '0\.png' to '\.\./b', expected only"),
        (special("0.png", tarfile.CHRTYPE), r"'0\.png', which is neither a file nor a folder"),
        (special("0.png", tarfile.FIFOTYPE), r"'0\.png', which is neither a file nor a folder"),
        (special("../up", tarfile.DIRTYPE), r"'\.\./up', a path that could lead out"),
    ],
)
def test_unsafe_archives_are_refused(
    tmp_path: Path, member: tarfile.TarInfo | tuple[str, bytes], message: str
) -> None:
    path = archive(tmp_path / "a.tar", ("0.png", b"x"), ("0.json", RECORD), member)
    with pytest.raises(UnsafeShard, match=message):
        samples_of(path)


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([("0.png", b""), ("1.json", b"")], "0 is not an image with its .json"),
        ([("0.png", b"")], "0 is not an image with its .json"),
        ([("0.png", b""), ("0.npy", b"")], "0 has two files of one kind"),
        ([("0.png", b""), ("0.txt", b"")], r"it holds '0\.txt', expected an image or \.json"),
        ([(".png", b"")], r"it holds '\.png', expected an image"),
        ([("0.pyd", b"")], r"it holds '0\.pyd', expected an image"),
        ([("0.png", b""), ("0.json", b" " * 70_000)], "the record of 0 has 70,000 bytes"),
    ],
)
def test_other_contents_are_damage(tmp_path: Path, members: list[tuple[str, bytes]], message: str) -> None:
    with pytest.raises(DamagedShard, match=message):
        samples_of(archive(tmp_path / "a.tar", *members))


def test_files_that_are_no_archives(tmp_path: Path) -> None:
    whole = archive(tmp_path / "whole.tar", ("0.png", b"x" * 5000), ("0.json", RECORD)).read_bytes()
    cases = {
        "cut.tar": (whole[:3000], "'0.png' reaches beyond the end of the file|unexpected end of data"),
        "text.tar": (b"hello" * 500, "no usable tar archive"),
        "empty.tar": (b"", "no usable tar archive"),
    }
    for name, (data, message) in cases.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(DamagedShard, match=rf"{name}: .*({message})"):
            samples_of(tmp_path / name)
    packed = archive(tmp_path / "packed.tar", ("0.png", b"x"), ("0.json", RECORD), mode="w:gz")
    with pytest.raises(DamagedShard, match="no usable tar archive"):
        samples_of(packed)
    with pytest.raises(DamagedShard, match="there is no such file"):
        samples_of(tmp_path / "missing.tar")


@pytest.mark.parametrize(
    "data",
    [
        b"[]",
        b"{",
        b'{"name": "a", "width": 3, "height": 3}',
        b'{"name": "a", "width": 0, "height": 3, "pixel_hash": "0"}',
        b'{"name": "a", "width": true, "height": 3, "pixel_hash": "0"}',
        b'{"name": "a", "width": 3, "height": 3, "pixel_hash": "0", "tile": 5}',
        b'{"name": "a\\u001b[2J", "width": 3, "height": 3, "pixel_hash": "0"}',
        b"[" * 60_000,
        b"\xff",
    ],
)
def test_records_that_are_none(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"record|Expecting|codec"):
        Record.of(data)


def test_a_record_survives_being_written() -> None:
    for tile in (None, (480, 0)):
        record = Record("sub/ä photo.v2.jpg", 480, 320, "ab" * 32, tile)
        assert Record.of(record.to_bytes()) == record


def test_damage_and_danger_are_both_errors_of_shards() -> None:
    assert issubclass(DamagedShard, ShardError)
    assert not issubclass(UnsafeShard, DamagedShard)
