"""Journals and the manifest: what is torn, foreign, held by others or on a full disk."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sharpkd.cli import cluster
from sharpkd.cli.cluster import Model, Worker
from sharpkd.cli.console import Outcome, Voice
from sharpkd.cli.journal import ATTEMPTS, JOURNALS, MANIFEST, Journal, JournalError, Manifest, only_command
from sharpkd.cli.run import Settings
from sharpkd.functional.file_lock import InUseError, held

from ..conftest import fill

resource = pytest.importorskip("resource", reason="Ray is for systems that have it")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "out" / JOURNALS).mkdir(parents=True)
    return tmp_path / "out"


@pytest.fixture
def journal(out: Path) -> Journal:
    return Journal(out / JOURNALS / "x.jsonl")


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


@pytest.fixture
def worker(student_onnx: Path) -> Worker:
    return Worker(Model(student_onnx), Settings(skip_existing=True))


def _portion(journal: Journal, *pairs: tuple[Path, Path]) -> dict[str, list[str]]:
    jobs = [[str(source), str(target), None] for source, target in pairs]
    return {"portion": [json.dumps({"journal": str(journal.file), "jobs": jobs})]}


@contextmanager
def _files_of_at_most(size: int) -> Iterator[None]:
    """Writing beyond it is an OSError, as on a full disk."""
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)


def test_a_result_that_cannot_be_written_is_tried_again(
    worker: Worker, photo: Path, journal: Journal, out: Path
) -> None:
    """Its folder is a file, four times: once more than a bad picture is tried."""
    (out / "in_the_way").write_bytes(b"")
    target = out / "in_the_way" / "photo.png"
    for _ in range(ATTEMPTS + 1):
        manifest = Manifest(out)
        assert not manifest.has_given_up(photo)
        journal.file.parent.mkdir(parents=True, exist_ok=True)
        (plain,) = json.loads(worker(_portion(journal, (photo, target)))["outcomes"][0])
        journal.file.unlink()
        assert plain["error"].startswith(f"{target}: cannot be written (")
        manifest.note(plain)
        manifest.write()
    (line,) = (out / MANIFEST).read_text().splitlines()
    assert json.loads(line)["attempts"] == 0


def test_a_result_that_cannot_be_looked_for_is_unwritten(
    worker: Worker, photo: Path, journal: Journal, out: Path
) -> None:
    target = out / f"{'x' * 300}.png"
    (plain,) = json.loads(worker(_portion(journal, (photo, target)))["outcomes"][0])
    assert plain["error"] == f"{target}: cannot be written (File name too long)"
    assert plain["attempts"] == 0


def test_a_journal_on_a_full_disk_ends_in_one_line(
    worker: Worker, photo: Path, student_onnx: Path, small_disk: Path
) -> None:
    """A first line fits, a second does not: the picture counts as not begun, and nothing is torn."""
    journal = Journal(small_disk / JOURNALS / "x.jsonl")
    journal.file.parent.mkdir()
    other = photo.with_name("other.png")
    journal.begins(str(other))
    journal.ends(str(other), {"input": str(other), "output": None, "error": None, "attempts": 1})
    before = journal.file.read_bytes()
    journal.file.write_bytes(before + b"{}\n" * ((4096 - 40 - len(before)) // 3))
    filler = fill(small_disk)
    begins = len(journal.file.read_bytes())
    portion = _portion(journal, (other, small_disk / "other.png"), (photo, small_disk / "photo.png"))
    done = worker(portion)
    assert done["error"] == [f"{journal.file}: cannot be written (No space left on device)"]
    assert [plain["input"] for plain in json.loads(done["outcomes"][0])] == [str(other)]
    assert len(journal.file.read_bytes()) == begins
    filler.unlink()
    done = worker(portion)
    assert done["error"] == [""]
    assert [plain["attempts"] for plain in json.loads(done["outcomes"][0])] == [1, 1]


@pytest.mark.parametrize("room", [0, 10, 1000])
def test_who_cannot_note_an_end_has_not_begun(journal: Journal, room: int) -> None:
    """Whatever of the line fits: a disk that is full kills no worker."""
    journal.begins("/in/before.png")
    before = journal.file.read_bytes()
    journal.begins("/in/a.png")
    with (
        _files_of_at_most(journal.file.stat().st_size + room),
        pytest.raises(JournalError, match=r"x\.jsonl: cannot be written \(\w.*\)$"),
    ):
        journal.ends("/in/a.png", {"error": "x" * 2000})
    assert journal.file.read_bytes() == before
    assert Journal(journal.file).unended() == {"/in/before.png": 1}


def test_the_manifest_on_a_full_disk_is_one_line_and_the_old_one(out: Path) -> None:
    manifest = Manifest(out)
    manifest.note({"input": "/in/a.png", "error": "no", "attempts": 1})
    before = manifest.file.read_bytes()
    with _files_of_at_most(len(before) + 5):
        with pytest.raises(
            JournalError, match=r"failed\.jsonl: cannot be written \(No space left on device\)$"
        ):
            manifest.note({"input": "/in/b.png", "error": "no", "attempts": 1})
        with pytest.raises(JournalError, match=r"failed\.jsonl: cannot be written \(File too large\)$"):
            manifest.write()
    assert manifest.file.read_bytes() == before


GARBAGE = [
    b"garbage",
    b"[1]",
    b"5",
    b'{"input": "/in/b.png"}',
    b'{"begins": [1]}',
    b"\xff\xfe",
    b'{"input": ',
]


def test_lines_of_the_manifest_that_cannot_be_read_are_left_out(out: Path) -> None:
    manifest = Manifest(out)
    manifest.note({"input": "/in/a.png", "error": "no", "attempts": 1})
    with manifest.file.open("ab") as file:
        file.write(b"\n".join(GARBAGE))  # the last one without its end
    again = Manifest(out)
    assert (again.failures, again.unreadable) == (manifest.failures, len(GARBAGE) - 1)
    again.note({"input": "/in/c.png", "error": "no", "attempts": 1})
    last = Manifest(out)
    assert (sorted(last.failures), last.unreadable) == (["/in/a.png", "/in/c.png"], len(GARBAGE))
    last.write()
    assert Manifest(out).unreadable == 0


@pytest.mark.parametrize("torn", GARBAGE)
def test_a_torn_line_is_not_written_and_spoils_no_other(journal: Journal, torn: bytes) -> None:
    journal.begins("/in/a.png")
    with journal.file.open("ab") as file:
        file.write(torn)
    journal.begins("/in/b.png")
    journal.ends("/in/a.png", {"error": None})
    found = Journal(journal.file)
    assert (found.begun, list(found.ended)) == ({"/in/a.png": 1, "/in/b.png": 1}, ["/in/a.png"])


def test_who_works_is_not_taken_over(
    worker: Worker, photo: Path, journal: Journal, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second command begins while the picture is sharpened."""
    half = out / ".half"

    def sharpen(job: object, *_: object) -> Outcome:
        half.write_bytes(b"half")
        with pytest.raises(InUseError) as caught:
            Manifest(out)
        assert str(caught.value) == (
            f"{out}: workers of an earlier run still write here; begin again when they have ended,"
            f" or delete {out / JOURNALS} where they ended with their machine"
        )
        return Outcome(photo, out / "photo.png")

    monkeypatch.setattr(cluster, "sharpen_one", sharpen)
    monkeypatch.setattr("sharpkd.cli.journal.leftovers", lambda path: [half])
    (plain,) = json.loads(worker(_portion(journal, (photo, out / "photo.png")))["outcomes"][0])
    assert plain["error"] is None
    assert half.exists()
    assert Manifest(out).failures == {}
    assert not journal.file.exists()


HOLDER = """
import pathlib, sys, time
from sharpkd.functional.file_lock import held
with held(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def test_what_a_killed_process_held_is_free(journal: Journal, out: Path) -> None:
    journal.begins("/in/a.png")
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(journal.file)], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        with pytest.raises(InUseError, match="workers of an earlier run still write here"):
            Manifest(out, patience=0.2)
        assert journal.file.exists()
        process.send_signal(signal.SIGKILL)
        assert list(Manifest(out, patience=30).failures) == ["/in/a.png"]
    assert not journal.file.exists()


def test_who_waits_for_a_file_that_is_removed_holds_a_new_one(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    code = (
        "import pathlib, sys\n"
        "from sharpkd.functional.file_lock import held\n"
        "path = pathlib.Path(sys.argv[1])\n"
        "print('waits', flush=True)\n"
        "with held(path, 60): print(path.exists(), flush=True)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        with held(path):
            assert process.stdout.readline() == b"waits\n"
            time.sleep(0.3)
            path.unlink()
        assert process.stdout.readline() == b"True\n"


def test_a_worker_that_outlives_its_run_begins_nothing(worker: Worker, photo: Path, out: Path) -> None:
    folder = Manifest(out).new_journals()
    assert folder.is_dir()
    assert Manifest(out).failures == {}, "another run begins"
    journal = Journal(folder / "000000000.jsonl")
    done = worker(_portion(journal, (photo, out / "photo.png")))
    assert done["error"] == [f"{journal.file}: cannot be written (No such file or directory)"]
    assert done["outcomes"] == ["[]"]
    assert not (out / "photo.png").exists()


def test_a_second_command_is_refused_in_one_line(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import typer

    with only_command(out / JOURNALS) as free:
        with pytest.raises(typer.Exit) as caught:
            cluster.run_on_ray([], out, Model(None), Settings(), None, Voice())
        assert caught.value.exit_code == 2
        assert (out / JOURNALS).exists()
        free()
        assert not (out / JOURNALS).exists()
    assert capsys.readouterr().err == f"{out}: another command writes its results here\n"


def test_a_folder_that_takes_no_notes_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import typer

    out = tmp_path / "out"
    out.write_bytes(b"a file")
    with pytest.raises(typer.Exit) as caught:
        cluster.run_on_ray([], out, Model(None), Settings(), None, Voice())
    assert caught.value.exit_code == 1
    line = f"{out / JOURNALS / 'lock'}: cannot be written ({os.strerror(20)})\n"
    assert capsys.readouterr().err == line
