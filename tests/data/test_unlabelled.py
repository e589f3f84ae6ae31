"""Inputs without ground truth come beside the labelled crops, and change nothing about them."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import albumentations as A
import numpy as np
import pytest
import torch
from PIL import Image
from pytorch_lightning.utilities import move_data_to_device
from torch import Tensor

from sharpkd.data import benchmark_guard
from sharpkd.data.batch import Batch, collate
from sharpkd.data.benchmark_guard import pixel_hash
from sharpkd.data.crops import CropDataset
from sharpkd.data.degradation import GaussianBlur
from sharpkd.data.folder import FolderDataModule

from .conftest import picture

Make = Callable[..., FolderDataModule]
KEYS = [(epoch, index) for epoch in range(3) for index in range(12)]


class InMemory:
    """Decoded images without files."""

    def __init__(self, *seeds: int, height: int = 48, width: int = 56) -> None:
        self.images = [picture(seed, height, width) for seed in seeds]
        self.files = [Path(f"photos/{seed}.png") for seed in seeds]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> np.ndarray:
        return self.images[index]


def labelled(**settings: Any) -> CropDataset:
    return CropDataset(InMemory(0, 1, 2), GaussianBlur(), crop_size=16, **settings)


def given(tensor: Tensor | None) -> Tensor:
    assert tensor is not None
    return tensor


def without_extra(batch: Batch) -> tuple[bytes, ...]:
    condition = given(batch.condition)
    return tuple(part.numpy().tobytes() for part in (batch.sharp, batch.degraded, condition))


def windows_of(image: np.ndarray, side: int) -> np.ndarray:
    return np.lib.stride_tricks.sliding_window_view(image, (side, side), axis=(0, 1)).transpose(0, 1, 3, 4, 2)


def is_cut_from(crop: Tensor, image: np.ndarray) -> bool:
    """Whether it is a window of the image, flipped or turned by a multiple of 90 degrees."""
    pixels = (crop.permute(1, 2, 0) * 255).round().byte().numpy()
    turned = [np.rot90(pixels[:, ::-1] if flip else pixels, turn) for turn in range(4) for flip in (0, 1)]
    windows = windows_of(image, crop.shape[-1])
    return any((windows == candidate).all(axis=(2, 3, 4)).any() for candidate in turned)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"fixed_crops": 12},
        {"rotation": 20.0, "reduction": 1.5},
        {"unlabelled_degraded": False, "unlabelled_per_crop": 3},
    ],
)
def test_labelled_crops_stay_what_they_are_bit_for_bit(settings: dict[str, Any]) -> None:
    plain, taught = labelled(seed=1, **settings), labelled(seed=1, unlabelled=InMemory(7, 8), **settings)
    for key in KEYS:
        before, beside = plain[key], taught[key]
        assert without_extra(beside) == without_extra(before)
        assert beside.name == before.name
        assert before.extra is before.extra_condition is None
        assert beside.extra is not None


def test_extra_crops_differ_between_keys_and_follow_the_seed() -> None:
    def extras(seed: int, keys: list[tuple[int, int]]) -> dict[tuple[int, int], bytes]:
        dataset = labelled(seed=seed, unlabelled=InMemory(7, 8), unlabelled_per_crop=2)
        return {key: given(dataset[key].extra).numpy().tobytes() for key in keys}

    first = extras(1, KEYS)
    assert extras(1, KEYS[::-1]) == first
    assert len(set(first.values()) | set(extras(2, KEYS).values())) == 2 * len(KEYS)


def test_fixed_crops_fix_the_extra_ones_too() -> None:
    dataset = labelled(unlabelled=InMemory(7, 8), fixed_crops=5)
    for index in range(5):
        assert given(dataset[0, index].extra).equal(given(dataset[4, index].extra))


def test_more_extra_crops_leave_the_first_ones() -> None:
    one, three = (labelled(unlabelled=InMemory(7, 8), unlabelled_per_crop=count) for count in (1, 3))
    for key in KEYS:
        fewer, more = given(one[key].extra), given(three[key].extra)
        assert (len(fewer), len(more)) == (1, 3)
        assert more[:1].equal(fewer)
        assert len({crop.numpy().tobytes() for crop in more}) == 3


def test_the_extra_crop_shares_no_randomness_with_the_labelled_one() -> None:
    """With the same single image for both, the places and turns still differ."""
    dataset = CropDataset(InMemory(0), A.NoOp(), crop_size=16, unlabelled=InMemory(0))
    assert not any(given(dataset[key].extra).equal(dataset[key].degraded) for key in KEYS)


def test_degraded_extra_crops_show_the_input_and_what_was_done_to_it() -> None:
    sharp = CropDataset(InMemory(0), A.NoOp(), crop_size=16, unlabelled=InMemory(7, 8))
    blurred = CropDataset(InMemory(0), GaussianBlur(sigma=1.5), crop_size=16, unlabelled=InMemory(7, 8))
    used = set()
    for key in KEYS:
        inputs, truth = given(blurred[key].extra)[0], given(sharp[key].extra)[0]
        assert inputs.std() < 0.5 * truth.std()
        assert given(blurred[key].extra_condition).tolist() == [[1.5]]
        assert sharp[key].extra_condition is None
        used.add(tuple(is_cut_from(truth, picture(seed)) for seed in (7, 8)))
    assert used == {(True, False), (False, True)}


def test_images_taken_as_they_are_keep_their_pixels() -> None:
    dataset = CropDataset(
        InMemory(0, height=64, width=64),
        GaussianBlur(sigma=1.5),
        crop_size=16,
        rotation=20.0,
        reduction=1.5,
        unlabelled=InMemory(7, height=16, width=17),
        unlabelled_degraded=False,
    )
    for key in KEYS:
        sample = dataset[key]
        assert is_cut_from(given(sample.extra)[0], picture(7, 16, 17))
        assert sample.extra_condition is None
        assert given(sample.condition).tolist() == [[1.5]]


class Halve(A.ImageOnlyTransform):
    """Every second pixel."""

    def __init__(self) -> None:
        super().__init__(p=1.0)

    def apply(self, img: np.ndarray, **params: object) -> np.ndarray:
        return np.ascontiguousarray(img[::2, ::2])


@pytest.mark.parametrize("degraded", [True, False])
def test_extra_inputs_are_as_large_as_the_others(degraded: bool) -> None:
    settings = {"scale": 2, "unlabelled": InMemory(7), "unlabelled_degraded": degraded}
    sample = CropDataset(InMemory(0), Halve(), crop_size=16, **settings)[0, 0]  # type: ignore[arg-type]  # each setting has its own type
    assert given(sample.extra).shape == sample.degraded.shape == (1, 3, 8, 8)


def test_collate_keeps_the_order_and_refuses_a_mixture() -> None:
    dataset = labelled(unlabelled=InMemory(7, 8), unlabelled_per_crop=2)
    samples = [dataset[key] for key in KEYS[:3]]
    batch = collate(samples)
    assert len(batch) == 3
    assert given(batch.extra).equal(torch.cat([given(sample.extra) for sample in samples]))
    conditions = [given(sample.extra_condition) for sample in samples]
    assert given(batch.extra_condition).equal(torch.cat(conditions))
    assert given(batch.extra_condition).shape == (6, 1)
    with pytest.raises(ValueError, match="1 of 2 samples lack a field that others have"):
        collate([samples[0], labelled()[0, 1]])


def test_extra_inputs_travel_with_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = collate([labelled(unlabelled=InMemory(7))[0, 0]])
    moved = move_data_to_device(batch, torch.device("meta"))
    assert given(moved.extra).device == given(moved.extra_condition).device == torch.device("meta")
    monkeypatch.setattr(Tensor, "pin_memory", lambda tensor: tensor + 1)
    pinned = batch.pin_memory()
    assert given(pinned.extra).equal(given(batch.extra) + 1)
    assert given(pinned.extra_condition).equal(given(batch.extra_condition) + 1)


@pytest.fixture
def data(make_folder: Callable[..., Path], tmp_path: Path) -> Make:
    """``data(**settings)``: 5 labelled images, 3 unlabelled ones, 2 to validate on."""
    folders = {
        "train_dir": str(make_folder("train", 5)),
        "unlabelled_dir": str(make_folder("unlabelled", 3, first=10)),
        "val_dir": str(make_folder("val", 2, first=20)),
    }

    def make(**settings: Any) -> FolderDataModule:
        fixed = {"degradation": GaussianBlur(), "cache_dir": tmp_path / "cache"}
        sizes = {"batch_size": 4, "crop_size": 16, "workers": 0, "seed": 3}
        return FolderDataModule(**{**folders, **fixed, **sizes, **settings})

    return make


def hashes(*seeds: int) -> list[str]:
    return [pixel_hash(picture(seed)) for seed in seeds]


def test_batches_are_the_same_whatever_the_workers(data: Make) -> None:
    def batches(workers: int) -> list[Batch]:
        module = data(workers=workers, unlabelled_per_crop=2)
        module.prepare_data()
        module.setup("fit")
        return list(module.train_dataloader())

    alone, parallel = batches(0), batches(2)
    plain = list(data(unlabelled_dir=None).train_dataloader())
    assert len(alone) == len(parallel) == len(plain) == 5
    for first, second, before in zip(alone, parallel, plain, strict=True):
        assert given(first.extra).shape == (8, 3, 16, 16)
        assert given(first.extra).equal(given(second.extra))
        assert given(first.extra_condition).equal(given(second.extra_condition))
        assert without_extra(first) == without_extra(second) == without_extra(before)
        assert first.name == second.name == before.name
        assert before.extra is None


def test_validation_sees_no_extra_images(data: Make) -> None:
    batches = list(data().val_dataloader())
    assert [batch.name for batch in batches] == [["a20"], ["a21"]]
    assert all(batch.extra is None for batch in batches)


def test_several_folders_are_searched(data: Make, make_folder: Callable[..., Path]) -> None:
    inner, other = make_folder("more/inner", 2, first=30), make_folder("other", 1, first=40)
    module = data(unlabelled_dir=[str(inner.parent), str(other), str(inner)])
    assert module.pixel_hashes() == (hashes(0, 1, 2, 3, 4, 30, 31, 40), hashes(20, 21))


def test_the_images_of_a_training_include_the_unlabelled_ones(data: Make) -> None:
    assert data().pixel_hashes() == (hashes(0, 1, 2, 3, 4, 10, 11, 12), hashes(20, 21))
    assert data(unlabelled_dir=None).pixel_hashes() == (hashes(0, 1, 2, 3, 4), hashes(20, 21))


def test_what_is_validated_on_is_left_out(data: Make, tmp_path: Path) -> None:
    Image.fromarray(picture(21)).save(tmp_path / "unlabelled" / "copy.bmp")
    assert data().pixel_hashes() == (hashes(0, 1, 2, 3, 4, 10, 11, 12), hashes(20, 21))
    names = [batch.name for batch in data(unlabelled_dir=str(tmp_path / "train")).train_dataloader()]
    assert len(names) == 5
    with pytest.raises(FileNotFoundError, match=r"data\.unlabelled_dir \(.*/val\): all of them are v"):
        data(unlabelled_dir=str(tmp_path / "val")).prepare_data()


def test_benchmark_images_are_refused(data: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    known = {pixel_hash(picture(11)): "Set5/secret.png"}
    monkeypatch.setattr(benchmark_guard, "sharpbench_hashes", lambda: known)
    data(unlabelled_dir=None).prepare_data()
    with pytest.raises(ValueError, match=r"1 training image.*unlabelled/a11\.png is Set5/secret\.png"):
        data().prepare_data()


def test_missing_and_empty_folders_are_named(data: Make, tmp_path: Path) -> None:
    missing = re.escape(f"data.unlabelled_dir: there is no folder {tmp_path}/nowhere")
    with pytest.raises(FileNotFoundError, match=f"^{missing}$"):
        data(unlabelled_dir=str(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match=r"^data\.unlabelled_dir is empty: give a folder of images$"):
        data(unlabelled_dir=[])
    (tmp_path / "empty").mkdir()
    nothing = re.escape(f"no usable image in data.unlabelled_dir ({tmp_path}/empty): there is none")
    with pytest.raises(FileNotFoundError, match=f"^{nothing}$"):
        data(unlabelled_dir=str(tmp_path / "empty")).prepare_data()


@pytest.mark.parametrize(
    ("settings", "least"),
    [({}, 16), ({"reduction": 1.5}, 24), ({"reduction": 1.5, "unlabelled_degraded": False}, 16)],
)
def test_images_that_are_too_small_are_left_out_and_named(
    data: Make, tmp_path: Path, settings: dict[str, Any], least: int
) -> None:
    Image.fromarray(picture(50, least - 1, 90)).save(tmp_path / "unlabelled" / "small.png")
    Image.fromarray(picture(51, least, least)).save(tmp_path / "unlabelled" / "square.png")
    module = data(**settings)
    module.prepare_data()
    expected = r"training on unlabelled images goes on without 1 unusable image\(s\):\n.*/small\.png: 90x"
    with pytest.warns(UserWarning, match=f"^{expected}{least - 1} is smaller than {least}x{least}$"):
        module.setup("fit")
    assert len(list(module.train_dataloader())) == 5
    with pytest.raises(ValueError, match=r"data\.strict=true, and 1 unusable image\(s\):\n.*/small\.png"):
        data(strict=True, **settings).prepare_data()


def test_a_count_out_of_range(data: Make) -> None:
    with pytest.raises(ValueError, match=r"^data\.unlabelled_per_crop must be at least 1, got 0$"):
        data(unlabelled_per_crop=0)
