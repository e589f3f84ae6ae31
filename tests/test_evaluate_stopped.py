"""``python -m sharpkd.evaluate benchmark=…``, stopped in the middle: one line, and nothing is lost."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sharpkd.evaluate import main

TRACKS = "benchmark.tracks=[gaussian]"
PATIENCE = 120


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set of four pictures that an exhaustive search takes seconds for."""
    folder = tmp_path_factory.mktemp("eval")
    (folder / "Set5").mkdir()
    for index, name in enumerate(("baby", "bird", "head", "woman")):
        coarse = np.random.default_rng(index).integers(0, 256, (30, 40, 3), dtype=np.uint8)
        picture = Image.fromarray(coarse).resize((1200, 900), Image.Resampling.BICUBIC)
        picture.save(folder / "Set5" / f"{name}.png")
    return folder


def settings(folder: Path, root: Path, *overrides: str) -> list[str]:
    return [
        "benchmark=sharpbench",
        f"benchmark.root={root}",
        "benchmark.sets=[Set5]",
        f"benchmark.cache_dir={folder / 'cache'}",
        "benchmark.speed=null",
        "benchmark.edges=[]",
        "metrics.lpips_weights=null",
        f"paths.output_root={folder / 'outputs'}",
        "name=stopped",
        *overrides,
    ]


def hear_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def rows_kept(folder: Path) -> int:
    return sum(len(path.read_text().splitlines()) for path in (folder / "cache").glob("*.jsonl"))


@pytest.mark.parametrize("workers", [0, 1])
def test_interrupted_is_one_line(root: Path, tmp_path: Path, project_root: Path, workers: int) -> None:
    given = settings(
        tmp_path,
        root,
        "model=unsharp-oracle",
        "benchmark.baselines=[]",
        f"benchmark.workers={workers}",
        TRACKS,
    )
    running = subprocess.Popen(
        [sys.executable, "-m", "sharpkd.evaluate", *given],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(project_root)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # what a shell starts in the background is deaf to interrupts
        preexec_fn=hear_interrupts,
    )
    end = time.monotonic() + PATIENCE
    while not rows_kept(tmp_path) and running.poll() is None and time.monotonic() < end:
        time.sleep(0.05)
    # as a terminal does: to the command and to its workers
    os.killpg(running.pid, signal.SIGINT)
    out, err = running.communicate(timeout=PATIENCE)
    assert running.returncode == 130, err
    assert 0 < rows_kept(tmp_path) < 4 * 5 * 2
    assert "Traceback" not in err
    assert err.splitlines()[-1] == (
        "interrupted (what was measured is kept, and the same command goes on from there)"
    )
    assert out == ""


def test_a_killed_worker_is_one_line(
    root: Path, tmp_path: Path, call: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextlib.contextmanager
    def killing() -> Iterator[Callable[[int, int, str], None]]:
        def kill(done: int, total: int, name: str) -> None:
            for child in multiprocessing.active_children():
                assert child.pid is not None
                os.kill(child.pid, signal.SIGKILL)

        yield kill

    monkeypatch.setattr("sharpkd.evaluate._bar", killing)
    outcome = call(main, *settings(tmp_path, root, "benchmark.workers=1", "benchmark.baselines=[]", TRACKS))
    assert outcome.code == 1
    assert outcome.err.splitlines()[-1].startswith("error: a worker was killed, perhaps for want of memory; ")
    assert rows_kept(tmp_path) >= 1
