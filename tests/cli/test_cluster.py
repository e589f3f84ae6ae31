"""Pictures on a cluster: nothing is done twice, lost, or tried for ever.

What a worker and the manifest do is tested without Ray; the rest needs ``pip install 'sharpkd[ray]'``.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import Result

from sharpkd.cli.cluster import PORTION, Model, Worker, _portions
from sharpkd.cli.journal import ATTEMPTS, JOURNALS, MANIFEST, Journal, Manifest
from sharpkd.cli.plan import Job
from sharpkd.cli.run import Settings
from sharpkd.inference.atomic_file import atomic_file
from sharpkd.inference.sharpener import Sharpener

from ..conftest import fill

Run = Callable[..., Result]

PATIENCE = 600
"""Seconds that Ray may take on a busy machine; some twenty on an idle one."""
needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="needs pip install 'sharpkd[ray]'")


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    """Forty pictures of different sizes in two folders, the one named 7.png no picture."""
    paths = []
    for index in range(40):
        pixels = np.random.default_rng(index).integers(0, 256, (20 + index, 30, 3), np.uint8)
        paths.append(tmp_path / "in" / ("a" if index % 2 else "b") / f"{index}.png")
        paths[-1].parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(paths[-1])
    (tmp_path / "in" / "a" / "7.png").write_bytes(b"no picture")
    return paths


@pytest.fixture
def worker(student_onnx: Path) -> Worker:
    return Worker(Model(student_onnx), Settings(skip_existing=True))


def _portion(tmp_path: Path, sources: list[Path]) -> dict[str, list[str]]:
    jobs = [[str(path), str(tmp_path / "out" / path.name), None] for path in sources]
    journal = tmp_path / "out" / JOURNALS / "x.jsonl"
    journal.parent.mkdir(parents=True, exist_ok=True)
    return {"portion": [json.dumps({"journal": str(journal), "jobs": jobs})]}


def _half_written(path: Path) -> Path:
    """What a process leaves that dies while it writes ``path``."""
    with suppress(RuntimeError), atomic_file(path) as file:
        half = Path(file.name)
        raise RuntimeError
    half.write_bytes(b"half")
    return half


def test_a_worker_goes_on_where_a_dead_one_stopped(
    worker: Worker, student_onnx: Path, pictures: list[Path], tmp_path: Path
) -> None:
    """The first has ended, the second was begun and left half a file, the fourth has killed three workers."""
    first, second, third, fourth = sources = [path for path in pictures[:8:2] if path.name != "7.png"]
    journal = Journal(tmp_path / "out" / JOURNALS / "x.jsonl")
    journal.file.parent.mkdir(parents=True)
    told = {"input": str(first), "output": "elsewhere", "error": None}
    journal.begins(str(first))
    journal.ends(str(first), told)
    journal.begins(str(second), [str(tmp_path / "out" / second.name)])
    _half_written(tmp_path / "out" / second.name)
    for _ in range(ATTEMPTS):
        journal.begins(str(fourth))
    with journal.file.open("ab") as file:
        file.write(b'{"begins": "cut o')

    result = worker(_portion(tmp_path, sources))
    assert result["journal"] == [str(journal.file)]
    outcomes = json.loads(result["outcomes"][0])
    assert outcomes[0] == told
    assert [outcome["attempts"] for outcome in outcomes[1:]] == [2, 1, ATTEMPTS]
    assert outcomes[3]["error"] == f"{fourth}: its worker died {ATTEMPTS} times"
    written = sorted(path.name for path in (tmp_path / "out").iterdir() if path.is_file())
    assert written == sorted([second.name, third.name])
    with Image.open(tmp_path / "out" / third.name) as found, Image.open(third) as given:
        np.testing.assert_array_equal(np.asarray(found), Sharpener(student_onnx)(np.asarray(given)))


def test_failures_are_counted_listed_and_given_up(
    worker: Worker, pictures: list[Path], tmp_path: Path
) -> None:
    (bad,) = [path for path in pictures if path.name == "7.png"]
    for attempt in range(1, ATTEMPTS + 1):
        manifest = Manifest(tmp_path / "out")
        assert not manifest.has_given_up(bad)
        (plain,) = json.loads(worker(_portion(tmp_path, [bad]))["outcomes"][0])
        (tmp_path / "out" / JOURNALS / "x.jsonl").unlink()
        manifest.note(plain)
        manifest.write()
        (line,) = (tmp_path / "out" / MANIFEST).read_text().splitlines()
        listed = json.loads(line)
        assert (listed["input"], listed["attempts"]) == (str(bad), attempt)
        assert listed["error"] == f"{bad}: is no PNG, JPEG, WebP, TIFF, BMP, GIF or AVIF image"
    assert Manifest(tmp_path / "out").has_given_up(bad)
    bad.write_bytes(b"another file")
    manifest = Manifest(tmp_path / "out")
    assert not manifest.has_given_up(bad), "it has changed"
    manifest.note({"input": str(bad), "error": None})
    manifest.write()
    assert not (tmp_path / "out" / MANIFEST).exists()


def test_journals_of_a_killed_run_are_taken_over(pictures: list[Path], tmp_path: Path) -> None:
    bad, begun, done = (str(path) for path in pictures[:3])
    journal = Journal(tmp_path / "out" / JOURNALS / "x.jsonl")
    journal.file.parent.mkdir(parents=True)
    for source in (bad, done):
        journal.begins(source)
        journal.ends(source, {"input": source, "error": "no" if source == bad else None, "attempts": 1})
    journal.begins(begun, [str(tmp_path / "out" / "x.png")])
    half = _half_written(tmp_path / "out" / "x.png")
    failures = Manifest(tmp_path / "out").failures
    assert {source: failure.error for source, failure in failures.items()} == {
        bad: "no",
        begun: f"{begun}: its worker died",
    }
    assert not journal.file.exists()
    assert not half.exists()
    assert Manifest(tmp_path / "out").failures == failures, "they are kept before the journal goes"


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ((), "--cluster ray needs a folder for its results: give one with -o\n"),
        (("-o", "-"), "--cluster ray needs a folder for its results: give one with -o\n"),
        (("-o", "x.png"), "--cluster ray needs a folder for its results: give one with -o\n"),
    ],
)
def test_results_need_a_folder(
    options: tuple[str, ...], line: str, sharpkd: Run, photo: Path, student_onnx: Path
) -> None:
    result = sharpkd("sharpen", photo, "--model", student_onnx, "--cluster", "ray", *options)
    assert (result.exit_code, result.output) == (2, line)


def test_videos_are_refused(sharpkd: Run, photo: Path, student_onnx: Path, tmp_path: Path) -> None:
    clip = photo.with_name("clip.mp4")
    clip.write_bytes(b"")
    result = sharpkd("sharpen", clip, "-o", tmp_path / "out", "--model", student_onnx, "--cluster", "ray")
    assert (result.exit_code, result.output) == (
        2,
        f"--cluster ray is for pictures, and {clip} is a video: leave one of them out\n",
    )


@pytest.mark.skipif(find_spec("ray") is not None, reason="Ray is installed")
def test_without_ray_one_line_says_so(sharpkd: Run, photo: Path, student_onnx: Path, tmp_path: Path) -> None:
    result = sharpkd("sharpen", photo, "-o", tmp_path / "out", "--model", student_onnx, "--cluster", "ray")
    line = "--cluster ray needs Ray on every machine: install it with  pip install 'sharpkd[ray]'\n"
    assert (result.exit_code, result.output) == (2, line)


def _command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "sharpkd.cli", "sharpen", *map(str, arguments), "--cluster", "ray"]


def _said(stderr: str) -> list[str]:
    """Lines of the command; what begins with a bracket are Ray's own remarks."""
    return [line for line in stderr.splitlines() if not line.startswith("[")]


def _bytes_below(folder: Path) -> dict[str, bytes]:
    found = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST)
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


@pytest.fixture
def alone(sharpkd: Run, student_onnx: Path, pictures: list[Path], tmp_path: Path) -> dict[str, bytes]:
    """What the command makes of the pictures without a cluster."""
    result = sharpkd("sharpen", tmp_path / "in", "-o", tmp_path / "alone", "--model", student_onnx)
    assert result.exit_code == 1
    return _bytes_below(tmp_path / "alone")


@needs_ray
@pytest.mark.timeout(2 * PATIENCE)
def test_ray_makes_the_same_files_and_makes_them_once(
    student_onnx: Path, alone: dict[str, bytes], tmp_path: Path
) -> None:
    out, bad = tmp_path / "out", tmp_path / "in" / "a" / "7.png"
    command = _command(tmp_path / "in", "-o", out, "--model", student_onnx, "--jobs", 2)

    def told() -> list[str]:
        done = subprocess.run(
            command, capture_output=True, text=True, cwd=tmp_path, timeout=PATIENCE, check=False
        )
        assert done.returncode == 1, done.stderr
        return _said(done.stderr)

    first = told()
    assert first[0] == f"{bad}: is no PNG, JPEG, WebP, TIFF, BMP, GIF or AVIF image"
    assert first[1].startswith("39 sharpened (")
    assert first[1].endswith(" a second), 1 failed")
    assert first[2:] == [f"failures are listed in {out / MANIFEST}"]
    assert _bytes_below(out) == alone
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.png")}
    (line,) = (out / MANIFEST).read_text().splitlines()
    (out / MANIFEST).write_text(json.dumps({**json.loads(line), "attempts": ATTEMPTS}) + "\n")
    assert told() == [
        "0 sharpened (0.0 a second), 39 were there, 0 failed",
        f"1 left out: they failed {ATTEMPTS} times; delete {out / MANIFEST} to try them again",
    ]
    assert before == {path: path.stat().st_mtime_ns for path in out.rglob("*.png")}


def _worker_at_work(running: subprocess.Popen[str], journals: Path) -> int:
    """The process that has just begun a picture."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        if running.poll() is not None:
            raise AssertionError(f"it ended with exit code {running.returncode}: {running.communicate()[1]}")
        for file in journals.rglob("*.jsonl"):
            entries = [json.loads(line) for line in file.read_bytes().split(b"\n")[:-1]]
            if entries and "begins" in entries[-1]:
                return int(entries[-1]["worker"])
        time.sleep(0.002)
    raise AssertionError("no worker began anything")


@pytest.fixture
def running(student_onnx: Path, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    command = _command(tmp_path / "in", "-o", tmp_path / "out", "--model", student_onnx, "--jobs", 2)
    with subprocess.Popen(
        command, cwd=tmp_path, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        yield process
        process.kill()


@needs_ray
@pytest.mark.timeout(2 * PATIENCE)
def test_a_killed_worker_loses_nothing(
    alone: dict[str, bytes], running: subprocess.Popen[str], tmp_path: Path
) -> None:
    os.kill(_worker_at_work(running, tmp_path / "out" / JOURNALS), signal.SIGKILL)
    _, told = running.communicate(timeout=PATIENCE)
    assert running.returncode == 1
    assert "39 sharpened" in told
    assert _bytes_below(tmp_path / "out") == alone


@needs_ray
@pytest.mark.timeout(2 * PATIENCE)
def test_a_stopped_run_is_continued(
    alone: dict[str, bytes], running: subprocess.Popen[str], student_onnx: Path, tmp_path: Path
) -> None:
    _worker_at_work(running, tmp_path / "out" / JOURNALS)
    running.terminate()
    _, told = running.communicate(timeout=PATIENCE)
    assert running.returncode == 143
    assert told.splitlines()[-1].startswith("stopped: ")
    command = _command(tmp_path / "in", "-o", tmp_path / "out", "--model", student_onnx, "--jobs", 2)
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=tmp_path, timeout=PATIENCE, check=False
    )
    assert done.returncode == 1, done.stderr
    assert _bytes_below(tmp_path / "out") == alone
    (line,) = (tmp_path / "out" / MANIFEST).read_text().splitlines()
    assert json.loads(line)["input"].endswith("7.png"), "a stopped worker is nobody's fault"


@needs_ray
@pytest.mark.timeout(2 * PATIENCE)
def test_after_kill_9_the_same_command_continues_at_once(
    alone: dict[str, bytes], running: subprocess.Popen[str], student_onnx: Path, tmp_path: Path
) -> None:
    """While it runs a second one is refused; workers that outlive it are waited for."""
    command = _command(tmp_path / "in", "-o", tmp_path / "out", "--model", student_onnx, "--jobs", 2)

    def run() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, capture_output=True, text=True, cwd=tmp_path, timeout=PATIENCE, check=False
        )

    _worker_at_work(running, tmp_path / "out" / JOURNALS)
    os.kill(running.pid, signal.SIGSTOP)  # so that it does not end before
    refused = run()
    assert (refused.returncode, refused.stderr) == (
        2,
        f"{tmp_path / 'out'}: another command writes its results here\n",
    )
    running.kill()
    running.wait()
    done = run()
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert _bytes_below(tmp_path / "out") == alone
    (line,) = (tmp_path / "out" / MANIFEST).read_text().splitlines()
    assert json.loads(line)["input"].endswith("7.png")


@needs_ray
@pytest.mark.timeout(2 * PATIENCE)
def test_a_full_disk_ends_in_one_line_and_is_gone_on_with(
    student_onnx: Path, alone: dict[str, bytes], small_disk: Path, tmp_path: Path
) -> None:
    command = _command(tmp_path / "in", "-o", small_disk, "--model", student_onnx, "--jobs", 1)

    def run() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, capture_output=True, text=True, cwd=tmp_path, timeout=PATIENCE, check=False
        )

    filler = fill(small_disk)
    full = run()
    assert full.returncode == 1
    (line,) = _said(full.stderr)
    assert line.startswith(str(small_disk))
    assert line.endswith(": cannot be written (No space left on device)")
    filler.unlink()
    done = run()
    assert done.returncode == 1, done.stderr
    assert _bytes_below(small_disk) == alone


def test_jobs_are_those_of_the_plan() -> None:
    jobs = [Job(Path(f"/in/{index}.png"), Path(f"/out/{index}.png")) for index in range(2 * PORTION + 1)]
    portions = [json.loads(text) for text in _portions(jobs, Path("/out/.sharpkd"))]
    assert [len(portion["jobs"]) for portion in portions] == [PORTION, PORTION, 1]
    assert len({portion["journal"] for portion in portions}) == 3
    assert portions[2]["jobs"] == [[f"/in/{2 * PORTION}.png", f"/out/{2 * PORTION}.png", None]]
