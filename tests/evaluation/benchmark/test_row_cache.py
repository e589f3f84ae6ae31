"""What is measured once is never measured again, whatever happened to the file."""

from __future__ import annotations

import errno
import hashlib
import logging
from pathlib import Path

import pytest

import sharpkd
from sharpkd.evaluation.benchmark.row_cache import RowCache, Scores, hash_of_sources, key_of

SCORES: Scores = {"psnr": 30.123456789012345, "ssim": 0.9, "psnr_y": 31.0, "lpips": None}


def test_scores_come_back_exactly(tmp_path: Path) -> None:
    RowCache(tmp_path / "new" / "folder", "m" * 64).keep("a", SCORES)
    again = RowCache(tmp_path / "new" / "folder", "m" * 64)
    assert again.get("a") == SCORES
    assert again.get("b") is None
    assert len(again) == 1


def test_models_do_not_share(tmp_path: Path) -> None:
    RowCache(tmp_path, "first").keep("a", SCORES)
    assert RowCache(tmp_path, "second").get("a") is None


def test_a_torn_line_is_told_once_and_does_not_swallow_the_next(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache = RowCache(tmp_path, "m")
    cache.keep("a", SCORES)
    cache.keep("b", SCORES)
    text = cache.path.read_text()
    cache.path.write_text(text[: len(text) - 20])
    with caplog.at_level(logging.WARNING):
        torn = RowCache(tmp_path, "m")
        assert "1 broken line(s) left out" in caplog.text
        assert torn.get("a") == SCORES
        assert torn.get("b") is None
        caplog.clear()
        torn.keep("c", SCORES)
        last = RowCache(tmp_path, "m")
    assert (last.get("a"), last.get("b"), last.get("c")) == (SCORES, None, SCORES)
    assert caplog.text == ""
    assert [path.name for path in tmp_path.iterdir()] == ["m.jsonl"]


def test_a_last_line_without_its_end_is_kept_and_ended(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache = RowCache(tmp_path, "m")
    cache.keep("a", SCORES)
    cache.path.write_text(cache.path.read_text().rstrip())
    RowCache(tmp_path, "m").keep("b", SCORES)
    last = RowCache(tmp_path, "m")
    assert (last.get("a"), last.get("b"), len(last)) == (SCORES, SCORES, 2)
    assert caplog.text == ""


@pytest.mark.parametrize("broken", [b"\0\0\0\n", b"\xff\xfe{\n", b"[]\n", b'{"psnr": 1}\n'])
def test_lines_that_are_no_scores_are_left_out(tmp_path: Path, broken: bytes) -> None:
    cache = RowCache(tmp_path, "m")
    cache.keep("a", SCORES)
    kept = cache.path.read_bytes()
    cache.path.write_bytes(broken + kept)
    assert RowCache(tmp_path, "m").get("a") == SCORES
    assert cache.path.read_bytes() == kept


def test_a_folder_that_may_only_be_read_stays_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = RowCache(tmp_path, "m")
    cache.keep("a", SCORES)
    cache.path.write_text(cache.path.read_text() + "{")

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "write_text", refuse)
    assert RowCache(tmp_path, "m").get("a") == SCORES
    assert cache.path.read_text().endswith("{")


def test_a_later_line_counts(tmp_path: Path) -> None:
    cache = RowCache(tmp_path, "m")
    cache.keep("a", SCORES)
    cache.keep("a", SCORES | {"psnr": 1.0})
    assert RowCache(tmp_path, "m").get("a") == SCORES | {"psnr": 1.0}


def test_keys_tell_apart_where_one_part_ends() -> None:
    assert key_of("ab", "c") != key_of("a", "bc")
    assert key_of("a", "b") == key_of("a", "b")
    assert key_of("ab") == hashlib.sha256(b"2:ab").hexdigest()


def test_the_hash_of_sources_follows_the_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "room").mkdir()
    (tmp_path / "room" / "one.py").write_text("x = 1\n")
    (tmp_path / "two.py").write_text("y = 1\n")
    monkeypatch.setattr("sharpkd.evaluation.benchmark.row_cache.files", lambda package: tmp_path)
    seen = {hash_of_sources(["room", "two"])}
    (tmp_path / "room" / "one.py").write_text("x = 2\n")
    seen.add(hash_of_sources(["room", "two"]))
    (tmp_path / "two.py").write_text("y = 2\n")
    seen.add(hash_of_sources(["room", "two"]))
    assert len(seen) == 3
    with pytest.raises(FileNotFoundError, match="three"):
        hash_of_sources(["three"])


def test_every_source_that_decides_a_number_is_there() -> None:
    from sharpkd.evaluation.benchmark.runner import SOURCES

    root = Path(sharpkd.__file__).parent
    assert all((root / name).is_dir() or (root / f"{name}.py").is_file() for name in SOURCES)
    assert len(hash_of_sources(SOURCES)) == 64
