"""Random training crops and whole validation images, degraded."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from sharpkd.data.albumentations_guard import A
from sharpkd.data.batch import Batch, stack
from sharpkd.data.degradation import Degradation, Setting, as_range, degrade, name_seed

# Interpolating at a free angle softens the image; reducing it afterwards by this factor hides that.
MIN_REDUCTION_FOR_ROTATION = 1.5
# The interpolation (Lanczos, the sharpest of OpenCV's) reads four pixels beyond the window.
ROTATION_MARGIN = 4
# A drawn reduction of less than this is none: it would only soften the target.
LEAST_REDUCTION = 1.1
# Extra inputs draw from streams of their own, so that the labelled crop is the same with and without them.
UNLABELLED_STREAM = 1
# So does what modules draw.
MODULES_STREAM = 2


class Images(Protocol):
    """Decoded images, such as an :class:`sharpkd.data.cache.ImageCache`."""

    @property
    def files(self) -> Sequence[Path]:
        """Where each came from."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> np.ndarray: ...


def to_tensor(image: np.ndarray) -> Tensor:
    """``(H, W, 3)`` uint8 -> ``(1, 3, H, W)`` float32 in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))[None].float().div_(255)


def make_pair(sharp: np.ndarray, degradation: Any, seed: int, name: str, scale: int = 1) -> Batch:
    """Degrade one image and make it a batch of one.

    Args:
        sharp: ``(H, W, 3)`` uint8 RGB.
        degradation: any albumentations transform.
        seed: decides what it does.
        name: for messages and pictures.
        scale: how many times smaller the degraded image must be.

    Raises:
        ValueError: the degraded image has another size.
    """
    degraded, condition = degrade(degradation, sharp, seed)
    low_res = degradation.carried(sharp) if isinstance(degradation, Degradation) else None
    if degraded.shape[0] * scale != sharp.shape[0] or degraded.shape[1] * scale != sharp.shape[1]:
        raise ValueError(
            f"{type(degradation).__name__} made {degraded.shape} of {sharp.shape}: "
            f"with scale {scale} the degraded image must be {scale} times smaller than the sharp one"
        )
    return Batch(
        degraded=to_tensor(degraded),
        sharp=to_tensor(sharp),
        name=[name],
        low_res=None if low_res is None else to_tensor(low_res),
        condition=None if condition is None else torch.from_numpy(condition)[None],
    )


def size_step(degradation: Any, scale: int = 1) -> int:
    """What both sides of a sharp image have to be multiples of, for all that is made of it to fit."""
    carried = degradation.carried_scale if isinstance(degradation, Degradation) else None
    return math.lcm(scale, carried or 1)


def smallest_side(crop_size: int, rotation: float = 0.0, reduction: Setting = 1.0) -> int:
    """The least width and height of an image, in pixels, from which every crop can be cut."""
    window = math.ceil(crop_size * _reductions(reduction)[1])
    if rotation == 0:
        return window
    return _rotated_side(window, math.radians(min(rotation, 45.0)))


def _rotated_side(window: int, angle: float) -> int:
    return math.ceil(window * (abs(math.cos(angle)) + abs(math.sin(angle)))) + 2 * ROTATION_MARGIN


class CropDataset(Dataset[Batch]):
    """Random crops, flipped, turned and degraded.

    A key ``(epoch, index)`` gives image ``index % len(images)``; all that is random about the sample follows
    from (seed, epoch, index), so it does not depend on workers, ranks or what was loaded before.

    With ``unlabelled`` images each sample also brings inputs without ground truth (``Batch.extra``), each a
    crop of an image drawn at random. They change nothing else about the sample, and more of them do not
    change the first ones. Taken as they are, they are only flipped and turned by multiples of 90 degrees:
    a free rotation or a reduction would change their blur.

    Args:
        images: decoded, all at least :func:`smallest_side` large.
        degradation: any albumentations transform.
        crop_size: pixels, of the sharp crop.
        crops_per_image: crops from each image an epoch.
        fixed_crops: this many crops instead, the images cycled, the same in every epoch.
        rotation: largest angle of the free rotation in degrees, either way; 0 turns by multiples of 90 only.
        reduction: a window this many times larger is cut and reduced to ``crop_size`` (area average): a
            number, or ``[low, high]`` to draw one for every crop (below 1.1 it is none).
        seed: of everything random here.
        scale: how many times smaller the degraded crop is.
        unlabelled: decoded, all at least :func:`smallest_side` large, or ``crop_size / scale`` where they are
            taken as they are; None for no extra inputs.
        unlabelled_per_crop: extra inputs with each labelled crop.
        unlabelled_degraded: degrade them as the labelled crops are; False takes them as they are.

    Raises:
        ValueError: a setting is out of range, or the reduction too small to keep a turned target sharp.
    """

    def __init__(
        self,
        images: Images,
        degradation: Any,
        crop_size: int = 128,
        crops_per_image: int = 4,
        fixed_crops: int | None = None,
        rotation: float = 0.0,
        reduction: Setting = 1.0,
        seed: int = 0,
        scale: int = 1,
        unlabelled: Images | None = None,
        unlabelled_per_crop: int = 1,
        unlabelled_degraded: bool = True,
    ) -> None:
        check_crop_settings(
            crop_size, crops_per_image, fixed_crops, rotation, reduction, scale, unlabelled_per_crop
        )
        self.images = images
        self.degradation = degradation
        self.crop_size = crop_size
        self.crops_per_image = crops_per_image
        self.fixed_crops = fixed_crops
        self.rotation = rotation
        self.reduction = _reductions(reduction)
        self.seed = seed
        self.scale = scale
        self.unlabelled = unlabelled
        self.unlabelled_per_crop = unlabelled_per_crop
        self.unlabelled_degraded = unlabelled_degraded
        self._turn = A.D4(p=1.0)

    def __len__(self) -> int:
        return self.fixed_crops or len(self.images) * self.crops_per_image

    def __getitem__(self, key: tuple[int, int]) -> Batch:
        epoch, index = key
        entropy = (self.seed, 0 if self.fixed_crops else epoch, index)
        random = np.random.default_rng(np.random.SeedSequence(entropy))
        image = index % len(self.images)
        sample = self._pair(self.images, image, random)
        own = np.random.SeedSequence(entropy, spawn_key=(MODULES_STREAM,)).generate_state(1, np.uint64)
        # 63 bits: torch's integers have a sign
        sample.seed = torch.from_numpy((own >> np.uint64(1)).astype(np.int64))
        if self.unlabelled is not None:
            streams = (
                np.random.SeedSequence(entropy, spawn_key=(UNLABELLED_STREAM, number))
                for number in range(self.unlabelled_per_crop)
            )
            extras = [self._extra(self.unlabelled, np.random.default_rng(stream)) for stream in streams]
            sample.extra = torch.cat([extra.degraded for extra in extras])
            sample.extra_condition = stack([extra.condition for extra in extras])
            sample.extra_low_res = stack([extra.low_res for extra in extras])
        return sample

    def _pair(self, images: Images, image: int, random: np.random.Generator) -> Batch:
        window = _window(images[image], self.crop_size, self.rotation, self.reduction, random)
        sharp, degradation_seed = self._turned(window, random)
        return make_pair(sharp, self.degradation, degradation_seed, images.files[image].stem, self.scale)

    def _extra(self, images: Images, random: np.random.Generator) -> Batch:
        image = int(random.integers(len(images)))
        if self.unlabelled_degraded:
            return self._pair(images, image, random)
        window = _window(images[image], self.crop_size // self.scale, 0.0, (1.0, 1.0), random)
        taken = to_tensor(self._turned(window, random)[0])
        return Batch(degraded=taken, sharp=taken, name=[images.files[image].stem])

    def _turned(self, window: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, int]:
        """The window flipped and turned, and the seed of its degradation."""
        turn_seed, degradation_seed = (int(seed) for seed in random.integers(0, 2**31, size=2))
        self._turn.set_random_seed(turn_seed)
        return np.ascontiguousarray(self._turn(image=window)["image"]), degradation_seed


def _window(
    image: np.ndarray,
    crop_size: int,
    rotation: float,
    reductions: tuple[float, float],
    random: np.random.Generator,
) -> np.ndarray:
    low, high = reductions
    reduction = low
    if low < high:
        drawn = random.uniform(low, high)
        reduction = drawn if drawn >= LEAST_REDUCTION else 1.0
    window = math.ceil(crop_size * reduction)
    angle = math.radians(random.uniform(-rotation, rotation)) if rotation else 0.0
    side = _rotated_side(window, angle) if angle else window
    top, left = (int(random.integers(0, extent - side + 1)) for extent in image.shape[:2])
    crop = np.ascontiguousarray(image[top : top + side, left : left + side])
    if angle:
        crop = _rotate(crop, angle, window)
    if window == crop_size:
        return crop
    return cv2.resize(crop, (crop_size, crop_size), interpolation=cv2.INTER_AREA)


def _rotate(image: np.ndarray, angle: float, window: int) -> np.ndarray:
    """The central ``window`` x ``window`` pixels of a square image turned by ``angle`` (radians)."""
    centre = (image.shape[0] - 1) / 2
    matrix = cv2.getRotationMatrix2D((centre, centre), math.degrees(angle), 1.0)
    matrix[:, 2] += (window - 1) / 2 - centre
    return cv2.warpAffine(image, matrix, (window, window), flags=cv2.INTER_LANCZOS4)


def check_crop_settings(
    crop_size: int,
    crops_per_image: int,
    fixed_crops: int | None,
    rotation: float,
    reduction: Setting,
    scale: int,
    unlabelled_per_crop: int = 1,
) -> None:
    """Settings of :class:`CropDataset` that can be checked before any image is read.

    Raises:
        ValueError: names the setting, what it is and what it may be.
    """
    counts = {"crop_size": crop_size, "crops_per_image": crops_per_image, "scale": scale}
    for name, value in {**counts, "unlabelled_per_crop": unlabelled_per_crop}.items():
        if value < 1:
            raise ValueError(f"data.{name} must be at least 1, got {value}")
    if fixed_crops is not None and fixed_crops < 1:
        raise ValueError(f"data.fixed_crops must be at least 1, or null, got {fixed_crops}")
    if crop_size % scale:
        raise ValueError(f"data.crop_size must be a multiple of the scale {scale}, got {crop_size}")
    if not 0 <= rotation <= 180:
        raise ValueError(f"data.rotation must be in [0, 180] degrees, got {rotation}")
    least, _ = _reductions(reduction)
    if rotation and least < MIN_REDUCTION_FOR_ROTATION:
        raise ValueError(
            f"data.rotation={rotation} needs data.reduction of at least {MIN_REDUCTION_FOR_ROTATION}, "
            f"got {reduction}: turning by a free angle softens the target, which teaches the net to blur"
        )


def _reductions(reduction: Setting) -> tuple[float, float]:
    return as_range("data", "reduction", reduction, 1.0)


class WholeImageDataset(Dataset[Batch]):
    """Whole images or their centres, each degraded the same way every time (seeded by its name).

    Args:
        images: decoded.
        degradation: any albumentations transform.
        crop: side of a centre crop in pixels; None takes the whole image, cut on the right and below to a
            multiple of ``scale``, as the super-resolution papers and SharpBench do. Where the degradation
            carries a low-resolution image, its scale counts too.
        scale: how many times smaller the degraded image is.
    """

    def __init__(self, images: Images, degradation: Any, crop: int | None = None, scale: int = 1) -> None:
        self.images = images
        self.degradation = degradation
        self.crop = crop
        self.scale = scale

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Batch:
        name = self.images.files[index].stem
        step = size_step(self.degradation, self.scale)
        if self.crop is None:
            sharp = whole_image(self.images[index], step, name)
        else:
            sharp = centre_crop(self.images[index], self.crop, step)
        return make_pair(sharp, self.degradation, name_seed(name), name, self.scale)


def centre_crop(image: np.ndarray, crop: int, multiple_of: int = 1) -> np.ndarray:
    """A contiguous copy of the central ``crop`` x ``crop`` pixels, cut to a multiple."""
    side = crop - crop % multiple_of
    top, left = ((extent - side) // 2 for extent in image.shape[:2])
    return np.ascontiguousarray(image[top : top + side, left : left + side]).copy()


def whole_image(image: np.ndarray, multiple_of: int = 1, name: str = "") -> np.ndarray:
    """A contiguous copy of the image, cut on the right and below to a multiple.

    Raises:
        ValueError: nothing would be left of it.
    """
    height, width = (extent - extent % multiple_of for extent in image.shape[:2])
    if not height or not width:
        raise ValueError(
            f"image {name} is {image.shape[1]}x{image.shape[0]} pixels; reducing it {multiple_of} times "
            f"needs at least {multiple_of}x{multiple_of}"
        )
    return np.ascontiguousarray(image[:height, :width]).copy()
