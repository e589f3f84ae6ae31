"""`sharpen_video`: a video file in, the same video with sharper frames out, nothing else changed."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sharpkd.inference.video.files import VideoError, check_installed, format_of, temporary_beside

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sharpkd.inference.video.pixels import Mode

MODES = ("auto", "luma", "rgb")


@dataclass(frozen=True)
class VideoReport:
    """How sharpening a video went.

    Attributes:
        frames: how many were sharpened.
        seconds: from the first frame read to the last one written.
        busy: seconds in which the stages "decode", "sharpen" and "encode" worked, without waiting for others.
        encoder: FFmpeg's name of what wrote the frames.
        notes: what could not be kept, one sentence each.
    """

    frames: int
    seconds: float
    busy: Mapping[str, float]
    encoder: str
    notes: tuple[str, ...]

    @property
    def frames_per_second(self) -> float:
        """Frames sharpened in a second."""
        return self.frames / self.seconds

    @property
    def shares(self) -> dict[str, float]:
        """Part of the time that each stage worked, in [0, 1]; that of the slowest is near 1."""
        return {stage: seconds / self.seconds for stage, seconds in self.busy.items()}


def sharpen_video(
    source: Path | str,
    target: Path | str,
    restore: Callable[[NDArray[Any]], NDArray[Any]],
    *,
    mode: Mode = "auto",
    codec: str | None = None,
    crf: float | None = None,
    preset: str | None = None,
    start: float | None = None,
    end: float | None = None,
    steady: bool = True,
    overwrite: bool = False,
    on_frame: Callable[[int, int | None], None] | None = None,
) -> VideoReport:
    """Sharpen every frame of a video and copy everything else.

    Audio, subtitles, chapters, attachments and metadata are copied as they are; timestamps, rotation, colour
    tags, bit depth, pixel aspect and field order stay. What the target cannot keep is refused before the
    first frame is sharpened. The target appears under its name when it is complete, or not at all.

    Args:
        source: an .mp4, .m4v, .mov, .mkv or .webm file.
        target: likewise; may be another container.
        restore: called with one array after the other; returns the same shape and type. In mode "luma" it
            gets ``(H, W)``, in mode "rgb" ``(H, W, 3)``, in full range: uint8, or uint16 for more than 8
            bits. A `Sharpener` is such a function for both. An interlaced frame comes field by field.
        mode: "luma" leaves chroma untouched; "auto" is "luma", but "rgb" for RGB video. In each a ``restore``
            that changes nothing changes no sample.
        codec: FFmpeg's name of an encoder; None for the source's kind, or H.264 (VP9 in .webm).
        crf: constant quality, smaller is finer; None for a fine one.
        preset: of the encoder, such as "fast".
        start: seconds from the file's beginning; what comes before is left out, timestamps begin anew.
        end: likewise; what comes from there on is left out.
        steady: what stands still stays as it was sharpened first, so that it flickers no more than before,
            and ``restore`` is not called where nothing changed: see `sharpkd.inference.video.steady.Steady`.
        overwrite: replace a target that exists.
        on_frame: called with the frames done and about how many there are (None where the file does not say).

    Raises:
        VideoError: one line that names the file and the reason.
        ValueError: an unknown mode, or ``restore`` returned another shape or type.

    Example:
        >>> from sharpkd.inference.sharpener import Sharpener          # doctest: +SKIP
        >>> sharpen_video("clip.mp4", "sharp.mp4", Sharpener("student.onnx"))  # doctest: +SKIP
    """
    source, target = Path(source), Path(target)
    container = format_of(target)
    format_of(source)
    check_installed(source)
    if mode not in MODES:
        raise ValueError(f"mode must be one of {', '.join(MODES)}, got {mode!r}")
    if target.exists() and not overwrite:
        same = source.exists() and target.samefile(source)
        raise VideoError(
            source, ("would overwrite itself" if same else f"{target} exists") + "; --overwrite replaces it"
        )

    from sharpkd.inference.video.codecs import encoder_for, encoding_for
    from sharpkd.inference.video.pipeline import Pipeline
    from sharpkd.inference.video.pixels import pixels_for
    from sharpkd.inference.video.source import VideoSource, cut_of
    from sharpkd.inference.video.target import VideoTarget, check_written, copied_streams, rehearse

    opened = VideoSource(source, cut_of(source, start, end))
    try:
        # What needs no decoded frame is refused before there is one.
        copied = copied_streams(opened, target, container)
        kind = opened.video.codec_context.codec.canonical_name
        encoder = encoder_for(target, container, kind, codec)
        pixels = pixels_for(source, opened.facts, mode, steady)
        encoding = encoding_for(target, encoder, opened.facts, crf, preset)
        notes = rehearse(opened, target, container, encoding)
        expected = opened.expected_frames()

        def tell(done: int) -> None:
            if on_frame is not None:
                on_frame(done, None if expected is None else max(expected, done))

        with temporary_beside(target) as temporary:
            writer = VideoTarget(temporary, target, container, encoding, opened, copied)
            pipeline = Pipeline(opened, writer, pixels, restore, tell)
            began = time.perf_counter()
            try:
                pipeline.run()
            except BaseException:
                writer.abandon()
                raise
            seconds = time.perf_counter() - began
            if pipeline.frames == 0:
                until = "its end" if end is None else f"{end:g} s"
                raise VideoError(source, f"holds no frames between {start or 0:g} s and {until}")
            notes += opened.remarks() + check_written(temporary, writer, opened)
    finally:
        opened.close()
    return VideoReport(pipeline.frames, seconds, pipeline.busy, encoder, tuple(notes))
