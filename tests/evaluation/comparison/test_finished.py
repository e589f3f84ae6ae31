"""Folders that cannot be compared, and what is said of them."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from sharpkd.config import ConfigError
from sharpkd.evaluation.comparison.compare import compare_folders
from sharpkd.evaluation.rows import Row


def edit(old: str, new: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / "per_image.csv"
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))

    return change


def without_inputs(folder: Path) -> None:
    path = folder / "per_image.csv"
    lines = path.read_text().splitlines()
    path.write_text("\n".join(line for line in lines if not line.startswith("input,Set5,bird")) + "\n")


def repeat_last(folder: Path) -> None:
    path = folder / "per_image.csv"
    text = path.read_text()
    path.write_text(text + text.splitlines()[-1] + "\n")


def only_header(folder: Path) -> None:
    path = folder / "per_image.csv"
    path.write_text(path.read_text().splitlines()[0] + "\n")


def no_meta(folder: Path) -> None:
    (folder / "metrics.json").write_text("{}")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            edit("psnr_y", "luma"),
            "per_image.csv has the columns model, set, image, domain, track, condition, ",
        ),
        (
            without_inputs,
            "per_image.csv has a row of 'scratch' on Set5/bird, gaussian/0.8, and none of 'input'",
        ),
        (repeat_last, "per_image.csv has two rows of 'unsharp' on Kodak24/05, noisy"),
        (only_header, "per_image.csv has no rows"),
        (edit("Set5,baby", "Set5,baby,1"), "psnr is 'gaussian/0.8'; expected a number"),
        (no_meta, "metrics.json is not what an evaluation writes: no _meta.lpips in it"),
    ],
)
def test_files_that_are_no_evaluation(
    two: list[Path], tmp_path: Path, change: Callable[[Path], None], message: str
) -> None:
    change(two[0])
    with pytest.raises(ValueError, match=re.escape(message)):
        compare_folders(two, tmp_path / "out")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("24.0,0.7,", "none,0.7,", "line 2: psnr is 'none'; expected a number"),
        ("24.0,0.7,25.0", ",0.7,25.0", "line 2: psnr or psnr_y is empty; expected a number"),
    ],
)
def test_wrong_numbers_of_a_folder_evaluation(
    tmp_path: Path, old: str, new: str, message: str, write_photos: Callable[..., Path]
) -> None:
    folder = write_photos(tmp_path / "a", {"scratch": 1.0})
    edit(old, new)(folder)
    with pytest.raises(ValueError, match=re.escape(message)):
        compare_folders([folder], tmp_path / "out")


def test_what_cannot_be_compared(
    two: list[Path],
    tmp_path: Path,
    rows_of: Callable[..., list[Row]],
    write: Callable[..., Path],
    write_photos: Callable[..., Path],
) -> None:
    out = tmp_path / "out"
    with pytest.raises(ValueError, match=r"compare=\[DIR,DIR\]"):
        compare_folders([], out)
    with pytest.raises(ConfigError, match=re.escape(f"{two[0]} is given twice")):
        compare_folders([two[0], two[0]], out)
    with pytest.raises(ConfigError, match="is given twice"):
        compare_folders([two[0], two[1] / ".." / two[0].name], out)
    with pytest.raises(FileNotFoundError, match=re.escape(f"{tmp_path / 'c' / 'per_image.csv'} is missing")):
        compare_folders([*two, tmp_path / "c"], out)
    inputs = write(tmp_path / "inputs", rows_of({}))
    with pytest.raises(ValueError, match="holds no model but 'input': there is nothing to compare"):
        compare_folders([inputs], out)
    photos = write_photos(tmp_path / "photos", {"net": 1.0})
    message = (
        "no two models were measured on the same input: a has Set5, Kodak24 under gaussian/0.8, "
        "gaussian/1.6, noisy; photos has folder under folder"
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        compare_folders([two[0], photos], out)
    # the same images, degraded in another way
    other = write_photos(tmp_path / "other", {"net2": 1.0}, shift=-2.0)
    with pytest.raises(ValueError, match="no two models were measured on the same input"):
        compare_folders([photos, other], out)
    assert not out.exists()
