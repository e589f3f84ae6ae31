"""``data=shards``: crops from images inside tar archives."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sharpkd.data.crops import CropDataset, size_step, smallest_side
from sharpkd.data.datamodule import ImageDataModule, Usable, listed
from sharpkd.data.folder import given_folders
from sharpkd.data.images import find_all_images
from sharpkd.data.loader import ResumableLoader
from sharpkd.data.shards.checked import usable_shards
from sharpkd.data.shards.images import ShardImages
from sharpkd.data.shards.loader import ShardLoader
from sharpkd.data.shards.manifest import Manifest, Shard, ShardError, read_manifest
from sharpkd.data.shards.sampler import ShardSampler


class ShardSource:
    """A folder of finished shards, and perhaps other images to validate on.

    Args:
        train_dir: folder that ``python -m sharpkd.prepare`` has filled.
        val_dir: folder or folders of image files to validate on; None takes the shards' own.

    Raises:
        FileNotFoundError: a folder does not exist, or holds no manifest.
        ShardError: the manifest is damaged.
    """

    def __init__(self, train_dir: str, val_dir: str | Sequence[str] | None = None) -> None:
        (self.folder,) = given_folders(train_dir, "data.train_dir")
        self.val_dirs = None if val_dir is None else given_folders(val_dir, "data.val_dir")
        self.manifest: Manifest = read_manifest(self.folder)

    def __str__(self) -> str:
        return f"the shards in {self.folder}"

    def prepare(self) -> None:
        """Nothing to get: the files are here."""

    def train_files(self) -> list[Path]:
        """Never: the images are inside archives."""
        raise ShardError(f"{self} hold images, but no image files: use data=folder here")

    def val_files(self) -> list[Path]:
        """Images under ``val_dir``.

        Raises:
            ShardError: there is none, and those of the shards are no files.
        """
        if self.val_dirs is None:
            raise ShardError(f"{self} hold images, but no image files: data.val_dir=FOLDER names some")
        return find_all_images(self.val_dirs)


class ShardDataModule(ImageDataModule):
    """``data=shards``; further settings are those of :class:`sharpkd.data.datamodule.ImageDataModule`.

    Each sample comes once in an epoch, in an order of :class:`sharpkd.data.shards.sampler.ShardSampler`. A
    shard that is not what the manifest says is left out with a warning that names it, or refused with
    ``strict``.

    Args:
        train_dir: folder that ``python -m sharpkd.prepare`` has filled.
        val_dir: folder or folders of image files to validate on; None takes the shards' own.
        shuffle_buffer: crops that are mixed with each other, beside the order of the shards.

    Raises:
        ShardError: the manifest or an archive cannot be used, or its images are too small.
        ValueError: a setting is out of range; a training image belongs to the benchmark; another rank has
            other shards; or ``strict`` and a shard is unusable.
        FileNotFoundError: there is no such folder, no manifest, or no usable shard.
    """

    def __init__(
        self,
        train_dir: str,
        val_dir: str | Sequence[str] | None = None,
        shuffle_buffer: int = 4096,
        **settings: Any,
    ) -> None:
        if shuffle_buffer < 1:
            raise ValueError(f"data.shuffle_buffer must be at least 1, got {shuffle_buffer}")
        self.shards = ShardSource(train_dir, val_dir)
        super().__init__(self.shards, **settings)
        self.shuffle_buffer = shuffle_buffer

    def setup(self, stage: str | None = None) -> None:
        """Open the shards; several machines must have the same."""
        super().setup(stage)
        if stage not in (None, "fit") or self.trainer is None or self.trainer.world_size == 1:
            return
        own = self._train_shards()
        names = [shard.name for shard in own.shards]
        first = self.trainer.strategy.broadcast((own.fingerprint, names))
        if first[0] != own.fingerprint:
            differing = sorted(set(names) ^ set(first[1])) or ["their content"]
            raise ShardError(
                f"rank {self.trainer.global_rank} cannot use the same shards in {self.shards.folder} as "
                f"rank 0 (only one of them has: {', '.join(differing)}); copy them again, or mend them"
            )

    def _train_shards(self) -> ShardImages:
        images = self._train_images()
        assert isinstance(images, ShardImages)
        return images

    def _loader(self, dataset: CropDataset, rank: int, world_size: int, **settings: Any) -> ResumableLoader:
        images = self._train_shards()
        sampler = ShardSampler(
            images.counts, len(dataset), self.batch_size, self.seed, self.shuffle_buffer, rank, world_size
        )
        loader = ShardLoader(dataset, sampler, **settings)
        loader.fingerprint = images.fingerprint
        return loader

    def _open_train(self) -> ShardImages:
        least = smallest_side(self.crop_size, self.rotation, self.reduction)
        why = f"data.crop_size={self.crop_size} with data.rotation and data.reduction"
        return self._open_shards(self.shards.manifest.train, True, least, why)

    def _open_val(self) -> Usable:
        if self.shards.val_dirs is not None:
            return super()._open_val()
        if not self.shards.manifest.val:
            raise ShardError(f"{self.source} hold no images to validate on: give data.val_dir=FOLDER")
        least = self.val_crop or size_step(self.degradation, self.scale)
        images = self._open_shards(self.shards.manifest.val, False, least, f"data.val_crop={self.val_crop}")
        if self.val_limit is None or self.val_limit >= len(images):
            return images
        return images.chosen([i * len(images) // self.val_limit for i in range(self.val_limit)])

    def _open_shards(self, shards: Sequence[Shard], train: bool, least: int, why: str) -> ShardImages:
        folder = self.shards.folder
        usable, skipped = usable_shards(folder, shards, self.cache_dir, train)
        if self.strict and skipped:
            raise ShardError(f"data.strict=true, and {listed(skipped)}")
        if not usable:
            found = f"the {listed(skipped)}" if skipped else "there is none"
            raise FileNotFoundError(f"no usable shard in {folder}: {found}")
        smallest = min(usable, key=lambda shard: shard.smallest_side)
        if smallest.smallest_side < least:
            raise ShardError(
                f"{why} needs images of at least {least}x{least} pixels, and {folder / smallest.name} holds "
                f"one with a side of {smallest.smallest_side}; choose smaller crops, or make the shards "
                f"again with shards.min_side={least}"
            )
        return ShardImages(folder, usable, skipped)
