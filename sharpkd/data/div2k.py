"""DIV2K: 800 + 100 photographs of 2K, for research use (Agustsson & Timofte, CVPR workshops 2017)."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
from rich.progress import TransferSpeedColumn as SpeedColumn

from sharpkd.data.archive import ArchiveError, unpack
from sharpkd.data.datamodule import ImageDataModule
from sharpkd.data.images import find_images
from sharpkd.functional.download import DownloadError, fetch, part_path, probe
from sharpkd.functional.file_lock import locked

BASE_URL = "https://data.vision.ee.ethz.ch/cvl/DIV2K"
UNPACKED = 1.1
"""Unpacked size over archive size, with a margin: PNG files hardly shrink in a zip."""
BOMB = 3.0
"""An archive that unpacks to this many times its size holds no PNG photographs."""

INSTEAD = (
    "Use data=folder data.train_dir=FOLDER for images of your own, data=sample for the few photographs that "
    "come with scikit-image, or data.root=FOLDER for a copy of DIV2K that is already there"
)


@dataclass(frozen=True)
class Archive:
    """One zip file of the data set, which unpacks to a folder of its own name.

    Attributes:
        name: of the folder, and of the archive without ``.zip``.
        images: how many it holds; None accepts any number above 0.
        size: bytes of the archive; None believes the server.
        sha256: of the archive; None does not check.
    """

    name: str
    images: int | None
    size: int | None
    sha256: str | None


# Sizes and digests as recorded by TensorFlow Datasets (tensorflow_datasets/datasets/div2k/checksums.tsv).
TRAIN = Archive(
    "DIV2K_train_HR", 800, 3_530_603_713, "9d0b9c463f6e35b6c62cc6a930ee2224f670b34c1df841a57670f9acf0f6c335"
)
VALID = Archive(
    "DIV2K_valid_HR", 100, 448_993_893, "20dd31fd84d777bc1cf5d6b7654a3f569c0aec74458ae094122ad1d0489900fc"
)


class DIV2KSource:
    """DIV2K in a folder, downloaded where it is missing.

    Found are ``root/DIV2K_train_HR`` and ``root/DIV2K/DIV2K_train_HR`` (and the same for ``DIV2K_valid_HR``),
    and archives of these names in ``root``. A folder gets its name only when it is complete.

    Args:
        root: the folder.
        base_url: where the archives lie.
        train: the training archive.
        valid: the validation archive.
        retries: see :func:`sharpkd.functional.download.fetch`.
        backoff: seconds, likewise.
        timeout: seconds to wait for the server's first answer, and six times that for every later one.
    """

    def __init__(
        self,
        root: str | Path,
        base_url: str = BASE_URL,
        train: Archive = TRAIN,
        valid: Archive = VALID,
        retries: int = 5,
        backoff: float = 1.0,
        timeout: float = 5.0,
    ) -> None:
        self.root = Path(root).expanduser()
        self.base_url = base_url.rstrip("/")
        self.train = train
        self.valid = valid
        self.retries = retries
        self.backoff = backoff
        self.timeout = timeout

    def __str__(self) -> str:
        return f"DIV2K in {self.root}"

    def train_files(self) -> list[Path]:
        """The training images; FileNotFoundError where they are missing (see :meth:`prepare`)."""
        return self._files(self.train)

    def val_files(self) -> list[Path]:
        """The validation images, likewise."""
        return self._files(self.valid)

    def prepare(self) -> None:
        """Download and unpack what is missing; says before how much that is, and how much space is free.

        Raises:
            DownloadError: no network, no such file on the server, or another file than expected.
            ArchiveError: an archive is damaged or unsafe; it was deleted.
            ValueError: a folder holds the wrong number of images.
            OSError: not enough free space, or ``root`` cannot be written.
        """
        missing = self._missing()
        if not missing:
            return
        try:
            sizes = {archive.name: self._size(archive) for archive in missing}
        except DownloadError as error:
            raise DownloadError(
                f"DIV2K is not in {self.root} (missing: {', '.join(archive.name for archive in missing)}), "
                f"and cannot be downloaded: {error}. {INSTEAD}."
            ) from None
        self._announce(sizes)
        with locked(self.root / ".download.lock"):
            for archive in self._missing():  # another process may have been at work while this one waited
                self._get(archive, sizes.get(archive.name))

    def _missing(self) -> list[Archive]:
        return [archive for archive in (self.train, self.valid) if self._folder(archive) is None]

    def _folder(self, archive: Archive) -> Path | None:
        for folder in (self.root / archive.name, self.root / "DIV2K" / archive.name):
            if not folder.is_dir():
                continue
            found = len(find_images(folder))
            if archive.images is not None and found != archive.images:
                raise ValueError(
                    f"{folder} holds {found} images, expected {archive.images}: complete it, delete it to "
                    f"download it again, or use what is there with data=folder data.train_dir={folder}"
                )
            return folder
        return None

    def _files(self, archive: Archive) -> list[Path]:
        folder = self._folder(archive)
        if folder is None:
            raise FileNotFoundError(f"there is no folder {archive.name} in {self.root}. {INSTEAD}.")
        return find_images(folder)

    def _zip(self, archive: Archive) -> Path:
        return self.root / f"{archive.name}.zip"

    def _url(self, archive: Archive) -> str:
        return f"{self.base_url}/{archive.name}.zip"

    def _size(self, archive: Archive) -> int:
        """Bytes of the archive, 0 where nobody tells."""
        path = self._zip(archive)
        if path.exists():
            return path.stat().st_size
        # Asked even where the size is known: without a network this ends at once, not after many attempts.
        offered = probe(self._url(archive), self.timeout)
        return archive.size or offered or 0

    def _announce(self, sizes: dict[str, int]) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        wanted = [archive for archive in (self.train, self.valid) if archive.name in sizes]
        to_fetch = sum(max(0, sizes[archive.name] - _here(self._zip(archive))) for archive in wanted)
        to_unpack = int(sum(sizes.values()) * UNPACKED)
        free = shutil.disk_usage(self.root).free
        names = " and ".join(f"{archive.name}.zip" for archive in wanted)
        Console(stderr=True).print(
            f"DIV2K: {_readable(to_fetch)} to download ({names}) from {self.base_url}, "
            f"{_readable(to_unpack)} unpacked, to {self.root}, where {_readable(free)} are free.",
            highlight=False,
            soft_wrap=True,
        )
        if free < to_fetch + to_unpack:
            raise OSError(
                f"DIV2K needs {_readable(to_fetch + to_unpack)} in {self.root}, where {_readable(free)} are "
                f"free: make room, or choose another place with data.root=FOLDER"
            )

    def _get(self, archive: Archive, size: int | None) -> None:
        path = self._zip(archive)
        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), SpeedColumn())
        with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as progress:
            task = progress.add_task(f"download {archive.name}", total=size or None)
            try:
                fetch(
                    self._url(archive),
                    path,
                    archive.size,
                    archive.sha256,
                    retries=self.retries,
                    backoff=self.backoff,
                    timeout=6 * self.timeout,
                    report=lambda done, total: progress.update(task, completed=done, total=total),
                )
            except DownloadError as error:
                raise DownloadError(f"DIV2K cannot be downloaded: {error}. {INSTEAD}.") from None
            task = progress.add_task(f"unpack {archive.name}")
            self._unpack(
                archive, path, lambda done, total: progress.update(task, completed=done, total=total)
            )

    def _unpack(self, archive: Archive, path: Path, report: Any) -> None:
        staging = self.root / f"{archive.name}.unpacking"
        shutil.rmtree(staging, ignore_errors=True)
        try:
            unpack(path, staging, int(path.stat().st_size * BOMB) + (1 << 20), report)
            folder = staging / archive.name
            found = len(find_images(folder)) if folder.is_dir() else 0
            if found == 0 or archive.images not in (None, found):
                raise ArchiveError(
                    f"{path} holds {found} images in {archive.name}/, expected {archive.images or 'some'}"
                )
        except ArchiveError as error:
            shutil.rmtree(staging, ignore_errors=True)
            path.unlink()
            raise ArchiveError(f"{error}; it was deleted, run again to download it") from None
        folder.rename(self.root / archive.name)
        shutil.rmtree(staging)
        path.unlink()


class DIV2KDataModule(ImageDataModule):
    """``data=div2k``: 800 training and 100 validation images; settings of :class:`ImageDataModule`.

    Args:
        root: folder of the data set, filled where it is empty (see :class:`DIV2KSource`).
        base_url: where the archives lie.
        train_images: how many training images there must be; None accepts any number.
        val_images: likewise for validation.
        train_size: bytes of the training archive; None believes the server.
        val_size: likewise.
        train_sha256: of the training archive; None does not check.
        val_sha256: likewise.
    """

    def __init__(
        self,
        root: str | Path,
        base_url: str = BASE_URL,
        train_images: int | None = TRAIN.images,
        val_images: int | None = VALID.images,
        train_size: int | None = TRAIN.size,
        val_size: int | None = VALID.size,
        train_sha256: str | None = TRAIN.sha256,
        val_sha256: str | None = VALID.sha256,
        **settings: Any,
    ) -> None:
        train = replace(TRAIN, images=train_images, size=train_size, sha256=train_sha256)
        valid = replace(VALID, images=val_images, size=val_size, sha256=val_sha256)
        super().__init__(DIV2KSource(root, base_url, train, valid), **settings)


def _here(path: Path) -> int:
    part = part_path(path)
    return path.stat().st_size if path.exists() else part.stat().st_size if part.exists() else 0


def _readable(size: int) -> str:
    return f"{size / 2**30:.2f} GiB" if size >= 2**30 else f"{size / 2**20:.1f} MiB"
