"""Which encoder writes a video, and with which options."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import av

from sharpkd.inference.video.facts import VideoFacts
from sharpkd.inference.video.files import VideoError

# FFmpeg's name of what was decoded -> the encoder of the same kind.
ENCODER_OF = {
    "h264": "libx264",
    "hevc": "libx265",
    "vp8": "libvpx",
    "vp9": "libvpx-vp9",
    "av1": "libsvtav1",
    "ffv1": "ffv1",
    "prores": "prores_ks",
}
DEFAULT_ENCODER = {"mp4": "libx264", "mov": "libx264", "matroska": "libx264", "webm": "libvpx-vp9"}
DEFAULT_CRF = {"libx264": 18.0, "libx265": 20.0, "libvpx": 10.0, "libvpx-vp9": 24.0, "libsvtav1": 24.0}
"""Constant quality where the user gives none: finer than the encoders' own, to keep the sharpened detail."""
X26X_PRESETS = (
    *("ultrafast", "superfast", "veryfast", "faster", "fast"),
    *("medium", "slow", "slower", "veryslow", "placebo"),
)
PRESETS = {"libx264": X26X_PRESETS, "libx265": X26X_PRESETS}
FIXED_OPTIONS = {
    # without frames out of order: with them x265 gives the first packets a decoding time that it has not
    # computed, and muxers refuse it, depending on what lay in memory
    "libx265": {"x265-params": "log-level=error:bframes=0"},
    "libvpx": {"deadline": "good", "cpu-used": "4"},
    "libvpx-vp9": {"deadline": "good", "cpu-used": "4", "row-mt": "1"},
}
# libvpx takes a constant quality only with a bit rate: 0, or for VP8 a ceiling.
VPX_BIT_RATE = {"libvpx": 100_000_000, "libvpx-vp9": 0}
INTERLACED_ENCODERS = ("libx264", "mpeg2video", "prores_ks", "ffv1")
NEEDS_EVEN_SIDES = ("libx264", "libx265")


@dataclass(frozen=True)
class Encoding:
    """How frames are written.

    Attributes:
        encoder: FFmpeg's name.
        pixel_format: of the encoder.
        options: of the encoder, by its own names.
    """

    encoder: str
    pixel_format: str
    options: dict[str, str] = field(default_factory=dict)


def encoder_for(target: Path, container: str, source_codec: str, codec: str | None) -> str:
    """Choose the encoder.

    Args:
        target: named in errors.
        container: FFmpeg's name of the target's container.
        source_codec: FFmpeg's name of what the source's video stream is written in.
        codec: an encoder, such as "libx265"; None for one of the source's kind where the container takes it.

    Raises:
        VideoError: no such encoder, or one that the container does not hold.
    """
    held = held_by(container)
    name = codec or ENCODER_OF.get(source_codec, "")
    if codec is None and (name not in held or not _exists(name)):
        name = DEFAULT_ENCODER[container]
    if not _exists(name):
        raise VideoError(target, f"FFmpeg has no video encoder {name!r} here")
    if name not in held:
        raise VideoError(
            target, f"{target.suffix} cannot hold what {name} writes; use another codec, or .mkv"
        )
    return name


def encoding_for(
    target: Path, encoder: str, facts: VideoFacts, crf: float | None, preset: str | None
) -> Encoding:
    """Check that an encoder can write what it will get, and choose its options.

    Args:
        target: named in errors.
        encoder: FFmpeg's name; it exists.
        facts: of the stream.
        crf: constant quality, smaller is finer; None for `DEFAULT_CRF`.
        preset: the encoder's own; None for its default.

    Raises:
        VideoError: an option that it does not have, or a picture that it cannot write as it is.
    """
    options = _options(target, encoder, crf, preset)
    return Encoding(encoder, _pixel_format(target, av.Codec(encoder, "w"), facts), options)


def held_by(container: str) -> set[str]:
    """FFmpeg's names of the codecs that a container holds."""
    # No file comes to be: that happens with the header, before the first packet.
    with av.open("nowhere", "w", format=container) as scratch:
        return set(scratch.supported_codecs)


def _exists(name: str) -> bool:
    try:
        return av.Codec(name, "w").type == "video"
    except av.codec.codec.UnknownCodecError:
        return False


def _pixel_format(target: Path, encoder: av.Codec, facts: VideoFacts) -> str:
    name, wanted = encoder.name, facts.pixel_format
    formats = [one.name for one in encoder.video_formats or ()]
    if wanted not in formats:
        # yuvj420p is yuv420p with a word about its range, which the stream carries too
        wanted = wanted.replace("yuvj", "yuv")
    if wanted not in formats:
        writes = f"it writes {', '.join(formats)}" if formats else "it does not tell what it writes"
        raise VideoError(target, f"{name} cannot write {facts.pixel_format}; {writes}")
    if facts.interlaced and (name not in INTERLACED_ENCODERS or wanted != facts.pixel_format):
        raise VideoError(
            target,
            f"the video is interlaced, which {name} cannot keep; "
            "use codec libx264 or ffv1, or deinterlace it first",
        )
    odd = (facts.width % 2 and "p" in wanted, facts.height % 2 and "420" in wanted)
    if name in NEEDS_EVEN_SIDES and "444" not in wanted and wanted.startswith("yuv") and any(odd):
        raise VideoError(
            target,
            f"{name} cannot write {wanted} of the odd size {facts.width}x{facts.height}; "
            "use codec libvpx-vp9 or ffv1",
        )
    return wanted


def _options(target: Path, name: str, crf: float | None, preset: str | None) -> dict[str, str]:
    own = {one.name for one in av.CodecContext.create(name, "w").supported_options.private}
    options = {key: value for key, value in FIXED_OPTIONS.get(name, {}).items() if key in own}
    for option, value in (("crf", crf), ("preset", preset)):
        if value is not None and option not in own:
            raise VideoError(target, f"{name} has no {option}")
    if preset is not None and preset not in PRESETS.get(name, (preset,)):
        raise VideoError(target, f"{name} has no preset {preset!r}; it has {', '.join(PRESETS[name])}")
    quality = DEFAULT_CRF.get(name) if crf is None else crf
    if quality is not None:
        options["crf"] = f"{quality:g}"
    if preset is not None:
        options["preset"] = preset
    return options
