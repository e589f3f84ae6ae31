"""The command line itself: options, their help, and exit codes."""

from __future__ import annotations

import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sharpkd.cli.console import INTERRUPTED, SOME_FAILED, Voice, console, say, stop
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
        typer.Argument(metavar="INPUT...", help="Files, patterns, folders (need -o), or - (stdin)."),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", metavar="PATH", help="File, folder, or - (stdout). Default: beside INPUT."
        ),
    ] = None,
    model: Annotated[
        Path,
        typer.Option(
            "--model",
            help="auto (default), fast, balanced, quality or a file.",
            metavar="NAME|PATH",
            show_default=False,
        ),
    ] = Path(AUTO),
    budget_ms: Annotated[
        float | None,
        typer.Option(metavar="N", help="auto: the best model within it a picture, frame."),
    ] = None,
    strength: Annotated[
        float,
        typer.Option(min=0.0, max=2.0, metavar="0..2", help="0 keeps it, 1 is the net's, 2 exaggerates."),
    ] = 1.0,
    engine: Annotated[
        EngineChoice,
        typer.Option(
            metavar="NAME",
            help="auto (the model's fastest), openvino, onnxruntime, torch.",
            show_default=False,
        ),
    ] = EngineChoice.auto,
    precision: Annotated[
        PrecisionChoice,
        typer.Option(
            metavar="NAME",
            help="auto (the processor's fastest floats), bf16, fp16, fp32 or int8.",
            show_default=False,
        ),
    ] = PrecisionChoice.auto,
    tile: Annotated[
        int | None, typer.Option(min=0, metavar="PIXELS", help="Side of a tile; 0: all at once.")
    ] = None,
    file_format: Annotated[
        str | None,
        typer.Option(
            "--format", metavar="NAME", help="png, jpg, webp, tif, avif, gif or bmp. Default: INPUT's."
        ),
    ] = None,
    quality: Annotated[
        int | None,
        typer.Option(
            min=1, max=100, metavar="1..100", help="Of jpg, webp, avif. Default: 95, or INPUT's if better."
        ),
    ] = None,
    suffix: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT", help="Behind the result's name. Default: _sharp; none in a folder by -o."
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that exist.")] = False,
    skip_existing: Annotated[
        bool, typer.Option("--skip-existing", help="Leave files that exist, and go on.")
    ] = False,
    jobs: Annotated[
        int | None,
        typer.Option(
            "-j", "--jobs", min=1, metavar="N", help="Pictures at a time (1). Results are the same."
        ),
    ] = None,
    cluster: Annotated[
        ClusterChoice | None,
        typer.Option(metavar="ray", help="-o FOLDER: on Ray's machines, a picture each core."),
    ] = None,
    compare: Annotated[
        bool, typer.Option("--compare", help="Also write NAME_compare: before and after side by side.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="One line of JSON for each input on stdout.")
    ] = False,
    verbose: Annotated[
        bool, typer.Option("-v", "--verbose", help="Tell of each result, and the measured blur.")
    ] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Say only what failed.")] = False,
    codec: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Of a video: encoder, such as libx265."),
    ] = None,
    crf: Annotated[
        float | None, typer.Option(metavar="N", help="Of a video: quality; less is finer.")
    ] = None,
    preset: Annotated[
        str | None, typer.Option(metavar="NAME", help="Of a video: the encoder's, such as fast.")
    ] = None,
    start: Annotated[float | None, typer.Option(metavar="SECONDS", help="Of a video: from here on.")] = None,
    end: Annotated[float | None, typer.Option(metavar="SECONDS", help="Of a video: up to here.")] = None,
) -> None:
    """Sharpen pictures and videos: sharpkd sharpen photo.jpg"""
    from sharpkd.cli.run import Settings, run
    from sharpkd.inference.image_io import READ_SUFFIXES
    from sharpkd.inference.video.command import sharpen_videos
    from sharpkd.inference.video.files import FORMAT_OF_SUFFIX, is_video

    if overwrite and skip_existing:
        stop("--overwrite and --skip-existing contradict each other")
    if verbose and quiet:
        stop("--verbose and --quiet contradict each other")
    kind = None if file_format is None else file_format.lower().lstrip(".")
    try:
        work = plan(inputs, output, Naming(suffix, kind, compare), (*READ_SUFFIXES, *FORMAT_OF_SUFFIX))
    except UsageError as error:
        stop(str(error))
    pictures, videos = ([job for job in work if is_video(job.source) == asked] for asked in (False, True))
    for option, given in (("--format", kind), ("--compare", compare), ("--json", as_json)):
        if videos and given:
            stop(f"{option} is for pictures, and {videos[0].source} is a video: leave one of them out")
    if work[0].target == STREAM and as_json:
        stop("--json and the picture would both go to stdout: give a file with -o")
    if work[0].target == STREAM and sys.stdout.isatty():
        stop("stdout is a terminal: give a file with -o, or redirect it")
    if cluster and videos:
        stop(f"--cluster {cluster} is for pictures, and {videos[0].source} is a video: leave one of them out")
    if cluster and (output is None or STREAM in (output, work[0].source) or work[0].target == output):
        stop(f"--cluster {cluster} needs a folder for its results: give one with -o")
    chooser = _chooser(model, engine, tile, precision, budget_ms, quiet)
    settings = Settings(strength, quality, kind, overwrite, skip_existing, measure=verbose)
    voice = Voice(verbose, quiet, as_json)
    failed = 0
    if cluster and output is not None:
        from sharpkd.cli.cluster import Model, run_on_ray

        path = None if str(model) == AUTO else model
        asked = Model(path, engine.value, tile, precision.value, budget_ms)
        failed = run_on_ray(pictures, output, asked, settings, jobs, voice)
    elif pictures:
        failed = run(pictures, chooser, settings, jobs or 1, voice)
    failed += sharpen_videos(
        [(job.source, job.target) for job in videos if not (skip_existing and job.target.exists())],
        lambda: chooser.for_scene(strength),
        console(),
        codec=codec,
        crf=crf,
        preset=preset,
        start=start,
        end=end,
        overwrite=overwrite,
    )
    if failed:
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
    try:
        app()
    except KeyboardInterrupt:
        say("interrupted")
        raise SystemExit(INTERRUPTED) from None
    except SystemExit as end:
        if end.code == INTERRUPTED:  # typer ends so, without a word
            say("interrupted")
        raise


def _chooser(
    model: Path,
    engine: EngineChoice,
    tile: int | None,
    precision: PrecisionChoice,
    budget_ms: float | None,
    quiet: bool,
) -> Chooser:
    from sharpkd.inference.automatic import AutoSharpener, OneModel
    from sharpkd.inference.engine import ModelError

    if str(model) != AUTO:
        if budget_ms is not None:
            stop("--budget-ms is for --model auto")
        sharpener = _open(model, engine, tile, precision)
        if not sharpener.tiles_are_exact and not quiet:
            say(f"{sharpener.info.path.name} looks at the whole picture: tiles change its result")
        return OneModel(sharpener)
    if budget_ms is not None and not budget_ms > 0:
        stop(f"--budget-ms must be above 0, got {budget_ms:g}")
    try:
        return AutoSharpener(engine.value, tile, precision.value, budget_ms=budget_ms)
    except ModelError as error:
        stop(str(error))


def _open(
    model: Path,
    engine: EngineChoice,
    tile: int | None,
    precision: PrecisionChoice = PrecisionChoice.auto,
) -> Sharpener:
    from sharpkd.inference.engine import ModelError
    from sharpkd.inference.sharpener import Sharpener

    try:
        return Sharpener(model, engine.value, tile, precision=precision.value)
    except ModelError as error:
        stop(str(error))
