"""Ctrl-C and SIGTERM in the middle: one line, nothing half-written, no temporary file."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

# Where the signal comes: among tiles, within a computation that does not end, while a result is written, or
# before anything is done.
AMONG_TILES = (
    "def picture(self, picture, strength, on_tile, estimate):\n"
    "    for tile in range(2000):\n"
    "        time.sleep(0.05); os.write(1, b'now\\n'); on_tile(tile, 2000)\n"
    "Sharpener.picture = picture\n"
)
WITHIN_A_COMPUTATION = (
    "def picture(self, *a, **settings):\n"
    "    os.write(1, b'now\\n'); time.sleep(600)\n"
    "Sharpener.picture = picture\n"
    "run.PATIENCE = 0.2\n"
)
WHILE_WRITING = (
    "inner = os.fsync\n"
    "def fsync(number):\n"
    "    inner(number); os.write(1, b'now\\n'); time.sleep(600)\n"
    "os.fsync = fsync\n"
    "run.PATIENCE = 0.2\n"
)
WHILE_OPENING = (
    "def opening(self, *a, **settings):\n"
    "    os.write(1, b'now\\n'); time.sleep(600)\n"
    "Sharpener.__init__ = opening\n"
)
MAIN = (
    "import os, signal, sys, time\n"
    # Who starts the tests in the background may have had Ctrl-C ignored.
    "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    "from sharpkd.cli import main, run\n"
    "from sharpkd.inference.sharpener import Sharpener\n"
    "%s"
    "main()\n"
)


@pytest.mark.parametrize(
    ("where", "number", "code", "line"),
    [
        (WHILE_OPENING, signal.SIGINT, 130, "interrupted"),
        (AMONG_TILES, signal.SIGINT, 130, "interrupted: 0 of 2 done"),
        (WITHIN_A_COMPUTATION, signal.SIGINT, 130, "interrupted: 0 of 2 done"),
        (WHILE_WRITING, signal.SIGTERM, 143, "stopped: 0 of 2 done"),
    ],
    ids=["opening", "tiles", "computation", "writing"],
)
def test_a_signal_leaves_old_files_or_new_ones(
    where: str, number: signal.Signals, code: int, line: str, student_onnx: Path, tmp_path: Path
) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    out.mkdir()
    for name in ("a.png", "b.png"):
        Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(source / name)
        (out / name).write_bytes(b"old")
    command = [
        "sharpen",
        source,
        "-o",
        out,
        "--model",
        student_onnx,
        "--tile",
        "8",
        "--overwrite",
        "-j",
        "2",
    ]
    process = subprocess.Popen(
        [sys.executable, "-c", "import sys; exec(sys.argv.pop(1))", MAIN % where, *map(str, command)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=os.sep,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "now\n"
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (code, f"{line}\n")
    assert {path.name: path.read_bytes() for path in out.iterdir()} == {"a.png": b"old", "b.png": b"old"}
