from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sharpkd.inference.atomic_file import leftovers
from sharpkd.inference.image_io import ImageFileError, Picture, atomic_file, write_picture

PIXELS = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)


def test_a_failed_write_leaves_the_old_file_alone(tmp_path: Path) -> None:
    target = tmp_path / "a.png"
    target.write_bytes(b"old")

    def write_half() -> None:
        with atomic_file(target) as file:
            file.write(b"half of the new")
            raise RuntimeError("disk")

    with pytest.raises(RuntimeError, match="disk"):
        write_half()
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_failed_rename_leaves_the_old_file_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "a.png"
    target.write_bytes(b"old")

    def refuse(*_: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(ImageFileError, match=r"a\.png: cannot be written \(Input/output error\)$"):
        write_picture(target, Picture(PIXELS))
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_full_disk_leaves_the_old_file_alone(tmp_path: Path) -> None:
    """A process that may write files of 4 kB alone, which the picture exceeds."""
    target = tmp_path / "a.png"
    target.write_bytes(b"old")
    code = (
        "import pathlib, resource, signal, sys\n"
        "import numpy as np\n"
        "from sharpkd.inference.image_io import Picture, write_picture\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)\n"
        "try: write_picture(pathlib.Path(sys.argv[1]), Picture(pixels))\n"
        "except ValueError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(target)], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, f"{target}: cannot be written (File too large)\n")
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_kill_in_mid_write_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "a.png"
    target.write_bytes(b"old")
    code = (
        "import os, signal, sys, pathlib\n"
        "from sharpkd.inference.image_io import atomic_file\n"
        "with atomic_file(pathlib.Path(sys.argv[1])) as file:\n"
        "    file.write(b'half'); file.flush(); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(target)])
    assert done.returncode == -signal.SIGKILL
    assert target.read_bytes() == b"old"


def test_leftovers_are_of_one_name_alone(tmp_path: Path) -> None:
    """Names that begin and end alike, and one that is the beginning of another."""
    long = "a_name_of_more_than_forty_characters_that_cameras_give"
    names = [
        f"{long}_0001_001.png",
        f"{long}_0001_002.png",
        f"{long}.png",
        f"{long}.png.12345678",
        "ü[*].png",
    ]
    code = (
        "import os, signal, sys, pathlib\n"
        "from sharpkd.inference.atomic_file import atomic_file\n"
        "begun = [atomic_file(pathlib.Path(name)) for name in sys.argv[1:]]\n"
        "for one in begun: one.__enter__()\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", code, *names, names[0]], cwd=tmp_path)
    found = {name: leftovers(tmp_path / name) for name in names}
    assert {name: len(paths) for name, paths in found.items()} == {**dict.fromkeys(names, 1), names[0]: 2}
    assert sorted(path for paths in found.values() for path in paths) == sorted(tmp_path.iterdir())


def test_permissions_are_the_usual_ones_or_the_old_files(tmp_path: Path) -> None:
    (tmp_path / "plain").write_bytes(b"")
    write_picture(tmp_path / "a.png", Picture(PIXELS))
    assert os.stat(tmp_path / "a.png").st_mode == os.stat(tmp_path / "plain").st_mode
    (tmp_path / "a.png").chmod(0o600)
    write_picture(tmp_path / "a.png", Picture(PIXELS))
    assert os.stat(tmp_path / "a.png").st_mode & 0o777 == 0o600


def test_the_longest_name_is_written(tmp_path: Path) -> None:
    for name in ("ü" * 125 + "a.png", "x" * 251 + ".png", "写" * 83 + "ab.png"):
        assert len(name.encode()) == 255
        write_picture(tmp_path / name, Picture(PIXELS))
    assert len(list(tmp_path.iterdir())) == 3


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real.png").write_bytes(b"old")
    (tmp_path / "link.png").symlink_to("real.png")
    write_picture(tmp_path / "link.png", Picture(PIXELS))
    assert (tmp_path / "link.png").is_symlink()
    assert (tmp_path / "real.png").read_bytes().startswith(b"\x89PNG")


def test_abandoned_files_are_gone_and_nothing_new_is_written(tmp_path: Path) -> None:
    code = (
        "import os, sys, threading, pathlib\n"
        "from sharpkd.inference.atomic_file import abandon_unfinished, atomic_file\n"
        "target = pathlib.Path(sys.argv[1])\n"
        "written = threading.Event()\n"
        "def write():\n"
        "    with atomic_file(target) as file:\n"
        "        file.write(b'half'); file.flush(); written.set()\n"
        "        threading.Event().wait(0.2)\n"
        "thread = threading.Thread(target=write, daemon=True)\n"
        "thread.start(); written.wait(); abandon_unfinished(); thread.join(1); os._exit(0)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "a.png")], check=True)
    assert list(tmp_path.iterdir()) == []
