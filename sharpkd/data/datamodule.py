"""From lists of image files to training and validation batches."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol, get_type_hints

import pytorch_lightning as pl
from torch.utils.data import DataLoader, Dataset, Subset

from sharpkd.data.batch import Batch, collate
from sharpkd.data.benchmark_guard import refuse_benchmark_images
from sharpkd.data.cache import ImageCache, Skipped
from sharpkd.data.crops import (
    CropDataset,
    Images,
    WholeImageDataset,
    check_crop_settings,
    size_step,
    smallest_side,
)
from sharpkd.data.degradation import Setting
from sharpkd.data.images import check_folders, find_all_images
from sharpkd.data.loader import ResumableLoader, WorkerLoader
from sharpkd.data.sampler import EpochSampler
from sharpkd.data.workers import begin_worker, start_method


class Source(Protocol):
    """Where image files come from."""

    def prepare(self) -> None:
        """Get the files onto this machine (called by one process)."""

    def train_files(self) -> list[Path]:
        """Files to train on."""

    def val_files(self) -> list[Path]:
        """Files to validate on, none of them trained on."""

    def __str__(self) -> str:
        """Where it looks, for messages."""


class Usable(Images, Protocol):
    """Decoded images that are known."""

    skipped: list[Skipped]

    @property
    def pixel_hashes(self) -> list[str]:
        """See :func:`sharpkd.data.benchmark_guard.pixel_hash`."""


class ImageDataModule(pl.LightningDataModule):
    """Random crops for training and whole images for validation, from any :class:`Source`.

    ``unlabelled_dir`` adds inputs without ground truth to every training batch, for a teacher to label, as
    Zhang et al., "Data Upcycling Knowledge Distillation for Image Super-Resolution", 2023 (arXiv 2309.14162),
    do with inputs that they make out of the training images. By default the folder's images are degraded
    like the others: teacher and student then see the blur that the teacher knows, and only the truth is
    withheld. Images that are blurred already, such as footage, are taken as they are with
    ``unlabelled_degraded=False``. What is validated on is left out.

    Args:
        source: which files.
        degradation: any albumentations transform; makes the net's input from the sharp image.
        cache_dir: folder for decoded images (width * height * 3 bytes each).
        batch_size: crops a process takes at once.
        crop_size: pixels.
        crops_per_image: crops from each image an epoch.
        fixed_crops: train on this many crops, drawn once, instead.
        rotation: largest free angle in degrees; needs ``reduction`` of at least 1.5.
        reduction: cut windows this many times larger and reduce them to ``crop_size``; ``[low, high]`` draws
            one for every crop.
        val_crop: validate on centre crops of this many pixels, in batches; None takes whole images singly.
        val_limit: validate on at most this many images, spread evenly over the files.
        workers: loading processes; 0 loads in the training process.
        seed: of crops, flips, degradations and their order; validation does not depend on it.
        scale: how many times smaller the degraded image is.
        strict: an unusable image is an error instead of a warning.
        unlabelled_dir: folder or folders of images for the extra inputs, searched recursively; None for none.
        unlabelled_per_crop: extra inputs with each labelled crop.
        unlabelled_degraded: degrade them as the labelled crops are; False takes them as they are.

    Raises:
        ValueError: a setting is out of range, a training image belongs to the benchmark, or ``strict`` and an
            image is unusable.
        FileNotFoundError: there is no usable image, or no folder of that name.
    """

    __signature__: ClassVar[inspect.Signature]

    def __init__(
        self,
        source: Source,
        degradation: Any,
        cache_dir: str | Path,
        batch_size: int = 16,
        crop_size: int = 128,
        crops_per_image: int = 4,
        fixed_crops: int | None = None,
        rotation: float = 0.0,
        reduction: Setting = 1.0,
        val_crop: int | None = None,
        val_limit: int | None = None,
        workers: int = 1,
        seed: int = 0,
        scale: int = 1,
        strict: bool = False,
        unlabelled_dir: str | Sequence[str] | None = None,
        unlabelled_per_crop: int = 1,
        unlabelled_degraded: bool = True,
    ) -> None:
        super().__init__()
        check_crop_settings(
            crop_size, crops_per_image, fixed_crops, rotation, reduction, scale, unlabelled_per_crop
        )
        if crop_size % (step := size_step(degradation, scale)):
            raise ValueError(
                f"data.crop_size must be a multiple of {step}, by which the degradation reduces it for the "
                f"teacher, got {crop_size}"
            )
        for name, value in (("val_crop", val_crop), ("val_limit", val_limit)):
            if value is not None and value < 1:
                raise ValueError(f"data.{name} must be at least 1, or null, got {value}")
        self.source = source
        self.degradation = degradation
        self.cache_dir = Path(cache_dir)
        self.batch_size = batch_size
        self.crop_size = crop_size
        self.crops_per_image = crops_per_image
        self.fixed_crops = fixed_crops
        self.rotation = rotation
        self.reduction = reduction
        self.val_crop = val_crop
        self.val_limit = val_limit
        self.workers = workers
        self.seed = seed
        self.scale = scale
        self.strict = strict
        self.unlabelled_dirs = (
            None if unlabelled_dir is None else check_folders(unlabelled_dir, "data.unlabelled_dir")
        )
        self.unlabelled_per_crop = unlabelled_per_crop
        self.unlabelled_degraded = unlabelled_degraded
        self._train_cache: Usable | None = None
        self._unlabelled_cache: ImageCache | None = None
        self._val_cache: Usable | None = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        # A subclass names its own settings and passes the rest on as **settings; its signature shows them
        # all, so that a configuration can be checked against it.
        super().__init_subclass__(**kwargs)
        own = [p for p in _parameters(cls) if p.kind != p.VAR_KEYWORD]
        named = {"source", *(p.name for p in own)}
        rest = [p.replace(kind=p.KEYWORD_ONLY) for p in _parameters(ImageDataModule) if p.name not in named]
        cls.__signature__ = inspect.Signature([*own, *rest])
        hints = get_type_hints(ImageDataModule.__init__)
        cls.__init__.__annotations__.update({p.name: hints[p.name] for p in rest})

    def prepare_data(self) -> None:
        """Get the files and decode them once (Lightning calls this in one process of a machine)."""
        self.source.prepare()
        self._open_train()
        self._open_unlabelled()
        self._open_val()

    def setup(self, stage: str | None = None) -> None:
        """Open the decoded images."""
        if stage in (None, "fit"):
            self._train_images()
            self._unlabelled_images()
        self._val_images()

    def train_dataloader(self) -> ResumableLoader:
        """Batches of crops; continues in the middle of an epoch after a resume."""
        dataset = CropDataset(
            self._train_images(),
            self.degradation,
            crop_size=self.crop_size,
            crops_per_image=self.crops_per_image,
            fixed_crops=self.fixed_crops,
            rotation=self.rotation,
            reduction=self.reduction,
            seed=self.seed,
            scale=self.scale,
            unlabelled=self._unlabelled_images(),
            unlabelled_per_crop=self.unlabelled_per_crop,
            unlabelled_degraded=self.unlabelled_degraded,
        )
        trainer = self.trainer
        rank, world_size = (0, 1) if trainer is None else (trainer.global_rank, trainer.world_size)
        return self._loader(
            dataset,
            rank,
            world_size,
            workers=self.workers,
            pin_memory=self._pin_memory,
            in_progress=None if trainer is None else self._batches_in_progress,
        )

    def val_dataloader(self) -> DataLoader[Batch]:
        """This process's part of :meth:`validation_loader`: all of it, unless the strategy shares it out."""
        trainer = self.trainer
        if trainer is None or not getattr(trainer.strategy, "shares_validation", False):
            return self.validation_loader()
        return self.validation_loader(trainer.global_rank, trainer.world_size)

    def validation_loader(self, rank: int = 0, world_size: int = 1) -> DataLoader[Batch]:
        """Whole images one by one, or batches of centre crops; the same in every run.

        Of several processes, each has every ``world_size``-th image, and no image comes twice: some have one
        more than others. Where there are fewer images than processes, each has them all.

        Args:
            rank: this process, 0 to ``world_size - 1``.
            world_size: how many share the images.
        """
        dataset: Dataset[Batch] = WholeImageDataset(
            self._val_images(), self.degradation, self.val_crop, self.scale
        )
        images = len(self._val_images())
        if images >= world_size > 1:
            dataset = Subset(dataset, range(rank, images, world_size))
        return WorkerLoader(
            dataset,
            batch_size=1 if self.val_crop is None else self.batch_size,
            num_workers=self.workers,
            collate_fn=collate,
            pin_memory=self._pin_memory,
            worker_init_fn=begin_worker,
            multiprocessing_context=start_method(self.workers),
            persistent_workers=self.workers > 0,
        )

    def pixel_hashes(self) -> tuple[list[str], list[str]]:
        """Of the images trained on and of those validated on, in their order; decodes what is not decoded.

        Images without ground truth are trained on too: they follow the others.
        See :func:`sharpkd.data.benchmark_guard.pixel_hash`.

        Raises:
            ValueError: a training image belongs to the benchmark, or ``strict`` and an image is unusable.
            FileNotFoundError: there is no usable image.
        """
        self.prepare_data()
        unlabelled = self._unlabelled_images()
        extra = [] if unlabelled is None else unlabelled.pixel_hashes
        return [*self._train_images().pixel_hashes, *extra], self._val_images().pixel_hashes

    def _loader(self, dataset: CropDataset, rank: int, world_size: int, **settings: Any) -> ResumableLoader:
        """One rank's batches of crops, in an order of its own."""
        sampler = EpochSampler(len(dataset), self.batch_size, self.seed, rank=rank, world_size=world_size)
        return ResumableLoader(dataset, sampler, **settings)

    @property
    def _pin_memory(self) -> bool:
        return self.trainer is not None and self.trainer.strategy.root_device.type == "cuda"

    def _batches_in_progress(self) -> int:
        assert self.trainer is not None
        progress = self.trainer.fit_loop.epoch_loop.batch_progress.current
        return progress.ready - progress.processed  # type: ignore[attr-defined]  # Lightning types it as its base

    def _train_images(self) -> Usable:
        if self._train_cache is None:
            self._train_cache = self._open_train()
            self._report(self._train_cache.skipped, "training")
        return self._train_cache

    def _unlabelled_images(self) -> ImageCache | None:
        if self._unlabelled_cache is None:
            self._unlabelled_cache = self._open_unlabelled()
            if self._unlabelled_cache is not None:
                self._report(self._unlabelled_cache.skipped, "training on unlabelled images")
        return self._unlabelled_cache

    def _val_images(self) -> Usable:
        if self._val_cache is None:
            self._val_cache = self._open_val()
            self._report(self._val_cache.skipped, "validation")
        return self._val_cache

    def _open_train(self) -> Usable:
        least = smallest_side(self.crop_size, self.rotation, self.reduction)
        cache = self._open(self.source.train_files(), least, str(self.source))
        refuse_benchmark_images(zip(cache.files, cache.pixel_hashes, strict=True))
        return cache

    def _open_unlabelled(self) -> ImageCache | None:
        if self.unlabelled_dirs is None:
            return None
        where = f"data.unlabelled_dir ({', '.join(map(str, self.unlabelled_dirs))})"
        least = self.crop_size // self.scale
        if self.unlabelled_degraded:
            least = smallest_side(self.crop_size, self.rotation, self.reduction)
        cache = self._open(find_all_images(self.unlabelled_dirs), least, where)
        refuse_benchmark_images(zip(cache.files, cache.pixel_hashes, strict=True))
        kept = cache.without(self._open_val().pixel_hashes)
        if not kept.files:
            raise FileNotFoundError(f"no usable image in {where}: all of them are validated on")
        return kept

    def _open_val(self) -> Usable:
        files = self.source.val_files()
        least = self.val_crop or size_step(self.degradation, self.scale)
        cache = self._open(files, least, str(self.source))
        if self.val_limit is None or self.val_limit >= len(cache):
            return cache
        chosen = [cache.files[i * len(cache) // self.val_limit] for i in range(self.val_limit)]
        return ImageCache(chosen, self.cache_dir)

    def _open(self, files: Sequence[Path], min_side: int, where: str) -> ImageCache:
        cache = ImageCache(files, self.cache_dir, min_side)
        if self.strict and cache.skipped:
            raise ValueError(f"data.strict=true, and {listed(cache.skipped)}")
        if not cache.files:
            found = f"the {listed(cache.skipped)}" if cache.skipped else "there is none"
            raise FileNotFoundError(f"no usable image in {where}: {found}")
        return cache

    def _report(self, skipped: Sequence[Skipped], use: str) -> None:
        if skipped and (self.trainer is None or self.trainer.is_global_zero):
            warnings.warn(f"{use} goes on without {listed(skipped)}", stacklevel=2)


def _parameters(cls: type[Any]) -> list[inspect.Parameter]:
    return list(inspect.signature(cls.__init__).parameters.values())[1:]


def listed(skipped: Sequence[Skipped]) -> str:
    """What cannot be used and why, as messages have it: images, or shards of them."""
    what = "shard" if all(entry.path.suffix == ".tar" for entry in skipped) else "image"
    lines = "".join(f"\n  {entry.path}: {entry.reason}" for entry in skipped)
    return f"{len(skipped)} unusable {what}(s):{lines}"
