from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sharpkd.data import benchmark_guard
from sharpkd.data.benchmark_guard import main, pixel_hash, refuse_benchmark_images, sharpbench_hashes
from sharpkd.data.degradation import GaussianBlur
from sharpkd.data.folder import FolderDataModule
from sharpkd.data.images import find_images, read_image

from .conftest import picture


def test_the_list_has_every_benchmark_image_once() -> None:
    names = list(sharpbench_hashes().values())
    counts = {"Set5": 5, "Set14": 14, "BSD100": 100, "Kodak24": 24, "Urban100_25": 25}
    assert Counter(name.split("/")[0] for name in names) == counts
    assert len(names) == len(set(names)) == 168
    assert all(len(digest) == 64 for digest in sharpbench_hashes())


def test_the_hash_is_of_shape_and_pixels() -> None:
    image = picture(0, 4, 6)
    assert pixel_hash(image) == hashlib.sha256(b"4x6x3" + image.tobytes()).hexdigest()
    assert pixel_hash(image) == pixel_hash(np.asfortranarray(image))
    assert pixel_hash(image) != pixel_hash(image.reshape(6, 4, 3))


def test_the_command_prints_hash_and_name(
    make_folder: Callable[..., Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_folder("eval/Mine", 2)
    monkeypatch.setattr(benchmark_guard, "SHARPBENCH_SETS", ("Mine",))
    main(str(folder.parent))
    assert capsys.readouterr().out.splitlines()[1:] == [
        f"{pixel_hash(picture(0))} Mine/a00.png",
        f"{pixel_hash(picture(1))} Mine/a01.png",
    ]


def test_training_refuses_a_benchmark_image_in_any_format_but_validation_takes_it(
    make_folder: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos, benchmark = make_folder(count=2), make_folder("benchmark", 1, first=7)
    hashes = {pixel_hash(picture(7)): "Set5/secret.png"}
    monkeypatch.setattr(benchmark_guard, "sharpbench_hashes", lambda: hashes)

    def prepare() -> None:
        folders = (str(photos), str(benchmark))
        FolderDataModule(
            *folders, degradation=GaussianBlur(), cache_dir=tmp_path / "cache", crop_size=16
        ).prepare_data()

    prepare()
    Image.fromarray(picture(7)).save(photos / "copy.webp", lossless=True)
    with pytest.raises(ValueError, match=r"1 training image.*/copy\.webp is Set5/secret\.png.*Take them"):
        prepare()


def test_an_image_that_is_cached_already_is_refused_too(tmp_path: Path) -> None:
    digest, name = next(iter(sharpbench_hashes().items()))
    with pytest.raises(ValueError, match=f"mine.png is {name}"):
        refuse_benchmark_images([(tmp_path / "other.png", "0" * 64), (tmp_path / "mine.png", digest)])


@pytest.mark.real_data
def test_the_list_is_that_of_the_real_images(sharpkd_data: Path) -> None:
    for part in ("Set5", "Set14"):
        for path in find_images(sharpkd_data / "eval" / part):
            assert sharpbench_hashes()[pixel_hash(read_image(path))] == f"{part}/{path.name}"


@pytest.mark.real_data
def test_a_real_benchmark_image_is_found(sharpkd_data: Path) -> None:
    files = find_images(sharpkd_data / "eval" / "Set5")
    with pytest.raises(ValueError, match="5 training image"):
        refuse_benchmark_images((path, pixel_hash(read_image(path))) for path in files)
