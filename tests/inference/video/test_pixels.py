from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from sharpkd.inference.video.pixels import plane_array
from sharpkd.inference.video.sharpen import sharpen_video

# (Kr, Kb) of BT.709, BT.601 and BT.2020, by the numbers of ITU-T H.273
COEFFICIENTS = {1: (0.2126, 0.0722), 6: (0.299, 0.114), 9: (0.2627, 0.0593)}


def to_samples(rgb: np.ndarray, matrix: int, full: bool, bits: int) -> np.ndarray:
    """(3,) RGB in [0, 1] -> Y, Cb, Cr as ITU-R BT.709 and BT.2100 define them, unrounded."""
    red, blue = COEFFICIENTS[matrix]
    luma = red * rgb[0] + (1 - red - blue) * rgb[1] + blue * rgb[2]
    chroma = np.array([(rgb[2] - luma) / (2 - 2 * blue), (rgb[0] - luma) / (2 - 2 * red)])
    step, middle = 2 ** (bits - 8), 2 ** (bits - 1)
    if full:
        top = 2**bits - 1
        return np.array([luma * top, *(chroma * top + middle)])
    return np.array([luma * 219 * step + 16 * step, *(chroma * 224 * step + middle)])


def one_colour(path: Path, samples: np.ndarray, pixel_format: str, matrix: int, full: bool) -> Path:
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("ffv1", rate=25)
        context = stream.codec_context
        context.width, context.height, context.pix_fmt = 32, 16, pixel_format
        context.colorspace, context.color_range = matrix, 2 if full else 1
        frame = av.VideoFrame(32, 16, pixel_format)
        dtype = np.dtype(np.uint16 if "10" in pixel_format else np.uint8)
        for plane, sample in zip(frame.planes, samples, strict=True):
            plane_array(plane, dtype)[...] = sample
        frame.pts = 0
        for packet in (*stream.encode(frame), *stream.encode(None)):
            container.mux(packet)
    return path


@pytest.mark.parametrize("matrix", [1, 6, 9])
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("bits", [8, 10])
def test_colours_are_those_of_the_streams_own_matrix_and_range_both_ways(
    matrix: int, full: bool, bits: int, tmp_path: Path, look: Any
) -> None:
    pixel_format = "yuv420p" if bits == 8 else "yuv420p10le"
    shown, asked = np.array([0.7, 0.4, 0.25]), np.array([0.3, 0.55, 0.6])
    samples = np.rint(to_samples(shown, matrix, full, bits))
    source = one_colour(tmp_path / "in.mkv", samples, pixel_format, matrix, full)
    got: list[np.ndarray] = []

    def restore(image: np.ndarray) -> np.ndarray:
        got.append(image)
        return np.broadcast_to(np.rint(asked * np.iinfo(image.dtype).max), image.shape).astype(image.dtype)

    target = tmp_path / "out.mkv"
    sharpen_video(source, target, restore, mode="rgb")
    # One level of chroma is up to 2.1 levels of a channel; the rest is swscale's.
    assert np.abs(got[0] / np.iinfo(got[0].dtype).max - shown).max() < 1.6 / 255
    expected = to_samples(asked, matrix, full, bits)
    result = [plane.astype(int) for plane in look(target).planes[0]]
    for plane, sample in zip(result, expected, strict=True):
        assert np.abs(plane - sample).max() <= 2.2 * 2 ** (bits - 8)


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("bits", [8, 10])
def test_luma_is_stretched_to_the_whole_range_and_put_back(
    full: bool, bits: int, tmp_path: Path, look: Any
) -> None:
    pixel_format = "yuv420p" if bits == 8 else "yuv420p10le"
    samples = np.rint(to_samples(np.array([0.4, 0.4, 0.4]), 1, full, bits))
    source = one_colour(tmp_path / "in.mkv", samples, pixel_format, 1, full)
    got: list[np.ndarray] = []

    def restore(image: np.ndarray) -> np.ndarray:
        got.append(image)
        return np.full_like(image, round(0.75 * np.iinfo(image.dtype).max))

    sharpen_video(source, tmp_path / "out.mkv", restore)
    step = 1 / (2**bits - 1 if full else 219 * 2 ** (bits - 8))
    assert np.abs(got[0] / np.iinfo(got[0].dtype).max - 0.4).max() <= step
    expected = to_samples(np.array([0.75, 0.75, 0.75]), 1, full, bits)[0]
    assert np.abs(look(tmp_path / "out.mkv").planes[0][0] - expected).max() <= 1


def test_samples_beyond_white_and_black_stay_where_the_function_changes_nothing(
    tmp_path: Path, look: Any
) -> None:
    for luma in (3, 250):
        source = one_colour(tmp_path / "in.mkv", np.array([luma, 128, 128]), "yuv420p", 1, False)
        seen: set[int] = set()

        def restore(image: np.ndarray, seen: set[int] = seen) -> np.ndarray:
            seen.update(np.unique(image).tolist())
            return image

        for mode in ("luma", "rgb"):
            sharpen_video(source, tmp_path / "out.mkv", restore, mode=mode, overwrite=True)
            assert (look(tmp_path / "out.mkv").planes[0][0] == luma).all()
        assert seen == {0 if luma == 3 else 255}


def test_rgb_video_is_kept_in_rgb_and_has_no_luma(tmp_path: Path, make_clip: Any, look: Any) -> None:
    source = make_clip(tmp_path / "in.mkv", pixel_format="gbrp10le", pts=(0, 40))
    target = tmp_path / "out.mkv"
    with pytest.raises(ValueError, match="gbrp10le has no luma plane; use mode rgb"):
        sharpen_video(source, target, lambda image: image, mode="luma")
    sharpen_video(source, target, lambda image: image)
    for old, new in zip(look(source).planes, look(target).planes, strict=True):
        np.testing.assert_array_equal(np.stack(old), np.stack(new))
