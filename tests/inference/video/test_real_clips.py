from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sharpkd.inference.video.sharpen import sharpen_video


@pytest.mark.real_data
@pytest.mark.parametrize("name", ["again", "school"])
@pytest.mark.parametrize("mode", ["luma", "rgb"])
def test_footage_is_kept_sample_by_sample(
    name: str, mode: Any, sharpkd_data: Path, tmp_path: Path, look: Any
) -> None:
    source, target = sharpkd_data / "video" / f"{name}.mkv", tmp_path / "out.mkv"
    report = sharpen_video(source, target, lambda image: image, mode=mode, codec="ffv1", end=0.6)
    before, after = look(source), look(target)
    assert report.frames == len(after.times) > 10
    assert after.times == before.times[: report.frames]
    for old, new in zip(before.planes, after.planes, strict=False):
        for one, other in zip(old, new, strict=True):
            np.testing.assert_array_equal(one, other)
    assert after.frames[0].color_range == before.frames[0].color_range == 2


@pytest.mark.real_data
def test_footage_in_other_containers_keeps_its_timestamps(
    sharpkd_data: Path, tmp_path: Path, look: Any
) -> None:
    source = sharpkd_data / "video" / "again.mkv"
    times = look(source).times
    for name in ("out.mp4", "out.mov"):
        report = sharpen_video(source, tmp_path / name, lambda image: image, preset="ultrafast", end=0.6)
        assert look(tmp_path / name).times == times[: report.frames]
        assert report.notes == ()
