"""The estimator that comes with the package, on a photograph; and what every estimator keeps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from sharpkd.checkpoint import CheckpointError, load_estimator, save_weights
from sharpkd.data.crops import to_tensor
from sharpkd.data.degradation_maths import gaussian_blur, gaussian_blur_float, gaussian_noise_float, to_uint8
from sharpkd.estimation.estimator import BlurEstimator, Estimate
from sharpkd.estimation.features import FEATURES

CONFIG = {"_target_": "sharpkd.estimation.estimator.BlurEstimator"}


@pytest.fixture(scope="module")
def shipped() -> BlurEstimator:
    return load_estimator()


def ask(estimator: BlurEstimator, image: Tensor) -> Estimate:
    with torch.inference_mode():
        return estimator(image)


def test_sigma_on_a_photograph(shipped: BlurEstimator, photograph: np.ndarray) -> None:
    """Rises with the truth, and is right to 20 % where there is blur."""
    sigmas = [0.0, 0.8, 1.2, 1.6, 2.0, 2.4, 3.0]
    found = [float(ask(shipped, to_tensor(gaussian_blur(photograph, s))).condition[0, 0]) for s in sigmas]
    assert found == sorted(found)
    assert found[0] < 0.6
    np.testing.assert_allclose(found[1:], sigmas[1:], rtol=0.2)


def test_noise_on_a_photograph(shipped: BlurEstimator, photograph: np.ndarray) -> None:
    blurred = gaussian_blur_float(photograph, 1.6)
    found = []
    for level in (0.0, 1.5, 3.0, 4.5):
        noisy = to_uint8(gaussian_noise_float(blurred, level, np.random.default_rng(0)))
        estimate = ask(shipped, to_tensor(noisy)).condition[0]
        found.append(float(estimate[1]))
        assert float(estimate[0]) == pytest.approx(1.6, rel=0.3)
    np.testing.assert_allclose(found, (0.0, 1.5, 3.0, 4.5), atol=0.7)


@pytest.mark.parametrize("sigma", [0.0, 0.8, 1.6, 3.0])
def test_flips_hardly_matter(shipped: BlurEstimator, photograph: np.ndarray, sigma: float) -> None:
    image = to_tensor(gaussian_blur(photograph, sigma))
    plain = ask(shipped, image)
    for axes in ((-1,), (-2,), (-1, -2)):
        turned = ask(shipped, image.flip(axes))
        difference = turned.condition - plain.condition
        assert (difference.abs() < 0.75 * plain.uncertainty).all()
        assert abs(float(difference[0, 0])) < 0.1


@pytest.mark.parametrize("sigma", [0.8, 1.6, 3.0])
def test_rounding_to_8_bits_hardly_matters(
    shipped: BlurEstimator, photograph: np.ndarray, sigma: float
) -> None:
    exact = torch.from_numpy(gaussian_blur_float(photograph, sigma) / 255).permute(2, 0, 1)[None].float()
    rounded = to_tensor(gaussian_blur(photograph, sigma))
    assert not torch.equal(exact, rounded)
    difference = ask(shipped, exact.clamp(0, 1)).condition - ask(shipped, rounded).condition
    assert abs(float(difference[0, 0])) < 0.06 * sigma


def test_nothing_to_see_is_no_blur_and_great_uncertainty(
    shipped: BlurEstimator, photograph: np.ndarray
) -> None:
    flat = ask(shipped, torch.full((1, 3, 100, 120), 0.3))
    assert flat.condition.tolist() == [[0.0, 0.0, 0.0, 0.0]]
    assert flat.uncertainty.tolist() == [[2.0, 2.5, 1.0, 1.5]]
    seen = ask(shipped, to_tensor(gaussian_blur(photograph, 1.6)))
    assert (seen.uncertainty < 0.5 * flat.uncertainty).all()


@pytest.mark.parametrize("size", [(1, 1), (2, 9), (16, 16)])
def test_small_pictures_are_less_certain(
    shipped: BlurEstimator, photograph: np.ndarray, size: tuple[int, int]
) -> None:
    image = to_tensor(gaussian_blur(photograph, 1.6))
    small = ask(shipped, image[..., 200 : 200 + size[0], 300 : 300 + size[1]])
    assert small.condition.isfinite().all()
    assert float(small.uncertainty[0, 0]) > float(ask(shipped, image).uncertainty[0, 0])


def test_a_batch_is_its_images(shipped: BlurEstimator, photograph: np.ndarray) -> None:
    images = [to_tensor(gaussian_blur(photograph, sigma)) for sigma in (0.8, 2.4)]
    together = ask(shipped, torch.cat(images))
    for number, image in enumerate(images):
        alone = ask(shipped, image)
        torch.testing.assert_close(together.condition[number], alone.condition[0])
        torch.testing.assert_close(together.uncertainty[number], alone.uncertainty[0])


def test_cautious_is_a_lower_quantile_of_sigma_alone() -> None:
    estimate = Estimate(torch.tensor([[2.0, 3.0], [0.4, 1.0]]), torch.tensor([[0.5, 1.0], [0.5, 1.0]]))
    torch.testing.assert_close(estimate.cautious(1.0), torch.tensor([[1.5, 3.0], [0.0, 1.0]]))
    torch.testing.assert_close(estimate.cautious(0.0), estimate.condition)
    assert estimate.condition[0, 0] == 2
    with pytest.raises(ValueError, match=r"^z must be at least 0, got -1\.0$"):
        estimate.cautious(-1.0)


def test_members_are_one_mixture() -> None:
    """Means 1 and 3 with variances 0.25 and 0.75: mean 2, variance 0.5 + 1 (law of total variance)."""
    estimator = BlurEstimator(["sigma"], members=2, largest=[100.0])
    for member, mean, variance in zip(estimator.members, (1.0, 3.0), (0.25, 0.75), strict=True):
        for name, weight in member.named_parameters():
            torch.nn.init.zeros_(weight)
            if name == "4.bias":
                with torch.no_grad():
                    weight.copy_(torch.tensor([mean, variance]))
                    weight[1].log_()
    with torch.no_grad():
        estimate = estimator.from_features(torch.ones(1, FEATURES))
    torch.testing.assert_close(estimate.condition, torch.tensor([[2.0]]))
    torch.testing.assert_close(estimate.uncertainty, torch.tensor([[1.5**0.5]]))


def test_saved_and_loaded_it_answers_the_same(tmp_path: Path, photograph: np.ndarray) -> None:
    torch.manual_seed(0)
    estimator = BlurEstimator(width=5, members=2, largest=[3.0, 4.0])
    arguments = {"conditions": ["sigma", "noise"], "width": 5, "members": 2, "largest": [3.0, 4.0]}
    path = tmp_path / "own.safetensors"
    save_weights(path, CONFIG | arguments, estimator.state_dict(), {})
    loaded = load_estimator(path)
    assert loaded.conditions == ("sigma", "noise")
    image = to_tensor(photograph)
    torch.testing.assert_close(ask(loaded, image).condition, ask(estimator, image).condition)
    torch.testing.assert_close(ask(loaded, image).uncertainty, ask(estimator, image).uncertainty)


def test_other_files_are_refused(tmp_path: Path, student_checkpoint: Path) -> None:
    with pytest.raises(CheckpointError, match=r"holds a PixelStudent, expected a BlurEstimator as python -m"):
        load_estimator(student_checkpoint)
    with pytest.raises(FileNotFoundError, match=r"^no weight file at .*gone\.safetensors$"):
        load_estimator(tmp_path / "gone.safetensors")
    path = tmp_path / "older.safetensors"
    state = BlurEstimator().state_dict() | {"feature_mean": torch.zeros(FEATURES - 1)}
    save_weights(path, CONFIG, state, {})
    with pytest.raises(CheckpointError, match=r"its tensors do not fit sharpkd\.estimation\.estimator"):
        load_estimator(path)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (torch.zeros(3, 4, 5), r"^image: expected an RGB batch \(N, 3, H, W\), found shape \(3, 4, 5\)$"),
        (
            torch.zeros(1, 1, 4, 5),
            r"^image: expected an RGB batch \(N, 3, H, W\), found shape \(1, 1, 4, 5\)$",
        ),
        (
            torch.zeros(1, 3, 0, 5),
            r"^image: expected an RGB batch \(N, 3, H, W\), found shape \(1, 3, 0, 5\)$",
        ),
        (
            torch.zeros(1, 3, 4, 5, dtype=torch.uint8),
            r"^image: expected floats in \[0, 1\], found torch\.uint8 of shape \(1, 3, 4, 5\); "
            r"divide by 255$",
        ),
        (
            torch.full((1, 3, 4, 5), 128.0),
            r"^image: expected values in \[0, 1\], found 128 to 128 in shape \(1, 3, 4, 5\)$",
        ),
        (
            torch.full((1, 3, 4, 5), torch.nan),
            r"^image: expected values in \[0, 1\], found nan to nan in shape \(1, 3, 4, 5\)$",
        ),
    ],
)
def test_bad_images_are_named(shipped: BlurEstimator, image: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ask(shipped, image)


def test_bad_arguments_are_named() -> None:
    with pytest.raises(ValueError, match=r"^conditions must begin with 'sigma', got \['noise'\]$"):
        BlurEstimator(["noise"], largest=[1.0])
    with pytest.raises(
        ValueError, match=r"^largest must be one number for each of \['sigma'\], got \[1, 2\]$"
    ):
        BlurEstimator(["sigma"], largest=[1, 2])
    with pytest.raises(ValueError, match=r"^width must be at least 1, got 0$"):
        BlurEstimator(width=0)
    with pytest.raises(ValueError, match=r"^members must be at least 1, got 0$"):
        BlurEstimator(members=0)
