"""Clips that the tests make, and what is read back from them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.codec.context import Flags
from numpy.typing import NDArray

from sharpkd.inference.video.pixels import plane_array

VFR = (0, 40, 100, 120, 200, 340, 380, 500)
"""Uneven timestamps, in milliseconds."""


@dataclass(frozen=True)
class Seen:
    """What a file holds, decoded.

    Attributes:
        times: of the frames, in seconds.
        planes: of each frame, its planes.
        frames: av.VideoFrame without their data being used.
        packets: of each other stream, (time in seconds, bytes) of its packets, by the stream's index.
        metadata: of the container.
        streams: metadata of the streams.
        chapters: (start, end, title), in seconds.
    """

    times: list[Fraction]
    planes: list[list[NDArray[Any]]]
    frames: list[Any]
    packets: dict[int, list[tuple[Fraction, bytes]]]
    metadata: dict[str, str]
    streams: list[dict[str, str]]
    chapters: list[tuple[Fraction, Fraction, str]]
    attachments: list[tuple[str | None, bytes]]


def _look(path: Path) -> Seen:
    with av.open(str(path)) as container:
        video = next(
            one for one in container.streams.video if not one.disposition & av.stream.Disposition.attached_pic
        )
        frames: list[Any] = []
        packets: dict[int, list[tuple[Fraction, bytes]]] = {}
        packet: Any
        for packet in container.demux([s for s in container.streams if s.type != "attachment"]):
            if packet.stream.index == video.index:
                frames += packet.decode()
            elif packet.pts is not None:
                packets.setdefault(packet.stream.index, []).append(
                    (packet.pts * packet.time_base, bytes(packet))
                )
        dtype = np.dtype(np.uint16 if frames[0].format.components[0].bits > 8 else np.uint8)
        every: list[Any] = container.chapters()
        chapters = [
            (one["start"] * one["time_base"], one["end"] * one["time_base"], one["metadata"].get("title", ""))
            for one in every
        ]
        return Seen(
            [frame.pts * frame.time_base for frame in frames],
            [[plane_array(plane, dtype).copy() for plane in frame.planes] for frame in frames],
            frames,
            packets,
            dict(container.metadata),
            [dict(stream.metadata) for stream in container.streams],
            chapters,
            [(one.name, one.data) for one in container.streams.attachments],
        )


@pytest.fixture(scope="session")
def look() -> Callable[[Path], Seen]:
    """Read a video file back."""
    return _look


def _planes(frame: Any, index: int, static: bool) -> None:
    """A moving pattern that uses nearly all numbers of every plane."""
    bits = frame.format.components[0].bits
    dtype = np.dtype(np.uint16 if bits > 8 else np.uint8)
    move = 0 if static else 3 * index
    for number, plane in enumerate(frame.planes):
        y, x = np.mgrid[: plane.height, : plane.width]
        wave = np.sin((x + move) / (5 + number)) * np.cos((y - move) / (7 - number)) * 0.5 + 0.5
        # Fine detail in luma alone, chroma away from its ends: such colours exist in RGB.
        fine = ((x * 7 + y * 13 + move) % 16 / 16 - 0.5) * 0.1
        level = 0.1 + 0.8 * (wave + fine) if number == 0 else 0.42 + 0.16 * wave
        view = plane_array(plane, dtype)
        view[...] = np.clip(level * ((1 << bits) - 1), 0, (1 << bits) - 1).astype(dtype)


def _make_clip(
    path: Path,
    *,
    codec: str = "ffv1",
    size: tuple[int, int] = (64, 48),
    pixel_format: str = "yuv420p",
    pts: Sequence[int] = tuple(range(0, 320, 40)),
    time_base: Fraction = Fraction(1, 1000),
    options: dict[str, str] | None = None,
    tags: dict[str, int] | None = None,
    interlaced: bool = False,
    rotation: int = 0,
    static: bool = False,
    before: Callable[[Any], None] | None = None,
    after: Callable[[Any], None] | None = None,
) -> Path:
    """Write a clip.

    Args:
        path: its suffix names the container.
        codec: encoder; lossless unless said otherwise.
        size: (width, height).
        pts: of the frames, in ``time_base``.
        tags: attributes of the codec context, such as color_range.
        before: called with the container before the header is written.
        after: called with the container after the frames.
    """
    defaults = {"libx264": {"crf": "10", "bf": "2", "preset": "veryfast"}}
    with av.open(str(path), "w", container_options={"avoid_negative_ts": "disabled"}) as container:
        stream: Any = container.add_stream(codec, rate=25, options=options or defaults.get(codec, {}))
        context = stream.codec_context
        context.width, context.height = size
        context.pix_fmt = pixel_format
        context.time_base = stream.time_base = time_base
        for name, value in (tags or {}).items():
            setattr(context, name, value)
        if interlaced:
            context.flags |= Flags.interlaced_dct
            context.field_order = 2
        if rotation:
            stream.set_display_rotation(rotation)
        if before is not None:
            before(container)
        source = _field_marker(size, pixel_format, time_base) if interlaced else (lambda frame: frame)
        for index, number in enumerate(pts):
            frame: Any = av.VideoFrame(*size, pixel_format)
            _planes(frame, index, static)
            frame.pts, frame.time_base = number, time_base
            for packet in stream.encode(source(frame)):
                container.mux(packet)
        for packet in stream.encode(None):
            container.mux(packet)
        if after is not None:
            after(container)
    return path


def _field_marker(size: tuple[int, int], pixel_format: str, time_base: Fraction) -> Callable[[Any], Any]:
    graph = av.filter.Graph()
    frame_format: Any = pixel_format  # PyAV takes the name too; its stubs do not say so
    begin = graph.add_buffer(width=size[0], height=size[1], format=frame_format, time_base=time_base)
    mark, end = graph.add("setfield", "tff"), graph.add("buffersink")
    begin.link_to(mark)
    mark.link_to(end)
    graph.configure()

    def marked(frame: Any) -> Any:
        graph.push(frame)
        return graph.pull()

    return marked


@pytest.fixture(scope="session")
def make_clip() -> Callable[..., Path]:
    """Write a clip; see `_make_clip`."""
    return _make_clip


class Sound:
    """An audio stream of a sine: `add` before the header, `write` after it.

    Args:
        codec: encoder.
        start: first timestamp, in samples of 48 kHz.
    """

    def __init__(self, codec: str, start: int = 0) -> None:
        self.codec, self.start = codec, start
        self.stream: Any = None

    def add(self, container: Any) -> None:
        self.stream = container.add_stream(self.codec, rate=48000)
        self.stream.metadata["language"] = "deu"

    def write(self, container: Any) -> None:
        layout = "stereo"
        for number in range(12):
            wave = np.sin((np.arange(1024) + 1024 * number) / 20).astype(np.float32) * 0.3
            frame = av.AudioFrame.from_ndarray(np.stack([wave, wave]), format="fltp", layout=layout)
            frame.sample_rate, frame.pts = 48000, self.start + 1024 * number
            frame.time_base = Fraction(1, 48000)
            resampled = self._resampler().resample(frame) if self.codec != "aac" else [frame]
            for one in resampled:
                for packet in self.stream.encode(one):
                    container.mux(packet)
        for packet in self.stream.encode(None):
            container.mux(packet)

    def _resampler(self) -> Any:
        if not hasattr(self, "_made"):
            context = self.stream.codec_context
            size = 960 if self.codec == "libopus" else None
            self._made = av.AudioResampler(context.format, context.layout, 48000, frame_size=size)
        return self._made


@pytest.fixture
def sound() -> type[Sound]:
    """An audio stream for a clip."""
    return Sound
