"""The command line itself: options, their help, and exit codes."""

from __future__ import annotations

import io
import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sharpkd.cli.console import INTERRUPTED, SOME_FAILED, Voice, forget, is_closed, say, stop
from sharpkd.cli.plan import STREAM, Naming, UsageError, plan

if TYPE_CHECKING:
    from sharpkd.inference.automatic import Chooser
    from sharpkd.inference.sharpener import Sharpener


AUTO = "auto"


class EngineChoice(StrEnum):
    """What runs the net."""

    auto = "auto"
    openvino = "openvino"
    onnxruntime = "onnxruntime"
    torch = "torch"


class ClusterChoice(StrEnum):
    """What shares the pictures out among machines."""

    ray = "ray"


class PrecisionChoice(StrEnum):
    """What pictures of 8 bits are computed in."""

    auto = "auto"
    bf16 = "bf16"
    fp16 = "fp16"
    fp32 = "fp32"
    int8 = "int8"


app = typer.Typer(
    name="sharpkd",
    help="Sharpen photos with a small neural net. Exit codes: 0 done, 1 some inputs failed, 2 wrong usage.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.command()
def sharpen(
    inputs: Annotated[
        list[Path],
        typer.Argument(metavar="INPUT...", help="Files, patterns, folders (-o), - (stdin)."),
    ],
    output: Annotated[
        str | None,
        typer.Option("-o", "--output", metavar="PATH", help="File, FOLDER/, or - (stdout)."),
    ] = None,
    model: Annotated[
        Path,
        typer.Option(
            "--model", metavar="NAME", help="auto, fast, balanced, quality, file", show_default=False
        ),
    ] = Path(AUTO),
    budget_ms: Annotated[
        float | None,
        typer.Option(metavar="N", help="auto: ms a picture or video's frame"),
    ] = None,
    strength: Annotated[
        float,
        typer.Option(
            min=0.0, max=2.0, metavar="", help="0 keeps it, 1 (default): the net's", show_default=False
        ),
    ] = 1.0,
    engine: Annotated[
        EngineChoice,
        typer.Option(metavar="NAME", help="auto, openvino, onnxruntime, torch.", show_default=False),
    ] = EngineChoice.auto,
    precision: Annotated[
        PrecisionChoice,
        typer.Option(metavar="NAME", help="auto, bf16, fp16, fp32 or int8.", show_default=False),
    ] = PrecisionChoice.auto,
    device: Annotated[
        str, typer.Option(metavar="NAME", help="cpu; torch: cuda, cuda:1, mps.", show_default=False)
    ] = "cpu",
    tile: Annotated[
        int | None, typer.Option(min=0, metavar="N", help="Side of a tile, pixels; 0: no tile.")
    ] = None,
    file_format: Annotated[
        str | None,
        typer.Option("--format", metavar="NAME", help="png, jpg, webp, tif, avif, gif, bmp"),
    ] = None,
    quality: Annotated[
        int | None, typer.Option(min=1, max=100, metavar="", help="Of jpg, webp, avif: 95, or INPUT's.")
    ] = None,
    suffix: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Of names: _sharp; none in FOLDER/.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", metavar="", help="Replace files that exist.")
    ] = False,
    skip_existing: Annotated[
        bool, typer.Option("--skip-existing", metavar="", help="Leave files that exist, and go on.")
    ] = False,
    jobs: Annotated[
        int | None, typer.Option("-j", "--jobs", min=1, metavar="N", help="Pictures at a time (1).")
    ] = None,
    cluster: Annotated[
        ClusterChoice | None, typer.Option(metavar="ray", help="-o FOLDER/: on Ray's machines.")
    ] = None,
    compare: Annotated[
        bool, typer.Option("--compare", metavar="", help="Also NAME_compare: before, after.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", metavar="", help="A line of JSON an input, on stdout.")
    ] = False,
    verbose: Annotated[
        bool, typer.Option("-v", "--verbose", metavar="", help="Tell of each result and the blur.")
    ] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", metavar="", help="Say only what failed.")] = False,
    codec: Annotated[
        str | None, typer.Option(metavar="NAME", help="Video: encoder, such as libx265.")
    ] = None,
    crf: Annotated[float | None, typer.Option(metavar="N", help="Video: quality; less is finer.")] = None,
    preset: Annotated[
        str | None, typer.Option(metavar="NAME", help="Video: the encoder's, such as fast.")
    ] = None,
    start: Annotated[float | None, typer.Option(metavar="SECONDS", help="Video: from here on.")] = None,
    end: Annotated[float | None, typer.Option(metavar="SECONDS", help="Video: up to here.")] = None,
) -> None:
    """Sharpen pictures and videos: sharpkd sharpen photo.jpg"""
    from sharpkd.cli.run import Settings, run
    from sharpkd.cli.videos import Encoding, refuse, run_videos
    from sharpkd.inference.image_io import READ_SUFFIXES
    from sharpkd.inference.video.files import FORMAT_OF_SUFFIX, is_video

    if overwrite and skip_existing:
        stop("--overwrite and --skip-existing contradict each other")
    if verbose and quiet:
        stop("--verbose and --quiet contradict each other")
    kind = None if file_format is None else file_format.lower().lstrip(".")
    known = (*READ_SUFFIXES, *FORMAT_OF_SUFFIX)
    target = None if output is None else Path(output)
    folder = output is not None and output.endswith(("/", os.sep))
    try:
        work = plan(inputs, target, Naming(suffix, kind, compare), known, folder=folder)
    except UsageError as error:
        stop(str(error))
    pictures, videos = ([job for job in work if is_video(job.source) == asked] for asked in (False, True))
    for_pictures = [option for option, given in (("--format", kind), ("--compare", compare)) if given]
    if videos and for_pictures and not pictures:
        stop(f"{for_pictures[0]} is for pictures, and {videos[0].source} is a video: leave one of them out")
    if is_closed(sys.stdout) and (as_json or work[0].target == STREAM):
        stop("standard output is closed: " + ("leave out --json" if as_json else "give a file with -o"))
    if work[0].target == STREAM and as_json:
        stop("--json and the picture would both go to stdout: give a file with -o")
    if work[0].target == STREAM and sys.stdout.isatty():
        stop("stdout is a terminal: give a file with -o, or redirect it")
    if cluster and videos:
        stop(f"--cluster {cluster} is for pictures, and {videos[0].source} is a video: leave one of them out")
    if cluster and (target is None or STREAM in (target, work[0].source) or work[0].target == target):
        stop(f"--cluster {cluster} needs a folder for its results: give one with -o")
    chooser = _chooser(model, engine, tile, precision, device, budget_ms, quiet)
    settings = Settings(strength, quality, kind, overwrite, skip_existing, measure=verbose)
    voice = Voice(verbose, quiet, as_json)
    failed = 0
    if cluster and target is not None:
        from sharpkd.cli.cluster import Model, run_on_ray

        path = None if str(model) == AUTO else model
        asked = Model(path, engine.value, tile, precision.value, budget_ms, device)
        failed = run_on_ray(pictures, target, asked, settings, jobs, voice)
    elif pictures:
        failed = run(pictures, chooser, settings, jobs or 1, voice)
    if for_pictures:
        failed += refuse(videos, for_pictures[0], voice)
    else:
        failed += run_videos(videos, chooser, settings, Encoding(codec, crf, preset, start, end), voice)
    if failed or voice.lost:
        raise typer.Exit(SOME_FAILED)


@app.command()
def info(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE|MODEL", help="A picture, a video, fast, balanced, quality, or a model file."
        ),
    ],
) -> None:
    """Tell what was done to a picture, and what would be, or what a model file holds."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from sharpkd.inference.image_io import READ_SUFFIXES
    from sharpkd.inference.models import model_rows
    from sharpkd.inference.video.files import is_video

    if file.suffix.lower() in READ_SUFFIXES or is_video(file):
        rows = _input_rows(file)
    else:
        rows = model_rows(_open(file, EngineChoice.auto, None))
    table = Table(show_header=False, box=None)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows.items():
        table.add_row(name, Text(value))
    Console().print(table)


def _input_rows(file: Path) -> dict[str, str]:
    from sharpkd.inference.automatic import AutoSharpener
    from sharpkd.inference.errors import ModelError
    from sharpkd.inference.image_io import ImageFileError, read_image
    from sharpkd.inference.report import picture_rows
    from sharpkd.inference.video.files import VideoError, check_installed, is_video

    try:
        if is_video(file):
            check_installed(file)
            from sharpkd.inference.video.report import video_rows

            return video_rows(file, AutoSharpener())
        return picture_rows(read_image(file), AutoSharpener())
    except (ImageFileError, VideoError, ModelError) as error:
        say(str(error))
        raise typer.Exit(SOME_FAILED) from None


@app.command()
def models() -> None:
    """List the students that come with the package."""
    from sharpkd.inference.models import packaged_models

    found = packaged_models()
    for one in found:
        card = "" if one.card is None else f", {one.card}"
        typer.echo(f"{one.name}: {one.made_for}; {one.bytes:,} bytes{card}")
    if not found:
        typer.echo("no student comes with this package: give a file with --model")


def main() -> None:
    """Run the command line (the `sharpkd` script)."""
    # NumPy's matrices are small here: OpenBLAS's further threads would only wait, and burn a core each
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    _prepare_streams()
    try:
        app()
    except KeyboardInterrupt:
        say("interrupted")
        raise SystemExit(INTERRUPTED) from None
    except OSError as error:  # such as of `info` where standard output is a full disk
        if not is_closed(sys.stdout):
            forget(sys.stdout)
        say(str(error))
        raise SystemExit(SOME_FAILED) from None
    except SystemExit as end:
        if end.code == INTERRUPTED:  # typer ends so, without a word
            say("interrupted")
        raise


def _prepare_streams() -> None:
    """No character that an encoding lacks is an error, and no file gets the number of a closed stream."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _chooser(
    model: Path,
    engine: EngineChoice,
    tile: int | None,
    precision: PrecisionChoice,
    device: str,
    budget_ms: float | None,
    quiet: bool,
) -> Chooser:
    from sharpkd.inference.automatic import AutoSharpener, OneModel
    from sharpkd.inference.engine import ModelError

    if str(model) != AUTO:
        if budget_ms is not None:
            stop("--budget-ms is for --model auto")
        sharpener = _open(model, engine, tile, precision, device)
        if not sharpener.tiles_are_exact and not quiet:
            say(f"{sharpener.info.path.name} looks at the whole picture: tiles change its result")
        return OneModel(sharpener)
    if budget_ms is not None and not budget_ms > 0:
        stop(f"--budget-ms must be above 0, got {budget_ms:g}")
    try:
        return AutoSharpener(engine.value, tile, precision.value, budget_ms=budget_ms, device=device)
    except ModelError as error:
        stop(str(error))


def _open(
    model: Path,
    engine: EngineChoice,
    tile: int | None,
    precision: PrecisionChoice = PrecisionChoice.auto,
    device: str = "cpu",
) -> Sharpener:
    from sharpkd.inference.engine import ModelError
    from sharpkd.inference.sharpener import Sharpener

    try:
        return Sharpener(model, engine.value, tile, precision=precision.value, device=device)
    except ModelError as error:
        stop(str(error))
