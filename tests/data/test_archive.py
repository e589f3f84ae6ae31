"""Archives that are up to no good."""

from __future__ import annotations

import io
import re
import stat
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest

from sharpkd.data.archive import ArchiveError, unpack

CONTENT = np.random.default_rng(0).bytes(1000)


def make_zip(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def test_unpack(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "a.zip", {"set/": b"", "set/1.png": b"one", "set/deep/2.png": b"two!"})
    seen: list[tuple[int, int]] = []
    assert unpack(archive, tmp_path / "out", 7, lambda *now: seen.append(now)) == 7
    assert (tmp_path / "out/set/1.png").read_bytes() == b"one"
    assert (tmp_path / "out/set/deep/2.png").read_bytes() == b"two!"
    assert seen == [(3, 7), (7, 7)]


@pytest.mark.parametrize(
    "name", ["../out.png", "set/../../out.png", "/tmp/out.png", "C:/out.png", "set/..\\out.png"]
)
def test_paths_that_lead_out_are_refused_before_anything_is_written(name: str, tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "a.zip", {"fine.png": b"x", name: b"y"})
    with pytest.raises(ArchiveError, match="a path that could lead out of the folder"):
        unpack(archive, tmp_path / "inside" / "out", 100)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a.zip"]


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_methods_that_may_take_gigabytes_are_refused(method: int, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", method) as archive:
        archive.writestr("a.png", CONTENT)
    with pytest.raises(ArchiveError, match=r"holds 'a\.png', which is neither stored nor deflated"):
        unpack(tmp_path / "a.zip", tmp_path / "out", 10_000)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a.png", "a.png"], "holds 'a.png' twice"),
        (["a.png", "./a.png"], "holds './a.png' twice"),
        (["set", "set/a.png"], "holds 'set' as a file and as a folder"),
        (["set/a.png", "set"], "holds 'set' as a file and as a folder"),
        (["."], "holds '.', a path that could lead out"),
    ],
)
def test_one_name_for_two_things_is_refused(names: list[str], message: str, tmp_path: Path) -> None:
    with warnings.catch_warnings(), zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        warnings.simplefilter("ignore")  # the writer's remark on equal names
        for name in names:
            archive.writestr(zipfile.ZipInfo(name), b"x")
    with pytest.raises(ArchiveError, match=re.escape(message)):
        unpack(tmp_path / "a.zip", tmp_path / "out", 100)
    assert not (tmp_path / "out").exists()


def test_nothing_is_written_through_a_link_that_was_there_before(tmp_path: Path) -> None:
    outside, out = tmp_path / "outside", tmp_path / "out"
    outside.mkdir()
    out.mkdir()
    (outside / "a.png").write_bytes(b"mine")
    archive = make_zip(tmp_path / "a.zip", {"set/a.png": b"theirs"})
    (out / "set").symlink_to(outside)
    with pytest.raises(ArchiveError, match=r"out/set is a link: nothing of .*a\.zip is written through it"):
        unpack(archive, out, 100)
    (out / "set").unlink()
    (out / "set").mkdir()
    (out / "set" / "a.png").symlink_to(outside / "a.png")
    with pytest.raises(ArchiveError, match=r"out/set/a\.png is a link"):
        unpack(archive, out, 100)
    assert (outside / "a.png").read_bytes() == b"mine"


def test_devices_are_refused(tmp_path: Path) -> None:
    device = zipfile.ZipInfo("set/disk")
    device.external_attr = (stat.S_IFBLK | 0o600) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(device, b"")
    with pytest.raises(ArchiveError, match="holds the device 'set/disk', expected only files and folders"):
        unpack(tmp_path / "a.zip", tmp_path / "out", 100)


def test_links_are_refused(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("set/link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(ArchiveError, match="holds the link 'set/link', expected only files and folders"):
        unpack(tmp_path / "a.zip", tmp_path / "out", 100)
    assert not (tmp_path / "out").exists()


def test_bombs_are_refused(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "a.zip", {"zeros": bytes(5_000_000)})
    assert archive.stat().st_size < 10_000
    with pytest.raises(ArchiveError, match="would unpack to 5,000,000 bytes, more than 100,000"):
        unpack(archive, tmp_path / "out", 100_000)
    assert not (tmp_path / "out").exists()


def test_a_bomb_that_lies_about_its_size_is_not_written_out(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "a.zip", {"zeros": bytes(5_000_000)})
    truth = (5_000_000).to_bytes(4, "little")
    archive.write_bytes(archive.read_bytes().replace(truth, (1000).to_bytes(4, "little")))
    with pytest.raises(ArchiveError, match="no usable zip archive"):
        unpack(archive, tmp_path / "out", 100_000)
    assert sum(path.stat().st_size for path in (tmp_path / "out").rglob("*")) <= 1000


def test_encrypted_entries_are_refused(tmp_path: Path) -> None:
    whole = bytearray(make_zip(tmp_path / "a.zip", {"secret.png": b"x"}).read_bytes())
    whole[whole.index(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "a.zip").write_bytes(whole)
    with pytest.raises(ArchiveError, match=r"holds the encrypted file 'secret\.png'"):
        unpack(tmp_path / "a.zip", tmp_path / "out", 100)


@pytest.mark.parametrize("damage", ["text", "cut", "flipped"])
def test_broken_archives(damage: str, tmp_path: Path) -> None:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("a.png", CONTENT)
    whole = bytearray(content.getvalue())
    whole[500] ^= 255
    broken = {"text": b"<html>moved</html>", "cut": bytes(whole[:700]), "flipped": bytes(whole)}[damage]
    (tmp_path / "a.zip").write_bytes(broken)
    with pytest.raises(ArchiveError, match=r"a\.zip is no usable zip archive"):
        unpack(tmp_path / "a.zip", tmp_path / "out", 10_000)
