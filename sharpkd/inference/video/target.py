"""Writing a video: one encoded stream beside copies of all others, and the proof that nothing was lost."""

from __future__ import annotations

import contextlib
import os
import tempfile
from array import array
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.codec.context import Flags
from av.container import InputContainer, OutputContainer
from av.packet import Packet
from av.stream import Stream
from av.video.frame import PictureType, VideoFrame
from av.video.stream import VideoStream

from sharpkd.inference.errors import first_line
from sharpkd.inference.video.codecs import VPX_BIT_RATE, Encoding, held_by
from sharpkd.inference.video.facts import IDENTITY, facts_of, is_cover, main_stream, open_video
from sharpkd.inference.video.files import VideoError
from sharpkd.inference.video.source import VideoSource

# What a muxer writes by itself, or what describes the old stream and would be wrong of the new one.
OWN_METADATA = {
    "major_brand",
    "minor_version",
    "compatible_brands",
    "encoder",
    "duration",
    "handler_name",
    "vendor_id",
    "bps",
    "number_of_frames",
    "number_of_bytes",
}
STATISTICS = "_statistics_"
COVER_KINDS = {"mjpeg": "jpeg", "png": "png", "gif": "gif", "webp": "webp", "bmp": "bmp"}
MOV_FAMILY = ("mp4", "mov")


def copied_streams(source: VideoSource, target: Path, container: str) -> list[Stream]:
    """The streams beside the sharpened one; everything that ``target`` cannot hold is refused here.

    What is made anew of what is copied otherwise (the tracks of chapters and of a time code) is left out.

    Raises:
        VideoError: a stream that the container cannot hold.
    """
    copied, held = [], held_by(container)
    for stream in source.container.streams:
        if stream.index == source.video.index or _is_made_anew(stream, source):
            continue
        context = stream.codec_context
        name = context.codec.canonical_name if context is not None else getattr(stream, "name", None)
        what = f"{stream.type} stream {stream.index} ({name or 'unknown codec'})"
        if stream.type == "attachment":
            holds = container == "matroska"
        elif stream.type == "data":
            holds = container in MOV_FAMILY
        elif context is None:
            holds = False
        elif isinstance(stream, VideoStream) and is_cover(stream):
            holds = container != "webm"
        else:
            holds = context.codec.name in held
        if not holds:
            hint = "" if container == "matroska" else "; .mkv holds most streams"
            raise VideoError(source.path, f"{target.suffix} cannot hold {what}{hint}")
        copied.append(stream)
    return copied


def _is_made_anew(stream: Stream, source: VideoSource) -> bool:
    if stream.type != "data":
        return False
    chapter_track = getattr(stream, "name", None) == "bin_data" and bool(source.container.chapters())
    # The video stream's metadata holds the time code too: MP4 and MOV make a track of it, Matroska a tag.
    return chapter_track or "timecode" in stream.metadata


class Moments:
    """Times of frames; of a day's two million in 16 MB.

    Args:
        base: seconds that they are counted in.
    """

    def __init__(self, base: Fraction) -> None:
        self.base, self._ticks = base, array("q")

    def __len__(self) -> int:
        return len(self._ticks)

    def add(self, seconds: Fraction) -> None:
        """One more, in any order."""
        self._ticks.append(round(seconds / self.base))

    def furthest_from(self, others: Moments) -> Fraction:
        """Seconds by which the two differ at most, both in their order of time; they are equally many."""
        mine, theirs = sorted(self._ticks), sorted(others._ticks)
        pairs = zip(mine, theirs, strict=True)
        return max((abs(one * self.base - other * others.base) for one, other in pairs), default=Fraction(0))


class VideoTarget:
    """A video file that is being written.

    Args:
        path: the file to write, usually a temporary one.
        name: the path that errors name.
        container: FFmpeg's name of the container.
        encoding: of the sharpened stream.
        source: where streams are copied from; it is not read here.
        copied: those streams.

    Raises:
        VideoError: the encoder or the container refuses.
    """

    def __init__(
        self,
        path: Path,
        name: Path,
        container: str,
        encoding: Encoding,
        source: VideoSource,
        copied: Sequence[Stream],
    ) -> None:
        self.name = name
        self.facts = source.facts
        self.encoding = encoding
        self.written = Moments(source.video.time_base or Fraction(1))
        # The muxer would move all streams where one, such as audio with a lead-in, begins before 0.
        options = {"avoid_negative_ts": "disabled"}
        self.container: OutputContainer = av.open(str(path), "w", format=container, container_options=options)
        self._copies: dict[int, Stream] = {}
        try:
            order = sorted([*copied, source.video], key=lambda stream: stream.index)
            for stream in order:
                if stream.index == source.video.index:
                    self.video = self._add_video(source, container)
                else:
                    self._add_copy(stream, source, container)
            self.container.metadata.update(_kept(source.container.metadata))
            self.container.set_chapters(source.chapters())
            self.container.start_encoding()
        except (av.FFmpegError, ValueError, OSError) as error:
            self.abandon()
            reason = getattr(error, "strerror", None) or first_line(error)
            raise VideoError(
                name, f"{encoding.encoder} in {container} refuses this video: {reason}"
            ) from error

    def _add_video(self, source: VideoSource, container: str) -> VideoStream:
        facts, origin = self.facts, source.video
        if self.encoding.encoder == "libsvtav1":
            os.environ.setdefault("SVT_LOG", "1")  # its errors alone; it knows no other way
        rate = origin.average_rate or origin.guessed_rate or Fraction(25)
        stream: Any = self.container.add_stream(
            self.encoding.encoder, rate=rate, options=dict(self.encoding.options)
        )
        context = stream.codec_context
        context.width, context.height = facts.width, facts.height
        context.pix_fmt = self.encoding.pixel_format
        context.time_base = stream.time_base = origin.time_base
        context.thread_type = "AUTO"
        context.sample_aspect_ratio = facts.aspect
        context.color_range = facts.color_range
        context.color_primaries = facts.primaries
        context.color_trc = facts.transfer
        context.colorspace = facts.matrix
        context.flags |= Flags.frame_duration
        if self.encoding.encoder in VPX_BIT_RATE:
            context.bit_rate = VPX_BIT_RATE[self.encoding.encoder]
        if self.encoding.encoder == "libx265" and container in MOV_FAMILY:
            context.codec_tag = "hvc1"  # the only one that Apple's players take
        if facts.interlaced:
            context.field_order = facts.field_order
            context.flags |= Flags.interlaced_dct | Flags.interlaced_me
        if facts.display_matrix != IDENTITY:
            stream.set_display_matrix(facts.display_matrix)
        stream.metadata.update(_kept(origin.metadata))
        stream.disposition = origin.disposition
        return stream

    def _add_copy(self, stream: Stream, source: VideoSource, container: str) -> None:
        if container == "matroska" and isinstance(stream, VideoStream) and is_cover(stream):
            kind = COVER_KINDS.get(stream.codec_context.name, "png")
            name = stream.metadata.get("filename", f"cover.{'jpg' if kind == 'jpeg' else kind}")
            mime = stream.metadata.get("mimetype", f"image/{kind}")
            self.container.add_attachment(name, mime, source.cover(stream.index))
            return
        copy = self.container.add_stream_from_template(stream, opaque=True)
        copy.metadata.update(_kept(stream.metadata))
        copy.disposition = stream.disposition
        self._copies[stream.index] = copy

    @property
    def copied(self) -> set[int]:
        """Indices, in the source, of the streams whose packets `copy` takes."""
        return set(self._copies)

    def copy(self, packet: Packet[Stream]) -> None:
        """Write a packet of another stream as it is.

        Raises:
            VideoError: the container refuses it.
        """
        packet.stream = self._copies[packet.stream.index]
        self._mux(packet)

    def encode(self, frame: VideoFrame | None) -> None:
        """Encode a frame, or with None what the encoder still holds.

        Raises:
            VideoError: the encoder or the container refuses.
        """
        if frame is not None:
            self.written.add((frame.pts or 0) * Fraction(frame.time_base or 1))
            frame = self._fitting(frame)
            frame.pict_type = PictureType.NONE  # else the old stream's choice of key frames would be forced
        try:
            packets = self.video.encode(frame)
        except av.FFmpegError as error:
            raise VideoError(self.name, f"{self.encoding.encoder} failed ({error.strerror})") from error
        for packet in packets:
            self._mux(packet)

    def _fitting(self, frame: VideoFrame) -> VideoFrame:
        """The frame in the encoder's format: the same planes under another name for yuvj."""
        if frame.format.name == self.encoding.pixel_format:
            return frame
        twin = VideoFrame(frame.width, frame.height, self.encoding.pixel_format)
        for old, new in zip(frame.planes, twin.planes, strict=True):
            size = min(abs(old.line_size), abs(new.line_size))
            rows = memoryview(old), memoryview(new)
            for row in range(old.height):
                there, here = row * new.line_size, row * old.line_size
                rows[1][there : there + size] = rows[0][here : here + size]
        twin.pts, twin.time_base, twin.duration = frame.pts, frame.time_base, frame.duration
        twin.color_range, twin.colorspace = frame.color_range, frame.colorspace
        twin.color_primaries, twin.color_trc = frame.color_primaries, frame.color_trc
        return twin

    def _mux(self, packet: Packet[Any]) -> None:
        try:
            self.container.mux_one(packet)
        except (av.FFmpegError, OSError) as error:
            reason = getattr(error, "strerror", None) or first_line(error)
            raise VideoError(self.name, f"cannot be written ({reason})") from error

    def finish(self) -> None:
        """Write what is left, and the trailer.

        Raises:
            VideoError: the encoder or the disk refuses.
        """
        self.encode(None)
        try:
            self.container.close()
        except (av.FFmpegError, OSError) as error:
            reason = getattr(error, "strerror", None) or first_line(error)
            raise VideoError(self.name, f"cannot be finished ({reason})") from error

    def abandon(self) -> None:
        """Close the file of which nothing is kept."""
        # The trailer of a file that is thrown away may well be refused.
        with contextlib.suppress(av.FFmpegError, OSError, ValueError):
            self.container.close()


def rehearse(source: VideoSource, name: Path, container: str, encoding: Encoding) -> list[str]:
    """Write the first frame alone, read it back, and see whether all that it says about itself is there.

    Returns:
        What is lost without changing the picture, one sentence each.

    Raises:
        VideoError: the encoder or the container would lose something; the line says what.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"rehearsal{name.suffix}"
        target = VideoTarget(file, name, container, encoding, source, [])
        try:
            with open_video(source.path) as again:
                target.encode(next(again.decode(main_stream(source.path, again))))
            target.finish()
        except BaseException:
            target.abandon()
            raise
        found = facts_of(file)
    lost = source.facts.lost_in(found)
    if lost:
        raise VideoError(
            name,
            f"{encoding.encoder} in {container} would lose {', '.join(lost)}; use another codec or container",
        )
    return [f"{encoding.encoder} does not keep {what}" for what in sorted(source.facts.beside - found.beside)]


def check_written(file: Path, target: VideoTarget, source: VideoSource) -> list[str]:
    """Read the timestamps and the metadata of what was written.

    Returns:
        What is not as it was, one sentence each.

    Raises:
        VideoError: frames are missing.
    """
    with open_video(file) as written:
        stream = main_stream(file, written)
        base = stream.time_base or Fraction(1)
        notes = _lost_metadata(target.name, source, target.copied, written)
        found = Moments(base)
        for packet in written.demux(stream):
            if packet.pts is not None:
                found.add(packet.pts * base)
    if len(found) != len(target.written):
        raise VideoError(target.name, f"holds {len(found)} frames of {len(target.written)}: it was not kept")
    off = found.furthest_from(target.written)
    if off:
        notes.append(
            f"timestamps moved by up to {float(off * 1000):.3g} ms: the container counts in {base} s"
        )
    return notes


def _lost_metadata(name: Path, source: VideoSource, copied: set[int], written: InputContainer) -> list[str]:
    """What of the metadata, and which streams, are not in ``written``: one sentence each."""
    notes = []
    lost = _lost(source.container.metadata, written.metadata)
    if lost:
        notes.append(f"metadata that {name.suffix} does not hold: {lost}")
    wanted = [one for one in source.container.streams if one.index in copied | {source.video.index}]
    for kind in dict.fromkeys(one.type for one in wanted):
        old = [one for one in wanted if one.type == kind]
        new = [one for one in written.streams if one.type == kind]
        if len(new) < len(old):
            notes.append(f"{len(old) - len(new)} {kind} stream without packets was left out")
            continue
        for before, after in zip(old, new, strict=False):
            lost = _lost(before.metadata, after.metadata)
            if lost:
                notes.append(
                    f"metadata of {kind} stream {before.index} that {name.suffix} does not hold: {lost}"
                )
    return notes


def _lost(before: dict[str, str], after: dict[str, str]) -> str:
    there = {key.lower() for key in after}
    old = {key.lower(): value for key, value in _kept(before).items()}
    return ", ".join(sorted(key for key in old.keys() - there if old[key] != "und"))


def _kept(metadata: dict[str, str]) -> dict[str, str]:
    return {
        key: value
        for key, value in metadata.items()
        if key.lower() not in OWN_METADATA and not key.lower().startswith(STATISTICS)
    }
