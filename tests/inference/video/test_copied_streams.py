from __future__ import annotations

import io
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest
from PIL import Image

from sharpkd.inference.video.sharpen import sharpen_video

MILLISECONDS = Fraction(1, 1000)
TEXTS = ((100, b"\0\3one"), (200, b"\0\3two"))


def same(image: Any) -> Any:
    return image


def _packet(stream: Any, data: bytes, pts: int, duration: int = 0) -> av.Packet:
    packet = av.Packet(data)
    packet.stream, packet.pts, packet.dts, packet.duration = stream, pts, pts, duration
    packet.time_base = MILLISECONDS
    return packet


@pytest.fixture
def cover() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (16, 16), (200, 10, 10)).save(buffer, "PNG")
    return buffer.getvalue()


def _covers(path: Path) -> list[bytes]:
    with av.open(str(path)) as container:
        streams = [s for s in container.streams.video if s.disposition & av.stream.Disposition.attached_pic]
        return [bytes(next(container.demux(stream))) for stream in streams]


def test_a_cover_picture_is_kept_in_and_between_containers(
    cover: bytes, tmp_path: Path, make_clip: Any
) -> None:
    made: list[Any] = []

    def before(container: Any) -> None:
        made.append(container.add_stream("png", rate=1))
        made[0].width = made[0].height = 16
        made[0].pix_fmt = "rgb24"
        made[0].disposition = av.stream.Disposition.attached_pic

    source = make_clip(
        tmp_path / "in.mp4",
        codec="libx264",
        before=before,
        after=lambda container: container.mux(_packet(made[0], cover, 0)),
    )
    assert _covers(source) == [cover]
    for old, new in (("in.mp4", "out.mp4"), ("out.mp4", "out.mkv"), ("out.mkv", "two.mkv")):
        assert sharpen_video(tmp_path / old, tmp_path / new, same).notes == ()
        assert _covers(tmp_path / new) == [cover]
    report = sharpen_video(tmp_path / "two.mkv", tmp_path / "back.mp4", same)
    assert _covers(tmp_path / "back.mp4") == [cover]
    assert report.notes == ("metadata of video stream 1 that .mp4 does not hold: filename, mimetype",)


@pytest.mark.parametrize("name", ["out.mp4", "out.mov"])
def test_texts_of_mp4_keep_their_times_and_gaps(name: str, tmp_path: Path, make_clip: Any, look: Any) -> None:
    made: list[Any] = []

    def before(container: Any) -> None:
        made.append(container.add_mux_stream("mov_text"))
        made[0].time_base = MILLISECONDS

    def after(container: Any) -> None:
        for start, data in TEXTS:
            container.mux(_packet(made[0], data, start, 50))

    source = make_clip(tmp_path / "in.mp4", codec="libx264", before=before, after=after)
    sharpen_video(source, tmp_path / name, same)
    old, new = look(source).packets[1], look(tmp_path / name).packets[1]
    assert [one for one in old if one[1] != b"\0\0"] == [
        (start * MILLISECONDS, data) for start, data in TEXTS
    ]
    assert new == old


@pytest.mark.parametrize("name", ["out.mov", "out.mp4", "out.mkv"])
def test_the_time_code_stays(name: str, tmp_path: Path, make_clip: Any, look: Any) -> None:
    def before(container: Any) -> None:
        container.streams.video[0].metadata["timecode"] = "01:02:03:04"

    source = make_clip(tmp_path / "in.mov", codec="libx264", before=before)
    assert len(look(source).streams) == 2
    assert sharpen_video(source, tmp_path / name, same).notes == ()
    video = {key.lower(): value for key, value in look(tmp_path / name).streams[0].items()}
    assert video["timecode"] == "01:02:03:04"


def test_metadata_that_a_container_does_not_hold_is_a_note(
    tmp_path: Path, make_clip: Any, sound: Any
) -> None:
    voice = sound("aac")

    def before(container: Any) -> None:
        voice.add(container)
        voice.stream.metadata["mood"] = "calm"
        container.metadata.update({"title": "A title", "weather": "fair"})

    source = make_clip(tmp_path / "in.mkv", codec="libx264", before=before, after=voice.write)
    assert sharpen_video(source, tmp_path / "out.mkv", same).notes == ()
    assert sharpen_video(source, tmp_path / "out.mp4", same).notes == (
        "metadata that .mp4 does not hold: weather",
        "metadata of audio stream 1 that .mp4 does not hold: mood",
    )


def test_hdr_keeps_its_colours_and_what_else_is_lost_is_a_note(
    tmp_path: Path, make_clip: Any, look: Any
) -> None:
    light = "G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,1)"
    source = make_clip(
        tmp_path / "in.mkv",
        codec="libx265",
        pixel_format="yuv420p10le",
        options={"x265-params": f"log-level=none:bframes=0:master-display={light}:max-cll=1000,400"},
        tags={"color_range": 1, "colorspace": 9, "color_primaries": 9, "color_trc": 16},
        pts=(0, 40),
    )
    assert sharpen_video(source, tmp_path / "out.mkv", same).notes == (
        "libx265 does not keep the content light level of HDR",
        "libx265 does not keep the mastering display of HDR",
    )
    frame = look(tmp_path / "out.mkv").frames[0]
    assert (frame.colorspace, frame.color_primaries, frame.color_trc) == (9, 9, 16)


@pytest.mark.parametrize(
    ("name", "codec", "pixel_format"),
    [
        ("a.mov", "prores_ks", "yuv422p10le"),
        ("a.mp4", "libx265", "yuv420p10le"),
        ("a.webm", "libvpx-vp9", "yuv420p"),
        ("a.mkv", "libsvtav1", "yuv420p10le"),
    ],
)
def test_the_kind_of_codec_and_the_bits_stay(
    name: str, codec: str, pixel_format: str, tmp_path: Path, make_clip: Any, look: Any
) -> None:
    options = {"x265-params": "log-level=none:bframes=0"} if codec == "libx265" else {}
    source = make_clip(
        tmp_path / name, codec=codec, pixel_format=pixel_format, options=options, pts=(0, 40, 80)
    )
    target = tmp_path / f"out_{name}"
    report = sharpen_video(source, target, same)
    assert (report.encoder, report.notes) == (codec, ())
    old, new = look(source), look(target)
    assert new.frames[0].format.name == pixel_format
    assert new.times == old.times


def test_x265_reorders_no_frames(tmp_path: Path, make_clip: Any) -> None:
    source = make_clip(tmp_path / "in.mp4", codec="libx264")
    sharpen_video(source, tmp_path / "out.mp4", lambda image: image, codec="libx265", preset="ultrafast")
    with av.open(str(tmp_path / "out.mp4")) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    assert len(packets) == 8
    assert [packet.dts for packet in packets] == [packet.pts for packet in packets]
