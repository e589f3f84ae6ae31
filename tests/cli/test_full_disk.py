"""``sharpkd sharpen`` onto a disk that is full: one line, and the old output is still there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import Result

from ..conftest import fill


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif"])
def test_a_full_disk_is_one_line_and_the_old_output_survives(
    suffix: str, sharpkd: Callable[..., Result], student_onnx: Path, small_disk: Path, tmp_path: Path
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (300, 400, 3), np.uint8)
    photo = tmp_path / f"photo.{suffix}"
    Image.fromarray(pixels).save(photo)
    target = small_disk / f"sharp.{suffix}"
    target.write_bytes(b"the old one")
    filler = fill(small_disk, left=8192)
    arguments = ("sharpen", photo, "-o", target, "--model", student_onnx, "--overwrite")
    done = sharpkd(*arguments)
    assert done.exit_code == 1
    said = [line for line in done.stderr.splitlines() if "cannot be written" in line]
    assert said == [f"{target}: cannot be written (No space left on device)"]
    assert "Traceback" not in done.output
    assert target.read_bytes() == b"the old one"
    assert sorted(small_disk.iterdir()) == sorted([filler, target])
    filler.unlink()
    assert sharpkd(*arguments).exit_code == 0
    with Image.open(target) as image:
        assert image.size == (400, 300)
