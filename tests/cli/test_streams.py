"""Standard streams that are closed, full, left by their reader, or lack characters: the pictures are done."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

NAMES = ("a.png", "üñ漢.png")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of two pictures, one of a name that few encodings have."""
    folder = tmp_path / "in"
    folder.mkdir()
    for name in NAMES:
        Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(folder / name)
    return folder


def _shell(line: str, folder: Path, model: Path, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """``line`` in a shell, where ``sharpkd`` is the command; its exit code is what is asked for."""
    script = f'sharpkd() {{ "{sys.executable}" -m sharpkd.cli sharpen "$@" --model "{model}"; }}\n{line}'
    settings = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **environment}
    return subprocess.run(["bash", "-c", script], cwd=folder, env=settings, capture_output=True, timeout=120)


def _all_done(folder: Path) -> None:
    assert sorted(path.name for path in (folder / "out").iterdir()) == sorted(NAMES)


def test_names_that_the_encoding_lacks(photos: Path, student_onnx: Path) -> None:
    done = _shell("sharpkd . -o out --json -v", photos, student_onnx, PYTHONIOENCODING="cp1252")
    assert done.returncode == 0
    lines = done.stdout.decode("ascii").splitlines()
    assert [json.loads(line)["input"] for line in lines] == list(NAMES)
    told = done.stderr.decode("cp1252").splitlines()
    assert told[1].startswith(f"üñ\\u6f22.png -> {Path('out', 'üñ')}\\u6f22.png (16x16, ")
    assert len(told) == 2
    _all_done(photos)


def test_info_shows_signs_that_the_encoding_lacks(photos: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "sharpkd.cli", "info", photos / "a.png"],
        env={**os.environ, "PYTHONIOENCODING": "ascii", "COLUMNS": "100"},
        capture_output=True,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"sigma 0.00 \\xb1 2.00 px" in done.stdout


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_json_onto_a_full_disk(photos: Path, student_onnx: Path) -> None:
    done = _shell("sharpkd . -o out --json > /dev/full", photos, student_onnx)
    line = b"standard output cannot be written (No space left on device): it lacks lines of --json\n"
    assert (done.returncode, done.stderr) == (1, line)
    _all_done(photos)
    done = _shell("sharpkd a.png -o - > /dev/full", photos, student_onnx)
    assert (done.returncode, done.stderr) == (
        1,
        b"-: standard output cannot be written (No space left on device)\n",
    )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_tables_onto_a_full_disk(photos: Path, student_onnx: Path) -> None:
    line = f'"{sys.executable}" -m sharpkd.cli models > /dev/full'
    done = _shell(line, photos, student_onnx)
    assert (done.returncode, done.stderr) == (1, b"[Errno 28] No space left on device\n")


def test_readers_that_leave(photos: Path, student_onnx: Path) -> None:
    # `true` has ended long before there is something to read
    done = _shell("sharpkd . -o out --json --jobs 1 | true; exit ${PIPESTATUS[0]}", photos, student_onnx)
    line = b"standard output cannot be written (Broken pipe): it lacks lines of --json\n"
    assert (done.returncode, done.stderr) == (1, line)
    _all_done(photos)
    (photos / "bad.png").touch()
    (photos / "out" / "a.png").unlink()
    line_of_shell = "sharpkd . -o out --overwrite -v 2>&1 | true; exit ${PIPESTATUS[0]}"
    done = _shell(line_of_shell, photos, student_onnx)
    assert (done.returncode, done.stdout, done.stderr) == (1, b"", b"")
    _all_done(photos)


@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        ("sharpkd - < a.png >&-", 2, "standard output is closed: give a file with -o\n"),
        ("sharpkd a.png --json >&-", 2, "standard output is closed: leave out --json\n"),
        ("sharpkd - -o b.png <&-", 1, "-: standard input is closed\n"),
        ("sharpkd a.png >&- <&-", 0, ""),
        ("sharpkd a.png none.png -o out 2>&-", 1, ""),
    ],
)
def test_closed_streams(line: str, code: int, said: str, photos: Path, student_onnx: Path) -> None:
    done = _shell(line, photos, student_onnx)
    assert (done.returncode, done.stdout, done.stderr.decode()) == (code, b"", said)
