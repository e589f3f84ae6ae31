"""Shards that are what their manifest says; each is read and hashed once on a machine.

What was found is kept in the folder of decoded images' cache and holds as long as a file's size and time of
modification do, so the shards may lie where nobody can write.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from sharpkd.data.benchmark_guard import refuse_benchmark_images, sharpbench_hashes
from sharpkd.data.cache import Skipped
from sharpkd.data.parallel import each_once
from sharpkd.data.shards.manifest import Shard, ShardError, write_atomically
from sharpkd.data.shards.tar_file import DamagedShard, Record, samples_of
from sharpkd.functional.file_lock import locked

_BLOCK = 1 << 22


@dataclass(frozen=True)
class _Finding:
    """What is known of one file.

    Attributes:
        size: in bytes, when it was read.
        modified_ns: likewise.
        shard: SHA-256 of the manifest's entry that it was held to.
        error: why it cannot be used; empty where it can.
        benchmark: ``[name, pixel hash]`` of its images that belong to SharpBench.
    """

    size: int
    modified_ns: int
    shard: str
    error: str = ""
    benchmark: tuple[tuple[str, str], ...] = ()


def usable_shards(
    folder: Path, shards: Sequence[Shard], cache_dir: Path, train: bool
) -> tuple[list[Shard], list[Skipped]]:
    """Those that can be used, in their order, and why the others cannot.

    Args:
        folder: where they lie.
        shards: what the manifest says of them.
        cache_dir: where findings are kept; made when it is missing.
        train: refuse shards with images of SharpBench.

    Raises:
        UnsafeShard: an archive has links or paths that could lead out of a folder.
        ValueError: ``train``, and an image belongs to the benchmark.
        OSError: the findings cannot be kept.
    """
    place = cache_dir / f"shards-{hashlib.sha256(os.fsencode(folder.absolute())).hexdigest()[:32]}.json"
    known = _load(place)
    if any(not _holds(folder, shard, known) for shard in shards):
        cache_dir.mkdir(parents=True, exist_ok=True)
        with locked(cache_dir / "shards.lock"):
            known = _load(place)
            missing = [shard for shard in shards if not _holds(folder, shard, known)]
            findings = each_once(lambda shard: _check(folder, shard), missing, "Checking shards once")
            known |= zip((shard.name for shard in missing), findings, strict=True)
            content = {name: asdict(finding) for name, finding in known.items()}
            write_atomically(place, json.dumps(content).encode())
    if train:
        found = ((folder / shard.name, known[shard.name].benchmark) for shard in shards)
        refuse_benchmark_images((path / name, digest) for path, hits in found for name, digest in hits)
    usable = [shard for shard in shards if not known[shard.name].error]
    skipped = [
        Skipped(folder / shard.name, known[shard.name].error) for shard in shards if known[shard.name].error
    ]
    return usable, skipped


def _load(place: Path) -> dict[str, _Finding]:
    try:
        content = json.loads(place.read_bytes())
        return {
            name: _Finding(**{**entry, "benchmark": tuple((n, d) for n, d in entry["benchmark"])})
            for name, entry in content.items()
        }
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}


def _entry(shard: Shard) -> str:
    return hashlib.sha256(json.dumps(asdict(shard)).encode()).hexdigest()


def _holds(folder: Path, shard: Shard, known: dict[str, _Finding]) -> bool:
    """Whether the file is what it was when it was read, and has to be what it had to be."""
    finding = known.get(shard.name)
    try:
        stat = (folder / shard.name).stat()
    except OSError:
        return False
    now = (stat.st_size, stat.st_mtime_ns, _entry(shard))
    return finding is not None and (finding.size, finding.modified_ns, finding.shard) == now


def _check(folder: Path, shard: Shard) -> _Finding:
    path = folder / shard.name
    try:
        stat = path.stat()
    except OSError as error:
        return _Finding(0, 0, _entry(shard), error.strerror or str(error))
    try:
        benchmark = _read(path, shard)
    except DamagedShard as damaged:
        return _Finding(stat.st_size, stat.st_mtime_ns, _entry(shard), damaged.reason)
    return _Finding(stat.st_size, stat.st_mtime_ns, _entry(shard), "", benchmark)


def _read(path: Path, shard: Shard) -> tuple[tuple[str, str], ...]:
    """Hold one file to its entry; returns names and hashes of its images that belong to SharpBench.

    Raises:
        DamagedShard: it is not what the manifest says.
        UnsafeShard: see :func:`sharpkd.data.shards.tar_file.samples_of`.
    """
    size = path.stat().st_size
    if size != shard.bytes:
        raise DamagedShard(path, f"{size:,} bytes, the manifest says {shard.bytes:,}")
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                digest.update(block)
            found = digest.hexdigest()
            if found != shard.sha256:
                raise DamagedShard(path, f"its SHA-256 is {found[:16]}…, expected {shard.sha256[:16]}…")
            samples = samples_of(path)
            records = []
            for sample in samples:
                file.seek(sample.record_offset)
                records.append(Record.of(file.read(sample.record_size)))
    except OSError as error:
        raise DamagedShard(path, error.strerror or str(error)) from error
    except ValueError as error:
        if isinstance(error, ShardError):
            raise
        raise DamagedShard(path, f"a record is damaged ({error})") from error
    smallest = min((min(record.width, record.height) for record in records), default=0)
    if (len(records), smallest) != (shard.images, shard.smallest_side):
        raise DamagedShard(
            path,
            f"{len(records)} images of at least {smallest} pixels, the manifest says {shard.images} of at "
            f"least {shard.smallest_side}",
        )
    known = sharpbench_hashes()
    return tuple((record.name, record.pixel_hash) for record in records if record.pixel_hash in known)
