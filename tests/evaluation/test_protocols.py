"""SharpBench's inputs: their bytes, independent references, and the numbers that papers print."""

from __future__ import annotations

import hashlib
import io
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as pillow  # noqa: N813  # as in the module it tests
from scipy.ndimage import gaussian_filter

from sharpkd.data.images import read_image
from sharpkd.evaluation.benchmark.image_sets import find_images_of
from sharpkd.evaluation.protocols import TRACKS, Condition, Image, Pair, conditions, enlarged, make_pair

ALL = {condition.name: condition for condition in conditions()}


def pattern(height: int = 61, width: int = 83) -> Image:
    """Ramps, a grid and rings, by integer arithmetic alone: the same on every machine."""
    y, x = np.mgrid[:height, :width]
    rings = (x - 40) ** 2 + (y - 30) ** 2
    channels = (x * 3 % 256, (x // 8 + y // 8) % 2 * 255, (rings * 5 // 16 + x * y) % 256)
    return np.stack(channels, axis=-1).astype(np.uint8)


def digest(pair: Pair) -> str:
    content = str((pair.degraded.shape, pair.sharp.shape)).encode() + pair.degraded.tobytes()
    return hashlib.sha256(content + pair.sharp.tobytes()).hexdigest()[:16]


def test_the_conditions_are_the_protocols() -> None:
    assert TRACKS == ("gaussian", "noisy", "lowres", "conference", "sharp", "sr")
    assert list(ALL) == [
        *("gaussian/0.8", "gaussian/1.2", "gaussian/1.6", "gaussian/2.4", "gaussian/3.0", "noisy"),
        *("lowres/2", "lowres/3", "lowres/4", "conference/q30", "conference/q50", "conference/q75"),
        *("sharp", "sr/2", "sr/3", "sr/4"),
    ]
    assert all(condition.track == name.partition("/")[0] for name, condition in ALL.items())
    assert ALL["gaussian/2.4"] == Condition("gaussian", "gaussian/2.4", sigma=2.4)
    assert ALL["noisy"] == Condition("noisy", "noisy", sigma=1.6, noise=2.0)
    assert ALL["lowres/3"] == Condition("lowres", "lowres/3")
    assert ALL["sr/3"] == Condition("sr", "sr/3", scale=3)


def test_tracks_are_chosen_by_name_in_the_benchmarks_order() -> None:
    assert [c.name for c in conditions(["sr", "sharp"])] == ["sharp", "sr/2", "sr/3", "sr/4"]
    assert conditions("noisy") == [ALL["noisy"]]


def test_an_unknown_track_is_answered_with_those_there_are() -> None:
    with pytest.raises(
        ValueError, match="'blurry'; there are gaussian, noisy, lowres, conference, sharp, sr"
    ):
        conditions(["sharp", "blurry"])
    with pytest.raises(ValueError, match="no benchmark track is named; choose from gaussian"):
        conditions([])


@pytest.mark.parametrize("sigma", [0.8, 1.2, 1.6, 2.4, 3.0])
def test_gaussian_equals_scipy_to_the_byte(sigma: float) -> None:
    sharp = pattern()
    pair = make_pair(ALL[f"gaussian/{sigma}"], sharp, "any")
    radius = math.ceil(4 * sigma)
    expected = gaussian_filter(
        sharp.astype(float), (sigma, sigma, 0), mode="mirror", radius=(radius, radius, 0)
    )
    np.testing.assert_array_equal(pair.degraded, np.rint(expected))
    np.testing.assert_array_equal(pair.sharp, sharp)


def test_noise_has_its_level_and_is_rounded_once() -> None:
    grey = np.full((200, 300, 3), 128, np.uint8)
    noise = make_pair(ALL["noisy"], grey, "grey").degraded - 128.0
    # Rounding to whole levels adds 1/12 of variance.
    assert noise.std() == pytest.approx(math.sqrt(4 + 1 / 12), rel=0.005)
    assert abs(noise.mean()) < 0.02
    assert np.abs(np.corrcoef(noise.reshape(-1, 3).T) - np.eye(3)).max() < 0.02
    values = np.random.RandomState(int(hashlib.sha256(b"p").hexdigest()[:8], 16)).standard_normal((61, 83, 3))
    blurred = gaussian_filter(pattern().astype(float), (1.6, 1.6, 0), mode="mirror", radius=(7, 7, 0))
    np.testing.assert_array_equal(
        make_pair(ALL["noisy"], pattern(), "p").degraded, np.rint(blurred + 2 * values).clip(0, 255)
    )


def test_noise_depends_on_the_name_alone() -> None:
    np.random.seed(3)
    first = digest(make_pair(ALL["noisy"], pattern(), "baby"))
    np.random.seed(4)
    assert digest(make_pair(ALL["noisy"], pattern(), "baby")) == first
    assert digest(make_pair(ALL["noisy"], pattern(), "bird")) != first


@pytest.mark.parametrize(("scale", "size"), [(2, (82, 60)), (3, (81, 60)), (4, (80, 60))])
def test_lowres_and_sr_are_pillows_bicubic_of_the_cropped_image(scale: int, size: tuple[int, int]) -> None:
    cropped = pillow.fromarray(pattern()).crop((0, 0, *size))
    small = cropped.resize((size[0] // scale, size[1] // scale), pillow.Resampling.BICUBIC)
    back = small.resize(size, pillow.Resampling.BICUBIC)
    lowres = make_pair(ALL[f"lowres/{scale}"], pattern(), "any")
    np.testing.assert_array_equal(lowres.degraded, back)
    np.testing.assert_array_equal(lowres.sharp, cropped)
    sr = make_pair(ALL[f"sr/{scale}"], pattern(), "any")
    np.testing.assert_array_equal(sr.degraded, small)
    np.testing.assert_array_equal(sr.sharp, cropped)
    np.testing.assert_array_equal(enlarged(ALL[f"sr/{scale}"], sr), back)


@pytest.mark.parametrize("quality", [30, 50, 75])
def test_conference_is_lowres_2_through_pillows_jpeg(quality: int) -> None:
    lowres = make_pair(ALL["lowres/2"], pattern(), "any")
    buffer = io.BytesIO()
    pillow.fromarray(lowres.degraded).save(buffer, "JPEG", quality=quality, subsampling=2)
    pair = make_pair(ALL[f"conference/q{quality}"], pattern(), "any")
    np.testing.assert_array_equal(pair.degraded, pillow.open(buffer))
    np.testing.assert_array_equal(pair.sharp, lowres.sharp)


def test_sharp_is_the_image_itself() -> None:
    pair = make_pair(ALL["sharp"], pattern(), "any")
    np.testing.assert_array_equal(pair.degraded, pattern())
    np.testing.assert_array_equal(pair.sharp, pattern())


@pytest.mark.parametrize("name", ALL)
def test_results_are_separate_arrays_of_the_promised_shape(name: str) -> None:
    condition, sharp = ALL[name], pattern()
    sharp.setflags(write=False)
    pair = make_pair(condition, sharp, "any")
    arrays = [sharp, pair.degraded, pair.sharp, enlarged(condition, pair)]
    for index, array in enumerate(arrays):
        assert array.dtype == np.uint8
        assert all(not np.may_share_memory(array, other) for other in arrays[:index])
    assert all(array.flags.writeable and array.flags.c_contiguous for array in arrays[1:])
    assert [side * condition.scale for side in pair.degraded.shape[:2]] == list(pair.sharp.shape[:2])
    assert arrays[3].shape == pair.sharp.shape
    if condition.scale == 1:
        np.testing.assert_array_equal(arrays[3], pair.degraded)


def test_a_condition_of_ones_own_is_refused() -> None:
    own = Condition("gaussian", "gaussian/2.0", sigma=2.0)
    with pytest.raises(ValueError, match=r"gaussian/2\.0.* is no condition of SharpBench; take one .*sr/4$"):
        make_pair(own, pattern(), "any")
    with pytest.raises(ValueError, match="is no condition of SharpBench"):
        make_pair(replace(ALL["noisy"], noise=3.0), pattern(), "any")


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 4), (0, 7, 3), (1, 3, 5, 7)])
def test_what_is_no_image_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(
        ValueError, match=r"image baby must be uint8 of shape \(H, W, 3\), found uint8 of shape"
    ):
        make_pair(ALL["sharp"], np.zeros(shape, np.uint8), "baby")


def test_floats_and_too_small_images_are_refused() -> None:
    with pytest.raises(ValueError, match=r"image baby must be uint8 .* found float64"):
        make_pair(ALL["sharp"], pattern().astype(float), "baby")
    with pytest.raises(ValueError, match="image dot is 9×3 pixels; reducing it 4 times needs at least 4×4"):
        make_pair(ALL["sr/4"], pattern(3, 9), "dot")
    assert make_pair(ALL["gaussian/3.0"], pattern(1, 1), "dot").degraded.shape == (1, 1, 3)


PINS = {
    "gaussian/0.8": "658975a986d52eef",
    "gaussian/1.2": "0f9f96839fb92349",
    "gaussian/1.6": "46309512d0ed18b7",
    "gaussian/2.4": "8765de6d48b3c160",
    "gaussian/3.0": "626790a1a59a7b1c",
    "noisy": "9568307857d3463a",
    "lowres/2": "832ff8cdecd0b056",
    "lowres/3": "a576c93c9b3f2558",
    "lowres/4": "011714655400425e",
    "conference/q30": "4ab2366cea50d8c7",
    "conference/q50": "c9ae5b29b92afbde",
    "conference/q75": "fcb6072197b71e3c",
    "sharp": "fd1a5c78eec15224",
    "sr/2": "338fcb5dcb8f386b",
    "sr/3": "31b171584d2c07f0",
    "sr/4": "105251a2eb4d1086",
}


@pytest.mark.parametrize("name", ALL)
def test_bytes_of_the_pattern_are_pinned(name: str) -> None:
    assert digest(make_pair(ALL[name], pattern(), "pattern")) == PINS[name]


REAL_PINS = {
    "Set5/bird.png": (
        "209543fdae515f3d",
        "b8147c7b675630dc",
        "c5ddf3b403d9fbfe",
        "656f91f026fa4a70",
        "1e070a3f7e3776f2",
        "116b080954c2f530",
    ),
    "Set5/woman.png": (
        "af78401fea8c76de",
        "647a1590d9329784",
        "462eaa3265e48f2e",
        "2fe6bb99118e5135",
        "cf194e369dc77eb0",
        "434e628a2f36da53",
    ),
    "Set14/img_004_SRF_4_HR.png": (
        "13bdd7d796e2bf83",
        "f356a4612025c153",
        "db873a3d409e416d",
        "62f955de795bac13",
        "4978b635037abceb",
        "01d50941487709ab",
    ),
    "Set14/img_014_SRF_4_HR.png": (
        "1e6871528bfa81f0",
        "fad02c763f0c538f",
        "e7a8b7271e17b334",
        "c4dd82702db67892",
        "f0b3b9085e2f2938",
        "4d053edb643d95ce",
    ),
}


@pytest.mark.real_data
@pytest.mark.parametrize("image", REAL_PINS)
def test_bytes_of_real_images_are_pinned(image: str, sharpkd_data: Path) -> None:
    path = sharpkd_data / "eval" / image
    sharp = read_image(path)
    for track, expected in zip(TRACKS, REAL_PINS[image], strict=True):
        found = hashlib.sha256()
        for condition in conditions([track]):
            found.update(digest(make_pair(condition, sharp, path.stem)).encode())
        assert found.hexdigest()[:16] == expected, track


def psnr_y(output: Image, sharp: Image, border: int) -> float:
    """As the super-resolution papers measure it, in numpy alone."""
    weights = np.array([65.481, 128.553, 24.966]) / 255
    inside = (slice(border, -border), slice(border, -border))
    difference = (output[inside].astype(float) - sharp[inside]) @ weights
    return float(10 * np.log10(255**2 / np.mean(difference**2)))


# What papers print for bicubic, and by how much an honest measurement may differ.
PUBLISHED = {
    "Set5": ((33.66, 30.39, 28.42), 0.03),
    "Set14": ((30.24, 27.55, 26.00), 0.10),
    "BSD100": ((29.56, 27.21, 25.96), 0.03),
}
# One file of Set14 has a single channel. Papers take it as luma; converted, its range shrinks to 16…235.
AS_LUMA = 20 * math.log10(219 / 255)


@pytest.mark.real_data
@pytest.mark.parametrize("name", PUBLISHED)
def test_bicubic_gives_the_published_numbers(name: str, sharpkd_data: Path) -> None:
    images, missing = find_images_of(sharpkd_data / "eval", [name])
    assert not missing
    published, tolerance = PUBLISHED[name]
    sums = np.zeros(3)
    single_channel = 0
    for image in images:
        sharp = read_image(image.path)
        with pillow.open(image.path) as file:
            single_channel += file.mode == "L"
        for index, condition in enumerate(conditions(["sr"])):
            pair = make_pair(condition, sharp, image.name)
            sums[index] += psnr_y(enlarged(condition, pair), pair.sharp, condition.scale)
    assert sums / len(images) == pytest.approx(published, abs=tolerance)
    assert (sums + single_channel * AS_LUMA) / len(images) == pytest.approx(published, abs=0.03)
