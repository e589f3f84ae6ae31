"""How many frames a second a video is sharpened at, split by stage, and whether a static scene flickers."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from rich.console import Console
from rich.table import Table

from sharpkd.data.crops import to_tensor
from sharpkd.data.images import read_image
from sharpkd.data.sample import SampleSource
from sharpkd.evaluation.machine import machine
from sharpkd.evaluation.speed_files import write_speed
from sharpkd.functional.psnr import psnr
from sharpkd.inference.sharpener import Sharpener
from sharpkd.inference.video.files import check_installed
from sharpkd.inference.video.flicker import flicker_of
from sharpkd.inference.video.sharpen import VideoReport, sharpen_video

RATE = 25
BLUR = 1.0
"""Sigma in pixels of the clip that the benchmark makes."""
QUALITY_FRAMES = 3
STILL_NOISE = (0.0, 1.0, 2.0)
"""8-bit levels, standard deviation."""


@dataclass(frozen=True)
class VideoSpeedRow:
    """One clip in one mode.

    Attributes:
        size: width x height.
        mode: "luma" or "rgb".
        frames: how many were sharpened.
        frames_per_second: from the file to the file.
        decode_ms: milliseconds a frame that the stage worked, conversion included, without waiting.
        sharpen_ms: likewise, the net.
        encode_ms: likewise, conversion and writing included.
        encoder: FFmpeg's name.
    """

    size: str
    mode: str
    frames: int
    frames_per_second: float
    decode_ms: float
    sharpen_ms: float
    encode_ms: float
    encoder: str


@dataclass(frozen=True)
class FlickerRow:
    """A static scene, written as a video and sharpened.

    All numbers but the noise are mean absolute differences of consecutive luma planes, in 8-bit levels.

    Attributes:
        codec: of the input and of the output.
        noise: standard deviation of what was added to each frame before the codec, in 8-bit levels.
        mode: "luma" or "rgb".
        before: of the input.
        sharpened: of the sharpened frames.
        copied: of the input, not sharpened, after it went through the encoder once more.
        after: of the output.
    """

    codec: str
    noise: float
    mode: str
    before: float
    sharpened: float
    copied: float
    after: float


@dataclass(frozen=True)
class QualityRow:
    """What sharpening gains in one mode, on the first frames of the blurred clip, without loss by a codec.

    Attributes:
        mode: "luma" or "rgb".
        before: PSNR in dB of the blurred frames to the sharp ones, RGB, mean over the frames.
        after: likewise of the sharpened ones.
    """

    mode: str
    before: float
    after: float


class VideoSpeed:
    """Sharpens clips of several sizes, or one clip of the user's, and a static scene.

    The clips that it makes pan over one of scikit-image's photographs, blurred with sigma 1, in H.264.

    Args:
        model: an ``.onnx``, ``.safetensors`` or ``.ckpt`` file.
        clip: a video file to measure on at its own size; None for clips that are made.
        sizes: (height, width) of the clips that are made.
        frames: length of each clip, at least 2; of the user's clip so many are used, at 25 a second.
        modes: "luma", "rgb" or both.
        codec: encoder; None for that of the input's kind.
        preset: of the encoder; None for its default.
        tile: see `Sharpener`.
        still_size: (height, width) of the static scene, and of the frames whose quality is measured.

    Raises:
        ModelError: the model cannot be opened.
        VideoError: PyAV is not installed.
        ValueError: no model, no size, no mode, or fewer than two frames.
    """

    def __init__(
        self,
        model: str | None,
        clip: str | None = None,
        sizes: Sequence[Sequence[int]] = ((480, 854), (720, 1280), (1080, 1920)),
        frames: int = 50,
        modes: Sequence[str] = ("luma", "rgb"),
        codec: str | None = None,
        preset: str | None = None,
        tile: int | None = None,
        still_size: Sequence[int] = (240, 320),
    ) -> None:
        if model is None:
            raise ValueError("model=FILE names the net that sharpens: an .onnx, .safetensors or .ckpt file")
        if frames < 2 or not modes or not (clip or sizes):
            raise ValueError(f"frames >= 2, modes and sizes are needed, got {frames}, {modes} and {sizes}")
        self.model = Path(model).expanduser()
        self.clip = None if clip is None else Path(clip).expanduser()
        check_installed(self.clip or self.model)
        self.sharpener = Sharpener(self.model, tile=tile)
        self.sizes = [(int(height), int(width)) for height, width in sizes]
        self.frames = frames
        self.modes: list[Any] = list(modes)
        self.encoding: dict[str, Any] = {"codec": codec, "preset": preset}
        self.still_size = (int(still_size[0]), int(still_size[1]))

    def run(self, folder: Path) -> float:
        """Write ``video_speed.json`` and ``video_speed.csv``, print a table.

        Returns:
            Frames a second of the last clip in the first mode.
        """
        with tempfile.TemporaryDirectory() as name:
            work = Path(name)
            rows = [
                self._measure(size, clip, mode, work)
                for size, clip in self._clips(work)
                for mode in self.modes
            ]
            flicker = [
                self._flicker(codec, suffix, noise, mode, work)
                for codec, suffix in (("ffv1", ".mkv"), ("libx264", ".mp4"))
                for noise in STILL_NOISE
                for mode in self.modes
            ]
            quality = self._quality(work)
        figures = {
            **machine(),
            "model": self.model.name,
            "net": self.sharpener.info.net,
            "args": self.sharpener.info.args,
            "engine": self.sharpener.engine,
            "flicker": [asdict(row) for row in flicker],
            "quality": [asdict(row) for row in quality],
        }
        write_speed(folder, "video_speed", figures, "clips", rows)
        _print(rows, flicker, quality, folder)
        return next(row.frames_per_second for row in rows[-len(self.modes) :])

    def _clips(self, work: Path) -> Iterator[tuple[str, Path]]:
        if self.clip is not None:
            yield "", self.clip
            return
        for height, width in self.sizes:
            path = work / f"{height}.mp4"
            write_clip(path, _pan(height, width, self.frames), "libx264")
            yield f"{width}x{height}", path

    def _measure(self, size: str, clip: Path, mode: Any, work: Path) -> VideoSpeedRow:
        end = None if self.clip is None else self.frames / RATE
        target = work / f"sharp{clip.suffix}"
        shapes: set[tuple[int, ...]] = set()
        sharpen = self.sharpener.for_scene()

        def restore(image: NDArray[Any]) -> NDArray[Any]:
            shapes.add(image.shape)
            return sharpen(image)

        report = sharpen_video(clip, target, restore, mode=mode, end=end, overwrite=True, **self.encoding)
        ((height, width, *_),) = shapes
        return _row(size or f"{width}x{height}", mode, report)

    def _flicker(self, codec: str, suffix: str, noise: float, mode: Any, work: Path) -> FlickerRow:
        source = work / f"static_{noise}_{codec}{suffix}"
        if not source.exists():
            write_clip(source, _still(*self.still_size, noise, min(self.frames, RATE)), codec)
        sharpened, copied, target = work / "still_sharp.mkv", work / f"copy{suffix}", work / f"sharp{suffix}"
        sharpen_video(source, sharpened, self.sharpener.for_scene(), mode=mode, codec="ffv1", overwrite=True)
        sharpen_video(source, copied, lambda frame: frame, mode=mode, codec=codec, overwrite=True)
        sharpen_video(source, target, self.sharpener.for_scene(), mode=mode, codec=codec, overwrite=True)
        found = [round(flicker_of(one), 4) for one in (source, sharpened, copied, target)]
        return FlickerRow(codec, noise, mode, *found)

    def _quality(self, work: Path) -> list[QualityRow]:
        blurred, sharp = work / "blurred.mkv", work / "sharp.mkv"
        for path, blur in ((blurred, BLUR), (sharp, 0.0)):
            write_clip(path, _pan(*self.still_size, QUALITY_FRAMES, blur), "ffv1")
        truth = list(_rgb_frames(sharp))
        before = _psnr(_rgb_frames(blurred), truth)
        rows = []
        for mode in self.modes:
            target = work / "restored.mkv"
            sharpen_video(blurred, target, self.sharpener.for_scene(), mode=mode, overwrite=True)
            rows.append(QualityRow(mode, round(before, 3), round(_psnr(_rgb_frames(target), truth), 3)))
        return rows


def write_clip(path: Path, frames: Iterator[NDArray[np.uint8]] | list[NDArray[np.uint8]], codec: str) -> None:
    """Write ``(H, W, 3)`` RGB frames as a video of 25 frames a second, 4:2:0, BT.709, limited range."""
    import av

    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=RATE)
        context = stream.codec_context
        context.pix_fmt, context.color_range, context.colorspace = "yuv420p", 1, 1
        context.time_base = stream.time_base = Fraction(1, RATE)
        for index, pixels in enumerate(frames):
            height, width = pixels.shape[:2]
            if index == 0:
                context.width, context.height = width, height
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(
                format="yuv420p", dst_colorspace="itu709", src_color_range=2, dst_color_range=1
            )
            frame.pts, frame.time_base = index, Fraction(1, RATE)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def _rgb_frames(path: Path) -> Iterator[NDArray[np.uint8]]:
    import av

    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            pixels = frame.to_ndarray(format="rgb24", src_color_range=1, dst_color_range=2)
            yield pixels.astype(np.uint8, copy=False)


def _psnr(frames: Iterator[NDArray[np.uint8]], truth: Sequence[NDArray[np.uint8]]) -> float:
    values = [float(psnr(to_tensor(one), to_tensor(sharp))) for one, sharp in zip(frames, truth, strict=True)]
    return sum(values) / len(values)


def _pan(height: int, width: int, frames: int, blur: float = BLUR) -> Iterator[NDArray[np.uint8]]:
    photograph = read_image(SampleSource().train_files()[0])
    room = (height + 2 * frames, width + 3 * frames)
    missing = [max(0, want - have) for want, have in zip(room, photograph.shape[:2], strict=True)]
    large = np.pad(photograph, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="symmetric")
    blurred = np.asarray(Image.fromarray(large).filter(ImageFilter.GaussianBlur(blur)))
    for index in range(frames):
        yield np.ascontiguousarray(blurred[2 * index :][:height, 3 * index : 3 * index + width])


def _still(height: int, width: int, noise: float, frames: int) -> Iterator[NDArray[np.uint8]]:
    still = next(_pan(height, width, 1))
    generator = np.random.default_rng(0)
    for _ in range(frames):
        noisy = still + generator.normal(0, noise, still.shape)
        yield np.clip(np.rint(noisy), 0, 255).astype(np.uint8)


def _row(size: str, mode: str, report: VideoReport) -> VideoSpeedRow:
    ms = {stage: round(1000 * seconds / report.frames, 2) for stage, seconds in report.busy.items()}
    rate = round(report.frames_per_second, 2)
    return VideoSpeedRow(
        size, mode, report.frames, rate, ms["decode"], ms["sharpen"], ms["encode"], report.encoder
    )


def _print(
    rows: Sequence[VideoSpeedRow],
    flicker: Sequence[FlickerRow],
    quality: Sequence[QualityRow],
    folder: Path,
) -> None:
    table = Table(title="Frames a second, and milliseconds a frame of each stage")
    for column in ("size", "mode", "frames/s", "decode", "sharpen", "encode"):
        table.add_column(column, justify="right")
    for row in rows:
        stages = (row.decode_ms, row.sharpen_ms, row.encode_ms)
        table.add_row(row.size, row.mode, f"{row.frames_per_second:.1f}", *(f"{ms:.1f}" for ms in stages))
    still = Table(
        title="Flicker of a static scene, 8-bit levels",
        caption="input again: through the encoder once more; output: sharpened and through the encoder",
    )
    for column in ("codec", "noise", "mode", "input", "sharpened", "input again", "output"):
        still.add_column(column, justify="right")
    for one in flicker:
        found = (one.before, one.sharpened, one.copied, one.after)
        still.add_row(one.codec, f"{one.noise:g}", one.mode, *(f"{level:.4f}" for level in found))
    console = Console()
    console.print(table)
    console.print(still)
    gain = Table(title="PSNR of RGB in dB, before the encoder", caption=f"written to {folder}")
    for column in ("mode", "blurred", "sharpened"):
        gain.add_column(column, justify="right")
    for each in quality:
        gain.add_row(each.mode, f"{each.before:.2f}", f"{each.after:.2f}")
    console.print(gain)
