"""What is imported decides how soon the command starts; modules are counted: seconds are the machine's."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = (
    *("torch", "pytorch_lightning", "hydra", "omegaconf", "torchvision", "wandb", "matplotlib"),
    *("scipy", "cv2", "skimage", "tifffile", "safetensors"),
)
NEEDED_FOR_PICTURES = ("numpy", "PIL", "onnxruntime")
MAIN = (
    "import sys\n"
    "from sharpkd.cli import main\n"
    "try: main()\n"
    "except SystemExit as end: assert not end.code, end.code\n"
    "print(' '.join(sorted(sys.modules)))\n"
)


def _modules(*arguments: object) -> set[str]:
    """Names of what is imported when the command has ended."""
    done = subprocess.run(
        [sys.executable, "-c", MAIN, *map(str, arguments)], capture_output=True, text=True, check=True
    )
    return set(done.stdout.splitlines()[-1].split())


def test_help_imports_nothing_that_pictures_need() -> None:
    found = _modules("sharpen", "--help")
    assert not found & {*HEAVY, *NEEDED_FOR_PICTURES}
    assert len(found) < 500, len(found)


def test_sharpening_with_onnx_imports_nothing_heavy(photo: Path, student_onnx: Path) -> None:
    found = _modules("sharpen", photo, "--model", student_onnx)
    assert found.issuperset(NEEDED_FOR_PICTURES)
    assert not found & set(HEAVY)
    assert len(found) < 1000, len(found)


@pytest.mark.parametrize(("given", "found"), [(None, "1"), ("3", "3")])
def test_numpy_gets_one_thread_unless_it_was_given_more(given: str | None, found: str, photo: Path) -> None:
    # OpenBLAS reads it when NumPy is imported, which `main` does not do before
    script = MAIN.replace("' '.join(sorted(sys.modules))", "os.environ['OPENBLAS_NUM_THREADS']")
    environment = {name: value for name, value in os.environ.items() if name != "OPENBLAS_NUM_THREADS"}
    if given is not None:
        environment["OPENBLAS_NUM_THREADS"] = given
    command = [sys.executable, "-c", f"import os\n{script}", "info", str(photo)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == found


BASE = (
    "import importlib.util as util, sys\n"
    "missing = sys.argv.pop().split(',')\n"
    "sys.modules.update(dict.fromkeys(missing))\n"
    "found = util.find_spec\n"
    "util.find_spec = lambda name, *rest: None if name in missing else found(name, *rest)\n"
    "from sharpkd.cli import main\n"
    "main()\n"
)


@pytest.mark.parametrize(
    ("arguments", "code", "line"),
    [
        (["sharpen", "PHOTO", "-v"], 0, "photo.png -> photo_sharp.png"),
        (["sharpen", "PHOTO", "--model", "fast", "--compare"], 0, ""),
        (["info", "PHOTO"], 0, ""),
        (["info", "clip.mp4"], 1, "clip.mp4: videos need PyAV: pip install 'sharpkd[video]'"),
        (["sharpen", "clip.mp4"], 1, "clip.mp4: videos need PyAV: pip install 'sharpkd[video]'"),
        (["models"], 0, ""),
        (
            ["info", "net.ckpt"],
            2,
            "net.ckpt needs PyTorch: pip install 'sharpkd[train]', or use an .onnx file",
        ),
        (
            ["sharpen", "PHOTO", "-o", "out", "--cluster", "ray"],
            2,
            "--cluster ray needs Ray on every machine",
        ),
    ],
)
def test_the_package_without_extras(
    arguments: list[str], code: int, line: str, photo: Path, tmp_path: Path
) -> None:
    (tmp_path / "clip.mp4").write_bytes(b"anything")
    (tmp_path / "net.ckpt").write_bytes(b"anything")
    here = tmp_path / "photo.png"
    here.write_bytes(photo.read_bytes())
    given = [here.name if argument == "PHOTO" else argument for argument in arguments]
    missing = ",".join({*HEAVY, "av", "nncf", "ray", "onnx", "spandrel"} - {"safetensors"})
    done = subprocess.run(
        [sys.executable, "-c", BASE, *given, missing], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == code, done.stderr
    assert done.stderr.startswith(line), done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.count("\n") <= 1
