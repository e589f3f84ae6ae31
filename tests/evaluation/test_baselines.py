from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage.data
from PIL import Image
from scipy.ndimage import gaussian_filter
from skimage import restoration

from sharpkd.evaluation import protocols
from sharpkd.evaluation.baselines import (
    BASELINES,
    LUCY_ITERATIONS,
    ORACLE_AMOUNTS,
    ORACLE_RADII,
    WIENER_LEVELS,
    contrast_adaptive_sharpening,
    richardson_lucy,
    unsharp_mask,
    wiener_deconvolutions,
)
from sharpkd.evaluation.protocols import Condition, Pair
from sharpkd.evaluation.scores import score_pair

CONDITIONS = {condition.name: condition for condition in protocols.conditions()}
BLUR = CONDITIONS["gaussian/1.6"]
TOLD = {"wiener-oracle", "richardson-lucy"}


@pytest.fixture(scope="module")
def sharp() -> np.ndarray:
    return np.ascontiguousarray(skimage.data.astronaut()[40:160, 140:248])


@pytest.fixture(scope="module")
def pair(sharp: np.ndarray) -> Pair:
    return protocols.make_pair(BLUR, sharp, "astronaut")


def psnr(name: str, pair: Pair, condition: Condition) -> float:
    value = score_pair(condition, BASELINES[name].restore(pair, condition), pair.sharp)["psnr"]
    assert value is not None
    return value


def test_every_baseline_of_the_protocol_is_there_and_names_its_source() -> None:
    assert list(BASELINES) == [
        "input",
        "unsharp",
        "unsharp-oracle",
        "cas",
        "wiener-oracle",
        "richardson-lucy",
    ]
    assert all(baseline.name == name and baseline.source for name, baseline in BASELINES.items())


@pytest.mark.parametrize("condition", CONDITIONS.values(), ids=str)
def test_baselines_restore_where_they_apply_and_change_nothing(condition: Condition) -> None:
    sharp = np.ascontiguousarray(skimage.data.astronaut()[40:65, 140:177])
    pair = protocols.make_pair(condition, sharp, "astronaut")
    before = pair.degraded.copy(), pair.sharp.copy()
    for name, baseline in BASELINES.items():
        told = name in TOLD
        assert baseline.applies_to(condition) == (not told or condition.track in {"gaussian", "noisy"})
        if baseline.applies_to(condition):
            restored = baseline.restore(pair, condition)
            assert restored.shape == pair.sharp.shape
            assert restored.dtype == np.uint8
    np.testing.assert_array_equal(pair.degraded, before[0])
    np.testing.assert_array_equal(pair.sharp, before[1])


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (3, 2)])
def test_tiny_images_are_restored(shape: tuple[int, int]) -> None:
    flat = np.full((*shape, 3), 77, np.uint8)
    for baseline in BASELINES.values():
        restored = baseline.restore(Pair(flat, flat), BLUR).astype(int)
        # A Wiener filter divides by 1 + n even where nothing changes.
        assert np.abs(restored - 77).max() <= 1, baseline.name


@pytest.mark.parametrize("name", sorted(TOLD))
def test_unknown_blur_is_refused(name: str, sharp: np.ndarray) -> None:
    message = (
        rf"^baseline '{name}' needs to be told the blur, which 'sharp' does not have; leave it out there "
        r"\(Baseline.applies_to\)$"
    )
    with pytest.raises(ValueError, match=message):
        BASELINES[name].restore(Pair(sharp, sharp), CONDITIONS["sharp"])


def test_input_is_the_degraded_image(pair: Pair) -> None:
    np.testing.assert_array_equal(BASELINES["input"].restore(pair, BLUR), pair.degraded)


def test_input_is_enlarged_by_bicubic_on_super_resolution(sharp: np.ndarray) -> None:
    pair = protocols.make_pair(CONDITIONS["sr/2"], sharp, "astronaut")
    expected = Image.fromarray(pair.degraded).resize(sharp.shape[1::-1], Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(BASELINES["input"].restore(pair, CONDITIONS["sr/2"]), np.asarray(expected))


def test_unsharp_mask_adds_the_detail_that_a_gaussian_takes(pair: Pair) -> None:
    image = pair.degraded.astype(float)
    blurred = gaussian_filter(image, (1.5, 1.5, 0), mode="mirror")
    difference = BASELINES["unsharp"].restore(pair, BLUR) - np.clip(image + (image - blurred), 0, 255)
    # OpenCV's kernel ends at 3 σ, and the blur is rounded before it is subtracted.
    assert np.abs(difference).max() <= 2
    assert np.abs(difference).mean() < 0.5


@pytest.mark.parametrize("name", ["gaussian/0.8", "sr/2", "sharp"])
def test_unsharp_oracle_is_the_best_of_all_its_settings(name: str, sharp: np.ndarray) -> None:
    condition = CONDITIONS[name]
    pair = protocols.make_pair(condition, sharp, "astronaut")
    given = protocols.enlarged(condition, pair)
    every = [
        score_pair(condition, unsharp_mask(given, radius, amount), pair.sharp)["psnr"]
        for radius in ORACLE_RADII
        for amount in ORACLE_AMOUNTS
    ]
    assert len(every) == 35
    assert psnr("unsharp-oracle", pair, condition) == pytest.approx(max(filter(None, every)), abs=1e-5)
    assert psnr("unsharp-oracle", pair, condition) >= psnr("unsharp", pair, condition)


def test_cas_of_a_flat_image_is_flat() -> None:
    for level in (0, 1, 128, 254, 255):
        flat = np.full((4, 5, 3), level, np.uint8)
        np.testing.assert_array_equal(contrast_adaptive_sharpening(flat), flat)


def test_cas_by_hand() -> None:
    image = np.full((3, 3, 3), 128, np.uint8)
    image[1, 1] = 160
    # Linear: 0.21586 around, 0.35153 in the middle. Lobe: -sqrt(0.21586 / 0.35153) / 8 = -0.097952.
    # (0.35153 - 4·0.097952·0.21586) / (1 - 4·0.097952) = 0.43893, in sRGB 176.87.
    assert contrast_adaptive_sharpening(image)[1, 1].tolist() == [177, 177, 177]
    # At full strength the lobe is -0.156723: (0.35153 - 0.13532) / 0.37311 = 0.57949, in sRGB 200.19.
    assert contrast_adaptive_sharpening(image, sharpness=1)[1, 1].tolist() == [200, 200, 200]


def cas_pixel_by_pixel(image: np.ndarray) -> np.ndarray:
    """The header's steps, one pixel after the other, in float64."""
    around = np.pad(image / 255, ((1, 1), (1, 1), (0, 0)), mode="edge")
    around = np.where(around <= 0.04045, around / 12.92, ((around + 0.055) / 1.055) ** 2.4)
    result = np.empty(image.shape)
    for y, x in np.ndindex(image.shape[:2]):
        b, d, e, f, h = (around[y + i, x + j] for i, j in ((0, 1), (1, 0), (1, 1), (1, 2), (2, 1)))
        greens = [pixel[1] for pixel in (b, d, e, f, h)]
        amplitude = min(min(greens), 1 - max(greens)) / max(greens) if max(greens) else 0
        weight = -np.sqrt(min(max(amplitude, 0), 1)) / 8
        result[y, x] = np.clip(
            (b * weight + d * weight + f * weight + h * weight + e) / (1 + 4 * weight), 0, 1
        )
    return 255 * np.where(result <= 0.0031308, 12.92 * result, 1.055 * result ** (1 / 2.4) - 0.055)


def test_cas_follows_the_header(sharp: np.ndarray) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (12, 13, 3), dtype=np.uint8)
    noise[:4, :4] = 0
    for image in (noise, sharp[:20, :30]):
        difference = contrast_adaptive_sharpening(image) - cas_pixel_by_pixel(image)
        assert np.abs(difference).max() < 0.51


@pytest.mark.parametrize("wave", [4, 10, 20])
def test_wiener_filter_has_its_closed_form_gain_on_a_wave(wave: int) -> None:
    # A cosine that stays one when reflected, and has whole periods in the padded image of 130 pixels.
    frequency = wave / 130
    cosine = np.cos(2 * np.pi * frequency * np.arange(66))[:, None, None] * np.ones((1, 66, 3))
    transfer = np.exp(-2 * np.pi**2 * 1.6**2 * frequency**2)
    blurred = np.rint(128 + 100 * transfer * cosine).astype(np.uint8)
    levels = (1e-3, 1e-2)
    for level, restored in zip(levels, wiener_deconvolutions(blurred, 1.6, levels), strict=True):
        gain = transfer**2 / (transfer**2 + level * (1 + 200 * frequency**2))
        expected = np.clip(128 / (1 + level) + 100 * gain * cosine, 0, 255)
        assert np.abs(restored - expected).max() <= 2
        assert np.abs(restored - expected).mean() < 1


def test_wiener_oracle_inverts_the_blur_of_what_has_no_high_frequencies() -> None:
    spectrum = np.fft.rfft2(np.random.default_rng(0).normal(0, 1, (3, 120, 120)))
    spectrum[:, np.hypot(np.fft.fftfreq(120)[:, None], np.fft.rfftfreq(120)[None]) > 0.12] = 0
    texture = np.fft.irfft2(spectrum).transpose(1, 2, 0)
    texture = np.clip(np.rint(128 + 40 * texture / texture.std()), 0, 255).astype(np.uint8)
    pair = protocols.make_pair(BLUR, texture, "texture")
    assert psnr("input", pair, BLUR) < 26
    assert psnr("wiener-oracle", pair, BLUR) > 40


def test_wiener_oracle_is_its_best_level(pair: Pair) -> None:
    every = [
        score_pair(BLUR, output, pair.sharp)["psnr"]
        for output in wiener_deconvolutions(pair.degraded, 1.6, WIENER_LEVELS)
    ]
    assert psnr("wiener-oracle", pair, BLUR) == max(filter(None, every))


def test_wiener_oracle_may_regularise_more_under_noise(sharp: np.ndarray) -> None:
    heavy = Condition("noisy", "noisy", sigma=1.6, noise=2.0)
    noise = np.random.default_rng(0).normal(0, 12, sharp.shape)
    noisy = np.clip(cv2.GaussianBlur(sharp, (0, 0), 1.6) + noise, 0, 255).astype(np.uint8)
    strongest = next(wiener_deconvolutions(noisy, 1.6, [1e-2]))
    np.testing.assert_array_equal(BASELINES["wiener-oracle"].restore(Pair(noisy, sharp), heavy), strongest)


def test_richardson_lucy_gathers_a_blurred_point() -> None:
    sharp = np.full((41, 41, 3), 10.0)
    sharp[20, 20] += 800
    blurred = np.rint(gaussian_filter(sharp, (1.6, 1.6, 0))).astype(np.uint8)
    peaks = [int(richardson_lucy(blurred, 1.6, iterations)[20, 20, 0]) for iterations in (1, 3, 10)]
    assert peaks[0] < peaks[1] < peaks[2]
    assert peaks[2] > 1.5 * blurred[20, 20, 0]
    restored = richardson_lucy(blurred, 1.6, 10).astype(float)
    # The model's light is conserved, and no direction is preferred.
    assert restored.sum() == pytest.approx(blurred.sum(), rel=0.01)
    np.testing.assert_array_equal(restored, restored[::-1, ::-1])
    np.testing.assert_array_equal(restored, restored.transpose(1, 0, 2))


def test_richardson_lucy_is_scikit_images_iteration(pair: Pair) -> None:
    row = np.exp(-(np.arange(-7, 8) ** 2) / (2 * 1.6**2))
    kernel = np.outer(row, row) / row.sum() ** 2
    small = Pair(np.ascontiguousarray(pair.degraded[:50, :60]), pair.sharp[:50, :60])
    # A reflected border keeps its black surroundings away.
    green = np.pad(small.degraded[..., 1] / 255, 49, mode="reflect")
    expected = 255 * restoration.richardson_lucy(green, kernel, LUCY_ITERATIONS)[49:-49, 49:-49]
    restored = BASELINES["richardson-lucy"].restore(small, BLUR)[..., 1]
    assert np.abs(restored - expected).max() < 0.6


@pytest.mark.real_data
def test_baselines_rank_as_published_on_a_real_image(sharpkd_data: Path) -> None:
    butterfly = np.asarray(Image.open(sharpkd_data / "eval" / "Set5" / "butterfly.png").convert("RGB"))
    pair = protocols.make_pair(BLUR, butterfly, "butterfly")
    scores = {name: psnr(name, pair, BLUR) for name in BASELINES}
    ranking = sorted(scores, key=lambda name: scores[name])
    assert ranking[0] == "input"
    assert ranking[-1] == "wiener-oracle"
    assert (
        scores["wiener-oracle"] > scores["unsharp-oracle"] + 1 > scores["unsharp"] + 1 > scores["input"] + 1
    )
