"""Where the benchmark's images are, which are missing, and what they show."""

from __future__ import annotations

from pathlib import Path

import pytest

from sharpkd.data.benchmark_guard import SHARPBENCH_SETS, pixel_hash, sharpbench_hashes
from sharpkd.data.images import read_image
from sharpkd.evaluation.benchmark.image_sets import DOMAINS, SETS, find_images_of, packaged_domains

SET5 = ("baby", "bird", "butterfly", "head", "woman")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Set5 whole, Kodak24 whole, one image of Set14; the files are empty, for nothing is decoded."""
    files = [f"Set5/{name}.png" for name in SET5]
    files += [f"Kodak24/{number:02}.webp" for number in range(1, 25)]
    files += ["Set14/img_013_SRF_4_HR.png", "Set14/readme.txt", "Set14/.hidden.png", "Set14/LR/small.png"]
    for file in files:
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).touch()
    (tmp_path / "Set14" / "LR").mkdir(exist_ok=True)
    return tmp_path


def test_images_come_with_name_path_and_domain_in_the_sets_order(root: Path) -> None:
    images, missing = find_images_of(root, ["Set14", "Set5"])
    assert [(image.set, image.name) for image in images] == [
        *(("Set5", name) for name in SET5),
        ("Set14", "img_013_SRF_4_HR"),
    ]
    assert images[1].path == root / "Set5" / "bird.png"
    assert [image.domain for image in images] == ["face", "nature", "nature", "face", "face", "text"]
    assert [one.name for one in missing] == ["Set14"]


def test_a_limit_spreads_over_the_set(root: Path) -> None:
    images, missing = find_images_of(root, ["Kodak24", "Set5"], {"Kodak24": 6, "Set5": 99, "BSD100": 2})
    assert [image.name for image in images if image.set == "Kodak24"] == ["01", "05", "09", "13", "17", "21"]
    assert sum(image.set == "Set5" for image in images) == 5
    assert missing == []


def test_a_missing_set_says_where_to_get_it(root: Path) -> None:
    images, missing = find_images_of(root)
    assert {image.set for image in images} == {"Set5", "Set14", "Kodak24"}
    assert [one.name for one in missing] == ["Set14", "BSD100", "Urban100_25"]
    assert missing[1].message == (
        f"BSD100: no images in {root / 'BSD100'}. Put there images/val of BSDS500 "
        "(https://github.com/BIDS/BSDS500), named 101085, 101087, 102061, … 97033."
    )


def test_an_incomplete_set_says_what_it_lacks(root: Path) -> None:
    (root / "Set5" / "head.png").unlink()
    _, missing = find_images_of(root, ["Set5"])
    assert missing[0].message == (
        f"Set5: 1 of 5 images are not in {root / 'Set5'}: head. "
        "The set is the originals (HR) of Set5 from https://github.com/jbhuang0604/SelfExSR."
    )


def test_images_under_other_names_are_to_be_renamed(root: Path) -> None:
    for path in (root / "Kodak24").iterdir():
        path.rename(path.with_name(f"kodim{path.name}"))
    images, missing = find_images_of(root, ["Kodak24"])
    assert len(images) == 24
    assert {image.domain for image in images} == {""}
    assert missing[0].message == (
        f"Kodak24: 24 of 24 images are not in {root / 'Kodak24'}: 01, 02, 03, … 24. "
        "Rename kodim01, kodim02, kodim03, … kodim24 where they are the same. "
        "The set is the 24 photographs of https://r0k.us/graphics/kodak."
    )


def test_images_that_do_not_belong_are_named(root: Path) -> None:
    (root / "Set5" / "mine.png").touch()
    images, missing = find_images_of(root, ["Set5"])
    assert images[4].name == "mine"
    assert missing[0].message == (
        f"Set5: {root / 'Set5'} also has mine, not in SharpBench: its means are not comparable."
    )


def test_labels_beside_the_images_win(root: Path) -> None:
    (root / "Set5" / "domains.csv").write_text(
        "image,domain\nbaby,text\nbird.png,other\n", encoding="utf-8-sig"
    )
    images, _ = find_images_of(root, ["Set5"])
    assert [image.domain for image in images] == ["text", "other", "nature", "face", "face"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "name,domain\nbaby,face\n",
            r"domains\.csv has the columns \['name', 'domain'\]; expected image, domain",
        ),
        (
            "image,domain\nbaby,cat\n",
            r"line 2: domain is 'cat'; expected one of text, face, nature, building",
        ),
        ("image,domain\nbaby,face\nbob,face\n", r"line 3: there is no image 'bob' in .*Set5"),
        ("domain,image\nface\n", r"line 2: there is no image '' in"),
        ("", r"has the columns None; expected image, domain"),
    ],
)
def test_a_wrong_label_file_is_refused(content: str, message: str, root: Path) -> None:
    (root / "Set5" / "domains.csv").write_text(content)
    with pytest.raises(ValueError, match=message):
        find_images_of(root, ["Set5"])


def test_wrong_arguments_are_refused(root: Path) -> None:
    known = "there are Set5, Set14, Kodak24, BSD100, Urban100_25"
    with pytest.raises(ValueError, match=f"unknown benchmark set 'Set6'; {known}"):
        find_images_of(root, ["Set5", "Set6"])
    with pytest.raises(ValueError, match=f"unknown benchmark set 'kodak'; {known}"):
        find_images_of(root, ["Set5"], {"kodak": 6})
    with pytest.raises(ValueError, match="the limit of Set5 is 0; expected at least 1 image"):
        find_images_of(root, limits={"Set5": 0})
    with pytest.raises(
        FileNotFoundError, match=r"nowhere does not exist; set benchmark\.root to the folder that"
    ):
        find_images_of(root / "nowhere")


def test_two_files_of_one_name_are_refused(root: Path) -> None:
    (root / "Set5" / "baby.jpg").touch()
    with pytest.raises(ValueError, match=r"Set5 has both baby\.jpg and baby\.png; take one of them out"):
        find_images_of(root, ["Set5"])


def test_every_benchmark_image_is_labelled() -> None:
    expected = {(name.split("/")[0], Path(name).stem) for name in sharpbench_hashes().values()}
    assert packaged_domains().keys() == expected
    assert set(packaged_domains().values()) == set(DOMAINS)
    assert set(SETS) == set(SHARPBENCH_SETS)


@pytest.mark.real_data
def test_the_real_sets_are_whole_and_unchanged(sharpkd_data: Path) -> None:
    images, missing = find_images_of(sharpkd_data / "eval")
    assert missing == []
    assert len(images) == 168
    hashes = sharpbench_hashes()
    found = {hashes.get(pixel_hash(read_image(image.path))) for image in images}
    assert found == {f"{image.set}/{image.path.name}" for image in images}
