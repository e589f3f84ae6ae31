"""Degradations against independent implementations (SciPy, Pillow), their seeds and their settings."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import io
import math
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from scipy.ndimage import convolve, gaussian_filter
from skimage.data import astronaut

from sharpkd.data import degradation_maths as maths
from sharpkd.data.albumentations_guard import A
from sharpkd.data.degradation import Conference, Degradation, GaussianBlur, LowRes, Noisy, degrade, name_seed
from sharpkd.data.realworld import RealWorld

ROOT = Path(__file__).parents[2]
CONF = ROOT / "conf" / "degradation"
ALL: list[type[Degradation]] = [GaussianBlur, Noisy, LowRes, Conference, RealWorld]


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return np.ascontiguousarray(astronaut()[60:156, 180:276])


def only(step: str, **settings: Any) -> RealWorld:
    """RealWorld with a single step."""
    shares = dict.fromkeys(
        ("sigma_p", "anisotropic_p", "defocus_p", "motion_p", "scale_p", "noise_p", "quality_p"), 0.0
    )
    return RealWorld(**(shares | {step: 1.0} | settings))


@pytest.mark.parametrize("sigma", [0.3, 0.8, 1.2, 1.6, 2.4, 3.0])
def test_gaussian_equals_scipy(sigma: float, image: np.ndarray) -> None:
    blurred, condition = degrade(GaussianBlur(sigma), image, 0)
    radius = math.ceil(4 * sigma)
    reference = gaussian_filter(
        image.astype(float), (sigma, sigma, 0), mode="mirror", radius=(radius, radius, 0)
    )
    np.testing.assert_array_equal(blurred, np.rint(reference))
    assert condition is not None
    assert condition.dtype == np.float32
    np.testing.assert_allclose(condition, [sigma], rtol=1e-6)


def test_gaussian_of_an_image_smaller_than_its_kernel() -> None:
    tiny = np.full((2, 1, 3), 77, np.uint8)
    np.testing.assert_array_equal(degrade(GaussianBlur(3.0), tiny, 0)[0], tiny)


def test_sigma_is_uniform_in_its_range() -> None:
    blur = GaussianBlur([0.5, 2.5])
    drawn = []
    for seed in range(400):
        blur.set_random_seed(seed)
        drawn.append(blur.get_params()["sigma"])
    assert min(drawn) >= 0.5
    assert max(drawn) <= 2.5
    # Kolmogorov-Smirnov, 1.63 / sqrt(n) is the 1 % bound
    steps = (np.sort(drawn) - 0.5) / 2
    assert np.abs(steps - (np.arange(400) + 0.5) / 400).max() < 1.63 / 20


def test_doing_nothing_returns_an_equal_copy(image: np.ndarray) -> None:
    for transform in (GaussianBlur(0), LowRes(1), GaussianBlur(2, p=0)):
        result, condition = degrade(transform, image, 0)
        np.testing.assert_array_equal(result, image)
        assert not np.shares_memory(result, image)
        np.testing.assert_array_equal(condition, transform.condition({}))


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_lowres_is_pillows_bicubic_down_and_up(scale: int, image: np.ndarray) -> None:
    picture = Image.fromarray(image)
    small = picture.resize((96 // scale, 96 // scale), Image.Resampling.BICUBIC)
    expected = np.asarray(small.resize((96, 96), Image.Resampling.BICUBIC))
    result, condition = degrade(LowRes(scale), image, 5)
    np.testing.assert_array_equal(result, expected)
    assert condition is not None
    assert condition.tolist() == [0, scale]


def test_lowres_keeps_odd_sizes_and_takes_fractions(image: np.ndarray) -> None:
    odd = np.ascontiguousarray(image[:37, :53])
    assert degrade(LowRes(2.7), odd, 0)[0].shape == (37, 53, 3)
    assert degrade(LowRes(90), odd, 0)[0].std(axis=(0, 1)).max() == 0


@pytest.mark.parametrize("quality", [30, 50, 75])
def test_conference_is_lowres_then_420_jpeg(quality: int, image: np.ndarray) -> None:
    buffer = io.BytesIO()
    Image.fromarray(maths.low_res(image, 2)).save(buffer, "JPEG", quality=quality, subsampling=2)
    with Image.open(buffer) as opened:
        sampling = [component[1:3] for component in opened.layer]  # type: ignore[attr-defined]  # only JPEG images have it
        expected = np.asarray(opened.convert("RGB"))
    result, condition = degrade(Conference(2, quality, ["jpeg"]), image, 1)
    np.testing.assert_array_equal(result, expected)
    assert sampling == [(2, 2), (1, 1), (1, 1)]
    assert condition is not None
    assert condition.tolist() == [0, 2, quality]


def test_conference_draws_every_codec_and_whole_qualities_up_to_the_last() -> None:
    transform = Conference(quality=[40, 42])
    drawn = []
    for seed in range(60):
        transform.set_random_seed(seed)
        drawn.append(transform.get_params())
    assert {params["quality"] for params in drawn} == {40, 41, 42}
    assert {params["codec"] for params in drawn} == {"jpeg", "webp"}


def test_lower_quality_is_further_from_the_original(image: np.ndarray) -> None:
    for codec in (maths.jpeg, maths.webp):
        errors = [np.square(codec(image, q).astype(float) - image).mean() for q in (10, 40, 90)]
        assert errors[0] > errors[1] > errors[2] > 0


def test_noisy_is_blur_then_noise_of_the_given_level(image: np.ndarray) -> None:
    big = np.tile(np.full((1, 1, 3), 128, np.uint8), (300, 300, 1))
    result, condition = degrade(Noisy(1.6, 2.0), big, 0)
    # rounding adds the variance 1/12
    assert (result.astype(float) - 128).std() == pytest.approx(math.sqrt(4 + 1 / 12), rel=0.01)
    assert (result.astype(float) - 128).mean() == pytest.approx(0, abs=0.02)
    assert condition is not None
    np.testing.assert_allclose(condition, [1.6, 2.0], rtol=1e-6)
    quiet, _ = degrade(Noisy(1.6, 0.0), image, 0)
    np.testing.assert_array_equal(quiet, maths.gaussian_blur(image, 1.6))


def test_anisotropic_kernel() -> None:
    kernel = maths.anisotropic_kernel(3.0, 1.0, 30.0)
    reach = kernel.shape[0] // 2
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    moments = [
        [(kernel * x * x).sum(), (kernel * x * y).sum()],
        [(kernel * x * y).sum(), (kernel * y * y).sum()],
    ]
    values, vectors = np.linalg.eigh(np.array(moments))
    np.testing.assert_allclose(values, [1, 9], rtol=2e-3)
    along = vectors[:, 1] * np.sign(vectors[0, 1])
    assert math.degrees(math.atan2(along[1], along[0])) == pytest.approx(30, abs=0.05)
    isotropic = maths.anisotropic_kernel(1.5, 1.5, 77.0)
    row = np.exp(-0.5 * (np.arange(-6, 7) / 1.5) ** 2)
    np.testing.assert_allclose(isotropic, np.outer(row, row) / row.sum() ** 2, atol=1e-15)


@pytest.mark.parametrize("radius", [0.5, 1.0, 2.3, 4.0])
def test_disk_kernel(radius: float) -> None:
    kernel = maths.disk_kernel(radius)
    assert kernel.sum() == pytest.approx(1)
    np.testing.assert_array_equal(kernel, kernel.T[::-1])
    assert kernel.max() == pytest.approx(min(1, 1 / (math.pi * radius**2)), rel=0.03)
    # a disk has the variance r²/4 on each axis; sharing it out to square pixels adds about 1/12
    if radius > 1:
        assert maths.kernel_variance(kernel) == pytest.approx(radius**2 / 4 + 1 / 12, rel=0.02)


@pytest.mark.parametrize("angle", [0.0, 25.0, 90.0, 135.0])
def test_motion_kernel(angle: float) -> None:
    length = 7.0
    kernel = maths.motion_kernel(length, angle)
    reach = kernel.shape[0] // 2
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    assert kernel.sum() == pytest.approx(1)
    assert (kernel * (x * cos + y * sin) ** 2).sum() == pytest.approx(length**2 / 12, abs=0.25)
    assert (kernel * (y * cos - x * sin) ** 2).sum() < 0.25
    np.testing.assert_allclose(kernel, kernel[::-1, ::-1], atol=1e-12)


def test_no_motion_and_no_defocus_are_the_identity() -> None:
    for kernel in (maths.motion_kernel(0.0, 10.0), maths.disk_kernel(0.0)):
        assert kernel.max() == pytest.approx(1)


@pytest.mark.parametrize(
    ("step", "settings", "kernel"),
    [
        ("anisotropic_p", {"anisotropic_sigma": 1.2}, maths.anisotropic_kernel(1.2, 1.2, 0.0)),
        ("defocus_p", {"defocus_radius": 2.0}, maths.disk_kernel(2.0)),
    ],
)
def test_realworld_convolves(
    step: str, settings: dict[str, float], kernel: np.ndarray, image: np.ndarray
) -> None:
    result, condition = degrade(only(step, **settings), image, 3)
    reference = np.dstack([convolve(image[..., i].astype(float), kernel, mode="mirror") for i in range(3)])
    assert np.abs(result - reference).max() <= 0.5 + 1e-6
    assert condition is not None
    assert condition[0] == pytest.approx(math.sqrt(maths.kernel_variance(kernel)), rel=1e-6)
    assert condition[1:].tolist() == [0, 100, 1]


def test_realworld_steps_alone_equal_the_single_degradations(image: np.ndarray) -> None:
    blur, blur_condition = degrade(only("sigma_p", sigma=1.6), image, 3)
    np.testing.assert_array_equal(blur, maths.gaussian_blur(image, 1.6))
    small, small_condition = degrade(only("scale_p", scale=2), image, 3)
    np.testing.assert_array_equal(small, maths.low_res(image, 2))
    packed, packed_condition = degrade(only("quality_p", quality=40), image, 3)
    np.testing.assert_array_equal(packed, maths.jpeg(image, 40))
    noisy, noisy_condition = degrade(only("noise_p", noise=5), image, 3)
    assert (noisy.astype(float) - image)[(image > 20) & (image < 235)].std() == pytest.approx(5, rel=0.03)
    expected: list[list[float]] = [[1.6, 0, 100, 1], [0, 0, 100, 2], [0, 0, 40, 1], [0, 5, 100, 1]]
    conditions = [blur_condition, small_condition, packed_condition, noisy_condition]
    for condition, numbers in zip(conditions, expected, strict=True):
        assert condition is not None
        np.testing.assert_allclose(condition, numbers, rtol=1e-6)


def test_realworld_order_is_random_and_every_step_occurs() -> None:
    transform = RealWorld()
    first: dict[str, int] = {}
    counts = []
    for seed in range(300):
        transform.set_random_seed(seed)
        steps = transform.get_params()["steps"]
        counts.append(len(steps))
        if steps:
            first[steps[0][0]] = first.get(steps[0][0], 0) + 1
    assert set(first) == {"gaussian", "kernel", "resize", "noise", "jpeg"}
    # the mean of the sum of seven shares: 0.7 + 0.3 + 0.2 + 0.15 + 0.5 + 0.5 + 0.6
    assert np.mean(counts) == pytest.approx(2.95, abs=0.25)


def test_realworld_blurs_add_up_in_variance(image: np.ndarray) -> None:
    transform = only("sigma_p", sigma=1.5, defocus_p=1.0, defocus_radius=2.0)
    _, condition = degrade(transform, image, 0)
    assert condition is not None
    assert condition[0] == pytest.approx(math.sqrt(1.5**2 + 2.0**2 / 4 + 1 / 12), rel=0.01)


@pytest.mark.parametrize("kind", ALL)
def test_same_seed_same_bytes_other_seed_other_bytes(kind: type[Degradation], image: np.ndarray) -> None:
    one, two = kind(), kind()
    before = image.copy()
    first, condition = degrade(one, image, 7)
    degrade(one, image, 8)
    again, same_condition = degrade(one, image, 7)
    elsewhere, _ = degrade(two, image, 7)
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(first, elsewhere)
    np.testing.assert_array_equal(condition, same_condition)
    others = [degrade(one, image, seed)[0] for seed in range(100, 104)]
    assert sum((other != first).any() for other in others) >= 3
    np.testing.assert_array_equal(image, before)
    assert (first.dtype, first.shape) == (image.dtype, image.shape)
    assert condition is not None
    assert condition.shape == (len(one.condition_names),)
    assert len(one.condition({})) == len(one.condition_names)
    assert one.condition_names[0] == "sigma"


@pytest.mark.parametrize("kind", ALL)
def test_always_applied_unless_told_otherwise(kind: type[Degradation]) -> None:
    assert kind().p == 1.0
    assert kind(p=0.25).p == 0.25


def test_any_albumentations_transform_can_be_a_degradation(image: np.ndarray) -> None:
    for transform in (A.GaussNoise(p=1), A.Compose([GaussianBlur([1, 2]), A.GaussNoise(p=1)])):
        first, condition = degrade(transform, image, 3)
        np.testing.assert_array_equal(first, degrade(transform, image, 3)[0])
        assert (first != degrade(transform, image, 4)[0]).any()
        assert condition is None


def test_a_view_of_a_larger_image_is_taken(image: np.ndarray) -> None:
    view = image[10:50:2, 5:60]
    np.testing.assert_array_equal(
        degrade(GaussianBlur(1), view, 0)[0], degrade(GaussianBlur(1), view.copy(), 0)[0]
    )
    frozen = image.copy()
    frozen.setflags(write=False)
    assert degrade(GaussianBlur(1), frozen, 0)[0].flags.writeable


def test_degrade_refuses_what_it_cannot_use(image: np.ndarray) -> None:
    with pytest.raises(TypeError, match=r"albumentations transform or A\.Compose, found function"):
        degrade(maths.gaussian_blur, image, 0)
    with pytest.raises(ValueError, match=r"image must be uint8 of shape \(H, W, 3\), found float32 of shape"):
        degrade(GaussianBlur(1), image.astype(np.float32), 0)
    with pytest.raises(ValueError, match=r"found uint8 of shape \(96, 96\)"):
        degrade(GaussianBlur(1), image[..., 0], 0)
    with pytest.raises(ValueError, match=r"the result of Normalize must be uint8 .*, found float32"):
        degrade(A.Normalize(p=1), image, 0)


@pytest.mark.parametrize(
    "value", [[3, 1], -1, "x", True, [1, 2, 3], [], None, [0, math.nan], [0, math.inf], math.inf, {"a": 1}]
)
def test_ranges_are_checked(value: Any) -> None:
    with pytest.raises(ValueError, match="GaussianBlur: sigma must be a number or") as caught:
        GaussianBlur(value)
    assert "[low, high] with 0 <= low <= high; found" in str(caught.value)
    assert str(caught.value).endswith(repr(value))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: LowRes([0.5, 2]),
            "LowRes: scale must be a number or [low, high] with 1 <= low <= high; found [0.5, 2]",
        ),
        (
            lambda: Conference(quality=[0, 50]),
            "Conference: quality must be a number or [low, high] with 1 <= low <= high <= 100; found [0, 50]",
        ),
        (lambda: Conference(quality=30.5), "Conference: quality must be whole numbers; found 30.5"),
        (
            lambda: Conference(formats=["gif"]),
            "Conference: formats must be one or more of jpeg, webp; found ['gif']",
        ),
        (lambda: Conference(formats=[]), "Conference: formats must be one or more of jpeg, webp; found []"),
        (
            lambda: Noisy(noise=-2),
            "Noisy: noise must be a number or [low, high] with 0 <= low <= high; found -2",
        ),
        (lambda: only("noise_p", noise_p=None), "RealWorld: noise_p must be a number in 0…1; found None"),
        (lambda: RealWorld(noise_p=1.5), "RealWorld: noise_p must be a number in 0…1; found 1.5"),
        (lambda: GaussianBlur(1, p=2), "GaussianBlur: p must be a number in 0…1; found 2"),
    ],
)
def test_settings_are_checked(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match="must be") as caught:
        make()
    assert str(caught.value) == message


def test_settings_show_in_the_representation() -> None:
    assert repr(GaussianBlur([0.5, 2])) == "GaussianBlur(p=1.0, sigma=(0.5, 2.0))"


@pytest.mark.parametrize("name", ["gaussian", "noisy", "lowres", "conference", "realworld"])
def test_configs_say_what_the_classes_do_by_themselves(name: str) -> None:
    settings = yaml.safe_load((CONF / f"{name}.yaml").read_text(encoding="utf-8"))
    module, kind_name = settings.pop("_target_").rsplit(".", 1)
    kind = getattr(importlib.import_module(module), kind_name)
    assert set(settings) == set(inspect.signature(kind).parameters)
    assert repr(kind(**settings)) == repr(kind())


def test_albumentations_is_told_not_to_look_for_updates_before_it_is_imported(tmp_path: Path) -> None:
    (tmp_path / "albumentations.py").write_text(
        "import os\nprint('told', os.environ.get('NO_ALBUMENTATIONS_UPDATE'))\n"
    )
    environment = {key: value for key, value in os.environ.items() if key != "NO_ALBUMENTATIONS_UPDATE"}
    environment["PYTHONPATH"] = os.pathsep.join([str(tmp_path), str(ROOT)])
    command = [sys.executable, "-c", "import sharpkd.data.albumentations_guard"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "told 1\n"


def test_nobody_else_imports_albumentations() -> None:
    importers = [
        path.name
        for path in (ROOT / "sharpkd").rglob("*.py")
        if re.search(r"^\s*(import|from) albumentations\b", path.read_text(encoding="utf-8"), re.MULTILINE)
    ]
    assert importers == ["albumentations_guard.py"]


def test_name_seed_is_pinned() -> None:
    expected = int(hashlib.sha256(b"baboon").hexdigest()[:8], 16)
    assert name_seed("baboon") == expected
    assert name_seed("Lenna") != expected


# Rounded results of float64 arithmetic and of Pillow's integer resampling: the same on every machine. What a
# codec makes depends on the libraries inside Pillow's wheel; it is held against Pillow itself above instead.
PINS = {
    "gaussian": (GaussianBlur(1.6), "fff319140b4a422f"),
    "noisy": (Noisy(1.6, 2.0), "59c0a1e67de43b84"),
    "lowres": (LowRes(3), "7ccaada0650a3a56"),
    "realworld without codec": (RealWorld(quality_p=0.0), "d84a11ae32e65ea9"),
}


@pytest.mark.parametrize("track", PINS)
def test_bytes_are_pinned(track: str, image: np.ndarray) -> None:
    transform, digest = PINS[track]
    result, _ = degrade(transform, image, name_seed("astronaut"))
    assert hashlib.sha256(result.tobytes()).hexdigest()[:16] == digest
