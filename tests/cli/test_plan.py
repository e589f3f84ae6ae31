from __future__ import annotations

import re
from pathlib import Path

import pytest

from sharpkd.cli.plan import STREAM, Job, Naming, UsageError, plan

SUFFIXES = (".png", ".jpg")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """``a.png b.jpg deep/a.png notes.txt``; also the current folder."""
    (tmp_path / "deep").mkdir()
    for name in ("a.png", "b.jpg", "deep/a.png", "notes.txt"):
        (tmp_path / name).write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _plan(
    *inputs: str, output: str | None = None, naming: Naming | None = None, folder: bool = False
) -> list[Job]:
    where = None if output is None else Path(output)
    return plan([Path(name) for name in inputs], where, naming or Naming(), SUFFIXES, folder=folder)


def _pairs(jobs: list[Job]) -> list[tuple[str, str]]:
    return [(job.source.as_posix(), job.target.as_posix()) for job in jobs]


def test_results_lie_beside_their_inputs(folder: Path) -> None:
    assert _pairs(_plan("b.jpg", "a.png")) == [("b.jpg", "b_sharp.jpg"), ("a.png", "a_sharp.png")]


def test_names_follow_suffix_and_format(folder: Path) -> None:
    assert _pairs(_plan("a.png", naming=Naming("-2", "jpg"))) == [("a.png", "a-2.jpg")]
    assert _pairs(_plan("a.png", naming=Naming(""))) == [("a.png", "a.png")]
    assert _pairs(_plan("a.png", output="out")) == [("a.png", "out/a.png")]
    assert _pairs(_plan("a.png", output="out", naming=Naming("_x", "tiff"))) == [("a.png", "out/a_x.tif")]
    assert _pairs(_plan("a.png", output="new.jpg", naming=Naming(format="jpeg"))) == [("a.png", "new.jpg")]


def test_folders_keep_their_tree(folder: Path) -> None:
    expected = [("a.png", "out/a.jpg"), ("deep/a.png", "out/deep/a.jpg")]
    (folder / "b.jpg").unlink()
    assert _pairs(_plan(".", output="out", naming=Naming(format="jpg"))) == expected


def test_patterns_that_no_shell_has_expanded(folder: Path) -> None:
    assert _pairs(_plan("*.png")) == [("a.png", "a_sharp.png")]
    found = _pairs(_plan("**/*.png", output=None))
    assert found == [("a.png", "a_sharp.png"), ("deep/a.png", "deep/a_sharp.png")]
    assert [source for source, _ in _pairs(_plan("[ab].*"))] == ["a.png", "b.jpg"]
    (folder / "a[1].png").write_bytes(b"")
    assert _pairs(_plan("a[1].png")) == [("a[1].png", "a[1]_sharp.png")], "a name that is there is no pattern"


def test_an_input_that_is_named_twice_is_one(folder: Path) -> None:
    assert _pairs(_plan("a.png", "*.png", "./deep/../a.png")) == [("deep/../a.png", "deep/../a_sharp.png")]


def test_a_folder_that_is_named_as_a_picture_fails_alone(folder: Path) -> None:
    (folder / "x.jpg").mkdir()
    (folder / "x.jpg" / "a.png").write_bytes(b"")
    assert _pairs(_plan("x.jpg", "a.png")) == [("x.jpg", "x_sharp.jpg"), ("a.png", "a_sharp.png")]


def test_streams(folder: Path) -> None:
    assert _plan("-") == [Job(STREAM, STREAM)]
    assert _plan("-", output="a.png") == [Job(STREAM, Path("a.png"))]
    assert _plan("a.png", output="-") == [Job(Path("a.png"), STREAM)]


def test_compare_names_a_further_file(folder: Path) -> None:
    (job,) = _plan("a.png", output="out", naming=Naming(format="jpg", compare=True))
    assert job.compare == Path("out/a_compare.jpg")


@pytest.mark.parametrize(
    ("inputs", "output", "naming", "message"),
    [
        (["*.gif"], None, Naming(), "no file matches *.gif"),
        (["deep"], None, Naming(), "deep is a folder: say with -o where its sharpened pictures go"),
        (["a.png", "b.jpg"], "x.png", Naming(), "x.png is one file, but there are several inputs: give a"),
        (["a.png", "b.jpg"], "-", Naming(), "- is one file, but there are several inputs: give a folder"),
        (["deep"], "-", Naming(), "- is one file, but there are several inputs: give a folder with -o"),
        (
            ["a.png", "deep/a.png"],
            "out",
            Naming(),
            "a.png and deep/a.png would both be written to out/a.png: ",
        ),
        (["-", "a.png"], "out", Naming(), "- (standard input) stands alone"),
        (["-"], "out", Naming(), "- (standard input) has no name: give a file, not the folder out, with -o"),
        (
            ["-"],
            None,
            Naming(compare=True),
            "--compare writes a second file: give the first one's name with -o",
        ),
        (
            ["a.png"],
            "-",
            Naming(compare=True),
            "--compare writes a second file, which does not fit into -o -",
        ),
        (
            ["a.png"],
            None,
            Naming(format="doc"),
            "--format doc is not one of png, jpg, jpeg, webp, tif, tiff,",
        ),
        (["a.png"], "x.png", Naming(format="jpg"), "--format jpg and -o x.png contradict each other"),
        (
            ["a.png"],
            "x.png",
            Naming("_y"),
            "--suffix names no file where -o x.png does: leave one of them out",
        ),
        (["a.png"], None, Naming("/y"), "--suffix /y is not part of a name: give folders with -o"),
        (
            ["a.png"],
            "x.heic",
            Naming(),
            "x.heic: files that end in .heic are not written (but .png, .jpg); for a folder of that name, "
            "end it with a slash: -o x.heic/",
        ),
        (["-"], "x.avi", Naming(), "x.avi: files that end in .avi are not written"),
        (["a.png"], f"{'a' * 260}.png", Naming(), f"{'a' * 260}.png cannot be written (File name too long)"),
        (["a.png"], f"{'a' * 260}", Naming(), f"{'a' * 260} cannot be written (File name too long)"),
        (
            ["a.png", "a_sharp.png"],
            None,
            Naming(),
            "a_sharp.png is an input and the result of a.png: leave one",
        ),
    ],
)
def test_what_cannot_be_meant(
    inputs: list[str], output: str | None, naming: Naming, message: str, folder: Path
) -> None:
    with pytest.raises(UsageError, match=re.escape(message)) as caught:
        _plan(*inputs, output=output, naming=naming)
    assert "\n" not in str(caught.value)


def test_earlier_results_within_the_input_folder_are_left_out(folder: Path) -> None:
    (folder / "out").mkdir()
    (folder / "out" / "a.png").write_bytes(b"")
    assert [source for source, _ in _pairs(_plan(".", output="out"))] == ["a.png", "b.jpg", "deep/a.png"]


def test_a_folder_without_pictures(folder: Path) -> None:
    (folder / "empty").mkdir()
    message = "no pictures in empty (looked for .png, .jpg, also in its folders)"
    with pytest.raises(UsageError, match=re.escape(message)):
        _plan("empty", output="out")


def test_folders_with_dots_in_their_names(folder: Path) -> None:
    (folder / "v.2").mkdir()
    for output in ("v.2", "sharp.pictures", "of.the sea", "."):
        assert _pairs(_plan("a.png", output=output, naming=Naming("_x"))) == [
            ("a.png", (Path(output) / "a_x.png").as_posix())
        ]
    for name in ("new.v1", "x.png"):
        assert _pairs(_plan("a.png", output=name, folder=True)) == [("a.png", f"{name}/a.png")]
    assert _pairs(_plan("a.png", "b.jpg", output="new.v1"))[1] == ("b.jpg", "new.v1/b.jpg")
    assert _pairs(_plan("deep", output="new.v1")) == [("deep/a.png", "new.v1/a.png")]


def test_an_input_of_a_name_too_long_fails_alone(folder: Path) -> None:
    name = f"{'a' * 260}.png"
    assert _plan("a.png", name, output="out")[1] == Job(Path(name), Path("out", name))
