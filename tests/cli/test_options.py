from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import Result

from sharpkd.inference.sharpener import Sharpener

Run = Callable[..., Result]


def _batch(folder: Path, count: int = 6) -> list[Path]:
    paths = []
    for index in range(count):
        side = 16 + 9 * ((count - index) % 4)
        pixels = np.random.default_rng(index).integers(0, 256, (side, side + 3, 3), np.uint8)
        paths.append(folder / f"{index}.png")
        Image.fromarray(pixels).save(paths[-1])
    return paths


def test_results_and_their_order_do_not_depend_on_jobs(
    sharpkd: Run, student_onnx: Path, tmp_path: Path
) -> None:
    paths = _batch(tmp_path)
    paths[2].write_bytes(b"no picture")
    told, written = [], []
    for jobs in (1, 4):
        out = tmp_path / f"out{jobs}"
        result = sharpkd("sharpen", *paths, "-o", out, "--model", student_onnx, "--jobs", jobs, "--json")
        assert result.exit_code == 1
        told.append([json.loads(line) for line in result.stdout.splitlines()])
        written.append({path.name: path.read_bytes() for path in sorted(out.iterdir())})
        assert result.stderr == f"{paths[2]}: is no PNG, JPEG, WebP, TIFF, BMP, GIF or AVIF image\n"
    assert written[0] == written[1]
    assert sorted(written[0]) == ["0.png", "1.png", "3.png", "4.png", "5.png"]
    assert [line["input"] for line in told[1]] == [str(path) for path in paths]
    for one in (told[0][3], told[1][3]):
        assert one.keys() == {"input", "output", "seconds", "size", "model", "notes", "error"}
        assert (one["size"], one["notes"], one["error"]) == ([46, 43], [], None)
        assert 0 < one["seconds"] < 60
    assert told[0][2] | {"seconds": 0} == {
        "input": str(paths[2]),
        "output": None,
        "seconds": 0,
        "size": None,
        "model": None,
        "notes": [],
        "error": f"{paths[2]}: is no PNG, JPEG, WebP, TIFF, BMP, GIF or AVIF image",
    }


def test_standard_input_to_standard_output(sharpkd: Run, photo: Path, student_onnx: Path) -> None:
    result = sharpkd("sharpen", "-", "--model", student_onnx, given=photo.read_bytes())
    assert (result.exit_code, result.stderr) == (0, "")
    with Image.open(io.BytesIO(result.stdout_bytes)) as found, Image.open(photo) as given:
        assert found.format == "PNG"
        np.testing.assert_array_equal(np.asarray(found), Sharpener(student_onnx)(np.asarray(given)))
    result = sharpkd("sharpen", photo, "-o", "-", "--model", student_onnx, "--format", "webp")
    with Image.open(io.BytesIO(result.stdout_bytes)) as found:
        assert found.format == "WEBP"
    assert [path.name for path in photo.parent.iterdir()] == ["photo.png"]


def test_bad_standard_input(sharpkd: Run, student_onnx: Path, tmp_path: Path) -> None:
    kinds = "PNG, JPEG, WebP, TIFF, BMP, GIF or AVIF"
    for given, line in ((b"", "-: is empty (0 bytes)\n"), (b"abc", f"-: is no {kinds} image\n")):
        result = sharpkd("sharpen", "-", "-o", tmp_path / "a.png", "--model", student_onnx, given=given)
        assert (result.exit_code, result.output) == (1, line)
    assert list(tmp_path.iterdir()) == []


def test_a_slash_makes_a_folder_of_any_name(
    sharpkd: Run, photo: Path, student_onnx: Path, tmp_path: Path
) -> None:
    model = ("--model", student_onnx)
    result = sharpkd("sharpen", photo, "-o", tmp_path / "x.heic", *model)
    assert result.exit_code == 2
    assert result.output.startswith(
        f"{tmp_path / 'x.heic'}: files that end in .heic are not written (but .png,"
    )
    assert not (tmp_path / "x.heic").exists()
    for _ in range(2):
        result = sharpkd("sharpen", photo, "-o", f"{tmp_path / 'x.heic'}/", "--overwrite", *model)
        assert (result.exit_code, result.output) == (0, "")
        assert [path.name for path in (tmp_path / "x.heic").iterdir()] == ["photo.png"]


@pytest.mark.parametrize("ending", ["png", "mkv"])
def test_a_name_too_long_is_one_line(ending: str, sharpkd: Run, photo: Path, student_onnx: Path) -> None:
    name = f"{'a' * 260}.{ending}"
    result = sharpkd("sharpen", photo, "-o", name, "--model", student_onnx)
    assert (result.exit_code, result.output) == (2, f"{name} cannot be written (File name too long)\n")
    result = sharpkd("sharpen", name, "--model", student_onnx)
    assert (result.exit_code, result.output.count("\n")) == (1, 1)
    assert "File name too long" in result.output


def test_closed_standard_output(student_onnx: Path, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (300, 400, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    command = ["sharpen", tmp_path / "a.png", "-o", "-", "--model", student_onnx]
    process = subprocess.Popen(
        [sys.executable, "-m", "sharpkd.cli", *map(str, command)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    with process.stderr as err:
        assert err.read() == b"-: standard output was closed before all was written\n"
    assert process.wait(timeout=60) == 1


def test_format_and_quality(sharpkd: Run, photo: Path, student_onnx: Path) -> None:
    sizes = []
    for quality in (30, 95):
        options = ("--format", "jpg", "--quality", quality, "--suffix", f"_{quality}")
        result = sharpkd("sharpen", photo, "--model", student_onnx, *options)
        assert (result.exit_code, result.output) == (0, "")
        with Image.open(photo.with_name(f"photo_{quality}.jpg")) as image:
            assert image.format == "JPEG"
        sizes.append(photo.with_name(f"photo_{quality}.jpg").stat().st_size)
    assert sizes[0] < sizes[1]


def test_existing_results_are_skipped_unread(sharpkd: Run, student_onnx: Path, tmp_path: Path) -> None:
    paths = _batch(tmp_path, 2)
    out = tmp_path / "out"
    out.mkdir()
    (out / "0.png").write_bytes(b"old")
    options = ("-o", out, "--model", student_onnx, "--skip-existing")
    paths[0].write_bytes(b"would fail if it were read")
    result = sharpkd("sharpen", *paths, *options)
    assert result.exit_code == 0
    assert result.output == f"{paths[0]}: note: skipped: {out / '0.png'} exists\n"
    assert (out / "0.png").read_bytes() == b"old"
    assert (out / "1.png").is_file()
    result = sharpkd("sharpen", *paths, *options, "--json", "--quiet")
    assert [json.loads(line)["output"] for line in result.stdout.splitlines()] == [None, None]
    assert result.stderr == ""


def test_compare_shows_before_and_after(sharpkd: Run, photo: Path, student_onnx: Path) -> None:
    result = sharpkd("sharpen", photo, "--model", student_onnx, "--compare", "--json")
    line = json.loads(result.stdout)
    assert line["compare"] == str(photo.with_name("photo_sharp_compare.png"))
    with Image.open(photo) as before, Image.open(photo.with_name("photo_sharp.png")) as after:
        pair = np.concatenate((np.asarray(before), np.asarray(after)), axis=1)
    with Image.open(line["compare"]) as found:
        np.testing.assert_array_equal(np.asarray(found), pair)
    result = sharpkd("sharpen", photo, "--model", student_onnx, "--compare", "-o", photo.with_name("b.png"))
    assert result.exit_code == 0
    assert sharpkd("sharpen", photo, "--model", student_onnx, "--compare").exit_code == 1, "it exists"


def test_verbose_and_quiet(sharpkd: Run, photo: Path, student_onnx: Path, tmp_path: Path) -> None:
    with Image.open(photo) as image:
        image.save(tmp_path / "a.jpg", comment=b"hello")
    options = ("-o", tmp_path / "out", "--format", "png", "--model", student_onnx, "--overwrite")
    note = f"{tmp_path / 'a.jpg'}: note: PNG cannot hold the comment\n"
    assert sharpkd("sharpen", tmp_path / "a.jpg", *options).output == note
    told = sharpkd("sharpen", tmp_path / "a.jpg", *options, "-v").output
    first, rest = told.split("\n", 1)
    assert first.startswith(f"{tmp_path / 'a.jpg'} -> {tmp_path / 'out' / 'a.png'} (45x31, ")
    assert first.endswith(", the net is blind)")
    assert rest == note
    assert sharpkd("sharpen", tmp_path / "a.jpg", *options, "-q").output == ""
    result = sharpkd("sharpen", tmp_path / "none.jpg", *options, "-q")
    assert (result.exit_code, result.output) == (1, f"{tmp_path / 'none.jpg'}: no such file\n")


def test_a_device_that_is_not_there_is_one_line(sharpkd: Run, photo: Path) -> None:
    for model in ("fast", "auto"):
        result = sharpkd("sharpen", photo, "--model", model, "--device", "cuda:99")
        assert result.exit_code == 2
        (line,) = result.stderr.splitlines()
        assert "torch has no device 'cuda:99' here (" in line


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (("--overwrite", "--skip-existing"), "--overwrite and --skip-existing contradict each other\n"),
        (("-v", "-q"), "--verbose and --quiet contradict each other\n"),
        (("-o", "-", "--json"), "--json and the picture would both go to stdout: give a file with -o\n"),
        (("--format", "doc"), "--format doc is not one of png, jpg, jpeg, webp, tif, tiff, avif, gif, bmp\n"),
    ],
)
def test_options_that_contradict_each_other(
    options: tuple[str, ...], line: str, sharpkd: Run, photo: Path, student_onnx: Path
) -> None:
    result = sharpkd("sharpen", photo, "--model", student_onnx, *options)
    assert (result.exit_code, result.output) == (2, line)


def test_numbers_out_of_range(sharpkd: Run, photo: Path, student_onnx: Path) -> None:
    for option in (("--quality", "0"), ("--quality", "101"), ("--jobs", "0"), ("--strength", "2.1")):
        assert sharpkd("sharpen", photo, "--model", student_onnx, *option).exit_code == 2


def test_no_picture_into_a_terminal(
    sharpkd: Run, photo: Path, student_onnx: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    class System:
        stdout = Terminal()

    monkeypatch.setattr("sharpkd.cli.command.sys", System)
    result = sharpkd("sharpen", photo, "--model", student_onnx, "-o", "-")
    assert (result.exit_code, result.output) == (
        2,
        "stdout is a terminal: give a file with -o, or redirect it\n",
    )


def test_a_fault_of_the_engine_stops_no_other_picture(
    sharpkd: Run, tmp_path: Path, student_onnx: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class FaultError(Exception):
        """Of ONNX Runtime's, say, which share no base class."""

    paths = _batch(tmp_path, 3)
    inner = Sharpener.picture
    calls: list[int] = []

    def picture(self: Sharpener, *arguments: object, **options: object) -> object:
        calls.append(1)
        if len(calls) == 2:
            raise FaultError("first line\nsecond line")
        return inner(self, *arguments, **options)  # type: ignore[arg-type]  # handed on

    monkeypatch.setattr(Sharpener, "picture", picture)
    result = sharpkd("sharpen", *paths, "-o", tmp_path / "out", "--model", student_onnx)
    assert (result.exit_code, result.output) == (1, f"{paths[1]}: first line\n")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["0.png", "2.png"]


@pytest.mark.parametrize("width", [80, 100])
def test_help_fits_one_screen(width: int, sharpkd: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("TERMINAL_WIDTH", str(width))
    lines = sharpkd("sharpen", "--help").output.splitlines()
    assert 20 < len(lines) <= 40
    assert max(map(len, lines)) <= width
    text = " ".join(lines)
    for option in (
        "--format",
        "--quality",
        "--suffix",
        "--skip-existing",
        "--jobs",
        "--compare",
        "--json",
        "-q",
    ):
        assert option in text
