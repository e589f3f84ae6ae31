"""The runner: every model on every image once, whatever interrupts it."""

from __future__ import annotations

import logging
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio

from sharpkd.checkpoint import load_net, save_weights
from sharpkd.evaluation.benchmark import runner as sharpbench
from sharpkd.evaluation.benchmark.image_sets import BenchmarkImage
from sharpkd.evaluation.benchmark.runner import Failure, LPIPSSettings, Measured, measure, told_by_image
from sharpkd.evaluation.models import ModelSpec, specs_of
from sharpkd.evaluation.protocols import conditions, make_pair
from sharpkd.evaluation.rows import Row

CONDITIONS = conditions(["noisy", "sharp", "sr"])
"""noisy, sharp, sr/2, sr/3, sr/4: of the four models two are made for all, two for the first two."""
PAIRS = 15
ROWS = 3 * (2 * 4 + 3 * 2)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[BenchmarkImage]:
    folder = tmp_path_factory.mktemp("Set5")
    found = []
    for index, name in enumerate("abc"):
        coarse = np.random.default_rng(index).integers(0, 256, (6, 5, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((60, 48), Image.Resampling.BICUBIC).save(folder / f"{name}.png")
        found.append(BenchmarkImage("Set5", name, folder / f"{name}.png", "nature"))
    return found


@pytest.fixture(scope="module")
def specs(student_checkpoint: Path) -> list[ModelSpec]:
    return specs_of(["input", "unsharp", "wiener-oracle", str(student_checkpoint)])


@pytest.fixture(scope="module")
def measured(
    specs: list[ModelSpec], images: list[BenchmarkImage], tmp_path_factory: pytest.TempPathFactory
) -> Measured:
    return measure(specs, images, CONDITIONS, tmp_path_factory.mktemp("cache"), workers=0)


def test_every_model_is_measured_where_it_applies(measured: Measured) -> None:
    seen = {(row.model, row.condition) for row in measured.rows}
    assert seen == {
        *((model, condition.name) for model in ("input", "unsharp") for condition in CONDITIONS),
        ("wiener-oracle", "noisy"),
        ("student", "noisy"),
        ("student", "sharp"),
    }  # fmt: skip
    assert len(measured.rows) == 3 * len(seen)
    assert not measured.failures
    assert not measured.unreadable


def test_rows_carry_what_was_measured(measured: Measured, images: list[BenchmarkImage]) -> None:
    row = next(
        row for row in measured.rows if (row.model, row.image, row.condition) == ("input", "b", "noisy")
    )
    assert (row.set, row.domain, row.track, row.lpips) == ("Set5", "nature", "noisy", None)
    pair = make_pair(CONDITIONS[0], np.asarray(Image.open(images[1].path)), "b")
    assert row.psnr == pytest.approx(peak_signal_noise_ratio(pair.sharp, pair.degraded), abs=1e-6)


def test_what_is_measured_once_is_not_measured_again(
    specs: list[ModelSpec],
    images: list[BenchmarkImage],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    measured: Measured,
) -> None:
    def stop(done: int, total: int, name: str) -> None:
        assert total == PAIRS
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure(specs, images, CONDITIONS, tmp_path, workers=0, progress=stop)
    left: list[int] = []
    again = measure(
        specs, images, CONDITIONS, tmp_path, workers=0, progress=lambda done, total, name: left.append(total)
    )
    assert left == [PAIRS - 4] * (PAIRS - 4)
    assert again == measured
    monkeypatch.setattr(sharpbench, "_measure", lambda task: pytest.fail("measured again"))
    assert measure(specs, images, CONDITIONS, tmp_path, workers=0) == measured


def test_other_weights_pixels_or_code_are_measured_anew(
    specs: list[ModelSpec],
    images: list[BenchmarkImage],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def pairs_left(which: list[BenchmarkImage]) -> int:
        seen: list[int] = []
        measure(
            specs[:1], which, CONDITIONS[:1], tmp_path, workers=0, progress=lambda *told: seen.append(told[1])
        )
        return max(seen, default=0)

    assert (pairs_left(images), pairs_left(images)) == (3, 0)
    other = tmp_path / "a.png"
    Image.new("RGB", (60, 48), (1, 2, 3)).save(other)
    assert pairs_left([BenchmarkImage("Set5", "a", other, "nature"), *images[1:]]) == 1
    renamed = BenchmarkImage("Set5", "z", images[0].path, "nature")
    assert pairs_left([renamed]) == 1  # the noise is drawn by name
    monkeypatch.setattr(sharpbench, "hash_of_sources", lambda modules: "changed")
    assert pairs_left(images) == 3


def test_a_users_changed_code_is_measured_anew(
    specs: list[ModelSpec], images: list[BenchmarkImage], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pairs_left() -> int:
        seen: list[int] = []
        told = lambda *told: seen.append(told[1])  # noqa: E731  # one line is all it does
        measure(specs[-1:], images, CONDITIONS[:1], tmp_path, workers=0, progress=told)
        return max(seen, default=0)

    assert (pairs_left(), pairs_left()) == (3, 0)
    monkeypatch.setattr(sharpbench.open_model(specs[-1]), "code", "changed")
    assert pairs_left() == 3


def test_a_file_that_was_overwritten_is_opened_anew(
    student_checkpoint: Path, images: list[BenchmarkImage], tmp_path: Path
) -> None:
    path = Path(shutil.copy(student_checkpoint, tmp_path / "net.safetensors"))

    def psnr() -> float:
        given = measure(specs_of({"net": path}), images[:1], CONDITIONS[:1], tmp_path / "cache", workers=0)
        return given.rows[0].psnr

    before = psnr()
    loaded = load_net(student_checkpoint)
    halved = {name: tensor / 2 for name, tensor in loaded.net.state_dict().items()}
    save_weights(path, loaded.config, halved, {})
    assert psnr() != before
    shutil.copy(student_checkpoint, path)
    assert psnr() == before


def test_a_killed_worker_loses_nothing_that_was_measured(
    specs: list[ModelSpec], images: list[BenchmarkImage], tmp_path: Path, measured: Measured
) -> None:
    def kill_workers(done: int, total: int, name: str) -> None:
        for child in multiprocessing.active_children():
            assert child.pid is not None
            os.kill(child.pid, signal.SIGKILL)

    with pytest.raises(ChildProcessError, match=r"a worker was killed.*the same command goes on from there"):
        measure(specs, images, CONDITIONS, tmp_path, workers=1, progress=kill_workers)
    left: list[int] = []
    again = measure(
        specs, images, CONDITIONS, tmp_path, workers=2, progress=lambda done, total, name: left.append(total)
    )
    assert 1 <= PAIRS - left[0] < PAIRS
    assert again == measured
    assert not multiprocessing.active_children()


DYING = """
import os, signal, sys
from pathlib import Path
from sharpkd.evaluation.benchmark.image_sets import BenchmarkImage
from sharpkd.evaluation.benchmark.runner import measure
from sharpkd.evaluation.models import specs_of
from sharpkd.evaluation.protocols import conditions

def die(done, total, name):
    print("measured", done, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)

if __name__ == "__main__":
    images = [BenchmarkImage("Set5", file.stem, file, "nature") for file in Path(sys.argv[1]).iterdir()]
    measure(specs_of(["input"]), images, conditions(["noisy"]), Path(sys.argv[2]), workers=1, progress=die)
"""


def test_workers_end_with_a_parent_that_is_killed(images: list[BenchmarkImage], tmp_path: Path) -> None:
    script = tmp_path / "dying.py"
    script.write_text(DYING)
    command = [sys.executable, str(script), str(images[0].path.parent), str(tmp_path / "cache")]
    # a worker that lives on holds its end of the pipe, and this runs into the time limit
    ended = subprocess.run(command, stdout=subprocess.PIPE, timeout=60, check=False)
    assert ended.returncode == -signal.SIGKILL
    assert ended.stdout == b"measured 1\n"


def test_workers_leave_interrupts_to_the_parent_from_their_first_moment(
    specs: list[ModelSpec], images: list[BenchmarkImage], tmp_path: Path
) -> None:
    done = threading.Event()

    def interrupt_workers() -> None:
        while not done.wait(0.01):
            for child in multiprocessing.active_children():
                assert child.pid is not None
                os.kill(child.pid, signal.SIGINT)

    interrupting = threading.Thread(target=interrupt_workers)
    interrupting.start()
    try:
        found = measure(specs[:1], images[:1], CONDITIONS[:1], tmp_path, workers=1)
    finally:
        done.set()
        interrupting.join()
    assert len(found.rows) == 1


def test_a_model_that_fails_is_named_and_the_others_go_on(
    specs: list[ModelSpec],
    images: list[BenchmarkImage],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    student = sharpbench.open_model(specs[-1])

    def fail(pair: Any, condition: Any) -> Any:
        if condition.track == "sharp":
            raise ValueError("too sharp\nand more")
        return pair.degraded

    with monkeypatch.context() as patch:
        patch.setattr(student, "restore", fail)
        found = measure(specs, images[:1], CONDITIONS[:2], tmp_path, workers=0)
    assert [(failure.model, failure.condition) for failure in found.failures] == [("student", "sharp")]
    assert found.failures[0].reason == "ValueError: too sharp"
    assert "student failed on Set5/a, sharp: ValueError: too sharp" in caplog.text
    assert {(row.model, row.condition) for row in found.rows} >= {("student", "noisy"), ("input", "sharp")}
    # a failure is not kept: it may be gone
    mended = measure(specs, images[:1], CONDITIONS[:2], tmp_path, workers=0)
    assert not mended.failures
    assert len(mended.rows) == len(found.rows) + 1


def test_an_unreadable_image_is_named_once_and_left_out(
    specs: list[ModelSpec], images: list[BenchmarkImage], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(images[0].path.read_bytes()[:60])
    given = [BenchmarkImage("Set5", "broken", broken, "nature"), images[1]]
    with caplog.at_level(logging.WARNING):
        found = measure(specs[:1], given, CONDITIONS[:2], tmp_path / "cache", workers=0)
    assert {row.image for row in found.rows} == {"b"}
    assert len(found.unreadable) == 1
    assert str(broken) in found.unreadable[0]
    assert caplog.text.count("broken.png") == 1
    with pytest.raises(ValueError, match=r"no benchmark image can be read, starting with .*broken\.png"):
        measure(specs[:1], given[:1], CONDITIONS[:2], tmp_path / "cache", workers=0)


def test_an_image_that_vanishes_is_a_failure_of_every_model_on_it(
    specs: list[ModelSpec],
    images: list[BenchmarkImage],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    copies = [
        BenchmarkImage(image.set, image.name, Path(shutil.copy(image.path, tmp_path)), image.domain)
        for image in images
    ]

    def lose(done: int, total: int, name: str) -> None:
        copies[1].path.unlink(missing_ok=True)

    found = measure(specs, copies, CONDITIONS[1:3], tmp_path / "cache", workers=0, progress=lose)
    (line,) = told_by_image(found.failures)
    assert line == f"input, unsharp, student failed on Set5/b, sharp, sr/2: {found.failures[0].reason}"
    assert [record.message for record in caplog.records if "failed on" in record.message] == [line]
    assert {(one.model, one.image, one.condition) for one in found.failures} == {
        *((model, "b", "sharp") for model in ("input", "unsharp", "student")),
        *((model, "b", "sr/2") for model in ("input", "unsharp")),
    }
    assert all("b.png" in one.reason for one in found.failures)
    assert {row.image for row in found.rows} == {"a", "c"}


def test_failures_are_told_by_image_and_reason() -> None:
    failures = [
        Failure(f"net{index}", "Set5", image, f"gaussian/{sigma}", reason)
        for image, reason in (("a", "gone"), ("b", "gone"))
        for index in range(4)
        for sigma in (0.8, 1.2, 1.6, 2.4, 3.0)
    ]
    failures.append(Failure("net1", "Set5", "a", "sharp", "too large"))
    assert told_by_image(failures) == [
        "4 models failed on Set5/a, 5 conditions: gone",
        "4 models failed on Set5/b, 5 conditions: gone",
        "net1 failed on Set5/a, sharp: too large",
    ]


def test_nothing_is_told_of_pairs_that_the_input_fails_on(
    specs: list[ModelSpec], images: list[BenchmarkImage], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure(specs[1:2], images[:2], CONDITIONS[:1], tmp_path, workers=0)
    whole = sharpbench.make_pair

    def fail(condition: Any, image: Any, name: str) -> Any:
        return whole(condition, image, name) if name == "a" else 1 / 0

    monkeypatch.setattr(sharpbench, "make_pair", fail)
    found = measure(specs[:2], images[:2], CONDITIONS[:1], tmp_path, workers=0)
    assert [(row.model, row.image) for row in found.rows] == [("input", "a"), ("unsharp", "a")]
    assert [(one.model, one.image, one.reason) for one in found.failures] == [
        ("input", "b", "ZeroDivisionError: division by zero")
    ]


def test_lpips_that_cannot_be_measured_is_said_before_anything_is(
    specs: list[ModelSpec],
    images: list[BenchmarkImage],
    student_checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with pytest.raises(
        ValueError, match="LPIPS backbone 'squeze' is unknown; choose from squeeze, alex, vgg"
    ):
        LPIPSSettings("squeze")
    missing = LPIPSSettings("squeeze", str(tmp_path / "none.pth"))
    found = measure(specs[:1], images, CONDITIONS[:1], tmp_path, lpips=missing, workers=0)
    assert {row.lpips for row in found.rows} == {None}
    assert caplog.text.count(f"LPIPS is left blank: no weight file at {tmp_path / 'none.pth'}") == 1
    monkeypatch.setattr(sharpbench, "_measure", lambda task: pytest.fail("measured first"))
    other = LPIPSSettings("squeeze", str(student_checkpoint))
    with pytest.raises(ValueError, match=r"student.safetensors does not fit"):
        measure(specs[:1], images, CONDITIONS[:1], tmp_path, lpips=other, workers=0)


def test_images_that_are_not_the_benchmarks_own_are_told(
    measured: Measured, specs: list[ModelSpec], tmp_path: Path
) -> None:
    assert measured.altered == ["Set5/a", "Set5/b", "Set5/c"]


@pytest.mark.real_data
def test_the_benchmarks_own_images_pass(sharpkd_data: Path, specs: list[ModelSpec], tmp_path: Path) -> None:
    path = sharpkd_data / "eval" / "Set5" / "butterfly.png"
    found = measure(
        specs[:1], [BenchmarkImage("Set5", path.stem, path, "")], CONDITIONS[1:2], tmp_path, workers=0
    )
    assert found.altered == []
    assert found.rows == [Row("input", "Set5", "butterfly", "", "sharp", "sharp", 100.0, 1.0, 100.0, None)]


@pytest.mark.real_data
def test_lpips_is_measured_where_its_weights_are(
    sharpkd_weights: Path, specs: list[ModelSpec], images: list[BenchmarkImage], tmp_path: Path
) -> None:
    settings = LPIPSSettings("squeeze", str(sharpkd_weights / "squeezenet1_1.pth"))
    blank = measure(specs[:2], images[:1], CONDITIONS[:1], tmp_path, workers=0)
    found = measure(specs[:2], images[:1], CONDITIONS[:1], tmp_path, lpips=settings, workers=0)
    assert [row.lpips for row in blank.rows] == [None, None]
    assert all(row.lpips is not None and 0 < row.lpips < 1 for row in found.rows)
    assert settings.fingerprint != LPIPSSettings("squeeze", str(tmp_path / "none.pth")).fingerprint
