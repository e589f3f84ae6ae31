"""The demo's path from end to end, with a few steps of training instead of minutes."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import pytest
from PIL import Image
from rich.console import Console

from sharpkd.demo import main, run_demo

SHORT = (
    "trainer.max_steps=3 runtime.threads=1 callbacks.progress=null trainer.enable_progress_bar=false "
    "data.workers=0 data.batch_size=2 data.crop_size=48 data.val_crop=64"
)


def test_demo_leaves_what_it_promises(tmp_path: Path) -> None:
    settings = [*SHORT.split(), f"data.cache_dir={tmp_path}/cache"]
    quoted = ",".join(f'"{setting}"' for setting in settings)
    overrides = [*settings, f"teacher.overrides=[{quoted}]", f"paths.output_root={tmp_path}"]
    printed = io.StringIO()
    results = run_demo(overrides, Console(file=printed, width=200))

    folder = tmp_path / "demo"
    written = json.loads((folder / "metrics.json").read_text())
    assert written == results
    for name in ("input", "teacher", "student"):
        assert 20 < written[name]["psnr"] < 40
        assert 0.5 < written[name]["ssim"] < 1
    for name in ("teacher", "student"):
        assert written[name]["ms_per_image"] > 0
    assert written["student"]["parameters"] == 44_108
    assert written["teacher"]["parameters"] > written["student"]["parameters"]
    with Image.open(folder / "blurred.png") as blurred, Image.open(folder / "sharpened.png") as sharpened:
        assert blurred.size == sharpened.size
    page = (folder / "report.html").read_text()
    assert (
        len(re.findall('src="data:image', page)) >= 6
    )  # two sliders of two pictures, two pictures of curves
    assert f"{written['student']['psnr']:.2f}" in printed.getvalue()
    assert str(folder / "report.html") in printed.getvalue()


def test_wrong_setting_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["demo", "loss.gama=1"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("error: there is no setting 'loss.gama'. did you mean 'gamma'?")
