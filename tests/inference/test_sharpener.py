from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from sharpkd.checkpoint import load_net
from sharpkd.inference.engine import EngineName, ModelInfo
from sharpkd.inference.image_io import Picture
from sharpkd.inference.sharpener import Sharpener

Photo = NDArray[np.uint8]


def _net_output(checkpoint: Path, image: NDArray[Any]) -> NDArray[np.float32]:
    """(H, W, 3) in [0, 1], straight from the net."""
    degraded = torch.from_numpy(image).permute(2, 0, 1).unsqueeze(0) / 255
    with torch.inference_mode():
        return load_net(checkpoint).net(degraded)[0].clamp(0, 1).permute(1, 2, 0).numpy()


def test_result_is_the_nets_output_in_8_bits(
    student_checkpoint: Path, student_onnx: Path, photo: Photo
) -> None:
    expected = _net_output(student_checkpoint, photo) * 255
    assert np.abs(expected - photo).max() > 20, "the net must change the image, or this test shows nothing"
    engines: list[tuple[Path, EngineName]] = [
        (student_onnx, "auto"),
        (student_checkpoint, "openvino"),
        (student_checkpoint, "onnxruntime"),
        (student_checkpoint, "torch"),
    ]
    for model, engine in engines:
        result = Sharpener(model, engine, threads=1, precision="fp32")(photo)
        assert result.dtype == np.uint8
        assert np.abs(result - expected).max() <= 0.501


@pytest.mark.parametrize("tile", [1, 16, 33, 40, 64])
@pytest.mark.parametrize("size", [(101, 77), (64, 64), (17, 50), (1, 35)])
def test_tiles_do_not_show(
    tile: int, size: tuple[int, int], student_checkpoint: Path, student_onnx: Path, photo: Photo
) -> None:
    image = photo[: size[0], : size[1]]
    if tile == 1 and size != (17, 50):
        tile = 24  # single pixels take a thousand runs: one size suffices
    for model in (student_checkpoint, student_onnx):
        whole = Sharpener(model, tile=0, threads=1, precision="fp32")(image).astype(int)
        tiled = Sharpener(model, tile=tile, threads=1, precision="fp32")(image).astype(int)
        difference = np.abs(tiled - whole)
        assert difference.max() <= 1
        # Float sums may differ in their last bit between sizes; x.5 may round either way.
        assert difference.mean() < 1e-3


def test_identity_model_returns_identical_pixels(identity_onnx: Path, photo: Photo) -> None:
    sharpen = Sharpener(identity_onnx, tile=20, threads=1)
    np.testing.assert_array_equal(sharpen(photo), photo)
    wide = np.arange(65536, dtype=np.uint16).reshape(128, 512)
    np.testing.assert_array_equal(sharpen(wide), wide)
    np.testing.assert_array_equal(sharpen(photo[..., 0]), photo[..., 0])


def test_strength_mixes_input_and_output(save_onnx: Callable[..., Path], tmp_path: Path) -> None:
    # Reciprocal: 0.5 becomes 2, far outside [0, 1]: strength must mix before it clamps.
    path = save_onnx(tmp_path / "reciprocal.onnx", "Reciprocal", None)
    image = np.full((3, 4, 3), 204, np.uint8)  # 0.8 -> 1.25
    sharpen = Sharpener(path, threads=1)
    for strength, value in ((0.0, 0.8), (0.25, 0.9125), (0.4, 0.98), (1.0, 1.0), (2.0, 1.0)):
        assert (sharpen(image, strength) == round(value * 255)).all()


def test_pil_in_pil_out(student_onnx: Path, photo: Photo) -> None:
    sharpen = Sharpener(student_onnx, threads=1)
    image = Image.fromarray(photo)
    result = sharpen(image)
    assert isinstance(result, Image.Image)
    np.testing.assert_array_equal(np.asarray(result), sharpen(photo))
    grey = sharpen(image.convert("L"))
    assert grey.mode == "L"
    assert grey.size == image.size


def test_picture_keeps_alpha_grey_and_metadata(student_onnx: Path, photo: Photo) -> None:
    sharpen = Sharpener(student_onnx, threads=1)
    alpha = photo[..., 1].copy()
    grey = np.repeat(photo[..., :1], 3, axis=2)
    result = sharpen.picture(Picture(grey, alpha, grey=True, metadata={"dpi": (72, 72)}))
    assert result.alpha is not None
    np.testing.assert_array_equal(result.alpha, alpha)
    assert result.metadata == {"dpi": (72, 72)}
    assert (result.pixels == result.pixels[..., :1]).all()
    np.testing.assert_array_equal(result.pixels[..., 0], np.rint(sharpen(grey).mean(axis=2)))


def test_alpha_grows_with_a_net_that_enlarges(tmp_path: Path, save_onnx: Callable[..., Path]) -> None:
    path = tmp_path / "twice.onnx"
    sharpen = Sharpener(_enlarging(path), threads=1)
    picture = Picture(np.zeros((5, 4, 3), np.uint8), np.full((5, 4), 9, np.uint8))
    result = sharpen.picture(picture)
    assert result.pixels.shape == (10, 8, 3)
    assert result.alpha is not None
    assert result.alpha.shape == (10, 8)
    assert (result.alpha == 9).all()
    with pytest.raises(
        ValueError, match=re.escape("strength must be 1 for a net that enlarges (x2), got 0.5")
    ):
        sharpen(picture.pixels, 0.5)


def _enlarging(path: Path) -> Path:
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    from sharpkd.inference.engine import metadata_of

    scales = numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), "scales")
    graph = helper.make_graph(
        [helper.make_node("Resize", ["image", "", "scales"], ["result"], mode="nearest")],
        "twice",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, "h", "w"])],
        [helper.make_tensor_value_info("result", TensorProto.FLOAT, [1, 3, "H", "W"])],
        [scales],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    for key, value in metadata_of(ModelInfo(path, "Twice", receptive_field=3, scale=2)).items():
        model.metadata_props.add(key=key, value=value)
    onnx.save(model, path)
    return path


def test_global_nets_run_whole_unless_tiles_are_asked_for(mobile_checkpoint: Path) -> None:
    sharpen = Sharpener(mobile_checkpoint)
    assert (sharpen.tile, sharpen.tiles_are_exact) == (0, True)
    tiled = Sharpener(mobile_checkpoint, tile=16)
    assert (tiled.tile, tiled.tiles_are_exact) == (16, False)
    assert tiled(np.zeros((40, 40, 3), np.uint8)).shape == (40, 40, 3)


def test_default_tiles_of_a_local_net(student_onnx: Path) -> None:
    sharpen = Sharpener(student_onnx)
    assert (sharpen.tile, sharpen.tiles_are_exact, sharpen.engine) == (1024, True, "onnxruntime")


@pytest.mark.parametrize(
    ("image", "strength", "message"),
    [
        (np.zeros((4, 4, 4), np.uint8), 1, "image must have shape (H, W, 3) with H, W >= 1, got (4, 4, 4)"),
        (np.zeros((0, 4, 3), np.uint8), 1, "image must have shape (H, W, 3) with H, W >= 1, got (0, 4, 3)"),
        (np.zeros((4, 4, 3), np.float32), 1, "image must be uint8 or uint16, got float32"),
        (np.zeros((4, 4, 3), np.uint8), 2.5, "strength must be in [0, 2], got 2.5"),
        (np.zeros((4, 4, 3), np.uint8), float("nan"), "strength must be in [0, 2], got nan"),
        (Image.new("RGBA", (4, 4)), 1, "a PIL image must be RGB or L, got RGBA: use image.convert('RGB')"),
    ],
)
def test_bad_input(image: Any, strength: float, message: str, identity_onnx: Path) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        Sharpener(identity_onnx)(image, strength)


@pytest.mark.parametrize("image", ["photo.png", None, [[1, 2], [3, 4]]])
def test_what_is_no_image_at_all(image: Any, identity_onnx: Path) -> None:
    message = f"an image is a NumPy array or a PIL image, got {type(image).__name__}"
    with pytest.raises(TypeError, match=re.escape(message)):
        Sharpener(identity_onnx)(image)


def test_negative_tile(identity_onnx: Path) -> None:
    message = "tile must be 0 (the whole image) or a number of pixels, got -1"
    with pytest.raises(ValueError, match=re.escape(message)):
        Sharpener(identity_onnx, tile=-1)
