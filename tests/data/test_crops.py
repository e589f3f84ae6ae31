from __future__ import annotations

from typing import Any

import albumentations as A
import numpy as np
import pytest
import torch

from sharpkd.data.batch import Batch, collate
from sharpkd.data.crops import (
    CropDataset,
    WholeImageDataset,
    centre_crop,
    check_crop_settings,
    make_pair,
    smallest_side,
    to_tensor,
    whole_image,
)
from sharpkd.data.degradation import GaussianBlur, name_seed
from sharpkd.evaluation.protocols import Condition
from sharpkd.evaluation.protocols import make_pair as make_benchmark_pair

from .conftest import InMemory, picture


def noise(count: int = 3, **size: int) -> InMemory:
    return InMemory(*(picture(seed, **size) for seed in range(count)))


def content(batch: Batch) -> bytes:
    return batch.sharp.numpy().tobytes() + batch.degraded.numpy().tobytes()


def as_image(tensor: torch.Tensor) -> np.ndarray:
    return (tensor[0].permute(1, 2, 0) * 255).round().byte().numpy()


def test_to_tensor() -> None:
    image = picture(0, 5, 7)
    tensor = to_tensor(image)
    assert tensor.shape == (1, 3, 5, 7)
    assert tensor.dtype == torch.float32
    np.testing.assert_allclose(tensor[0].permute(1, 2, 0).numpy(), image / 255, atol=1e-7)


def test_a_sample_is_a_degraded_crop() -> None:
    sample = CropDataset(noise(), GaussianBlur(sigma=1.5), crop_size=16)[0, 4]
    assert sample.sharp.shape == sample.degraded.shape == (1, 3, 16, 16)
    assert sample.name == ["1"]
    assert sample.low_res is None
    assert sample.condition is not None
    assert sample.condition.tolist() == [[1.5]]
    assert sample.degraded.std() < 0.5 * sample.sharp.std()


def test_a_crop_is_a_flipped_or_turned_window_of_its_image() -> None:
    dataset = CropDataset(noise(height=14, width=17), A.NoOp(), crop_size=8)
    turns = set()
    for index in range(60):
        sample = dataset[0, index]
        image, crop = picture(index % 3, 14, 17), as_image(sample.sharp)
        windows = np.lib.stride_tricks.sliding_window_view(image, (8, 8), axis=(0, 1))
        windows = windows.transpose(0, 1, 3, 4, 2)
        matches = [
            (turn, flip)
            for turn in range(4)
            for flip in (False, True)
            if (windows == np.rot90(crop[:, ::-1] if flip else crop, turn)).all(axis=(2, 3, 4)).any()
        ]
        assert len(matches) == 1
        turns.add(matches[0])
        assert sample.condition is None
        assert torch.equal(sample.degraded, sample.sharp)
    assert len(turns) == 8


def test_same_seed_same_bytes_whatever_came_before() -> None:
    keys = [(epoch, index) for epoch in range(3) for index in range(12)]

    def contents(keys: list[tuple[int, int]], seed: int) -> dict[tuple[int, int], bytes]:
        dataset = CropDataset(noise(), GaussianBlur(), crop_size=16, seed=seed)
        return {key: content(dataset[key]) for key in keys}

    first = contents(keys, seed=1)
    assert contents(keys[::-1], seed=1) == first
    assert len(set(first.values()) | set(contents(keys, seed=2).values())) == 2 * len(keys)


def test_every_sample_has_a_number_of_its_own() -> None:
    keys = [(epoch, index) for epoch in range(3) for index in range(12)]

    def numbers(seed: int, fixed_crops: int | None = None) -> list[int]:
        dataset = CropDataset(noise(), GaussianBlur(), crop_size=16, seed=seed, fixed_crops=fixed_crops)
        seeds = [dataset[key].seed for key in keys]
        assert all(seed is not None and seed.shape == (1,) and seed.dtype == torch.int64 for seed in seeds)
        return [int(seed) for seed in seeds if seed is not None]

    first = numbers(seed=1)
    assert min(first) >= 0
    assert numbers(seed=1) == first
    assert len({*first, *numbers(seed=2)}) == 2 * len(keys)
    assert len(set(numbers(seed=1, fixed_crops=12))) == 12
    batch = collate([CropDataset(noise(), GaussianBlur(), crop_size=16, seed=1)[key] for key in keys[:3]])
    assert batch.seed is not None
    assert batch.seed.tolist() == first[:3]


def test_fixed_crops_repeat_in_every_epoch() -> None:
    dataset = CropDataset(noise(), GaussianBlur(), crop_size=16, fixed_crops=10)
    assert len(dataset) == 10
    first = [content(dataset[0, index]) for index in range(10)]
    assert [content(dataset[5, index]) for index in range(10)] == first
    assert len(set(first)) == 10
    assert [dataset[0, index].name for index in range(4)] == [["0"], ["1"], ["2"], ["0"]]


def test_an_epoch_takes_the_same_number_from_each_image() -> None:
    dataset = CropDataset(noise(), A.NoOp(), crop_size=8, crops_per_image=5)
    assert len(dataset) == 15
    names = [dataset[0, index].name[0] for index in range(15)]
    assert {name: names.count(name) for name in names} == {"0": 5, "1": 5, "2": 5}


def test_the_whole_image_is_used() -> None:
    image = np.zeros((10, 12, 3), np.uint8)
    image[..., 0], image[..., 1] = np.mgrid[:10, :12]
    dataset = CropDataset(InMemory(image), A.NoOp(), crop_size=8)
    crops = [as_image(dataset[0, index].sharp) for index in range(200)]
    assert {int(crop[..., 0].min()) for crop in crops} == {0, 1, 2}
    assert {int(crop[..., 1].min()) for crop in crops} == {0, 1, 2, 3, 4}


def test_reduction_averages_areas() -> None:
    image = picture(0, 32, 32)
    crop = as_image(CropDataset(InMemory(image), A.NoOp(), crop_size=16, reduction=2)[0, 0].sharp)
    blocks = image.reshape(16, 2, 16, 2, 3).mean(axis=(1, 3))
    turned = [np.rot90(crop[:, ::-1] if flip else crop, turn) for turn in range(4) for flip in (False, True)]
    assert min(np.abs(candidate - blocks).max() for candidate in turned) <= 0.5


def test_a_reduction_that_is_drawn_for_every_crop() -> None:
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 64, axis=0).repeat(3, axis=2)
    dataset = CropDataset(InMemory(ramp), A.NoOp(), crop_size=16, reduction=[1, 3])
    slopes = []
    for index in range(200):
        crop = as_image(dataset[0, index].sharp)[..., 0].astype(float)
        across, down = (np.abs(np.diff(crop, axis=axis)).mean() for axis in (1, 0))
        slopes.append(max(across, down))  # turned by multiples of 90 degrees
    # on a ramp of one level a pixel a reduction is the slope; 1.1 and less count as 1, up to whole pixels
    assert min(slopes) == 1
    assert 0.01 < np.mean([slope == 1 for slope in slopes]) < 0.15
    assert 2.8 < max(slopes) < 3.1
    assert smallest_side(16, reduction=[1, 3]) == 48


def gradient_energy(images: InMemory, rotation: float, reduction: float, crops: int = 150) -> float:
    dataset = CropDataset(images, A.NoOp(), crop_size=48)
    dataset.rotation, dataset.reduction = rotation, (reduction, reduction)
    targets = np.stack([dataset[0, index].sharp[0].numpy() for index in range(crops)])
    return float(np.square(np.diff(targets, axis=2)).mean() + np.square(np.diff(targets, axis=3)).mean())


def natural_spectrum(seed: int, side: int = 400) -> np.ndarray:
    """An isotropic field with the 1/f amplitudes of photographs (Field 1987), ``(side, side, 3)`` uint8."""
    f = np.hypot(*np.meshgrid(np.fft.fftfreq(side), np.fft.fftfreq(side)))
    f[0, 0] = 1
    white = np.fft.fft2(np.random.default_rng(seed).normal(size=(side, side)))
    field = np.fft.ifft2(white / f).real
    field = (field - field.mean()) / field.std() * 35 + 128
    return np.clip(field, 0, 255).astype(np.uint8)[..., None].repeat(3, axis=2)


def test_a_free_rotation_keeps_the_sharpness_of_the_target_where_it_is_reduced() -> None:
    fields = InMemory(natural_spectrum(0), natural_spectrum(1))
    kept = {
        reduction: gradient_energy(fields, 45, reduction) / gradient_energy(fields, 0, reduction)
        for reduction in (1.0, 1.5, 2.0)
    }
    assert kept[1.0] < 0.9  # what the limit on the reduction prevents
    assert kept[1.5] > 0.97
    assert kept[2.0] > 0.98


def test_a_free_rotation_has_no_black_corners() -> None:
    bright = InMemory(np.full((160, 150, 3), 200, np.uint8))
    for rotation in (10, 45, 180):
        dataset = CropDataset(bright, A.NoOp(), crop_size=48, rotation=rotation, reduction=1.5)
        targets = np.stack([as_image(dataset[0, index].sharp) for index in range(50)])
        assert targets.min() == targets.max() == 200


def test_a_free_rotation_turns_by_up_to_its_angle() -> None:
    wave = 128 + 100 * np.sin(np.arange(200) * 2 * np.pi / 16)
    stripes = np.broadcast_to(wave.astype(np.uint8)[:, None], (200, 200, 3))
    dataset = CropDataset(InMemory(stripes), A.NoOp(), crop_size=64, rotation=20, reduction=1.5)
    angles = []
    for index in range(40):
        grey = dataset[0, index].sharp[0, 0].numpy()
        dy, dx = np.gradient(grey)
        # Orientation of the structure tensor (Bigun & Granlund 1987), from the nearest axis.
        angle = np.degrees(0.5 * np.arctan2(2 * (dx * dy).sum(), (dx * dx - dy * dy).sum()))
        angles.append(abs((angle + 45) % 90 - 45))
    assert 15 < max(angles) <= 20.5
    assert len({round(float(angle)) for angle in angles}) > 8


@pytest.mark.parametrize("rotation", [0.0, 3.0, 30.0, 45.0, 170.0])
def test_the_smallest_image_is_large_enough(rotation: float) -> None:
    side = smallest_side(20, rotation, 1.5)
    dataset = CropDataset(
        InMemory(picture(0, side, side)), A.NoOp(), crop_size=20, rotation=rotation, reduction=1.5
    )
    assert all(dataset[0, index].sharp.shape == (1, 3, 20, 20) for index in range(50))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"crop_size": 0}, r"data\.crop_size must be at least 1, got 0"),
        ({"crops_per_image": 0}, r"data\.crops_per_image must be at least 1, got 0"),
        ({"fixed_crops": 0}, r"data\.fixed_crops must be at least 1, or null, got 0"),
        ({"scale": 3}, r"data\.crop_size must be a multiple of the scale 3, got 128"),
        ({"rotation": 181.0}, r"data\.rotation must be in \[0, 180\] degrees, got 181"),
        (
            {"reduction": 0.5},
            r"data: reduction must be a number or \[low, high\] with 1 <= low <= high; found",
        ),
        ({"reduction": [2, 1]}, r"with 1 <= low <= high; found \[2, 1\]"),
        ({"rotation": 5.0, "reduction": 1.4}, r"=5\.0 needs data\.reduction of at least 1\.5, got 1\.4"),
    ],
)
def test_settings_out_of_range(settings: dict[str, Any], message: str) -> None:
    good = {
        "crop_size": 128,
        "crops_per_image": 4,
        "fixed_crops": None,
        "rotation": 0.0,
        "reduction": 1.0,
        "scale": 1,
    }
    with pytest.raises(ValueError, match=message):
        check_crop_settings(**{**good, **settings})


def test_any_transform_of_albumentations_is_a_degradation() -> None:
    sample = CropDataset(noise(), A.GaussNoise(std_range=(0.1, 0.1), p=1.0), crop_size=16)[0, 0]
    assert sample.condition is None
    assert 0.02 < (sample.degraded - sample.sharp).std() < 0.2


class Halve(A.ImageOnlyTransform):
    """Every second pixel."""

    def __init__(self) -> None:
        super().__init__(p=1.0)

    def apply(self, img: np.ndarray, **params: object) -> np.ndarray:
        return np.ascontiguousarray(img[::2, ::2])


def test_scale_makes_the_degraded_image_smaller() -> None:
    pair = make_pair(picture(0, 16, 24), Halve(), seed=0, name="x", scale=2)
    assert pair.degraded.shape == (1, 3, 8, 12)
    assert pair.sharp.shape == (1, 3, 16, 24)
    with pytest.raises(ValueError, match=r"Halve made \(8, 12, 3\) of \(16, 24, 3\): with scale 1"):
        make_pair(picture(0, 16, 24), Halve(), seed=0, name="x")


def test_whole_images_are_degraded_by_their_names() -> None:
    image = picture(0)
    first = WholeImageDataset(InMemory(image, image), GaussianBlur())
    again = WholeImageDataset(InMemory(image, image), GaussianBlur())
    assert [content(again[i]) for i in (1, 0)] == [content(first[i]) for i in (1, 0)]
    assert content(first[0]) != content(first[1])
    np.testing.assert_array_equal(as_image(first[0].sharp), image)


def test_the_seed_of_a_name_is_the_same_on_every_machine() -> None:
    # echo -n 0801 | sha256sum | cut -c 1-8
    assert name_seed("0801") == 0x21A450CA


def test_centre_crop() -> None:
    image = picture(0, 11, 14)
    np.testing.assert_array_equal(centre_crop(image, 5), image[3:8, 4:9])
    np.testing.assert_array_equal(centre_crop(image, 7, multiple_of=4), image[3:7, 5:9])


def test_a_whole_image_is_cut_as_the_benchmark_cuts_it() -> None:
    image = picture(0, 11, 14)
    np.testing.assert_array_equal(whole_image(image), image)
    np.testing.assert_array_equal(whole_image(image, 4), image[:8, :12])
    sr = make_benchmark_pair(Condition("sr", "sr/4", scale=4), image, "any")
    np.testing.assert_array_equal(whole_image(image, 4), sr.sharp)
    with pytest.raises(
        ValueError, match=r"^image dot is 9x3 pixels; reducing it 4 times needs at least 4x4$"
    ):
        whole_image(picture(0, 3, 9), 4, "dot")


def test_the_images_are_never_written_to() -> None:
    images = noise()
    for image in images.images:
        image.flags.writeable = False
    before = [image.copy() for image in images.images]
    dataset = CropDataset(images, GaussianBlur(), crop_size=48, crops_per_image=8)
    for index in range(len(dataset)):
        assert dataset[0, index].sharp.shape == (1, 3, 48, 48)
    np.testing.assert_array_equal(images.images, before)
