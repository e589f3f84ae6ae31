from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from skimage.data import astronaut
from typer.testing import CliRunner, Result

from sharpkd.cli import app
from sharpkd.data.degradation_maths import gaussian_blur
from sharpkd.inference.automatic import AutoSharpener
from sharpkd.inference.models import MADE_FOR
from sharpkd.inference.picture import ImageFile, Picture
from sharpkd.inference.sharpener import Sharpener


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A small PNG in a folder of its own."""
    pixels = np.random.default_rng(0).integers(0, 256, (31, 45, 3), np.uint8)
    path = tmp_path / "in" / "photo.png"
    path.parent.mkdir()
    Image.fromarray(pixels).save(path)
    return path


def _pixels(path: Path) -> NDArray[np.uint8]:
    with Image.open(path) as image:
        return np.array(image)


def _run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def _fails(code: int, line: str, *arguments: object) -> None:
    """Exit code, one line on stderr that begins with ``line``, nothing on stdout, no traceback."""
    result = _run(*arguments)
    assert result.exit_code == code, result.output
    assert result.stderr.startswith(line), result.stderr
    assert result.stderr.count("\n") == 1
    assert result.stdout == ""


def test_result_is_the_sharpeners_and_lies_beside_the_photo(photo: Path, student_onnx: Path) -> None:
    before = photo.read_bytes()
    result = _run("sharpen", photo, "--model", student_onnx)
    assert (result.exit_code, result.output) == (0, "")
    written = photo.with_name("photo_sharp.png")
    np.testing.assert_array_equal(_pixels(written), Sharpener(student_onnx)(_pixels(photo)))
    assert photo.read_bytes() == before
    assert sorted(p.name for p in photo.parent.iterdir()) == ["photo.png", "photo_sharp.png"]


def test_torch_engine_strength_and_tile(photo: Path, student_checkpoint: Path, tmp_path: Path) -> None:
    output = tmp_path / "out" / "new.png"
    options = ("--model", student_checkpoint, "--engine", "torch", "--strength", 0.5, "--tile", 16)
    assert _run("sharpen", photo, "-o", output, *options).exit_code == 0
    expected = Sharpener(student_checkpoint, precision="fp32")(_pixels(photo), 0.5).astype(int)
    assert np.abs(_pixels(output) - expected).max() <= 1
    assert np.abs(expected - _pixels(photo)).max() > 5


def test_strength_zero_is_the_photo(photo: Path, student_onnx: Path) -> None:
    assert _run("sharpen", photo, "--model", student_onnx, "--strength", 0).exit_code == 0
    np.testing.assert_array_equal(_pixels(photo.with_name("photo_sharp.png")), _pixels(photo))


def test_nothing_is_overwritten_unless_told(photo: Path, student_onnx: Path, tmp_path: Path) -> None:
    before = photo.read_bytes()
    model = ("--model", student_onnx)
    _fails(
        1, f"{photo}: would overwrite itself; --overwrite replaces it", "sharpen", photo, "-o", photo, *model
    )
    other = tmp_path / "other.png"
    other.write_bytes(b"old")
    _fails(1, f"{photo}: {other} exists; --overwrite replaces it", "sharpen", photo, "-o", other, *model)
    assert (photo.read_bytes(), other.read_bytes()) == (before, b"old")
    sharp = Sharpener(student_onnx)(_pixels(photo))
    assert _run("sharpen", photo, "-o", photo, *model, "--overwrite").exit_code == 0
    np.testing.assert_array_equal(_pixels(photo), sharp)


def test_folders_keep_their_tree_and_skip_earlier_results(photo: Path, student_onnx: Path) -> None:
    folder = photo.parent
    (folder / "deep").mkdir()
    Image.open(photo).save(folder / "deep" / "b.jpg")
    (folder / "notes.txt").write_text("no picture")
    for _ in range(2):
        result = _run("sharpen", folder, "-o", folder / "out", "--model", student_onnx, "--overwrite")
        assert (result.exit_code, result.stderr) == (0, "")
        written = {str(p.relative_to(folder / "out")) for p in (folder / "out").rglob("*") if p.is_file()}
        assert written == {"photo.png", os.path.join("deep", "b.jpg")}


def test_one_bad_photo_does_not_stop_the_others(photo: Path, student_onnx: Path, tmp_path: Path) -> None:
    bad = photo.with_name("a_bad.png")
    bad.write_bytes(b"")
    output = tmp_path / "out"
    missing = photo.with_name("missing.png")
    result = _run("sharpen", bad, missing, photo, "-o", output, "--model", student_onnx)
    assert result.exit_code == 1
    assert result.stderr == f"{bad}: is empty (0 bytes)\n{missing}: no such file\n"
    assert [p.name for p in output.iterdir()] == ["photo.png"]


def test_usage_errors(photo: Path, student_onnx: Path, tmp_path: Path) -> None:
    model = ("--model", student_onnx)
    _fails(
        2,
        "model none.onnx does not exist: name fast, balanced or quality, or train one",
        "sharpen",
        photo,
        "--model",
        "none.onnx",
    )
    _fails(2, f"{photo.parent} is a folder: say with -o where", "sharpen", photo.parent, *model)
    _fails(
        2,
        "out.png is one file, but there are several",
        "sharpen",
        photo,
        photo.parent,
        "-o",
        "out.png",
        *model,
    )
    empty = tmp_path / "empty"
    empty.mkdir()
    _fails(2, f"no pictures in {empty} (looked for .png, ", "sharpen", empty, "-o", tmp_path / "o", *model)
    twin = tmp_path / "photo.png"
    twin.write_bytes(photo.read_bytes())
    target = tmp_path / "o" / "photo.png"
    line = f"{photo} and {twin} would both be written to {target}: sharpen them one by one"
    _fails(2, line, "sharpen", photo, twin, "-o", tmp_path / "o", *model)
    for bad in (
        ("--strength", "3"),
        ("--tile", "-1"),
        ("--engine", "abacus"),
        ("--precision", "int8"),
        ("--nonsense",),
    ):
        assert _run("sharpen", photo, *model, *bad).exit_code == 2


def test_a_note_where_tiles_change_the_result(photo: Path, tmp_path: Path) -> None:
    from sharpkd.checkpoint import save_weights
    from sharpkd.nets.mobile_student import MobileStudent

    model = tmp_path / "mobile.safetensors"
    arguments: dict[str, Any] = {"width": 8, "blocks": 1}
    config = {"_target_": "sharpkd.nets.mobile_student.MobileStudent", **arguments}
    save_weights(model, config, MobileStudent(**arguments).state_dict(), {})
    result = _run("sharpen", photo, "--model", model, "--tile", 16)
    assert result.exit_code == 0
    assert result.stderr == "mobile.safetensors looks at the whole picture: tiles change its result\n"


def test_info_tells_the_net(student_onnx: Path, student_checkpoint: Path) -> None:
    for model, engine in ((student_onnx, "onnxruntime"), (student_checkpoint, "openvino")):
        result = _run("info", model)
        assert result.exit_code == 0
        text = re.sub(r"\s+", " ", result.stdout)
        for part in (
            "sharpkd.nets.pixel_student.PixelStudent(",
            f"engine {engine}",
            "receptive field 15 px",
            "run a test",
        ):
            assert part in text
    _fails(2, "model none.onnx does not exist", "info", "none.onnx")


def test_models_and_names(
    photo: Path, student_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sharpkd.inference.models.weights_folder", lambda: tmp_path)
    assert _run("models").stdout == "no student comes with this package: give a file with --model\n"
    line = "the weights 'fast' are not in this package (packaged students: none); give the path of a model"
    _fails(2, line, "sharpen", photo, "--model", "fast")
    weights = tmp_path / "fast.safetensors"
    weights.write_bytes(student_checkpoint.read_bytes())
    size = weights.stat().st_size
    assert _run("models").stdout == f"fast: {MADE_FOR['fast']}; {size:,} bytes\n"
    assert _run("sharpen", photo, "--model", "fast", "--precision", "fp32").exit_code == 0
    expected = Sharpener(student_checkpoint, precision="fp32")(_pixels(photo))
    np.testing.assert_array_equal(_pixels(photo.with_name("photo_sharp.png")), expected)
    line = "the onnxruntime engine computes in fp32, not in bf16"
    _fails(2, line, "sharpen", photo, "--model", "fast", "--engine", "onnxruntime", "--precision", "bf16")


def test_verbose_tells_the_blur(photo: Path, student_checkpoint: Path) -> None:
    result = _run("sharpen", photo, "--model", student_checkpoint, "-v")
    estimate = Sharpener(student_checkpoint).measure(_pixels(photo))
    assert result.exit_code == 0
    assert result.stderr.startswith(f"{photo} -> {photo.with_name('photo_sharp.png')} (")
    assert result.stderr.endswith(f" s; {student_checkpoint.stem}; {estimate}, the net is blind)\n")
    assert str(estimate).startswith("sigma ")


def test_script_and_module_are_the_same_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "sharpkd.cli", "sharpen", "x.png"], capture_output=True, text=True, cwd=os.sep
    )
    assert (done.returncode, done.stderr) == (1, "x.png: no such file\n")


@pytest.fixture
def blurred(tmp_path: Path) -> Path:
    """A photograph, blurred by two pixels, as JPEG of quality 60."""
    path = tmp_path / "blurred.jpg"
    pixels = gaussian_blur(np.ascontiguousarray(astronaut()[100:292, 100:340]), 2.0)
    Image.fromarray(pixels).save(path, quality=60, dpi=(300, 300))
    return path


def test_without_a_model_one_is_chosen_and_a_sharp_picture_left_alone(blurred: Path, photo: Path) -> None:
    result = _run("sharpen", blurred, "-v", "--json", "--format", "png")
    assert result.exit_code == 0
    pixels = _pixels(blurred)
    chosen = AutoSharpener().chosen_for(ImageFile((Picture(pixels),), "JPEG"))
    assert (chosen.choice.model, chosen.choice.strength) == ("quality", 1)
    assert json.loads(result.stdout)["model"] == "quality"
    assert result.stderr.endswith(f" s; {chosen})\n")
    expected = Sharpener("quality")(pixels)
    np.testing.assert_array_equal(_pixels(blurred.with_name("blurred_sharp.png")), expected)
    result = _run("sharpen", photo, "-v", "--json", "--model", "auto", "--budget-ms", "500")
    assert "; left alone: it is sharp (sigma 0." in result.stderr
    assert json.loads(result.stdout)["model"] is None
    np.testing.assert_array_equal(_pixels(photo.with_name("photo_sharp.png")), _pixels(photo))


def test_a_budget_is_for_auto_and_above_0(photo: Path) -> None:
    result = _run("sharpen", photo, "--model", "fast", "--budget-ms", "5")
    assert (result.exit_code, result.stderr) == (2, "--budget-ms is for --model auto\n")
    result = _run("sharpen", photo, "--budget-ms", "0")
    assert (result.exit_code, result.stderr) == (2, "--budget-ms must be above 0, got 0\n")


def test_info_tells_of_a_picture(blurred: Path, tmp_path: Path) -> None:
    lines = _run("info", blurred).output.splitlines()
    found = {line[:13].strip(): line[13:].strip() for line in lines}
    assert found["picture"] == "240x192, RGB, 8 bits a channel"
    assert found["format"] == "JPEG"
    assert found["metadata"] == "the resolution"
    matched = re.fullmatch(r"sigma (\d\.\d\d) ± \d\.\d\d px", found["blur"])
    assert matched is not None
    assert 1.5 < float(matched[1]) < 2.5
    matched = re.fullmatch(r"as JPEG (\d+)", found["compression"])
    assert matched is not None
    assert 40 < int(matched[1]) < 80
    assert found["enlarged"] == "no"
    assert found["auto"].startswith("quality at strength 1.00: ")
    result = _run("info", tmp_path / "none.png")
    assert (result.exit_code, result.stderr) == (1, f"{tmp_path / 'none.png'}: no such file\n")
