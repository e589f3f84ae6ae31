from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import skimage.data
import torch
from numpy.typing import NDArray

from sharpkd.checkpoint import load_estimator, save_weights
from sharpkd.estimation.estimator import BlurEstimator
from sharpkd.estimation.features import blur_features as torch_features
from sharpkd.inference.blur import Estimate, Estimator, packaged_estimator
from sharpkd.inference.blur_features import blur_features
from sharpkd.inference.errors import ModelError

Pixels = NDArray[Any]


def _large() -> Pixels:
    return cv2.resize(skimage.data.coffee(), (2001, 1500))


PICTURES = {
    "astronaut": skimage.data.astronaut,
    "odd": lambda: skimage.data.coffee()[:101, :77],
    "one line": lambda: skimage.data.cat()[:1, :35],
    "one pixel": lambda: skimage.data.cat()[:1, :1],
    "flat": lambda: np.full((40, 50, 3), 7, np.uint8),
    "16 bits": lambda: skimage.data.rocket()[:133, :211].astype(np.uint16) * 257,
    "large": _large,
    "large, 16 bits": lambda: _large().astype(np.uint16) * 257,
}


@pytest.fixture(params=sorted(PICTURES))
def picture(request: pytest.FixtureRequest) -> Pixels:
    """(H, W, 3), uint8 or uint16."""
    return np.ascontiguousarray(PICTURES[request.param]())


def _tensor(pixels: Pixels) -> torch.Tensor:
    share = pixels.astype(np.float32) / np.float32(np.iinfo(pixels.dtype).max)
    return torch.from_numpy(share).permute(2, 0, 1)[None]


def _four_conditions(path: Path) -> Path:
    torch.manual_seed(0)
    arguments: dict[str, Any] = {
        "conditions": ["sigma", "noise", "compression", "reduction"],
        "largest": [4.0, 5.0, 60.0, 3.0],
        "width": 8,
        "members": 2,
    }
    net = BlurEstimator(**arguments)
    save_weights(
        path, {"_target_": f"{type(net).__module__}.BlurEstimator", **arguments}, net.state_dict(), {}
    )
    return path


def test_features_are_those_of_torch(picture: Pixels) -> None:
    expected = torch_features(_tensor(picture))[0].numpy()
    np.testing.assert_allclose(blur_features(picture), expected, atol=2e-4)


@torch.no_grad()
def test_estimates_are_those_of_torch(picture: Pixels, tmp_path: Path) -> None:
    for path in (packaged_estimator(), _four_conditions(tmp_path / "four.safetensors")):
        found = Estimator(path)(picture)
        expected = load_estimator(path)(_tensor(picture))
        assert len(found.names) == expected.condition.shape[1]
        np.testing.assert_allclose(found.values, expected.condition[0], atol=2e-4)
        np.testing.assert_allclose(found.uncertainty, expected.uncertainty[0], atol=2e-4)


def test_a_flat_image_is_not_called_blurred() -> None:
    estimate = Estimator()(np.full((64, 64, 3), 90, np.uint8))
    assert estimate.sigma == 0
    assert estimate.uncertainty[0] == 2


def test_more_blur_is_found_where_there_is_more() -> None:
    found = [
        Estimator()(cv2.GaussianBlur(skimage.data.astronaut(), (0, 0), sigma)).sigma for sigma in (1, 2, 3)
    ]
    np.testing.assert_allclose(found, [1, 2, 3], rtol=0.2)


def test_a_plane_of_luma_is_a_grey_picture() -> None:
    grey = skimage.data.camera()[:200, :301]
    colour = np.repeat(grey[..., None], 3, axis=2)
    np.testing.assert_allclose(blur_features(grey[..., None]), blur_features(colour), atol=1e-4)
    # Studio swing: 8-bit luma in 10 bits has the grey levels that the features are of.
    studio = np.rint(16 + grey[..., None] * (219 / 255)).astype(np.uint16)
    in_8 = blur_features(studio.astype(np.uint8), 16, 235)
    np.testing.assert_allclose(blur_features(studio * 4, 64, 940), in_8, atol=1e-4)
    # Rounding to 219 levels adds noise, which the calmest cells show.
    assert np.median(np.abs(in_8 - blur_features(colour))) < 2e-3


def test_what_is_no_picture_is_refused() -> None:
    message = "pixels: expected (H, W, 3) or (H, W, 1) with H, W >= 1, found (4, 0, 3)"
    with pytest.raises(ValueError, match=re.escape(message)):
        blur_features(np.zeros((4, 0, 3), np.uint8))
    with pytest.raises(ValueError, match="pixels: expected unsigned integers, found float32"):
        blur_features(np.zeros((4, 4, 3), np.float32))


def test_caution_lowers_sigma_alone() -> None:
    estimate = Estimate(("sigma", "noise"), np.array([1, 3], np.float32), np.array([0.75, 2], np.float32))
    assert estimate.cautious(1).values.tolist() == [0.25, 3]
    assert estimate.cautious(2).values.tolist() == [0, 3]
    assert estimate.cautious(0).values.tolist() == [1, 3]
    assert (estimate["noise"], estimate.with_sigma(2.5).sigma) == (3, 2.5)
    with pytest.raises(ValueError, match="z must be at least 0, got nan"):
        estimate.cautious(float("nan"))
    with pytest.raises(KeyError, match="'haze' is not estimated, only sigma, noise"):
        estimate["haze"]


def test_other_files_are_refused(tmp_path: Path, student_checkpoint: Path) -> None:
    with pytest.raises(ModelError, match=re.escape(f"no weight file at {tmp_path / 'no'}")):
        Estimator(tmp_path / "no")
    message = f"{student_checkpoint} holds a sharpkd.nets.pixel_student.PixelStudent, expected sharpkd.estim"
    with pytest.raises(ModelError, match=re.escape(message)):
        Estimator(student_checkpoint)
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(packaged_estimator().read_bytes()[:500])
    with pytest.raises(ModelError, match=re.escape(f"{damaged} holds no net that can be loaded: ")):
        Estimator(damaged)
    net = BlurEstimator(members=2)
    other = tmp_path / "other.safetensors"
    save_weights(other, {"_target_": f"{type(net).__module__}.BlurEstimator"}, net.state_dict(), {})
    with pytest.raises(ModelError, match=r"its tensors do not fit .* \(missing or unexpected: members.2.0.b"):
        Estimator(other)
