"""Any folders of images."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sharpkd.data.datamodule import ImageDataModule
from sharpkd.data.images import check_folders, find_all_images


def given_folders(given: str | Sequence[str], setting: str) -> list[Path]:
    """The folder or folders that a setting names; none of them is the current one by not being named.

    Raises:
        ValueError: it names none, or a name is empty, as of a variable of the shell that is not set.
        FileNotFoundError: one of them does not exist.
    """
    for folder in [given] if isinstance(given, str | Path) else given:
        if not str(folder).strip():
            raise ValueError(f"{setting} is empty: give a folder of images")
    return check_folders(given, setting)


class FolderSource:
    """Images of one or more folders, found recursively.

    Args:
        train_dir: folder or folders to train on.
        val_dir: folder or folders to validate on; None holds out a share of the training images instead.
        val_fraction: that share, in (0, 1). Files are chosen by a hash of their names, so that adding a file
            does not move the others from one side to the other.

    Raises:
        ValueError: no folder is given, or the share is out of range.
        FileNotFoundError: a folder does not exist.
    """

    def __init__(
        self,
        train_dir: str | Sequence[str],
        val_dir: str | Sequence[str] | None = None,
        val_fraction: float = 0.05,
    ) -> None:
        if not 0 < val_fraction < 1:
            raise ValueError(f"data.val_fraction must be between 0 and 1, got {val_fraction}")
        self.train_dirs = given_folders(train_dir, "data.train_dir")
        self.val_dirs = None if val_dir is None else given_folders(val_dir, "data.val_dir")
        self.val_fraction = val_fraction

    def __str__(self) -> str:
        return ", ".join(str(folder) for folder in [*self.train_dirs, *(self.val_dirs or [])])

    def prepare(self) -> None:
        """Nothing to get: the files are here."""

    def train_files(self) -> list[Path]:
        """Images under ``train_dir``, without those held out."""
        files = find_all_images(self.train_dirs)
        if self.val_dirs is not None:
            return files
        held_out = set(self.val_files())
        return [path for path in files if path not in held_out]

    def val_files(self) -> list[Path]:
        """Images under ``val_dir``, or the training images held out (at least one of two)."""
        if self.val_dirs is not None:
            return find_all_images(self.val_dirs)
        files = find_all_images(self.train_dirs)
        draws = {path: _draw(path.name) for path in files}
        held_out = [path for path in files if draws[path] < self.val_fraction]
        return held_out or ([min(files, key=draws.__getitem__)] if len(files) > 1 else [])


class FolderDataModule(ImageDataModule):
    """``data=folder``: see :class:`FolderSource` and :class:`ImageDataModule` for the settings."""

    def __init__(
        self,
        train_dir: str | Sequence[str],
        val_dir: str | Sequence[str] | None = None,
        val_fraction: float = 0.05,
        **settings: Any,
    ) -> None:
        super().__init__(FolderSource(train_dir, val_dir, val_fraction), **settings)


def _draw(name: str) -> float:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") / 2**64
