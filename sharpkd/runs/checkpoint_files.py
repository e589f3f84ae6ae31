"""How checkpoints come to be on disk: whole, with a hash inside, and the one before still there."""

from __future__ import annotations

import contextlib
import glob
import io
import os
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO

from sharpkd.checkpoint import sealed
from sharpkd.runs.folder import LAST, PREVIOUS


class CheckpointFiles(TorchCheckpointIO):
    """Lightning's checkpoint files, written so that no fault takes the last good one away.

    Lightning writes to the system's folder for temporary files and moves the result, which across file
    systems is a copy: kill -9 or a full disk in the middle of it leaves half a file in the place of the good
    one. Here a file is written beside its target, synced and renamed, with its SHA-256 inside (see
    :func:`sharpkd.checkpoint.sealed`). The ``last.ckpt`` that a new one replaces stays as ``previous.ckpt``,
    for the day when the disk has damaged the newer one.

    A ``last.ckpt`` that this object has already written for the same step is not written again.
    """

    def __init__(self) -> None:
        self._written: tuple[Path, int] | None = None

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any = None
    ) -> None:
        """Write a checkpoint.

        Raises:
            OSError: it cannot be written, as on a full disk; the older file of this name stays as it was.
        """
        target = Path(path)
        written = (target, int(checkpoint["global_step"]))
        if target.name == LAST and written == self._written and target.is_file():
            return
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        temporary = target.with_name(f"{target.name}.{os.getpid()}.part")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            # what kill -9 left of earlier ones
            for unfinished in target.parent.glob(f"{glob.escape(target.name)}.*.part"):
                unfinished.unlink()
            with temporary.open("wb") as file:
                file.writelines(sealed(buffer.getbuffer()))
                file.flush()
                os.fsync(file.fileno())
            if target.name == LAST and target.is_file():
                _keep(target, target.with_name(PREVIOUS))
            temporary.replace(target)
        except OSError as error:
            raise OSError(
                error.errno,
                f"{target} cannot be written ({error.strerror or error}); the last good checkpoint stays: "
                "make room, then resume=auto",
            ) from error
        finally:
            # on a file system that fails, the first error is the one to hear of
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
        if target.name == LAST:
            self._written = written


def _keep(file: Path, name: Path) -> None:
    """Give a file a second name, atomically: at every moment both names stand for whole files, old or new."""
    link = name.with_name(f"{name.name}.{os.getpid()}.part")
    link.unlink(missing_ok=True)
    try:
        os.link(file, link)
    except OSError:
        # a file system without hard links: between this and the next rename the newest state has this name
        file.replace(name)
        return
    # where both are one file already, a rename does nothing and leaves the link
    link.replace(name)
    link.unlink(missing_ok=True)
