"""SwinIR-M for classical super-resolution ×4, with the authors' weights."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn

from sharpkd.functional.download import DownloadError, fetch, probe
from sharpkd.functional.file_lock import locked
from sharpkd.functional.state_file import CheckpointError
from sharpkd.functional.torchvision_guard import define_missing_operators
from sharpkd.nets.foreign import ForeignNet
from sharpkd.nets.pretrained import read_tensors

OFFICIAL = "001_classicalSR_DF2K_s64w8_SwinIR-M_x4.pth"
URL = f"https://github.com/JingyunLiang/SwinIR/releases/download/v0.0/{OFFICIAL}"
SCALE = 4
# `main_test_swinir.py --task classical_sr --scale 4 --training_patch_size 64` of the authors' repository
ARGUMENTS: dict[str, Any] = {
    "upscale": SCALE,
    "in_chans": 3,
    "img_size": 64,
    "window_size": 8,
    "img_range": 1.0,
    "depths": [6, 6, 6, 6, 6, 6],
    "embed_dim": 180,
    "num_heads": [6, 6, 6, 6, 6, 6],
    "mlp_ratio": 2,
    "upsampler": "pixelshuffle",
    "resi_connection": "1conv",
}
SMALLEST = 16
PATIENCE = 5.0
"""Seconds that the server may take for its first answer."""


class SwinIR(ForeignNet):
    """``net=swinir``: 11,900,199 parameters, enlarges 4 times.

    Liang et al., "SwinIR: Image Restoration Using Swin Transformer", ICCV workshops 2021 (arXiv 2108.10257),
    section 4.2, trained on DIV2K and Flickr2K. Attention in shifted windows of 8x8 places through 36 layers
    reaches some hundred pixels, hence ``receptive_field`` is None.

    The authors publish no digest of their weights. A download therefore has to be as long as the server says,
    and every file to hold the tensors of this very net, by name and shape; ``sha256`` pins its bytes where
    you know them.

    Args:
        path: a file in the layout of the official one. The official one itself (by its name) is downloaded
            to this place where it is missing. None leaves the net untrained.
        url: where the official file lies.
        sha256: digest that a downloaded file must have; None does not check.

    Raises:
        FileNotFoundError: there is no such file, and it is not the official one's name.
        DownloadError: the official file cannot be had; the message names the place to put it.
        CheckpointError: the file is damaged, holds code, or holds another net.
    """

    def __init__(self, path: str | None = None, url: str = URL, sha256: str | None = None) -> None:
        super().__init__(_untrained(), SCALE, minimum=SMALLEST)
        if path is not None:
            self._fill(at_hand(Path(path).expanduser(), url, sha256))

    @classmethod
    def of_state(cls, state: Mapping[str, Tensor], arguments: Mapping[str, Any]) -> SwinIR:
        """Untrained: a weight file's own tensors follow, and nothing has to be downloaded for them."""
        del state, arguments
        return cls(None)

    def _fill(self, file: Path) -> None:
        found, wanted = read_tensors(file), self.module.state_dict()
        wrong = [name for name in wanted if name not in found or found[name].shape != wanted[name].shape]
        wrong += [name for name in found if name not in wanted]
        if wrong:
            raise CheckpointError(
                f"{file}: not the weights of SwinIR-M ×4 for classical super-resolution: {len(wrong)} "
                f"tensors are missing, of another shape or too many, the first is {wrong[0]!r}; use "
                f"net=pretrained net.path={file} for another net, or delete it to download it again"
            )
        self.module.load_state_dict(found)
        self.eval()


def _untrained() -> nn.Module:
    # several of spandrel's architectures import torchvision
    define_missing_operators()
    from spandrel.architectures.SwinIR import SwinIR as Architecture

    with warnings.catch_warnings():
        # torch.meshgrid without `indexing`
        warnings.simplefilter("ignore")
        return Architecture(**ARGUMENTS)


def at_hand(file: Path, url: str = URL, sha256: str | None = None) -> Path:
    """The file itself, downloaded first where it is missing and has the official one's name.

    Raises:
        FileNotFoundError: there is no such file, and it is not the official one's name.
        DownloadError: it cannot be had; the message names the place to put it.
    """
    if file.is_file():
        return file
    if file.name != OFFICIAL:
        raise FileNotFoundError(
            f"no weight file at {file}; only a file called {OFFICIAL} is downloaded where it is missing"
        )
    try:
        # without a network this ends at once, not after many attempts
        size = probe(url, PATIENCE)
        file.parent.mkdir(parents=True, exist_ok=True)
        with locked(file.parent / ".download.lock"):
            _download(file, url, size, sha256)
    except DownloadError as error:
        raise DownloadError(
            f"SwinIR's weights are not at {file} and cannot be downloaded: {error}. Put the file there, or "
            "name another place with net.path=FILE"
        ) from error
    return file


def _download(file: Path, url: str, size: int | None, sha256: str | None) -> None:
    columns = (TextColumn("download {task.description}"), BarColumn(), DownloadColumn())
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as progress:
        task = progress.add_task(OFFICIAL, total=size)
        fetch(
            url,
            file,
            size,
            sha256,
            report=lambda done, total: progress.update(task, completed=done, total=total),
        )
