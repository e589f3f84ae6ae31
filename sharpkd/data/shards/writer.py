"""Image files to shards: tar archives in WebDataset's layout, and the manifest that says what they hold."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import tarfile
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, get_args

import cv2
import numpy as np

from sharpkd.data.benchmark_guard import pixel_hash, sharpbench_hashes
from sharpkd.data.datamodule import Source
from sharpkd.data.images import UnreadableImage, read_image
from sharpkd.data.shards.manifest import PARTS, Manifest, Shard, ShardError
from sharpkd.data.shards.progress import DIGITS, Progress, Step
from sharpkd.data.shards.tar_file import RAW, RECORD, Record
from sharpkd.functional.file_lock import locked

Format = Literal["npy", "png", "original"]
Report = Callable[[int, int], None]

KEY_DIGITS = 8
READ_AHEAD = 2
"""Images that wait for their turn, for each thread."""


@dataclass(frozen=True)
class Prepared:
    """What becomes of one image file: the files and records that go into a shard, or why none do."""

    name: str
    samples: tuple[tuple[str, bytes, Record], ...] = ()
    reason: str = ""


class ShardWriter:
    """Makes shards; what has been written is not written again after an interruption.

    Args:
        format: ``npy`` keeps decoded pixels (width * height * 3 bytes), which a crop reads without decoding;
            ``png`` keeps them compressed without loss, ``original`` the files as they are.
        tile: cut training images into tiles of this many pixels, the last ones moved back to the border; None
            keeps them whole. Needs ``npy`` or ``png``.
        min_side: smaller training images are left out.
        shard_images: a shard is closed when it holds this many images or tiles,
        shard_mb: or this many 10^6 bytes, whichever comes first.
        seed: of the order of the training images over the shards.
        workers: threads; None takes one for each processor.

    Raises:
        ValueError: a setting is out of range.
    """

    def __init__(
        self,
        format: Format = "npy",
        tile: int | None = None,
        min_side: int = 128,
        shard_images: int = 1000,
        shard_mb: float = 256.0,
        seed: int = 0,
        workers: int | None = None,
    ) -> None:
        if format not in get_args(Format):
            raise ValueError(f"shards.format is {format!r}; expected {', '.join(get_args(Format))}")
        for name, value in (("min_side", min_side), ("shard_images", shard_images), ("workers", workers)):
            if value is not None and value < 1:
                raise ValueError(f"shards.{name} must be at least 1, got {value}")
        if not 0 < shard_mb < float("inf"):
            raise ValueError(f"shards.shard_mb must be above 0, got {shard_mb}")
        if tile is not None and tile < min_side:
            raise ValueError(
                f"shards.tile must be at least shards.min_side ({min_side}), or null, got {tile}"
            )
        if tile is not None and format == "original":
            raise ValueError("shards.tile cuts pixels, not files: use shards.format=npy or png, or tile=null")
        self.format = format
        self.tile = tile
        self.min_side = min_side
        self.shard_images = shard_images
        self.shard_mb = shard_mb
        self.seed = seed
        self.workers = workers or os.cpu_count() or 1

    def write(
        self, source: Source, output: Path, overwrite: bool = False, report: Report | None = None
    ) -> Manifest:
        """Shards of a source's training and validation images.

        Args:
            source: which files; whatever it does not have is downloaded.
            output: folder for the shards, made when it is missing.
            overwrite: delete the shards that are there.
            report: called with the number of images done and in all.

        Returns:
            What ``output/manifest.json`` says.

        Raises:
            ShardError: the folder holds other things, and ``overwrite`` was not asked for.
            FileNotFoundError: there are no images to train on, or none of them can be used.
            OSError: the folder cannot be written.
        """
        if output.exists() and not output.is_dir():
            raise NotADirectoryError(f"output={output} is a file, expected a folder")
        source.prepare()
        files = {"train": source.train_files(), "val": source.val_files()}
        if not files["train"]:
            raise FileNotFoundError(f"no image in {source}")
        root = _common([path for part in PARTS for path in files[part]])
        settings: dict[str, Any] = {"format": self.format, "tile": self.tile, "min_side": self.min_side}
        settings |= {"shard_images": self.shard_images, "shard_mb": self.shard_mb, "seed": self.seed}
        total = sum(map(len, files.values()))
        try:
            output.mkdir(parents=True, exist_ok=True)
            with locked(output / ".lock"):
                progress = Progress(output, {"settings": settings, "images": _fingerprint(files, root)})
                progress.begin(overwrite)
                shuffled = np.random.default_rng(self.seed).permutation(len(files["train"]))
                files["train"] = [files["train"][index] for index in shuffled]
                before = 0
                for part in PARTS:
                    told = None if report is None else _ahead(report, before, total)
                    self._write_part(part, files[part], root, progress, told)
                    before += len(files[part])
                return self._finish(progress, source)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS, errno.EFBIG):
                raise OSError(
                    error.errno,
                    f"shards cannot be written to {output} ({error.strerror}); make room or choose another "
                    "folder, then run the same again: finished shards are kept",
                ) from error
            raise
        except KeyboardInterrupt as stop:
            stop.add_note("the same command again goes on; finished shards are kept")
            raise

    def _finish(self, progress: Progress, source: Source) -> Manifest:
        train, val = (tuple(progress.shards(part)) for part in PARTS)
        left_out = tuple(progress.left_out())
        if not train:
            raise FileNotFoundError(
                f"no usable image in {source}: of {len(left_out)} none can be trained on, such as "
                f"{left_out[0]['path']}: {left_out[0]['reason']}"
            )
        manifest = Manifest(train, val, progress.plan, left_out)
        manifest.write(progress.folder)
        progress.file.unlink()
        return manifest

    def _write_part(
        self, part: str, files: Sequence[Path], root: Path, progress: Progress, report: Report | None
    ) -> None:
        begin = progress.done(part)
        if begin == len(files):
            return
        one = self._train_image if part == "train" else self._val_image
        with ThreadPoolExecutor(self.workers) as pool:
            images = _in_order(pool, lambda path: one(path, root), files[begin:], READ_AHEAD * self.workers)
            try:
                while begin < len(files):
                    begin = self._write_shard(part, begin, len(files), images, progress, report)
            finally:
                pool.shutdown(cancel_futures=True)

    def _write_shard(
        self,
        part: str,
        begin: int,
        end: int,
        images: Iterator[Prepared],
        progress: Progress,
        report: Report | None,
    ) -> int:
        """Fill one shard with the next images; returns how many of the part are done then."""
        number = len(progress.shards(part))
        path = progress.folder / f"{part}-{number:0{DIGITS}d}.tar"
        temporary = path.with_name(f"{path.name}.part")
        left_out: list[dict[str, str]] = []
        smallest, count, held = 0, 0, 0
        try:
            with temporary.open("wb") as file:
                hashed = _Hashed(file)
                # no closing by `with`: after an error the archive has nothing to end with
                archive = tarfile.open(fileobj=hashed, mode="w", format=tarfile.USTAR_FORMAT)  # type: ignore[call-overload]  # noqa: SIM115  # has all that tarfile calls
                while begin < end and count < self.shard_images and held < self.shard_mb * 1e6:
                    image = next(images)
                    begin += 1
                    if image.reason:
                        left_out.append({"path": image.name, "reason": image.reason})
                    for ending, data, record in image.samples:
                        key = f"{count:0{KEY_DIGITS}d}"
                        _add(archive, key + ending, data)
                        _add(archive, key + RECORD, record.to_bytes())
                        side = min(record.width, record.height)
                        smallest = min(smallest or side, side)
                        count, held = count + 1, held + len(data)
                    if report is not None:
                        report(begin, end)
                archive.close()
                file.flush()
                os.fsync(file.fileno())
            shard = None
            if count:
                temporary.replace(path)
                shard = Shard(path.name, hashed.digest.hexdigest(), hashed.position, count, smallest)
        finally:
            temporary.unlink(missing_ok=True)
        progress.add(Step(part, begin, shard, tuple(left_out)))
        return begin

    def _train_image(self, path: Path, root: Path) -> Prepared:
        return self._image(path, root, self.min_side, self.tile, sharpbench_hashes())

    def _val_image(self, path: Path, root: Path) -> Prepared:
        return self._image(path, root, 1, None, {})

    def _image(
        self, path: Path, root: Path, min_side: int, tile: int | None, refused: dict[str, str]
    ) -> Prepared:
        name = "".join(c if c.isprintable() else "?" for c in path.relative_to(root).as_posix())
        try:
            image = read_image(path)
            data = path.read_bytes() if self.format == "original" else b""
        except UnreadableImage as error:
            return Prepared(name, reason=f"unreadable: {error.reason}")
        except OSError as error:
            return Prepared(name, reason=f"unreadable: {error.strerror or error}")
        height, width = image.shape[:2]
        digest = pixel_hash(image)
        if digest in refused:
            return Prepared(name, reason=f"it belongs to the benchmark: {refused[digest]}")
        if min(height, width) < min_side:
            return Prepared(name, reason=f"small: {width}x{height} pixels, less than {min_side}x{min_side}")
        if self.format == "original":
            return Prepared(name, ((path.suffix.lower(), data, Record(name, width, height, digest)),))
        if tile is None or (height <= tile and width <= tile):
            return Prepared(name, (self._encoded(image, Record(name, width, height, digest)),))
        cuts = [
            (image[top : top + tile, left : left + tile], left, top)
            for top in _starts(height, tile)
            for left in _starts(width, tile)
        ]
        records = [Record(name, c.shape[1], c.shape[0], digest, (left, top)) for c, left, top in cuts]
        pairs = zip(cuts, records, strict=True)
        return Prepared(name, tuple(self._encoded(cut, record) for (cut, _, _), record in pairs))

    def _encoded(self, image: np.ndarray, record: Record) -> tuple[str, bytes, Record]:
        if self.format == "npy":
            file = io.BytesIO()
            np.save(file, np.ascontiguousarray(image), allow_pickle=False)
            return RAW, file.getvalue(), record
        done, data = cv2.imencode(".png", np.ascontiguousarray(image[..., ::-1]))
        if not done:
            raise ShardError(f"OpenCV could not write {record.name} as PNG")
        return ".png", data.tobytes(), record


class _Hashed:
    """A file that is written once from its beginning, and the SHA-256 of all that was."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.digest = hashlib.sha256()
        self.position = 0

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        self.position += len(data)
        return self.file.write(data)

    def tell(self) -> int:
        return self.position


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    # no times, no owners: the same images make the same bytes
    member = tarfile.TarInfo(name)
    member.size = len(data)
    archive.addfile(member, io.BytesIO(data))


def _starts(extent: int, tile: int) -> list[int]:
    """Where tiles begin along one side: one after the other, the last moved back to the border."""
    if extent <= tile:
        return [0]
    return sorted({*range(0, extent - tile + 1, tile), extent - tile})


def _in_order(
    pool: ThreadPoolExecutor, one: Callable[[Path], Prepared], files: Sequence[Path], ahead: int
) -> Iterator[Prepared]:
    """Results in the order of the files, with few of them waiting at a time."""
    waiting: deque[Future[Prepared]] = deque()
    for path in files:
        waiting.append(pool.submit(one, path))
        if len(waiting) >= ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _ahead(report: Report, before: int, total: int) -> Report:
    return lambda done, _: report(before + done, total)


def _common(files: Sequence[Path]) -> Path:
    return Path(os.path.commonpath([path.parent for path in files]))


def _fingerprint(files: dict[str, Any], root: Path) -> str:
    """Of names, sizes and times of all images."""
    digest = hashlib.sha256()
    for part in PARTS:
        for path in files[part]:
            stat = path.stat()
            line = f"{part} {path.relative_to(root).as_posix()} {stat.st_size} {stat.st_mtime_ns}\n"
            digest.update(line.encode(errors="surrogateescape"))
    return digest.hexdigest()
