from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter
from skimage.color import rgb2ycbcr
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from sharpkd.evaluation.protocols import Condition
from sharpkd.evaluation.scores import luma, score_pair
from sharpkd.functional.psnr import PSNR_CAP
from sharpkd.functional.torchvision_guard import define_missing_operators
from sharpkd.metrics.lpips import LPIPS

define_missing_operators()

BLURRED = Condition("gaussian", "gaussian/1.6", sigma=1.6)
SMALLER = Condition("sr", "sr/3", scale=3)


def photograph() -> np.ndarray:
    return skimage.data.astronaut()[40:163, 140:241]


def blurred(image: np.ndarray) -> np.ndarray:
    return gaussian_filter(image, (1.6, 1.6, 0))


def independent(output: np.ndarray, sharp: np.ndarray, border: int) -> dict[str, float]:
    y = [rgb2ycbcr(image)[..., 0] for image in (output, sharp)]
    if border:
        y = [image[border:-border, border:-border] for image in y]
    psnr_y = peak_signal_noise_ratio(y[1], y[0], data_range=255)
    ssim = structural_similarity(
        *y, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255, full=True
    )[1]
    return {
        "psnr": psnr_y if border else peak_signal_noise_ratio(sharp, output),
        "ssim": ssim[5:-5, 5:-5].mean(),
        "psnr_y": psnr_y,
    }


def agree(condition: Condition, output: np.ndarray, sharp: np.ndarray) -> None:
    scores = score_pair(condition, output, sharp)
    assert scores.pop("lpips") is None
    border = condition.scale if condition.scale > 1 else 0
    assert scores == pytest.approx(independent(output, sharp, border), abs=1e-9)
    assert all(type(value) is float for value in scores.values())


@pytest.mark.parametrize("condition", [BLURRED, SMALLER], ids=["gaussian", "sr"])
def test_scores_equal_scikit_image(condition: Condition) -> None:
    agree(condition, blurred(photograph()), photograph())
    noise = np.random.default_rng(0).integers(0, 256, (2, 40, 31, 3), dtype=np.uint8)
    agree(condition, noise[0], noise[1])


@pytest.mark.real_data
@pytest.mark.parametrize("condition", [BLURRED, SMALLER], ids=["gaussian", "sr"])
def test_scores_equal_scikit_image_on_set5(sharpkd_data: Path, condition: Condition) -> None:
    files = sorted((sharpkd_data / "eval" / "Set5").glob("*.png"))
    assert len(files) == 5
    for file in files:
        sharp = np.asarray(Image.open(file).convert("RGB"))
        agree(condition, blurred(sharp), sharp)


def test_luma_is_the_broadcast_range_and_not_rounded() -> None:
    colours = np.array([[[0, 0, 0], [255, 255, 255], [255, 0, 0], [1, 0, 0]]], np.uint8)
    np.testing.assert_allclose(luma(colours)[0], [16, 235, 81.481, 16 + 65.481 / 255], atol=1e-12)


def test_known_error_gives_known_psnr() -> None:
    sharp = np.full((20, 20, 3), 100, np.uint8)
    scores = score_pair(BLURRED, sharp + np.uint8(10), sharp)
    assert scores["psnr"] == pytest.approx(20 * np.log10(25.5))
    assert scores["psnr_y"] == pytest.approx(20 * np.log10(25.5 * 255 / 219))


def test_identical_images_reach_the_cap() -> None:
    scores = score_pair(BLURRED, photograph(), photograph())
    assert scores == {"psnr": PSNR_CAP, "psnr_y": PSNR_CAP, "ssim": pytest.approx(1), "lpips": None}


def test_super_resolution_does_not_see_the_border() -> None:
    output = blurred(photograph())
    framed = output.copy()
    framed[:3], framed[-3:], framed[:, :3], framed[:, -3:] = 0, 0, 0, 0
    assert score_pair(SMALLER, framed, photograph()) == score_pair(SMALLER, output, photograph())
    framed[3, 3] = 0
    assert score_pair(SMALLER, framed, photograph()) != score_pair(SMALLER, output, photograph())


def test_views_are_scored_as_their_copies() -> None:
    output, sharp = blurred(photograph()), photograph()
    turned = score_pair(BLURRED, output[::-1, ::-1], sharp[::-1, ::-1])
    assert turned == score_pair(BLURRED, output[::-1, ::-1].copy(), sharp[::-1, ::-1].copy())


def test_ssim_is_blank_below_its_window() -> None:
    small = photograph()[:30, :10]
    assert score_pair(BLURRED, blurred(small), small)["ssim"] is None
    cropped = photograph()[:30, :16]
    assert score_pair(BLURRED, blurred(cropped), cropped)["ssim"] is not None
    assert score_pair(SMALLER, blurred(cropped), cropped)["ssim"] is None


@pytest.fixture(scope="module")
def lpips(tmp_path_factory: pytest.TempPathFactory) -> LPIPS:
    """A SqueezeNet with random weights behind the published heads."""
    from torchvision import models

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "squeezenet1_1.pth"
    torch.save(models.squeezenet1_1(weights=None).state_dict(), path)
    return LPIPS("squeeze", path)


def test_lpips_is_the_metrics_own_score(lpips: LPIPS) -> None:
    sharp = photograph()
    tensors = {}
    for name, image in {"sharp": sharp, "blurred": blurred(sharp), "negative": 255 - sharp}.items():
        tensors[name] = torch.from_numpy(image.transpose(2, 0, 1)[None] / 255).float()
    for name, image in (("blurred", blurred(sharp)), ("negative", 255 - sharp), ("blurred", blurred(sharp))):
        expected = float(lpips.score(tensors[name], tensors["sharp"]))
        assert score_pair(BLURRED, image, sharp, lpips)["lpips"] == pytest.approx(expected, rel=1e-4)
        assert expected > 0
    # Another sharp image, after the first one's features were kept.
    expected = float(lpips.score(tensors["sharp"], tensors["negative"]))
    assert score_pair(BLURRED, sharp, 255 - sharp, lpips)["lpips"] == pytest.approx(expected, rel=1e-4)
    assert score_pair(BLURRED, sharp, sharp, lpips)["lpips"] == 0


def test_lpips_is_blank_on_too_small_an_image(lpips: LPIPS) -> None:
    small = photograph()[:31]
    assert score_pair(BLURRED, small, small, lpips)["lpips"] is None


def test_shapes_must_be_equal() -> None:
    message = r"^the output's shape \(123, 100, 3\) is not the sharp image's, \(123, 101, 3\)$"
    with pytest.raises(ValueError, match=message):
        score_pair(BLURRED, photograph()[:, :-1], photograph())


@pytest.mark.parametrize(
    ("image", "found"),
    [
        (np.zeros((8, 8, 3), np.float32), r"\(8, 8, 3\) of float32"),
        (np.zeros((8, 8), np.uint8), r"\(8, 8\) of uint8"),
        (np.zeros((8, 8, 4), np.uint8), r"\(8, 8, 4\) of uint8"),
    ],
    ids=["float", "grey", "alpha"],
)
def test_images_must_be_8_bit_rgb(image: np.ndarray, found: str) -> None:
    message = rf"^a score needs \(H, W, 3\) uint8 RGB images, got shape {found}$"
    with pytest.raises(ValueError, match=message):
        score_pair(BLURRED, image, image)


def test_image_that_the_crop_leaves_nothing_of_is_refused() -> None:
    tiny = np.zeros((6, 9, 3), np.uint8)
    message = r"^sr/3 crops 3 pixels on every side: an image of 6x9 pixels is too small$"
    with pytest.raises(ValueError, match=message):
        score_pair(SMALLER, tiny, tiny)
