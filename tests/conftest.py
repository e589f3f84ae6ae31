"""What all tests share. The environment is set before anything heavy is imported."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# No test may wait for a network, look for updates, or use more than one thread of a shared machine.
OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "NO_ALBUMENTATIONS_UPDATE": "1",
    "WANDB_MODE": "offline",
    "WANDB_SILENT": "true",
    "WANDB_ERROR_REPORTING": "false",
}
THREADS = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
os.environ.update(OFFLINE | THREADS)
os.environ.setdefault("MPLBACKEND", "Agg")

import pytest  # noqa: E402  # after the environment above
import torch  # noqa: E402  # after the environment above

from sharpkd.functional.torchvision_guard import define_missing_operators  # noqa: E402  # after the environment above

pytest_plugins = ["pytester"]
torch.set_num_threads(1)
# Tests may import torchvision (through torchmetrics, timm, Lightning) before anything of sharpkd.
define_missing_operators()

# Tests run from a checkout whose package may not be installed; processes that they start have to find it too.
ROOT = Path(__file__).resolve().parent.parent

REAL = {"sharpkd_data": "SHARPKD_DATA", "sharpkd_weights": "SHARPKD_WEIGHTS"}


def _folder(variable: str) -> Path:
    folder = Path(os.environ[variable])
    if not folder.is_dir():
        pytest.fail(f"{variable}={folder} is not a folder; correct it, or unset it to leave these tests out")
    return folder


@pytest.fixture(scope="session")
def sharpkd_data() -> Path:
    """The folder with the real photographs; its users carry the marker ``real_data``."""
    return _folder("SHARPKD_DATA")


@pytest.fixture(scope="session")
def sharpkd_weights() -> Path:
    """The folder with the published weights; its users carry the marker ``real_data``."""
    return _folder("SHARPKD_WEIGHTS")


@pytest.fixture(scope="session")
def project_root() -> Path:
    """The folder that holds pyproject.toml."""
    return ROOT


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own of two megabytes, which is really full when it is full."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)], capture_output=True, text=True
    )
    if mounted.returncode != 0:
        pytest.skip(f"a small file system needs the right to mount one: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder: Path, left: int = 0) -> Path:
    """Fill the file system of ``folder`` but for ``left`` bytes; returns the file to delete for room."""
    stat = os.statvfs(folder)
    filler = folder / "filler"
    filler.write_bytes(bytes(max(0, stat.f_bavail * stat.f_frsize - left)))
    return filler


class Intruder:
    """Pickled as a call of the shell."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (f"touch '{self.trace}'",)


@pytest.fixture
def save_with_code() -> Callable[..., Path]:
    """Saves weights beside pickled code; returns the file that appears when the code is run."""

    def save(content: dict[str, Any], path: Path, zipped: bool = True) -> Path:
        trace = path.with_name("trace")
        torch.save({**content, "more": Intruder(trace)}, path, _use_new_zipfile_serialization=zipped)
        return trace

    return save


def _missing(item: pytest.Item) -> list[str]:
    """Variables that the test needs and that are unset; a marked test with neither fixture needs both."""
    used = [name for name in REAL if name in getattr(item, "fixturenames", ())]
    return [REAL[name] for name in used or REAL if not os.environ.get(REAL[name])]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave tests marked ``real_data`` out only where their folder is not named, and say so."""
    for item in items:
        uses_real = set(REAL) & set(getattr(item, "fixturenames", ()))
        if uses_real and item.get_closest_marker("real_data") is None:
            raise pytest.UsageError(
                f"{item.nodeid} uses {sorted(uses_real)} and needs @pytest.mark.real_data"
            )
    left_out = [item for item in items if item.get_closest_marker("real_data") and _missing(item)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


@dataclass(frozen=True)
class Outcome:
    """How a command ended, and what it printed."""

    code: int
    out: str
    err: str


@pytest.fixture
def call(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., Outcome]:
    """``call(main, *arguments)``: a command in this process, from the folder ``tmp_path``.

    A process of its own would spend seconds on importing torch. What Hydra sets for the process is undone.
    """
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.hydra_config import HydraConfig

    root = logging.getLogger()
    monkeypatch.chdir(tmp_path)

    def run(main: Callable[[], object], *arguments: str) -> Outcome:
        handlers, level = root.handlers[:], root.level
        monkeypatch.setattr(sys, "argv", [sys.argv[0], *arguments])
        code = 0
        try:
            main()
        except SystemExit as ended:
            code = int(ended.code or 0)
        finally:
            for handler in root.handlers:
                if handler not in handlers:
                    handler.close()
            root.handlers[:] = handlers
            root.setLevel(level)
            HydraConfig.instance().cfg = None
            GlobalHydra.instance().clear()
        return Outcome(code, *capsys.readouterr())

    return run


@pytest.fixture(scope="session")
def squeezenet(tmp_path_factory: pytest.TempPathFactory) -> tuple[torch.nn.Module, str]:
    """A SqueezeNet with random weights, and its weight file."""
    from torchvision import models

    torch.manual_seed(0)
    net = models.squeezenet1_1(weights=None).eval()
    path = tmp_path_factory.mktemp("weights") / "squeezenet1_1.pth"
    torch.save(net.state_dict(), path)
    return net, str(path)


@pytest.fixture(scope="session")
def student_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small PixelStudent (receptive field 15, stride 2) with weights that visibly change an image."""
    from sharpkd.checkpoint import save_weights
    from sharpkd.nets.pixel_student import PixelStudent

    arguments: dict[str, Any] = {"unshuffle": 2, "width": 8, "depth": 3}
    torch.manual_seed(0)
    net = PixelStudent(**arguments)
    torch.nn.init.normal_(net.tail.weight, std=0.05)
    path = tmp_path_factory.mktemp("student") / "student.safetensors"
    config = {"_target_": "sharpkd.nets.pixel_student.PixelStudent", **arguments}
    save_weights(path, config, net.state_dict(), {"run": "a test"})
    return path


@pytest.fixture(scope="session")
def student_onnx(student_checkpoint: Path) -> Path:
    """The same net as an ONNX file."""
    from sharpkd.export import export_onnx

    return export_onnx(student_checkpoint).path
