from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from sharpkd.data.folder import FolderSource
from sharpkd.data.shards.datamodule import ShardSource

Make = Callable[..., Path]


def names(files: list[Path]) -> list[str]:
    return [path.name for path in files]


def test_two_folders(make_folder: Make) -> None:
    source = FolderSource(str(make_folder("train", 3)), str(make_folder("val", 2, first=10)))
    assert names(source.train_files()) == ["a00.png", "a01.png", "a02.png"]
    assert names(source.val_files()) == ["a10.png", "a11.png"]


def test_several_folders_are_searched_recursively_and_each_file_is_taken_once(make_folder: Make) -> None:
    inner = make_folder("train/inner/deep", 2)
    other = make_folder("other", 1, first=5)
    source = FolderSource([str(inner.parents[1]), str(inner), str(other)], str(other))
    assert names(source.train_files()) == ["a00.png", "a01.png", "a05.png"]


def test_a_share_of_the_training_images_is_held_out(make_folder: Make) -> None:
    folder = make_folder("train", 60, height=2, width=2)
    source = FolderSource(str(folder), val_fraction=0.25)
    train, val = source.train_files(), source.val_files()
    assert sorted(train + val) == sorted(folder.iterdir())
    assert 8 <= len(val) <= 24
    assert not set(train) & set(val)
    again = FolderSource(str(folder), val_fraction=0.25)
    assert again.val_files() == val


def test_adding_files_does_not_move_others(make_folder: Make) -> None:
    folder = make_folder("train", 30, height=2, width=2)
    before = FolderSource(str(folder), val_fraction=0.25).val_files()
    make_folder("train", 30, first=30, height=2, width=2)
    after = FolderSource(str(folder), val_fraction=0.25).val_files()
    assert set(before) <= set(after)


def test_two_images_are_enough_to_hold_one_out(make_folder: Make) -> None:
    source = FolderSource(str(make_folder("train", 2)), val_fraction=0.01)
    assert len(source.val_files()) == len(source.train_files()) == 1


def test_the_share_does_not_depend_on_where_the_folder_lies(make_folder: Make) -> None:
    first, second = (make_folder(name, 40, height=2, width=2) for name in ("here", "there"))
    held_out = [names(FolderSource(str(folder), val_fraction=0.2).val_files()) for folder in (first, second)]
    assert held_out[0] == held_out[1] != []


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=rf"data\.train_dir: there is no folder {tmp_path}/nowhere"):
        FolderSource(str(tmp_path / "nowhere"))
    with pytest.raises(FileNotFoundError, match=rf"data\.val_dir: there is no folder {tmp_path}/nowhere"):
        FolderSource(str(tmp_path), str(tmp_path / "nowhere"))


def test_settings_out_of_range(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"data\.val_fraction must be between 0 and 1, got 1\.5"):
        FolderSource(str(tmp_path), val_fraction=1.5)
    with pytest.raises(ValueError, match=r"data\.train_dir is empty"):
        FolderSource([])
    # as of a variable of the shell that is not set; the current folder would be taken
    for empty in ("", " ", [str(tmp_path), ""]):
        with pytest.raises(ValueError, match=r"data\.train_dir is empty: give a folder of images"):
            FolderSource(empty)
    with pytest.raises(ValueError, match=r"data\.val_dir is empty: give a folder of images"):
        FolderSource(str(tmp_path), "")
    with pytest.raises(ValueError, match=r"data\.train_dir is empty: give a folder of images"):
        ShardSource("")
