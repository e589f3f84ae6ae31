"""The small image that a degradation hands on, from the sharp crop to the batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import albumentations as A
import numpy as np
import pytest
import torch
from PIL import Image
from pytorch_lightning.utilities import move_data_to_device

from sharpkd.data.batch import Batch, collate
from sharpkd.data.crops import CropDataset, WholeImageDataset, make_pair, size_step, to_tensor
from sharpkd.data.degradation import Bicubic, Conference, LowRes, degrade
from sharpkd.data.folder import FolderDataModule

from .conftest import InMemory, picture

BICUBIC = Image.Resampling.BICUBIC


def test_the_carried_image_is_pillows_and_the_degraded_one_is_made_of_it() -> None:
    sharp = picture(3, 48, 60)
    small = Image.fromarray(sharp).resize((15, 12), BICUBIC)
    pair = make_pair(sharp, LowRes(4, carry_low_res=True), 0, "any")
    assert pair.low_res is not None
    assert torch.equal(pair.low_res, to_tensor(np.asarray(small)))
    assert torch.equal(pair.degraded, to_tensor(np.asarray(small.resize((60, 48), BICUBIC))))
    assert torch.equal(pair.sharp, to_tensor(sharp))
    assert torch.equal(pair.degraded, make_pair(sharp, LowRes(4), 0, "any").degraded)


@pytest.mark.parametrize("degradation", [LowRes(4), LowRes(1.5), Conference(), Bicubic(2), A.NoOp()])
def test_nothing_is_carried_unasked(degradation: Any) -> None:
    scale = 2 if isinstance(degradation, Bicubic) else 1
    assert make_pair(picture(3, 48, 60), degradation, 0, "any", scale).low_res is None
    assert size_step(degradation) == 1


@pytest.mark.parametrize(
    ("settings", "found"),
    [
        ({"scale": [2, 4]}, r"scale \[2, 4\] and p=1"),
        ({"scale": 1.5}, r"scale 1\.5 and p=1"),
        ({"scale": 4, "p": 0.5}, r"scale 4 and p=0\.5"),
    ],
)
def test_one_whole_scale_is_carried(settings: dict[str, Any], found: str) -> None:
    with pytest.raises(
        ValueError, match=f"^LowRes: carry_low_res needs one whole scale and p=1, found {found}$"
    ):
        LowRes(**settings, carry_low_res=True)


def test_a_factor_between_whole_numbers_rounds_the_small_size() -> None:
    sharp = picture(5, 50, 67)
    small = Image.fromarray(sharp).resize((45, 33), BICUBIC)
    expected = np.asarray(small.resize((67, 50), BICUBIC))
    degraded, condition = degrade(LowRes(1.5), sharp, 0)
    np.testing.assert_array_equal(degraded, expected)
    assert condition is not None
    assert condition.tolist() == [0.0, 1.5]


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_bicubic_is_pillows_and_stays_small(scale: int) -> None:
    sharp = picture(1, 24, 36)
    degraded, condition = degrade(Bicubic(scale), sharp, 0)
    np.testing.assert_array_equal(
        degraded, Image.fromarray(sharp).resize((36 // scale, 24 // scale), BICUBIC)
    )
    assert condition is not None
    assert condition.tolist() == [0.0, float(scale)]
    assert not np.may_share_memory(degraded, sharp)


@pytest.mark.parametrize("scale", [0, 2.0, True, "2"])
def test_bicubic_takes_whole_numbers(scale: Any) -> None:
    with pytest.raises(ValueError, match=r"^Bicubic: scale must be a whole number >= 1; found"):
        Bicubic(scale)


def test_bicubic_refuses_sizes_that_do_not_divide() -> None:
    with pytest.raises(
        ValueError, match=r"^Bicubic: both sides .* multiples of scale 2; found \(23, 36, 3\)$"
    ):
        degrade(Bicubic(2), picture(1, 23, 36), 0)


def test_crops_carry_it_in_batches_to_any_device() -> None:
    images = InMemory(*(picture(seed, 40, 44) for seed in range(3)))
    dataset = CropDataset(images, LowRes(4, carry_low_res=True), crop_size=20, fixed_crops=6)
    batch = collate([dataset[0, index] for index in range(4)])
    assert batch.low_res is not None
    assert batch.low_res.shape == (4, 3, 5, 5)
    for low_res, degraded in zip(batch.low_res, batch.degraded, strict=True):
        small = (low_res.permute(1, 2, 0) * 255).round().byte().numpy()
        enlarged = np.asarray(Image.fromarray(small).resize((20, 20), BICUBIC))
        assert torch.equal(degraded[None], to_tensor(enlarged))
    moved = move_data_to_device(batch, torch.device("meta"))
    assert isinstance(moved, Batch)
    assert moved.low_res is not None
    assert moved.low_res.device.type == "meta"


def test_inputs_without_ground_truth_carry_it_too() -> None:
    images = InMemory(*(picture(seed, 40, 44) for seed in range(3)))
    degradation = LowRes(4, carry_low_res=True)
    dataset = CropDataset(
        images, degradation, crop_size=20, unlabelled=InMemory(picture(9, 40, 40)), unlabelled_per_crop=2
    )
    batch = collate([dataset[0, index] for index in range(3)])
    assert batch.extra is not None
    assert batch.extra_low_res is not None
    assert batch.extra_low_res.shape == (6, 3, 5, 5)
    for low_res, extra in zip(batch.extra_low_res, batch.extra, strict=True):
        small = (low_res.permute(1, 2, 0) * 255).round().byte().numpy()
        assert torch.equal(
            extra[None], to_tensor(np.asarray(Image.fromarray(small).resize((20, 20), BICUBIC)))
        )


def test_as_they_are_they_have_none() -> None:
    images = InMemory(picture(0, 40, 44))
    dataset = CropDataset(
        images, LowRes(4, carry_low_res=True), crop_size=20, unlabelled=images, unlabelled_degraded=False
    )
    sample = dataset[0, 0]
    assert sample.low_res is not None
    assert sample.extra is not None
    assert sample.extra_low_res is None


def test_whole_images_are_cut_so_that_both_fit() -> None:
    images = InMemory(picture(0, 43, 50))
    degradation = LowRes(4, carry_low_res=True)
    whole = WholeImageDataset(images, degradation)[0]
    assert whole.low_res is not None
    assert (whole.low_res.shape[-2:], whole.sharp.shape[-2:]) == ((10, 12), (40, 48))
    assert torch.equal(whole.sharp, to_tensor(images[0][:40, :48]))
    cropped = WholeImageDataset(images, degradation, crop=22)[0]
    assert cropped.sharp.shape[-2:] == cropped.degraded.shape[-2:] == (20, 20)
    assert WholeImageDataset(images, LowRes(4))[0].sharp.shape[-2:] == (43, 50)


def test_a_crop_that_does_not_divide_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError,
        match=r"^data\.crop_size must be a multiple of 4, by which the degradation reduces it for the "
        "teacher, got 98$",
    ):
        FolderDataModule(
            str(tmp_path), degradation=LowRes(4, carry_low_res=True), cache_dir=tmp_path, crop_size=98
        )
