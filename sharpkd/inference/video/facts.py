"""What a video stream says about itself: all that has to be the same after sharpening."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.container import InputContainer
from av.sidedata.sidedata import Type
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from sharpkd.inference.errors import first_line
from sharpkd.inference.video.files import VideoError

UNSPECIFIED = 2
"""FFmpeg's number for a matrix, primaries or transfer that nobody named; 0 is an unnamed range."""
LIMITED, FULL = 1, 2
PROGRESSIVE = (0, 1)
"""FFmpeg's field orders "unknown" and "progressive"; 2 to 5 are interlaced."""
IDENTITY = (1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
"""The display matrix that does nothing: 16.16 fixed point, the last column 2.30."""
# Matrix coefficients (Kr, Kb) by FFmpeg's number; ITU-T H.273, table 4. 5 and 6 are both BT.601.
MATRICES = {
    1: (0.2126, 0.0722),
    4: (0.30, 0.11),
    5: (0.299, 0.114),
    6: (0.299, 0.114),
    7: (0.212, 0.087),
    9: (0.2627, 0.0593),
}
HD_HEIGHT = 720
# Side data of frames that few encoders write: worth a note, no refusal.
BESIDE = {
    Type.MASTERING_DISPLAY_METADATA: "the mastering display of HDR",
    Type.CONTENT_LIGHT_LEVEL: "the content light level of HDR",
    Type.DYNAMIC_HDR_PLUS: "HDR10+",
    Type.DOVI_METADATA: "Dolby Vision",
    Type.STEREO3D: "that it is stereoscopic",
    Type.SPHERICAL: "that it is spherical",
}


@dataclass(frozen=True)
class VideoFacts:
    """What the first decoded frame and the stream tell.

    Attributes:
        width: pixels, as stored (before rotation).
        height: likewise.
        pixel_format: FFmpeg's name, such as "yuv420p10le".
        bits: of a sample.
        color_range: 0 unnamed, 1 limited, 2 full.
        primaries: as ITU-T H.273 numbers them; 2 is unnamed.
        transfer: likewise.
        matrix: likewise.
        interlaced: whether the first frame or the stream says so.
        field_order: FFmpeg's number.
        display_matrix: nine numbers, how players turn the picture; `IDENTITY` where nothing is said.
        aspect: width of a stored pixel over its height, 1 where nothing is said.
        beside: what else the first frame carries, of `BESIDE`.
    """

    width: int
    height: int
    pixel_format: str
    bits: int
    color_range: int
    primaries: int
    transfer: int
    matrix: int
    interlaced: bool
    field_order: int
    display_matrix: tuple[int, ...]
    aspect: Fraction
    beside: frozenset[str] = frozenset()

    @property
    def full_range(self) -> bool:
        """Whether 0 is black and the largest number white; unnamed is taken for limited, as players do."""
        return self.color_range == FULL or self.pixel_format.startswith(("yuvj", "gbr", "rgb", "bgr"))

    @property
    def known_matrix(self) -> int:
        """The matrix; where nobody named it, BT.709 from 720 lines on and BT.601 below, as players do."""
        if self.matrix != UNSPECIFIED:
            return self.matrix
        return 1 if self.height >= HD_HEIGHT else 6

    def lost_in(self, other: VideoFacts) -> list[str]:
        """What is different in ``other``, one phrase each; what was never named cannot be lost."""
        lost = []
        if (self.width, self.height) != (other.width, other.height):
            lost.append(f"the size {self.width}x{self.height} (it became {other.width}x{other.height})")
        if _depth_and_chroma(self.pixel_format) != _depth_and_chroma(other.pixel_format):
            lost.append(f"the pixel format {self.pixel_format} (it became {other.pixel_format})")
        if self.color_range and self.full_range != other.full_range:
            lost.append("the " + ("full" if self.full_range else "limited") + " colour range")
        for name, number, there in (
            ("primaries", self.primaries, other.primaries),
            ("transfer", self.transfer, other.transfer),
            ("matrix", self.matrix, other.matrix),
        ):
            if number not in (UNSPECIFIED, there):
                lost.append(f"the colour {name} {number} (it became {there})")
        if self.interlaced != other.interlaced:
            lost.append("that it is interlaced" if self.interlaced else "that it is progressive")
        if self.display_matrix != other.display_matrix:
            lost.append("the rotation")
        if self.aspect != other.aspect:
            lost.append(f"the pixel aspect {self.aspect}")
        return lost


def _depth_and_chroma(pixel_format: str) -> str:
    return pixel_format.replace("yuvj", "yuv")


def open_video(path: Path) -> InputContainer:
    """Open a video file.

    Raises:
        VideoError: missing, a folder, empty, or nothing that FFmpeg reads.
    """
    if path.is_dir():
        raise VideoError(path, "is a folder, not a video")
    if not path.exists():
        raise VideoError(path, "no such file")
    if path.stat().st_size == 0:
        raise VideoError(path, "is empty (0 bytes)")
    try:
        return av.open(str(path), metadata_errors="replace")
    except PermissionError:
        raise VideoError(path, "no permission to read it") from None
    except (av.FFmpegError, OSError) as error:
        raise VideoError(path, f"is not a video that FFmpeg reads ({_reason(error)})") from error


def _reason(error: BaseException) -> str:
    strerror = getattr(error, "strerror", None)
    return str(strerror or first_line(error))


def main_stream(path: Path, container: InputContainer) -> VideoStream:
    """The video stream that players show.

    Raises:
        VideoError: there is none, or nothing decodes it.
    """
    moving = [stream for stream in container.streams.video if not is_cover(stream)]
    best = container.streams.best("video")
    stream = best if best in moving else next(iter(moving), None)
    if not isinstance(stream, VideoStream):
        raise VideoError(path, "holds no video stream")
    if stream.codec_context is None:
        raise VideoError(path, "nothing here decodes its video stream")
    return stream


def is_cover(stream: VideoStream) -> bool:
    """Whether the "video" is a cover picture."""
    return bool(stream.disposition & av.stream.Disposition.attached_pic)


def facts_of(path: Path) -> VideoFacts:
    """Decode the first frame of ``path`` and tell what it and its stream say.

    Raises:
        VideoError: nothing can be decoded, the pixel format is none that planes can be cut from, or
            transparency is not decoded.
    """
    with open_video(path) as container:
        stream = main_stream(path, container)
        try:
            frame = next(iter(container.decode(stream)), None)
        except (av.FFmpegError, OSError) as error:
            raise VideoError(path, f"its first frame cannot be decoded ({_reason(error)})") from error
        if frame is None:
            raise VideoError(path, "holds no frames")
        return _facts(path, stream, frame)


def _facts(path: Path, stream: VideoStream, frame: VideoFrame) -> VideoFacts:
    name = frame.format.name
    if not re.fullmatch(r"(yuv[ja]?4\d\dp|gray|gbrp)(\d+le)?", name):
        raise VideoError(path, f"its pixel format {name} cannot be sharpened")
    # WebM holds transparency as a second picture beside each frame, which the decoder leaves out
    beside = {key.lower(): value for key, value in stream.metadata.items()}.get("alpha_mode") == "1"
    if beside and not name.startswith("yuva"):
        raise VideoError(path, "its transparency (WebM's alpha mode) cannot be decoded and would be lost")
    context = stream.codec_context
    order = context.field_order
    return VideoFacts(
        width=frame.width,
        height=frame.height,
        pixel_format=name,
        bits=frame.format.components[0].bits,
        color_range=int(frame.color_range or context.color_range),
        primaries=_named(frame.color_primaries, context.color_primaries),
        transfer=_named(frame.color_trc, context.color_trc),
        matrix=_named(frame.colorspace, context.colorspace),
        interlaced=frame.interlaced_frame or order not in PROGRESSIVE,
        field_order=order,
        display_matrix=_display_matrix(frame),
        aspect=stream.sample_aspect_ratio or Fraction(1),
        beside=frozenset(BESIDE[data.type] for data in _side_data(frame) if data.type in BESIDE),
    )


def _named(of_frame: int, of_stream: int) -> int:
    return int(of_stream if of_frame == UNSPECIFIED else of_frame)


def _side_data(frame: VideoFrame) -> list[Any]:
    # PyAV's stubs call this a dictionary of motion vectors; it is a sequence of all side data.
    every: Any = frame.side_data
    return list(every)


def _display_matrix(frame: VideoFrame) -> tuple[int, ...]:
    for data in _side_data(frame):
        if data.type == Type.DISPLAYMATRIX:
            return tuple(int(number) for number in np.frombuffer(bytes(data), np.int32))
    return IDENTITY
