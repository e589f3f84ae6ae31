"""Checkpoints against a full disk, kill -9 and damage: there is always a good one, and a bad one is told."""

from __future__ import annotations

import logging
import multiprocessing
import os
import random
import resource
import shutil
import signal
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from sharpkd.checkpoint import CheckpointError, read_lightning
from sharpkd.runs.checkpoint_files import CheckpointFiles
from sharpkd.runs.folder import RunFolder

from ..conftest import fill

Train = Callable[..., Path]


def _content(step: int, numbers: int = 10_000) -> dict[str, Any]:
    return {
        "global_step": step,
        "state_dict": {"net.weight": torch.full((numbers,), float(step))},
        "sharpkd": {"net": {}},
    }


def _flip(path: Path, place: float) -> None:
    """Change one bit at this share of a file."""
    content = bytearray(path.read_bytes())
    content[int(len(content) * place)] ^= 1
    path.write_bytes(content)


def _same_weights(one: Path, other: Path) -> None:
    first, second = (load_file(folder / "net.safetensors") for folder in (one, other))
    assert first.keys() == second.keys()
    assert all(value.equal(second[key]) for key, value in first.items())


@pytest.fixture
def at_most_4096_bytes() -> Iterator[None]:
    """Files can grow to this size and no further, as the system itself sees to it."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


def test_what_is_written_is_read_by_torch_and_zip_programs(tmp_path: Path) -> None:
    path = tmp_path / "new" / "last.ckpt"
    CheckpointFiles().save_checkpoint(_content(3), path)
    for content in (read_lightning(path), torch.load(path, weights_only=True)):
        assert content["global_step"] == 3
        assert content["state_dict"]["net.weight"].equal(torch.full((10_000,), 3.0))
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
    assert [file.name for file in path.parent.iterdir()] == ["last.ckpt"]


def test_the_one_before_stays_and_a_step_is_written_once(tmp_path: Path) -> None:
    last, previous = tmp_path / "last.ckpt", tmp_path / "previous.ckpt"
    (tmp_path / "last.ckpt.123.part").write_bytes(b"what kill -9 left")
    files = CheckpointFiles()
    for step in (1, 2, 2, 3, 3):
        files.save_checkpoint(_content(step), last)
    files.save_checkpoint(_content(9), tmp_path / "best.ckpt")
    steps = {path.name: read_lightning(path)["global_step"] for path in tmp_path.iterdir()}
    assert steps == {"last.ckpt": 3, "previous.ckpt": 2, "best.ckpt": 9}
    CheckpointFiles().save_checkpoint(_content(3), last)
    assert previous.stat().st_ino != last.stat().st_ino


@pytest.mark.parametrize("place", [0.001, 0.3, 0.5, 0.9, 0.9999])
def test_one_changed_bit_is_found(place: float, tmp_path: Path) -> None:
    """torch itself reads most of these files without a word."""
    path = tmp_path / "last.ckpt"
    CheckpointFiles().save_checkpoint(_content(3), path)
    _flip(path, place)
    with pytest.raises(CheckpointError, match=r"last\.ckpt: damaged"):
        read_lightning(path)


def test_one_that_was_written_before_there_were_hashes_is_read(tmp_path: Path) -> None:
    torch.save(_content(5), tmp_path / "old.ckpt")
    assert read_lightning(tmp_path / "old.ckpt")["global_step"] == 5


def test_a_file_that_cannot_grow_leaves_the_old_one(tmp_path: Path, at_most_4096_bytes: None) -> None:
    path = tmp_path / "last.ckpt"
    CheckpointFiles().save_checkpoint(_content(1, numbers=10), path)
    with pytest.raises(
        OSError, match=r"last\.ckpt cannot be written \(File too large\); the last good"
    ) as said:
        CheckpointFiles().save_checkpoint(_content(2), path)
    assert "\n" not in str(said.value)
    assert read_lightning(path)["global_step"] == 1
    assert list(tmp_path.iterdir()) == [path]


def _save_for_ever(path: Path) -> None:
    files, step = CheckpointFiles(), 0
    while True:
        step += 1
        files.save_checkpoint(_content(step, numbers=300_000), path)


def test_kill_while_writing_leaves_a_whole_file(tmp_path: Path) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    moments = random.Random(seed)
    last = tmp_path / "last.ckpt"
    unfinished = 0
    for _ in range(12):
        process = multiprocessing.get_context("fork").Process(target=_save_for_ever, args=(last,))
        process.start()
        until = time.monotonic() + 60
        while not last.is_file():
            assert time.monotonic() < until
        time.sleep(moments.uniform(0.0, 0.06))
        os.kill(process.pid or 0, signal.SIGKILL)
        process.join()
        unfinished += len(list(tmp_path.glob("*.part")))
        for path in tmp_path.glob("*.ckpt"):
            content = read_lightning(path)
            assert (content["state_dict"]["net.weight"] == content["global_step"]).all()
    assert unfinished > 0, "no kill came while a file was being written"


@pytest.fixture(scope="module")
def settings(tiny: list[str]) -> list[str]:
    steps = ["trainer.max_steps=8", "trainer.val_check_interval=8", "callbacks.last.every_n_train_steps=3"]
    return [*tiny, *steps, "experiment=scratch"]


@pytest.fixture(scope="module")
def whole(settings: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    from sharpkd.config import compose
    from sharpkd.train import train

    folder = tmp_path_factory.mktemp("whole")
    train(compose("train", settings, output_dir=str(folder)), settings)
    return folder


@pytest.mark.parametrize("left", [0, 20_000])
def test_a_full_disk_stops_a_training_that_goes_on_with_room(
    left: int,
    train_here: Train,
    settings: list[str],
    whole: Path,
    small_disk: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Full to the last byte, or but for what notes take: the checkpoint of step 3 survives that of step 6."""
    from sharpkd.modules.restoration import RestorationModule

    step = RestorationModule.training_step
    folder = RunFolder(small_disk / "run")

    def filling(module: RestorationModule, batch: Any, index: int) -> Any:
        if module.global_step == 4:
            fill(small_disk, left)
        return step(module, batch, index)

    with monkeypatch.context() as patch:
        patch.setattr(RestorationModule, "training_step", filling)
        with pytest.raises(
            OSError, match=r"cannot be written \(No space left on device\).*resume=auto"
        ) as said:
            train_here("disk/run", *settings)
    assert "\n" not in str(said.value)
    assert read_lightning(folder.last_checkpoint)["global_step"] == 3
    if left:
        assert "last.ckpt cannot be written" in str(said.value)
        assert folder.status()["state"] == "failed"
        assert "No space left on device" in folder.status()["error"]
    (small_disk / "filler").unlink()
    train_here("disk/run", *settings, "resume=auto")
    _same_weights(folder.path, whole)
    assert list(folder.path.rglob("*.part")) == []


def test_a_damaged_last_checkpoint_is_passed_over(
    train_here: Train, settings: list[str], whole: Path, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """The last one holds step 8, the one before step 6."""
    folder = RunFolder(tmp_path / "run")
    shutil.copytree(whole, folder.path)
    folder.report("running")  # as kill -9 leaves it
    assert read_lightning(folder.path / "checkpoints" / "previous.ckpt")["global_step"] == 6
    folder.weights_file.unlink()
    _flip(folder.last_checkpoint, 0.5)
    with caplog.at_level(logging.WARNING):
        train_here("run", *settings, "resume=auto")
    told = [record.message for record in caplog.records if record.name == "sharpkd.runs.folder"]
    assert len(told) == 1
    assert "last.ckpt: damaged (its SHA-256 is not the one" in told[0]
    assert told[0].endswith(f"continuing from {folder.path}/checkpoints/previous.ckpt")
    _same_weights(folder.path, whole)
    assert read_lightning(folder.last_checkpoint)["global_step"] == 8


def test_only_damaged_checkpoints_are_named(
    train_here: Train, settings: list[str], whole: Path, tmp_path: Path
) -> None:
    folder = RunFolder(tmp_path / "run")
    shutil.copytree(whole, folder.path)
    folder.report("running")
    for path in folder.checkpoints():
        _flip(path, 0.5)
    with pytest.raises(CheckpointError) as refused:
        train_here("run", *settings, "resume=auto")
    for name in ("last.ckpt", "previous.ckpt", "best.ckpt"):
        assert f"{name}: damaged" in str(refused.value)
    assert str(refused.value).endswith("; overwrite=true starts again")
    with pytest.raises(CheckpointError, match=r"last\.ckpt: damaged"):
        train_here("run", *settings, f"resume={folder.last_checkpoint}")
