"""Which images a scoreboard trains on: the same ones at every call, and none of those it measures on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from omegaconf import DictConfig

from sharpkd.config import ConfigError, instantiate
from sharpkd.data.benchmark_guard import pixel_hash
from sharpkd.data.datamodule import ImageDataModule
from sharpkd.data.images import read_image
from sharpkd.runs.folder import RunFolderError, write_json

FILE = "images.json"


@dataclass(frozen=True)
class TrainingImages:
    """The pixels that a training sees, by their hashes.

    Attributes:
        train: digest over the images trained on, in the order in which they are sampled.
        train_count: how many they are.
        held_out: likewise of those that weights are selected on.
        held_out_count: likewise.
    """

    train: str
    train_count: int
    held_out: str
    held_out_count: int


def training_hashes(config: DictConfig) -> tuple[list[str], list[str]] | None:
    """Pixel hashes of the images trained on and of those held out, in order; decodes them where needed.

    None for a data module that is not SharpKD's own, whose images nobody can tell.

    Raises:
        FileNotFoundError: a folder or its images are missing.
        ValueError: a training image belongs to the benchmark.
    """
    data = instantiate(config.data, degradation=None, scale=config.task.scale, seed=config.seed)
    if not isinstance(data, ImageDataModule):
        return None
    return data.pixel_hashes()


def refuse_measured_images(hashes: Iterable[str], sets: Mapping[str, Sequence[Path]]) -> None:
    """Check that nothing is measured on what students are trained or selected on.

    Args:
        hashes: of training and held-out images.
        sets: name -> files to measure on.

    Raises:
        ConfigError: one of the files shows such an image.
        UnreadableImage: a file cannot be read.
    """
    known = set(hashes)
    for paths in sets.values():
        for path in paths:
            if pixel_hash(read_image(path)) in known:
                raise ConfigError(f"eval_dirs: {path} is among the images of the training; measure on others")


def hold_to_images(
    folder: Path, hashes: Mapping[str, tuple[list[str], list[str]]]
) -> dict[str, TrainingImages]:
    """Keep in ``images.json`` what is trained on, and refuse other images once a training has begun.

    A method that is left out of one call is held to its images all the same when it comes back.

    Args:
        folder: of the scoreboard.
        hashes: of each method, see :func:`training_hashes`.

    Raises:
        RunFolderError: the images are not those of the trainings that are there, or nobody knows which they
            were.
    """
    file = folder / FILE
    kept = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    images = {method: TrainingImages(**facts) for method, facts in kept.items()}
    for method, (train, held_out) in hashes.items():
        now = TrainingImages(_digest(train), len(train), _digest(held_out), len(held_out))
        cells = folder / "cells" / method
        if not any(cells.glob("seed*/checkpoints/last.ckpt")):
            images[method] = now
            continue
        if method not in images:
            raise RunFolderError(
                f"{file} does not say which images {method} was trained on: delete {cells}, or start another "
                "scoreboard with name=NAME"
            )
        before = images[method]
        if before != now:
            raise RunFolderError(
                f"the images of the training are not those of {method} in {folder}: "
                f"{before.train_count} to train on and {before.held_out_count} held out then, "
                f"{now.train_count} and {now.held_out_count} now, or others in their place. "
                "Put them back, or start another scoreboard with name=NAME"
            )
    write_json(file, {method: asdict(facts) for method, facts in images.items()})
    return {method: images[method] for method in hashes}


def _digest(hashes: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(hashes).encode()).hexdigest()
