"""What cannot be kept is refused in one line before a frame is sharpened; nothing is left behind."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import av
import pytest

from sharpkd.inference.video import source as source_module
from sharpkd.inference.video.files import VideoError, is_video
from sharpkd.inference.video.sharpen import sharpen_video


def never(image: Any) -> Any:
    raise AssertionError("a frame was sharpened")


def refuse(message: str, source: Path, target: Path, **settings: Any) -> None:
    """Holds that the message is all of it, and that no file comes to be."""
    before = sorted(target.parent.iterdir())
    with pytest.raises(VideoError, match=f"^{re.escape(message)}$"):
        sharpen_video(source, target, never, **settings)
    assert sorted(target.parent.iterdir()) == before


def test_is_video() -> None:
    assert all(is_video(Path(name)) for name in ("a.mp4", "a.M4V", "b.mkv", "c.MOV", "d.webm"))
    assert not any(is_video(Path(name)) for name in ("a.png", "mp4", "a.avi", "a.mp4.txt"))


def test_a_stream_that_the_container_cannot_hold_before_any_frame_is_decoded(
    tmp_path: Path, make_clip: Any, sound: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "text.srt").write_text("1\n00:00:00,100 --> 00:00:00,200\nfirst\n")
    voice = sound("aac")
    with av.open(str(tmp_path / "text.srt")) as text:
        source = make_clip(
            tmp_path / "text.mkv",
            codec="libx264",
            before=lambda container: container.add_stream_from_template(text.streams[0]),
        )
    spoken = make_clip(tmp_path / "spoken.mkv", codec="libx264", before=voice.add, after=voice.write)
    attached = make_clip(
        tmp_path / "font.mkv", before=lambda container: container.add_attachment("a.ttf", "font/ttf", b"a")
    )

    def decode(path: Path) -> Any:
        raise AssertionError(f"a frame of {path} was decoded")

    monkeypatch.setattr(source_module, "facts_of", decode)
    hint = "; .mkv holds most streams"
    refuse(f"{source}: .mp4 cannot hold subtitle stream 1 (subrip){hint}", source, tmp_path / "out.mp4")
    refuse(f"{spoken}: .webm cannot hold audio stream 1 (aac){hint}", spoken, tmp_path / "out.webm")
    refuse(f"{attached}: .mov cannot hold attachment stream 1 (a.ttf){hint}", attached, tmp_path / "out.mov")
    target = tmp_path / "out.webm"
    refuse(
        f"{target}: .webm cannot hold what libx264 writes; use another codec, or .mkv",
        make_clip(tmp_path / "plain.mkv", codec="libx264"),
        target,
        codec="libx264",
    )


def test_encoders_and_their_options(tmp_path: Path, make_clip: Any) -> None:
    source = make_clip(tmp_path / "in.mkv", size=(53, 37))
    target = tmp_path / "out.mkv"
    refuse(f"{target}: FFmpeg has no video encoder 'h265' here", source, target, codec="h265")
    refuse(f"{target}: FFmpeg has no video encoder 'libopus' here", source, target, codec="libopus")
    refuse(f"{target}: ffv1 has no crf", source, target, crf=20)
    refuse(f"{target}: ffv1 has no preset", source, target, preset="fast")
    refuse(
        f"{target}: libx264 cannot write yuv420p of the odd size 53x37; use codec libvpx-vp9 or ffv1",
        source,
        target,
        codec="libx264",
    )
    even = make_clip(tmp_path / "even.mkv")
    refuse(
        f"{target}: libx264 has no preset 'quickest'; it has ultrafast, superfast, veryfast, faster, fast, "
        "medium, slow, slower, veryslow, placebo",
        even,
        target,
        codec="libx264",
        preset="quickest",
    )
    deep = make_clip(tmp_path / "deep.mkv", pixel_format="yuv420p10le")
    with pytest.raises(VideoError, match="libvpx-vp9 cannot write yuv420p10le; it writes yuv420p, "):
        sharpen_video(deep, tmp_path / "out.webm", never)
    refuse(
        f"{target}: rawvideo cannot write yuv420p; it does not tell what it writes",
        even,
        target,
        codec="rawvideo",
    )


def test_tags_that_a_codec_would_lose(tmp_path: Path, make_clip: Any) -> None:
    source = make_clip(tmp_path / "in.mkv", tags={"color_range": 2, "colorspace": 1})
    target = tmp_path / "out.mp4"
    refuse(
        f"{target}: mpeg4 in mp4 would lose the full colour range, the colour matrix 1 (it became 2); "
        "use another codec or container",
        source,
        target,
        codec="mpeg4",
    )


def test_files_that_are_no_videos(tmp_path: Path, make_clip: Any, sound: Any) -> None:
    target = tmp_path / "out" / "a.mp4"
    target.parent.mkdir()
    folder, empty, words = tmp_path / "folder.mp4", tmp_path / "empty.mp4", tmp_path / "words.mp4"
    folder.mkdir()
    empty.touch()
    words.write_text("no video " * 100)
    silent, voice = tmp_path / "unseen.mkv", sound("aac")
    with av.open(str(silent), "w") as container:
        voice.add(container)
        voice.write(container)
    refuse(f"{tmp_path / 'none.mp4'}: no such file", tmp_path / "none.mp4", target)
    refuse(f"{folder}: is a folder, not a video", folder, target)
    refuse(f"{empty}: is empty (0 bytes)", empty, target)
    reason = "is not a video that FFmpeg reads (Invalid data found when processing input)"
    refuse(f"{words}: {reason}", words, target)
    refuse(f"{silent}: holds no video stream", silent, target)
    suffixes = ".mp4, .m4v, .mov, .mkv, .webm"
    refuse(f"{tmp_path / 'a.avi'}: .avi is no video; use {suffixes}", words, tmp_path / "a.avi")
    whole = make_clip(tmp_path / "whole.mp4", codec="libx264", pts=range(0, 1200, 40))
    half = tmp_path / "half.mp4"
    half.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    refuse(f"{half}: {reason}", half, target)
    if os.geteuid() != 0:  # root reads everything
        words.chmod(0)
        refuse(f"{words}: no permission to read it", words, target)


def test_a_file_that_was_cut_off_is_sharpened_as_far_as_it_goes_with_a_note(
    tmp_path: Path, make_clip: Any, look: Any
) -> None:
    whole = make_clip(tmp_path / "whole.mkv", codec="libx264", pts=range(0, 8000, 40), options={"g": "10"})
    half = tmp_path / "half.mkv"
    half.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    report = sharpen_video(half, tmp_path / "out.mkv", lambda image: image)
    after = look(tmp_path / "out.mkv")
    assert 20 < report.frames < 150
    # a frame whose predecessors in time follow in the file is shown without them if they are cut off
    times = look(whole).times
    assert after.times[:-3] == times[: report.frames - 3]
    assert after.times == sorted(set(after.times))
    assert set(after.times) <= set(times)
    assert len(report.notes) == 1
    assert re.fullmatch(r"the input says that it lasts 8\.0 s, but ends at [3-5]\.\d s", report.notes[0])


def test_a_short_file_that_was_cut_off_has_a_note_too(tmp_path: Path, make_clip: Any) -> None:
    whole = make_clip(tmp_path / "whole.mkv", pts=range(0, 800, 40))
    half = tmp_path / "half.mkv"
    half.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    assert sharpen_video(whole, tmp_path / "out.mkv", lambda image: image).notes == ()
    (note,) = sharpen_video(half, tmp_path / "out.mkv", lambda image: image, overwrite=True).notes
    assert re.fullmatch(r"the input says that it lasts 0\.8 s, but ends at 0\.[345] s", note)


def test_targets_that_exist(tmp_path: Path, make_clip: Any, look: Any) -> None:
    source = make_clip(tmp_path / "in.mkv")
    (tmp_path / "out.mkv").write_bytes(b"old")
    target = tmp_path / "out.mkv"
    refuse(f"{source}: {target} exists; --overwrite replaces it", source, target)
    refuse(f"{source}: would overwrite itself; --overwrite replaces it", source, source)
    times = look(source).times
    sharpen_video(source, source, lambda image: image, overwrite=True)
    assert look(source).times == times


@pytest.mark.parametrize(
    ("start", "end"),
    [(-1, None), (2, 1), (1, 1), (float("nan"), None), (None, 0), (1e30, None), (None, float("inf"))],
)
def test_times_that_make_no_part(start: Any, end: Any, tmp_path: Path, make_clip: Any) -> None:
    source = make_clip(tmp_path / "in.mkv", pts=(0, 40))
    message = f"{source}: start and end must be 0 <= start < end (seconds), got {start} and {end}"
    refuse(message, source, tmp_path / "out.mkv", start=start, end=end)


def test_a_part_beyond_the_end_holds_no_frames(tmp_path: Path, make_clip: Any) -> None:
    source = make_clip(tmp_path / "in.mkv", pts=(0, 40))
    refuse(f"{source}: holds no frames between 7 s and its end", source, tmp_path / "out.mkv", start=7)


def test_an_unknown_mode(tmp_path: Path, make_clip: Any) -> None:
    with pytest.raises(ValueError, match="mode must be one of auto, luma, rgb, got 'yuv'"):
        sharpen_video(make_clip(tmp_path / "in.mkv"), tmp_path / "out.mkv", never, mode="yuv")  # type: ignore[arg-type]  # that is the test


def test_without_pyav_one_line_says_how_to_get_it(tmp_path: Path) -> None:
    (tmp_path / "in.mp4").write_bytes(b"anything")
    code = (
        "import sys; sys.modules['av'] = None\n"
        "import importlib.util as util; found = util.find_spec\n"
        "util.find_spec = lambda name, *rest: None if name == 'av' else found(name, *rest)\n"
        "import sharpkd.inference, sharpkd.inference.video\n"
        "from sharpkd.inference.video import files, sharpen, flicker\n"
        "try: sharpen.sharpen_video('in.mp4', 'out.mp4', None)\n"
        "except files.VideoError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout == "in.mp4: videos need PyAV: pip install 'sharpkd[video]'\n", done.stderr


def test_transparency_that_is_not_decoded_is_not_lost_silently(tmp_path: Path, make_clip: Any) -> None:
    fast = {"deadline": "realtime", "cpu-used": "8", "auto-alt-ref": "0"}
    source = make_clip(tmp_path / "in.webm", codec="libvpx-vp9", pixel_format="yuva420p", options=fast)
    message = f"{source}: its transparency (WebM's alpha mode) cannot be decoded and would be lost"
    refuse(message, source, tmp_path / "out.mkv")
