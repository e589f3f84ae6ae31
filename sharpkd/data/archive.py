"""Zip archives from the network, unpacked without trusting them."""

from __future__ import annotations

import shutil
import stat
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath

MAX_FILES = 100_000
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


class ArchiveError(ValueError):
    """An archive is broken or does what a set of images never does; the message names it and the entry."""


def unpack(
    archive: Path, folder: Path, max_bytes: int, report: Callable[[int, int], None] | None = None
) -> int:
    """Unpack a zip archive into ``folder``, which is made.

    Args:
        archive: the file.
        folder: nothing is written outside it.
        max_bytes: the most that all files may hold together, against zip bombs.
        report: called with the bytes unpacked so far and in all.

    Returns:
        Bytes unpacked.

    Raises:
        ArchiveError: no zip, damaged, encrypted, packed by a rare method, more than ``max_bytes``, or with an
            entry that is absolute, a link, contains ``..`` or is there twice; or a link lies in ``folder``
            where a file belongs. All but damage and that is found before the first file is written.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            entries = opened.infolist()
            total = _check(archive, entries, max_bytes)
            done = 0
            for entry in entries:
                target = folder.joinpath(*PurePosixPath(entry.filename).parts)
                _refuse_links(archive, folder, target)
                if entry.is_dir():
                    target.mkdir(parents=True, exist_ok=True)
                    continue
                target.parent.mkdir(parents=True, exist_ok=True)
                with opened.open(entry) as source, target.open("wb") as file:
                    shutil.copyfileobj(source, file, 1 << 20)
                done += entry.file_size
                if report is not None:
                    report(done, total)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise ArchiveError(f"{archive} is no usable zip archive ({error})") from error
    return total


def _check(archive: Path, entries: list[zipfile.ZipInfo], max_bytes: int) -> int:
    if len(entries) > MAX_FILES:
        raise ArchiveError(f"{archive} holds {len(entries):,} entries, more than {MAX_FILES:,}")
    seen: set[PurePosixPath] = set()
    folders: set[PurePosixPath] = set()
    for entry in entries:
        name, place = entry.filename, PurePosixPath(entry.filename)
        if name.startswith("/") or "\\" in name or ":" in name or ".." in place.parts or not place.parts:
            raise ArchiveError(f"{archive} holds {name!r}, a path that could lead out of the folder")
        if place in seen:
            raise ArchiveError(f"{archive} holds {name!r} twice")
        if not entry.is_dir():
            seen.add(place)
        folders.update(place.parents)
        kind = stat.S_IFMT(entry.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            what = "link" if kind == stat.S_IFLNK else "device"
            raise ArchiveError(f"{archive} holds the {what} {name!r}, expected only files and folders")
        if entry.flag_bits & 1:
            raise ArchiveError(f"{archive} holds the encrypted file {name!r}")
        if entry.compress_type not in METHODS:
            # the dictionaries of other methods may take gigabytes
            raise ArchiveError(f"{archive} holds {name!r}, which is neither stored nor deflated")
    if not seen.isdisjoint(folders):
        raise ArchiveError(f"{archive} holds {str(min(seen & folders))!r} as a file and as a folder")
    total = sum(entry.file_size for entry in entries)
    if total > max_bytes:
        raise ArchiveError(f"{archive} would unpack to {total:,} bytes, more than {max_bytes:,}")
    return total


def _refuse_links(archive: Path, folder: Path, target: Path) -> None:
    for place in (target, *target.parents):
        if place == folder:
            return
        if place.is_symlink():
            raise ArchiveError(f"{place} is a link: nothing of {archive} is written through it")
