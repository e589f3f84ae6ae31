"""The command line itself: options, their help, and exit codes."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sharpkd.cli.console import INTERRUPTED, SOME_FAILED, Voice, say, stop
from sharpkd.cli.plan import STREAM, Naming, UsageError, plan

if TYPE_CHECKING:
    from sharpkd.inference.sharpener import Sharpener


class EngineChoice(StrEnum):
    """What runs the net."""

    auto = "auto"
    onnxruntime = "onnxruntime"
    torch = "torch"


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
        Path | None, typer.Option("--model", help="An .onnx, .safetensors or .ckpt file.", metavar="PATH")
    ] = None,
    strength: Annotated[
        float,
        typer.Option(min=0.0, max=2.0, metavar="0..2", help="0 keeps it, 1 is the net's, 2 exaggerates."),
    ] = 1.0,
    engine: Annotated[
        EngineChoice,
        typer.Option(metavar="NAME", help="auto (by the model's suffix), onnxruntime or torch."),
    ] = EngineChoice.auto,
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
        int,
        typer.Option("-j", "--jobs", min=1, metavar="N", help="Pictures at a time. Results are the same."),
    ] = 1,
    compare: Annotated[
        bool, typer.Option("--compare", help="Also write NAME_compare: before and after side by side.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="One line of JSON for each input on stdout.")
    ] = False,
    verbose: Annotated[
        bool, typer.Option("-v", "--verbose", help="Say what was done to each input.")
    ] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Say only what failed.")] = False,
) -> None:
    """Sharpen pictures: sharpkd sharpen photo.jpg --model student.onnx"""
    from sharpkd.cli.run import Settings, run
    from sharpkd.inference.image_io import READ_SUFFIXES

    if overwrite and skip_existing:
        stop("--overwrite and --skip-existing contradict each other")
    if verbose and quiet:
        stop("--verbose and --quiet contradict each other")
    kind = None if file_format is None else file_format.lower().lstrip(".")
    try:
        work = plan(inputs, output, Naming(suffix, kind, compare), READ_SUFFIXES)
    except UsageError as error:
        stop(str(error))
    if work[0].target == STREAM and as_json:
        stop("--json and the picture would both go to stdout: give a file with -o")
    if work[0].target == STREAM and sys.stdout.isatty():
        stop("stdout is a terminal: give a file with -o, or redirect it")
    sharpener = _open(model, engine, tile)
    if not sharpener.tiles_are_exact and not quiet:
        say(f"{sharpener.info.path.name} looks at the whole picture: tiles change its result")
    settings = Settings(strength, quality, kind, overwrite, skip_existing)
    if run(work, sharpener, settings, jobs, Voice(verbose, quiet, as_json)):
        raise typer.Exit(SOME_FAILED)


@app.command()
def info(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="An .onnx, .safetensors or .ckpt file.")],
) -> None:
    """Tell what a model file holds."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    sharpener = _open(model, EngineChoice.auto, None)
    about = sharpener.info
    arguments = ", ".join(f"{key}={value}" for key, value in about.args.items())
    field = about.receptive_field
    rows = {
        "net": f"{about.net}({arguments})",
        "engine": sharpener.engine,
        "sha256": about.sha256,
        "receptive field": "the whole picture" if field is None else f"{field} px",
        "stride": f"{about.stride} px",
        "scale": f"x{about.scale}",
        **{key: str(value) for key, value in about.metadata.items()},
    }
    table = Table(show_header=False, box=None)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows.items():
        table.add_row(name, Text(value))
    Console().print(table)


def main() -> None:
    """Run the command line (the `sharpkd` script)."""
    try:
        app()
    except KeyboardInterrupt:
        say("interrupted")
        raise SystemExit(INTERRUPTED) from None
    except SystemExit as end:
        if end.code == INTERRUPTED:  # typer ends so, without a word
            say("interrupted")
        raise


def _open(model: Path | None, engine: EngineChoice, tile: int | None) -> Sharpener:
    from sharpkd.inference.engine import HOW_TO_GET_A_MODEL, ModelError
    from sharpkd.inference.sharpener import Sharpener

    if model is None:
        stop(f"no model given (--model PATH): {HOW_TO_GET_A_MODEL}")
    try:
        return Sharpener(model, engine.value, tile)
    except ModelError as error:
        stop(str(error))
