"""Everything of a video but its sharpened samples is what it was."""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from sharpkd.inference.video.files import VideoError
from sharpkd.inference.video.sharpen import sharpen_video

VFR = (0, 40, 100, 120, 200, 340, 380, 500)


def darker(image: Any) -> Any:
    """A change that cannot be overlooked, without clipping."""
    return (image // 4 * 3).astype(image.dtype)


def same(image: Any) -> Any:
    return image


@pytest.mark.parametrize("mode", ["luma", "rgb"])
@pytest.mark.parametrize(
    ("pixel_format", "tags"),
    [
        ("yuv420p", {}),
        ("yuv420p", {"color_range": 2, "colorspace": 1, "color_primaries": 1, "color_trc": 1}),
        ("yuv422p", {"color_range": 1, "colorspace": 6, "color_primaries": 6, "color_trc": 6}),
        ("yuv444p", {}),
        ("yuv420p10le", {"color_range": 1, "colorspace": 9, "color_primaries": 9, "color_trc": 16}),
        ("yuv422p10le", {"color_range": 2}),
        ("yuva420p", {}),
        ("gray", {"color_range": 2}),
    ],
)
def test_a_function_that_changes_nothing_changes_no_sample(
    mode: Any, pixel_format: str, tags: dict[str, int], tmp_path: Path, make_clip: Any, look: Any
) -> None:
    # ffv1 takes odd sizes
    source = make_clip(tmp_path / "in.mkv", size=(53, 37), pixel_format=pixel_format, tags=tags, pts=(0, 40))
    target = tmp_path / "out.mkv"
    shapes = set()

    def restore(image: Any) -> Any:
        shapes.add((image.shape, image.dtype))
        return image

    report = sharpen_video(source, target, restore, mode=mode)
    assert (report.frames, report.encoder, report.notes) == (2, "ffv1", ())
    dtype = np.dtype(np.uint16 if "10" in pixel_format else np.uint8)
    assert shapes == {((37, 53, 3) if mode == "rgb" else (37, 53), dtype)}
    before, after = look(source), look(target)
    for old, new in zip(before.planes, after.planes, strict=True):
        assert len(old) == len(new)
        for one, other in zip(old, new, strict=True):
            np.testing.assert_array_equal(one, other)
    for old, new in zip(before.frames, after.frames, strict=True):
        for name in ("color_range", "colorspace", "color_primaries", "color_trc"):
            assert getattr(old, name) == getattr(new, name)


def test_luma_mode_keeps_chroma_and_changes_luma(tmp_path: Path, make_clip: Any, look: Any) -> None:
    for pixel_format in ("yuv420p", "yuv420p10le"):
        source = make_clip(tmp_path / "in.mkv", pixel_format=pixel_format, pts=(0, 40))
        sharpen_video(source, tmp_path / "out.mkv", darker, overwrite=True)
        for old, new in zip(look(source).planes, look(tmp_path / "out.mkv").planes, strict=True):
            assert np.abs(old[0].astype(int) - new[0]).mean() > 5
            np.testing.assert_array_equal(old[1], new[1])
            np.testing.assert_array_equal(old[2], new[2])


@pytest.mark.parametrize(
    ("name", "codec", "time_base", "pts"),
    [
        ("vfr.mkv", "libx264", Fraction(1, 1000), VFR),
        ("vfr.mp4", "libx264", Fraction(1, 12800), [number * 13 + 7 for number in VFR]),
        ("ntsc.mov", "libx264", Fraction(1, 30000), [1001 * number for number in range(9)]),
        ("late.mp4", "libx264", Fraction(1, 90000), [135000 + 3003 * number for number in range(9)]),
        ("late.mkv", "libx264", Fraction(1, 1000), [1533 + 33 * number for number in range(9)]),
        ("vfr.webm", "libvpx-vp9", Fraction(1, 1000), VFR),
    ],
)
def test_every_timestamp_is_the_inputs(
    name: str, codec: str, time_base: Fraction, pts: list[int], tmp_path: Path, make_clip: Any, look: Any
) -> None:
    source = make_clip(tmp_path / name, codec=codec, time_base=time_base, pts=pts)
    times = look(source).times
    assert [time - times[0] for time in times] == [(number - pts[0]) * time_base for number in pts]
    report = sharpen_video(source, tmp_path / f"out_{name}", darker, preset=None)
    assert look(tmp_path / f"out_{name}").times == times
    assert (report.frames, report.notes) == (len(pts), ())


def test_milliseconds_of_matroska_are_a_note(tmp_path: Path, make_clip: Any, look: Any) -> None:
    source = make_clip(
        tmp_path / "in.mp4", codec="libx264", time_base=Fraction(1, 30000), pts=[1001 * n for n in range(6)]
    )
    report = sharpen_video(source, tmp_path / "out.mkv", same)
    assert report.notes == ("timestamps moved by up to 0.467 ms: the container counts in 1/1000 s",)
    times = zip(look(source).times, look(tmp_path / "out.mkv").times, strict=True)
    assert max(abs(a - b) for a, b in times) == Fraction(7, 15000)


@pytest.mark.parametrize("name", ["in.mkv", "in.mp4", "in.mov"])
@pytest.mark.parametrize("degrees", [90, 180])
def test_rotation_is_kept_and_not_applied(
    name: str, degrees: int, tmp_path: Path, make_clip: Any, look: Any
) -> None:
    source = make_clip(tmp_path / name, codec="libx264", rotation=degrees, pts=(0, 40))
    sharpen_video(source, tmp_path / f"out{source.suffix}", same)
    before, after = (look(path).frames[0] for path in (source, tmp_path / f"out{source.suffix}"))
    assert abs(before.rotation) == degrees
    assert (after.rotation, after.width, after.height) == (before.rotation, 64, 48)


@pytest.mark.parametrize("name", ["in.mkv", "in.mp4"])
def test_interlaced_frames_come_field_by_field_and_stay_interlaced(
    name: str, tmp_path: Path, make_clip: Any, look: Any
) -> None:
    source = make_clip(tmp_path / name, codec="libx264", interlaced=True, pts=(0, 40, 80))
    shapes = []

    def restore(image: Any) -> Any:
        shapes.append(image.shape)
        return np.full_like(image, 20 if len(shapes) % 2 else 200)

    target = tmp_path / f"out{source.suffix}"
    sharpen_video(source, target, restore, crf=0)
    assert shapes == [(24, 64)] * 6
    after = look(target)
    assert all(frame.interlaced_frame for frame in after.frames)
    with av.open(str(target)) as container, av.open(str(source)) as origin:
        orders = [one.streams.video[0].codec_context.field_order for one in (container, origin)]
    assert orders == [2, 2]
    luma, result = look(source).planes[0][0], after.planes[0][0].astype(int)
    shown = (luma >= 16) & (luma <= 235)  # beyond, the excess is kept
    for field, level in ((0, 20), (1, 200)):
        lines = slice(field, None, 2)
        expected = 16 + level * 219 / 255
        assert np.abs(result[lines][shown[lines]] - expected).max() < 1


def test_interlaced_video_is_refused_where_it_cannot_be_kept(tmp_path: Path, make_clip: Any) -> None:
    source = make_clip(tmp_path / "in.mkv", codec="libx264", interlaced=True, pts=(0, 40))
    target = tmp_path / "out.webm"
    message = (
        f"{target}: the video is interlaced, which libvpx-vp9 cannot keep; "
        "use codec libx264 or ffv1, or deinterlace it first"
    )
    with pytest.raises(VideoError, match=re.escape(message)):
        sharpen_video(source, target, same)
    assert list(tmp_path.iterdir()) == [source]


def test_audio_subtitles_chapters_attachments_and_metadata_are_copied(
    tmp_path: Path, make_clip: Any, look: Any, sound: Any
) -> None:
    (tmp_path / "text.srt").write_text(
        "1\n00:00:00,100 --> 00:00:00,200\nfirst\n\n2\n00:00:00,300 --> 00:00:00,400\nsecond\n"
    )
    voice, text = sound("libopus"), av.open(str(tmp_path / "text.srt"))
    made: list[Any] = []

    def before(container: Any) -> None:
        voice.add(container)
        made.append(container.add_stream_from_template(text.streams[0]))
        container.add_attachment("font.ttf", "font/ttf", b"the font")
        container.metadata["title"] = "A title"
        container.set_chapters([_chapter(1, 0, 150, "one"), _chapter(2, 150, 320, "two")])

    def after(container: Any) -> None:
        voice.write(container)
        for packet in text.demux():
            if packet.dts is not None:
                packet.stream = made[0]
                container.mux(packet)

    source = make_clip(tmp_path / "in.mkv", codec="libx264", before=before, after=after)
    report = sharpen_video(source, tmp_path / "out.mkv", darker)
    old, new = look(source), look(tmp_path / "out.mkv")
    assert report.notes == ()
    assert sorted(old.packets) == [1, 2]
    assert len(old.packets[1]) > 10
    assert new.packets == old.packets
    assert new.times == old.times
    assert new.chapters == old.chapters
    assert [title for _, _, title in new.chapters] == ["one", "two"]
    assert new.attachments == [("font.ttf", b"the font")]
    assert new.metadata["title"] == "A title"
    assert new.streams[1]["language"] == "deu"


def _chapter(number: int, start: int, end: int, title: str) -> dict[str, Any]:
    times = {"id": number, "start": start, "end": end, "time_base": Fraction(1, 1000)}
    return {**times, "metadata": {"title": title}}


def test_mp4_keeps_audio_that_begins_elsewhere_text_and_chapters(
    tmp_path: Path, make_clip: Any, look: Any, sound: Any
) -> None:
    voice = sound("aac", start=4800)

    def before(container: Any) -> None:
        voice.add(container)
        container.metadata["title"] = "A title"
        container.set_chapters([_chapter(1, 0, 150, "one"), _chapter(2, 150, 320, "two")])

    source = make_clip(tmp_path / "in.mp4", codec="libx264", pts=VFR, before=before, after=voice.write)
    report = sharpen_video(source, tmp_path / "out.mp4", darker)
    old, new = look(source), look(tmp_path / "out.mp4")
    assert (report.frames, report.notes) == (8, ())
    assert (new.times, new.packets[1], new.chapters) == (old.times, old.packets[1], old.chapters)
    assert old.packets[1][0][0] != old.times[0]
    assert new.metadata["title"] == "A title"


def test_a_part_keeps_its_timestamps_less_the_start(
    tmp_path: Path, make_clip: Any, look: Any, sound: Any
) -> None:
    voice = sound("libopus")
    source = make_clip(
        tmp_path / "in.mkv",
        codec="libx264",
        pts=[500 + 40 * n for n in range(9)],
        before=voice.add,
        after=voice.write,
    )
    old = look(source)
    first = Fraction(0)  # where players begin: the audio's lead-in before it is not heard
    assert old.packets[1][0][0] < first
    report = sharpen_video(source, tmp_path / "out.mkv", same, start=0.55, end=0.7)
    new = look(tmp_path / "out.mkv")
    start, end = first + Fraction(55, 100), first + Fraction(7, 10)
    kept = [time for time in old.times if start <= time < end]
    assert 2 < len(kept) < 9
    assert new.times == [time - start for time in kept]
    assert report.frames == len(kept)
    sharpen_video(source, tmp_path / "end.mkv", same, end=0.62)
    part = [packet for packet in old.packets[1] if packet[0] < first + Fraction(62, 100)]
    assert [data for _, data in part] == [data for _, data in look(tmp_path / "end.mkv").packets[1]]
