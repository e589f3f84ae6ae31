"""Reading a video: decoded frames of one stream, packets of all others, in the file's order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path

import av
from av.container import InputContainer
from av.packet import Packet
from av.stream import Stream
from av.video.frame import VideoFrame

from sharpkd.inference.errors import first_line
from sharpkd.inference.video.facts import VideoFacts, facts_of, main_stream, open_video
from sharpkd.inference.video.files import VideoError

SEEK_MARGIN = Fraction(5)
"""Seconds before the start at which reading begins, and after the end at which it ends: what belongs to one
moment is stored at some distance from each other."""
CUT_OFF = Fraction(1)
"""Seconds that may be missing at a file's end before it is taken for one that was cut off; of a short one a
quarter."""
MICROSECONDS = 1_000_000
NO_TEXT = b"\0\0"
"""A text of MP4 is its length in two bytes, then its letters."""


@dataclass(frozen=True)
class Cut:
    """The part of a video that is kept, in seconds from the file's first timestamp, as players count.

    Attributes:
        start: first moment that is kept.
        end: first moment that is not; None for all.
    """

    start: Fraction = Fraction(0)
    end: Fraction | None = None

    @property
    def length(self) -> Fraction | None:
        """Seconds, where it has an end."""
        return None if self.end is None else self.end - self.start


LONGEST = 3e9
"""Seconds."""


def cut_of(path: Path, start: float | None, end: float | None) -> Cut:
    """Check what the user gave.

    Raises:
        VideoError: a negative time, or one of more than a century, or an end that is not after the start.
    """
    first, last = start or 0.0, LONGEST if end is None else end
    if not (0 <= first < last <= LONGEST):
        raise VideoError(path, f"start and end must be 0 <= start < end (seconds), got {start} and {end}")
    return Cut(Fraction(str(start or 0)), None if end is None else Fraction(str(end)))


class VideoSource:
    """An opened video file.

    Args:
        path: the file.
        cut: the part to read.

    Raises:
        VideoError: it cannot be opened.
    """

    def __init__(self, path: Path, cut: Cut) -> None:
        self.path = path
        self.cut = cut
        self.container: InputContainer = open_video(path)
        self.video = main_stream(path, self.container)
        self.video.thread_type = "AUTO"
        began = self.container.start_time
        first = Fraction(began, MICROSECONDS) if began is not None and not self._whole else Fraction(0)
        self._from = first + cut.start
        self._to = None if cut.end is None else first + cut.end
        self._damaged = 0
        self._reached = Fraction(0)

    @cached_property
    def facts(self) -> VideoFacts:
        """Of the video stream; a frame is decoded for them.

        Raises:
            VideoError: see `facts_of`.
        """
        return facts_of(self.path)

    @property
    def _whole(self) -> bool:
        return self.cut == Cut()

    @property
    def shift(self) -> Fraction:
        """Seconds that are taken off every timestamp: 0 where the whole file is read."""
        return self._from if self.cut.start else Fraction(0)

    def ticks(self, time_base: Fraction) -> int:
        """`shift` in units of a time base, rounded."""
        return round(self.shift / time_base)

    def expected_frames(self) -> int | None:
        """About how many frames there are, for a progress bar; None where the file does not say."""
        seconds = self._seconds()
        rate = self.video.average_rate
        if self._whole and self.video.frames:
            return int(self.video.frames)
        return round(seconds * rate) if seconds and rate else None

    def _seconds(self) -> Fraction | None:
        whole = self.container.duration
        if whole is None:
            return self.cut.length
        left = max(Fraction(0), Fraction(whole, MICROSECONDS) - self.cut.start)
        return left if self.cut.length is None else min(left, self.cut.length)

    def read(self, copied: set[int]) -> Iterator[VideoFrame | Packet[Stream]]:
        """Frames that lie in the cut, and packets of the streams ``copied`` that begin in it.

        Timestamps are already those of the target: `shift` has been taken off.

        Args:
            copied: indices of streams.

        Raises:
            VideoError: damage that the decoder cannot pass over, a frame without a timestamp or with that of
                the one before, a change of size or format on the way, or an interlaced frame in a stream that
                began without.
        """
        if self.cut.start:
            at = max(Fraction(0), self._from - SEEK_MARGIN)
            self.container.seek(int(at * MICROSECONDS), backward=True)
        wanted = [self.video, *(one for one in self.container.streams if one.index in copied)]
        count, last, ended = 0, None, False
        packets = self._packets(wanted)
        for packet in packets:
            if packet.pts is not None:
                length = (packet.duration or 0) * Fraction(packet.time_base or 1)
                self._reached = max(self._reached, _time(packet) + length)
            if packet.stream.index != self.video.index:
                if self._keeps(packet):
                    yield self._moved(packet)
                continue
            if ended:
                if self._is_far_beyond(packet):
                    return
                continue
            for frame in self._decode(packet, count):
                if frame.pts is None:
                    raise VideoError(self.path, f"frame {count} has no timestamp")
                if last is not None and frame.pts <= last:
                    raise VideoError(
                        self.path, f"frame {count} is not after the one before (time {frame.time})"
                    )
                last = frame.pts
                count += 1
                time = frame.pts * self._time_base(frame)
                if self._to is not None and time >= self._to:
                    ended = True
                    break
                if self.cut.start and time < self._from:
                    continue
                self._check(frame, count - 1)
                frame.pts -= self.ticks(self._time_base(frame))
                yield frame

    def _packets(self, streams: list[Stream]) -> Iterator[Packet[Stream]]:
        demuxed = self.container.demux(streams)
        while True:
            try:
                yield next(demuxed)
            except StopIteration:
                return
            except (av.FFmpegError, OSError) as error:
                raise VideoError(self.path, f"cannot be read to its end ({first_line(error)})") from error

    def _decode(self, packet: Packet[Stream], count: int) -> list[VideoFrame]:
        try:
            return list(self.video.decode(packet))
        except av.FFmpegError as error:
            reason = error.strerror or first_line(error)
            raise VideoError(self.path, f"cannot be decoded from frame {count} on ({reason})") from error

    def _time_base(self, frame: VideoFrame) -> Fraction:
        return frame.time_base or self.video.time_base or Fraction(1, MICROSECONDS)

    def _keeps(self, packet: Packet[Stream]) -> bool:
        if packet.size == 0 and packet.pts is None:
            return False  # flushes a decoder; none is at work
        context = packet.stream.codec_context
        if context is not None and context.name == "mov_text" and packet.size == len(NO_TEXT):
            return False  # a gap between texts, which the muxer fills by itself
        if self._whole or (packet.pts is None and packet.dts is None):
            return True  # a cover picture has no time
        time = _time(packet)
        return (not self.cut.start or time >= self._from) and (self._to is None or time < self._to)

    def _is_far_beyond(self, packet: Packet[Stream]) -> bool:
        if packet.dts is None and packet.pts is None:
            return False
        return self._to is not None and _time(packet) > self._to + SEEK_MARGIN

    def _moved(self, packet: Packet[Stream]) -> Packet[Stream]:
        ticks = self.ticks(Fraction(packet.time_base or 1))
        if packet.pts is not None:
            packet.pts -= ticks
        if packet.dts is not None:
            packet.dts -= ticks
        return packet

    def _check(self, frame: VideoFrame, count: int) -> None:
        facts = self.facts
        for name, begun, found in (
            ("size", f"{facts.width}x{facts.height}", f"{frame.width}x{frame.height}"),
            ("pixel format", facts.pixel_format, frame.format.name),
        ):
            if begun != found:
                raise VideoError(self.path, f"changes its {name} at frame {count}, from {begun} to {found}")
        if frame.interlaced_frame and not facts.interlaced:
            raise VideoError(self.path, f"frame {count} is interlaced, those before are not: cannot be kept")
        self._damaged += frame.is_corrupt

    def chapters(self) -> list[av.container.core.Chapter]:
        """The chapters that reach into the cut, with the target's times."""
        kept = []
        for chapter in self.container.chapters():
            base = chapter["time_base"] or Fraction(1)
            start, end = max(chapter["start"] * base, self._from), chapter["end"] * base
            if self._to is not None:
                end = min(end, self._to)
            if self._whole:
                kept.append(chapter)
            elif start < end:
                ticks = self.ticks(base)
                kept.append(
                    {**chapter, "start": round(start / base) - ticks, "end": round(end / base) - ticks}
                )
        return kept

    def remarks(self) -> list[str]:
        """After reading: what speaks for a damaged file, one sentence each."""
        found = []
        if self._damaged:
            found.append(f"{self._damaged} frames of the input are damaged")
        lasts = Fraction(self.container.duration or 0, MICROSECONDS)
        # Matroska counts its length from 0, MP4 from the first timestamp: never too short against this.
        ended = self._reached
        if self._to is None and lasts - ended > min(CUT_OFF, lasts / 4):
            found.append(
                f"the input says that it lasts {float(lasts):.1f} s, but ends at {float(ended):.1f} s"
            )
        return found

    def cover(self, index: int) -> bytes:
        """The file of the cover picture that is stream ``index``."""
        with open_video(self.path) as again:
            return bytes(next(again.demux(again.streams[index])))

    def close(self) -> None:
        """Close the file."""
        self.container.close()


def _time(packet: Packet[Stream]) -> Fraction:
    ticks = packet.pts if packet.pts is not None else packet.dts
    return Fraction(ticks or 0) * Fraction(packet.time_base or 1)
