"""Kept outputs: what comes back, what damage, kill -9 and other processes do to them, and where it ends."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from sharpkd.data.answer_store import BYTES_PER_GB, AnswerStore

from ..conftest import fill

WRITER = """
import sys, torch
from sharpkd.data.answer_store import AnswerStore
folder, first, count, side = sys.argv[1], *map(int, sys.argv[2:])
store = AnswerStore(folder, "teacher")
print("ready", flush=True)
sys.stdin.readline()
for number in range(first, first + count):
    store.put(f"{number:032x}", torch.full((3, side, side), number / 1000))
print("done", flush=True)
"""


def image(seed: int = 0, side: int = 5) -> Tensor:
    """From -0.1 to 1.1."""
    return torch.rand(3, side, side + 2, generator=torch.Generator().manual_seed(seed)) * 1.2 - 0.1


def key(number: int) -> str:
    return f"{number:032x}"


def entries(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.parent != folder)


def counted(folder: Path) -> tuple[int, int]:
    """Bytes as the folder says and as the files have them."""
    return int((folder / "size").read_text()), sum(path.stat().st_size for path in entries(folder))


@pytest.fixture
def writer(tmp_path: Path, project_root: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """A process that keeps ``count`` images from number ``first`` on, once it is sent a line."""
    started: list[subprocess.Popen[str]] = []

    def start(first: int, count: int, side: int = 8) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path), str(first), str(count), str(side)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=project_root,
            env={**os.environ, "PYTHONPATH": str(project_root)},
        )
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return process

    yield start
    for process in started:
        process.kill()
        # closes its pipes too
        process.__exit__(None, None, None)


@pytest.mark.parametrize("kept_as", ["fp16", "uint8"])
def test_what_comes_back_is_what_numpy_rounds_to(kept_as: str, tmp_path: Path) -> None:
    store = AnswerStore(tmp_path, "a teacher", kept_as=kept_as)
    given = image()
    if kept_as == "fp16":
        expected = given.numpy().astype(np.float16).astype(np.float32)
    else:
        expected = np.rint(np.clip(given.numpy(), 0, 1) * np.float32(255)) / np.float32(255)
    assert store.get(key(1)) is None
    returned = store.put(key(1), given)
    found = AnswerStore(tmp_path, "a teacher", kept_as=kept_as).get(key(1))
    assert found is not None
    assert found.dtype == torch.float32
    assert returned.equal(found)
    np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=1e-7)
    (file,) = entries(tmp_path)
    assert file.stat().st_size <= given.numel() * (2 if kept_as == "fp16" else 1) + 32
    assert file.parent.parent.name == "a-teacher"
    other = AnswerStore(tmp_path, "another", kept_as=kept_as)
    assert other.get(key(1)) is None


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda content: content[:100], r"100 of 234 bytes"),
        (lambda content: content[:7], r"7 bytes"),
        (lambda content: b"", r"0 bytes"),
        (lambda content: content + b"\0", r"235 of 234 bytes"),
        (lambda content: bytes(len(content)), r"no teacher's output of this format"),
        (lambda content: content[:-1] + bytes([content[-1] ^ 1]), r"its checksum is wrong"),
        # height and width exchanged
        (
            lambda content: content[:16] + content[20:24] + content[16:20] + content[24:],
            r"its checksum is wrong",
        ),
    ],
)
def test_a_damaged_file_is_said_and_computed_again(
    damage: Callable[[bytes], bytes], reason: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = AnswerStore(tmp_path, "teacher")
    good = store.put(key(1), image())
    (file,) = entries(tmp_path)
    file.write_bytes(damage(file.read_bytes()))
    assert store.get(key(1)) is None
    assert caplog.messages == [f"{file} is damaged ({reason}); computed again"]
    assert not file.exists()
    store.put(key(1), image())
    found = store.get(key(1))
    assert found is not None
    assert found.equal(good)
    assert len(caplog.messages) == 1


def test_what_is_not_finite_is_not_kept(tmp_path: Path) -> None:
    for kept_as, value in (("fp16", float("nan")), ("uint8", float("nan")), ("fp16", 1e6)):
        store = AnswerStore(tmp_path, kept_as, kept_as=kept_as)
        bad = image()
        bad[0, 0, 0] = value
        assert store.put(key(1), bad) is bad
    assert entries(tmp_path) == []


def test_a_full_folder_is_read_but_not_added_to(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    AnswerStore(tmp_path, "before").put(key(0), image())
    size = counted(tmp_path)[0]
    store = AnswerStore(tmp_path, "teacher", max_bytes=3.5 * size)
    for number in range(1, 6):
        assert store.put(key(number), image()).equal(image().half().float())
    assert [store.get(key(number)) is not None for number in range(1, 6)] == [True, True, False, False, False]
    assert counted(tmp_path) == (3 * size, 3 * size)
    (message,) = caplog.messages
    assert message.startswith(
        f"teacher.cache={tmp_path}: it is full (teacher.cache_gb=8.19e-07); what is there"
    )
    larger = AnswerStore(tmp_path, "teacher", max_bytes=10 * size)
    larger.put(key(3), image())
    assert counted(tmp_path) == (4 * size, 4 * size)


def test_the_size_is_counted_again_when_the_folder_is_opened(tmp_path: Path) -> None:
    store = AnswerStore(tmp_path, "teacher")
    for number in range(3):
        store.put(key(number), image())
    entries(tmp_path)[0].unlink()
    said, there = counted(tmp_path)
    assert said == there * 3 // 2
    AnswerStore(tmp_path, "teacher")
    assert counted(tmp_path) == (there, there)
    (tmp_path / "size").write_text("")  # as a power cut may leave it
    store.put(key(7), image())
    assert counted(tmp_path) == (there * 3 // 2, there * 3 // 2)


def test_two_processes_write_the_same_and_other_images_at_once(
    writer: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    writers = [writer(first, 150) for first in (0, 100)]
    for process in writers:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    assert [process.communicate(timeout=60)[0] for process in writers] == ["done\n", "done\n"]
    store = AnswerStore(tmp_path, "teacher")
    for number in range(250):
        found = store.get(key(number))
        assert found is not None
        assert found.equal(torch.full((3, 8, 8), number / 1000).half().float())
    assert len(entries(tmp_path)) == 250
    assert counted(tmp_path)[0] == counted(tmp_path)[1]


def test_kill_9_while_writing_leaves_nothing_wrong(
    writer: Callable[..., subprocess.Popen[str]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Files of six megabytes, so that nearly all of the time is spent inside a write."""
    process = writer(0, 1000, 1000)
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()
    while len(entries(tmp_path)) < 4 or not list(tmp_path.rglob("*.part")):
        assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    assert process.wait(timeout=30) == -signal.SIGKILL
    # what a writer leaves that is killed a moment later
    (entries(tmp_path)[0].parent / f"{key(999)}.1.part").write_bytes(b"half of it")
    before = len([path for path in entries(tmp_path) if path.suffix != ".part"])
    assert before < 1000

    store = AnswerStore(tmp_path, "teacher")
    assert not list(tmp_path.rglob("*.part"))
    assert counted(tmp_path)[0] == counted(tmp_path)[1]
    found = [store.get(key(number)) for number in range(before + 1)]
    assert [image is not None for image in found] == [True] * before + [False]
    for number, kept in enumerate(found[:before]):
        assert kept is not None
        assert kept.min() == kept.max() == torch.tensor(number / 1000).half()
    store.put(key(999), image())
    assert store.get(key(999)) is not None
    assert caplog.messages == []


def test_settings_and_folders_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^teacher\.cache_format is 'png'; expected fp16 or uint8$"):
        AnswerStore(tmp_path, "teacher", kept_as="png")
    with pytest.raises(ValueError, match=r"^teacher\.cache_gb is 0; expected more than 0$"):
        AnswerStore(tmp_path, "teacher", max_bytes=0 * BYTES_PER_GB)
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(OSError, match=re.escape(f"teacher.cache={file} cannot be written (Not a directory)")):
        AnswerStore(file, "teacher")


def test_a_folder_that_can_no_longer_be_written_stops_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = AnswerStore(tmp_path, "teacher")
    kept = store.put("aa" + key(0)[2:], image())
    (tmp_path / "teacher" / "bb").write_text("in the way")
    for _ in range(2):
        assert store.put("bb" + key(0)[2:], image()).equal(kept)
    assert store.get("aa" + key(0)[2:]) is not None
    (message,) = [message for message in caplog.messages if "cannot be written" in message]
    assert message.startswith(f"teacher.cache={tmp_path}: it cannot be written (")


def test_a_disk_that_is_full_stops_nothing(small_disk: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What was kept before is still found, and whole."""
    store = AnswerStore(small_disk / "answers", "teacher")
    kept = store.put(key(1), image(1))
    fill(small_disk, left=4096)
    large = image(2, side=100)
    assert store.put(key(2), large).equal(large.half().float())
    assert store.get(key(2)) is None
    found = store.get(key(1))
    assert found is not None
    assert found.equal(kept)
    (message,) = caplog.messages
    assert "it cannot be written (No space left on device)" in message
    assert list(small_disk.rglob("*.part")) == []
