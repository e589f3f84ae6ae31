"""Three stages at once: one thread decodes, the calling one sharpens, one encodes and writes.

The queues between them are bounded: the slowest stage alone sets the pace, and memory stays small. What goes
wrong in one stage, Ctrl-C included, ends all of them.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from av.packet import Packet
from av.stream import Stream
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from sharpkd.inference.video.pixels import Pixels, Restore
from sharpkd.inference.video.source import VideoSource
from sharpkd.inference.video.target import VideoTarget

STAGES = ("decode", "sharpen", "encode")
QUEUED_FRAMES = 4
PACKETS_BESIDE = 256
"""Packets of other streams that wait for the next frame; more go on without one."""
LOOK_UP = 0.1
"""Seconds after which a waiting stage looks whether another one failed."""


@dataclass
class Step:
    """What goes from stage to stage: packets to copy, then a frame, or the end."""

    packets: list[Packet[Stream]] = field(default_factory=list)
    frame: VideoFrame | None = None
    shown: Any = None
    restored: NDArray[Any] | None = None
    last: bool = False


class Stopped(Exception):  # noqa: N818  # no error: another stage has one, or Ctrl-C came
    """Raised in a stage that waits when all are to end."""


class Pipeline:
    """Runs the three stages once.

    Args:
        source: read in a thread of its own.
        target: written in another.
        pixels: how frames are shown to ``restore``.
        restore: called in the thread that calls `run`, frame after frame.
        on_frame: called there too, with the number of frames sharpened so far.

    Attributes:
        busy: seconds that each of `STAGES` has worked, without its waiting.
        frames: how many were sharpened.
    """

    def __init__(
        self,
        source: VideoSource,
        target: VideoTarget,
        pixels: Pixels,
        restore: Restore,
        on_frame: Callable[[int], None],
    ) -> None:
        self._source, self._target = source, target
        self._pixels, self._restore, self._on_frame = pixels, restore, on_frame
        self._decoded: queue.Queue[Step] = queue.Queue(QUEUED_FRAMES)
        self._sharpened: queue.Queue[Step] = queue.Queue(QUEUED_FRAMES)
        self._stop = threading.Event()
        self._errors: list[BaseException] = []
        self.busy = dict.fromkeys(STAGES, 0.0)
        self.frames = 0

    def run(self) -> None:
        """Sharpen the video to its end.

        Raises:
            BaseException: the first error of any stage; all three have ended then.
        """
        threads = [
            threading.Thread(target=self._guarded, args=(stage,), name=stage.__name__, daemon=True)
            for stage in (self._decode, self._encode)
        ]
        try:
            for thread in threads:
                thread.start()
            self._sharpen()
            while threads[-1].is_alive():
                threads[-1].join(LOOK_UP)
        except Stopped:
            pass  # the stage that failed has said why
        finally:
            self._stop.set()
            for thread in threads:
                thread.join()
        if self._errors:
            raise self._errors[0]

    def _guarded(self, stage: Callable[[], None]) -> None:
        try:
            stage()
        except Stopped:
            return
        except BaseException as error:  # raised again by `run`, in the calling thread
            self._errors.append(error)
            self._stop.set()

    @contextmanager
    def _working(self, stage: str) -> Iterator[None]:
        began = time.perf_counter()
        try:
            yield
        finally:
            self.busy[stage] += time.perf_counter() - began

    def _decode(self) -> None:
        things = self._source.read(self._target.copied)
        step = Step()
        while True:
            with self._working("decode"):
                thing = next(things, None)
                if isinstance(thing, VideoFrame):
                    step.frame, step.shown = thing, self._pixels.shown(thing)
            if isinstance(thing, Packet):
                step.packets.append(thing)
                if len(step.packets) < PACKETS_BESIDE:
                    continue
            step.last = thing is None
            self._put(self._decoded, step)
            if step.last:
                return
            step = Step()

    def _sharpen(self) -> None:
        while True:
            step = self._get(self._decoded)
            if step.frame is not None:
                with self._working("sharpen"):
                    step.restored = self._pixels.restored(step.shown, self._restore)
                self.frames += 1
                self._on_frame(self.frames)
            self._put(self._sharpened, step)
            if step.last:
                return

    def _encode(self) -> None:
        while True:
            step = self._get(self._sharpened)
            with self._working("encode"):
                for packet in step.packets:
                    self._target.copy(packet)
                if step.frame is not None and step.restored is not None:
                    self._pixels.write(step.frame, step.shown, step.restored)
                    self._target.encode(step.frame)
                if step.last:
                    self._target.finish()
                    return

    def _put(self, steps: queue.Queue[Step], step: Step) -> None:
        while not self._stop.is_set():
            try:
                return steps.put(step, timeout=LOOK_UP)
            except queue.Full:
                continue
        raise Stopped

    def _get(self, steps: queue.Queue[Step]) -> Step:
        while not self._stop.is_set():
            try:
                return steps.get(timeout=LOOK_UP)
            except queue.Empty:
                continue
        raise Stopped
