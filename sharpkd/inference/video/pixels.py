"""Between decoded frames and the arrays that a restoring function sees; what it leaves alone is not lost.

A restored frame is the decoded one plus what the function changed, carried over to the frame's own planes. So
a function that changes nothing changes no sample, whatever conversions round, clip or resample on the way.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from av.video.frame import VideoFrame
from av.video.plane import VideoPlane
from av.video.reformatter import Interpolation, VideoReformatter
from numpy.typing import NDArray

from sharpkd.inference.video.facts import FULL, LIMITED, MATRICES, VideoFacts
from sharpkd.inference.video.files import VideoError
from sharpkd.inference.video.steady import Steady

Mode = Literal["auto", "luma", "rgb"]
Restore = Callable[[NDArray[Any]], NDArray[Any]]


class Pixels(Protocol):
    """How one stream's frames are shown to a restoring function, and its answers written back."""

    def shown(self, frame: VideoFrame) -> Any:
        """What `restored` and `write` need of ``frame``; may run in another thread than they do."""
        ...

    def restored(self, shown: Any, restore: Restore) -> NDArray[Any]:
        """The function's answer to what is shown, of the same shape and type.

        Raises:
            ValueError: the function returned another shape or type.
        """
        ...

    def write(self, frame: VideoFrame, shown: Any, restored: NDArray[Any]) -> None:
        """Put the answer into the planes of ``frame``."""
        ...


def pixels_for(path: Path, facts: VideoFacts, mode: Mode, steady: bool = True) -> Pixels:
    """Choose how frames are shown.

    Args:
        path: named in errors.
        facts: of the stream.
        mode: "luma" shows ``(H, W)``, "rgb" ``(H, W, 3)``; uint8, or uint16 for more than 8 bits. "auto" is
            "luma" where there is such a plane, else "rgb".
        steady: what stands still gets the answer of before: see `Steady`.

    Raises:
        VideoError: RGB video has no luma plane; a matrix that is not linear, or not known, gives no RGB.
    """
    has_luma = facts.pixel_format.startswith(("yuv", "gray"))
    if mode == "luma" or (mode == "auto" and has_luma):
        if not has_luma:
            raise VideoError(path, f"{facts.pixel_format} has no luma plane; use mode rgb")
        return LumaPixels(facts, steady=steady)
    if facts.pixel_format.startswith("gray"):
        return LumaPixels(facts, channels=3, steady=steady)
    if has_luma and facts.known_matrix not in MATRICES:
        raise VideoError(path, f"colour matrix {facts.matrix} cannot be converted to RGB; use mode luma")
    return RgbPixels(facts, steady)


class LumaPixels:
    """Luma alone, stretched to the whole range of its type; chroma is not touched.

    Limited range puts black at 16 and white at 235 (times 2 for every bit above 8): a net that was trained on
    pictures sees black at 0 and white at the largest number, as it is used to.

    Args:
        facts: of the stream.
        channels: 3 repeats luma, for a function that takes RGB; its answer's mean counts.
        steady: see `pixels_for`.
    """

    def __init__(self, facts: VideoFacts, channels: Literal[1, 3] = 1, steady: bool = True) -> None:
        self.channels = channels
        self.answers = Answers(facts.interlaced, steady)
        self.dtype = np.dtype(np.uint8 if facts.bits <= 8 else np.uint16)
        self.largest = (1 << facts.bits) - 1
        self.top = 255 if facts.bits <= 8 else 65535
        step = 1 << (facts.bits - 8)
        self.black = 0 if facts.full_range else 16 * step
        self.span = self.largest if facts.full_range else 219 * step
        levels = (np.arange(self.largest + 1) - self.black) * (self.top / self.span)
        self._stretch = np.clip(np.rint(levels), 0, self.top).astype(self.dtype)

    def shown(self, frame: VideoFrame) -> NDArray[Any]:
        """See `Pixels.shown`."""
        plane = plane_array(frame.planes[0], self.dtype)
        # Some decoders leave numbers above the largest of a 10-bit sample; those wrap nothing here.
        luma = np.take(self._stretch, plane, mode="clip")
        return luma if self.channels == 1 else np.repeat(luma[..., None], 3, axis=2)

    def restored(self, shown: NDArray[Any], restore: Restore) -> NDArray[Any]:
        """See `Pixels.restored`."""
        return self.answers(shown, restore)

    def write(self, frame: VideoFrame, shown: NDArray[Any], restored: NDArray[Any]) -> None:
        """See `Pixels.write`."""
        change = np.subtract(restored, shown, dtype=np.float32)
        if self.channels == 3:
            change = change.mean(axis=2)
        change *= np.float32(self.span / self.top)
        np.rint(change, out=change)
        frame.make_writable()
        plane = plane_array(frame.planes[0], self.dtype)
        change += plane
        np.clip(change, 0, self.largest, out=change)
        plane[...] = change.astype(self.dtype)


class RgbPixels:
    """RGB by the stream's own matrix and range (swscale).

    Args:
        facts: of the stream.
        steady: see `pixels_for`.
    """

    def __init__(self, facts: VideoFacts, steady: bool = True) -> None:
        self.answers = Answers(facts.interlaced, steady)
        self.wide = facts.bits > 8
        self.rgb_format = "rgb48le" if self.wide else "rgb24"
        self.dtype = np.dtype(np.uint16 if self.wide else np.uint8)
        self.largest = (1 << facts.bits) - 1
        self.pixel_format = facts.pixel_format
        self.matrix = facts.known_matrix if facts.pixel_format.startswith("yuv") else None
        self.range = FULL if facts.full_range else LIMITED
        # Full chroma interpolation is exact to half a level in 8 bits, but wrong in swscale's 48-bit RGB.
        self.flags = int(Interpolation.BILINEAR | Interpolation.ACCURATE_RND)
        if not self.wide:
            self.flags |= int(Interpolation.FULL_CHR_H_INT | Interpolation.FULL_CHR_H_INP)
        # One for each direction: each keeps its tables.
        self._to_rgb, self._from_rgb = VideoReformatter(), VideoReformatter()

    def shown(self, frame: VideoFrame) -> VideoFrame:
        """See `Pixels.shown`."""
        return self._to_rgb.reformat(
            frame,
            format=self.rgb_format,
            src_colorspace=self.matrix,
            dst_colorspace=self.matrix,
            src_color_range=self.range,
            dst_color_range=FULL,
            interpolation=self.flags,
            threads=1,
        )

    def restored(self, shown: VideoFrame, restore: Restore) -> NDArray[Any]:
        """See `Pixels.restored`."""
        return self.answers(self._array(shown), restore)

    def write(self, frame: VideoFrame, shown: VideoFrame, restored: NDArray[Any]) -> None:
        """See `Pixels.write`."""
        before = self._back(shown)
        shown.make_writable()
        self._array(shown)[...] = restored
        after = self._back(shown)
        frame.make_writable()
        # A fourth plane is transparency: it stays.
        for index in range(min(3, len(frame.planes))):
            old, new = (plane_array(one.planes[index], self.dtype) for one in (before, after))
            plane = plane_array(frame.planes[index], self.dtype)
            change = np.subtract(new, old, dtype=np.int32 if self.wide else np.int16)
            change += plane
            np.clip(change, 0, self.largest, out=change)
            plane[...] = change.astype(self.dtype)

    def _array(self, rgb: VideoFrame) -> NDArray[Any]:
        plane = rgb.planes[0]
        size = self.dtype.itemsize
        return np.ndarray(
            (rgb.height, rgb.width, 3),
            self.dtype,
            memoryview(plane),
            strides=(plane.line_size, 3 * size, size),
        )

    def _back(self, rgb: VideoFrame) -> VideoFrame:
        return self._from_rgb.reformat(
            rgb,
            format=self.pixel_format,
            src_colorspace=self.matrix,
            dst_colorspace=self.matrix,
            src_color_range=FULL,
            dst_color_range=self.range,
            interpolation=self.flags,
            threads=1,
        )


def plane_array(plane: VideoPlane, dtype: np.dtype[Any]) -> NDArray[Any]:
    """``(height, width)`` view of a plane of single samples, without padding; writes through."""
    strides = (plane.line_size, dtype.itemsize)
    return np.ndarray((plane.height, plane.width), dtype, memoryview(plane), strides=strides)


class Answers:
    """Asks a restoring function about one frame after the other.

    Args:
        interlaced: ask about each field by itself: its lines are of another moment.
        steady: what stands still gets the answer of before. Whole frames are compared, never a field with the
            other one.
    """

    def __init__(self, interlaced: bool, steady: bool) -> None:
        self.interlaced, self._steady = interlaced, Steady() if steady else None

    def __call__(self, shown: NDArray[Any], restore: Restore) -> NDArray[Any]:
        """The answer to a frame, like it.

        Raises:
            ValueError: the function returned another shape or type.
        """
        if self._steady is None:
            return self._asked(shown, restore)
        return self._steady(shown, lambda frame: self._asked(frame, restore))

    def _asked(self, shown: NDArray[Any], restore: Restore) -> NDArray[Any]:
        if not self.interlaced or len(shown) < 2:
            return _answer(shown, restore)
        result = np.empty(shown.shape, shown.dtype)
        for field in (0, 1):
            result[field::2] = _answer(shown[field::2], restore)
        return result


def _answer(shown: NDArray[Any], restore: Restore) -> NDArray[Any]:
    # Contiguous, and a copy: the function may well work in its argument.
    result = restore(shown.copy(order="C"))
    if result.shape != shown.shape or result.dtype != shown.dtype:
        raise ValueError(
            f"the restoring function returned {result.dtype} {result.shape} for {shown.dtype} {shown.shape}; "
            "a video keeps its size and type"
        )
    return result
