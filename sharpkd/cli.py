"""The `sharpkd` command, for people who only want sharp pictures.

Imports what it needs when it needs it: ``--help`` answers at once, torch is loaded only for its engine.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from sharpkd.inference.sharpener import Sharpener

SOME_FAILED, USAGE = 1, 2
RESULT_SUFFIX = "_sharp"


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
    inputs: Annotated[list[Path], typer.Argument(metavar="INPUT", help="Image files, or folders (need -o).")],
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="File or folder. Default: photo_sharp.jpg beside photo.jpg."),
    ] = None,
    model: Annotated[
        Path | None, typer.Option("--model", help="An .onnx, .safetensors or .ckpt file.", metavar="PATH")
    ] = None,
    strength: Annotated[
        float,
        typer.Option(min=0.0, max=2.0, help="0 keeps the picture, 1 is the net's output, 2 exaggerates."),
    ] = 1.0,
    engine: Annotated[
        EngineChoice, typer.Option(help="auto chooses by the model's suffix.")
    ] = EngineChoice.auto,
    tile: Annotated[
        int | None, typer.Option(min=0, help="Side of a tile in pixels; 0: the whole picture at once.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that exist.")] = False,
) -> None:
    """Sharpen pictures: sharpkd sharpen photo.jpg --model student.onnx"""
    jobs = _plan(inputs, output)
    sharpener = _open(model, engine, tile)
    if not sharpener.tiles_are_exact:
        _note(f"{sharpener.info.path.name} looks at the whole picture: tiles change its result")
    failed = _run(jobs, sharpener, strength, overwrite)
    if failed:
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
    app()


def _open(model: Path | None, engine: EngineChoice, tile: int | None) -> Sharpener:
    from sharpkd.inference.engine import HOW_TO_GET_A_MODEL, ModelError
    from sharpkd.inference.sharpener import Sharpener

    if model is None:
        _stop(f"no model given (--model PATH): {HOW_TO_GET_A_MODEL}")
    try:
        return Sharpener(model, engine.value, tile)
    except ModelError as error:
        _stop(str(error))


def _plan(inputs: list[Path], output: Path | None) -> list[tuple[Path, Path]]:
    """Pairs of (input file, output file); stops with a usage error where two would collide."""
    from sharpkd.inference.image_io import READ_SUFFIXES

    single_file = output is not None and output.suffix.lower() in READ_SUFFIXES and not output.is_dir()
    if single_file and (len(inputs) > 1 or inputs[0].is_dir()):
        _stop(f"{output} is one file, but there are several inputs: give a folder with -o")
    jobs: list[tuple[Path, Path]] = []
    for source in inputs:
        if not source.is_dir():
            jobs.append((source, _target(source, output, single_file)))
            continue
        if output is None:
            _stop(f"{source} is a folder: say with -o where its sharpened pictures go")
        found = [
            path
            for path in sorted(source.rglob("*"))
            if path.suffix.lower() in READ_SUFFIXES and path.is_file() and not _inside(path, output, source)
        ]
        if not found:
            _stop(f"no pictures in {source} (looked for {', '.join(READ_SUFFIXES)}, also in its folders)")
        jobs += [(path, output / path.relative_to(source)) for path in found]
    sources: dict[Path, Path] = {}
    for path, target in jobs:
        other = sources.setdefault(target, path)
        if other != path:
            _stop(f"{other} and {path} would both be written to {target}: sharpen them one by one")
    return jobs


def _target(source: Path, output: Path | None, single_file: bool) -> Path:
    if output is None:
        return source.with_name(f"{source.stem}{RESULT_SUFFIX}{source.suffix}")
    return output if single_file else output / source.name


def _inside(path: Path, output: Path, source: Path) -> bool:
    """Whether ``path`` is an earlier result, in an output folder that lies within the input folder."""
    folder, top = output.resolve(), source.resolve()
    return folder != top and folder.is_relative_to(top) and path.resolve().is_relative_to(folder)


def _run(jobs: list[tuple[Path, Path]], sharpener: Sharpener, strength: float, overwrite: bool) -> int:
    """Sharpen all, name each that fails, return how many did."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TaskID,
        TextColumn,
        TimeRemainingColumn,
    )

    from sharpkd.inference.image_io import ImageFileError

    console = _console()
    failed = 0
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        overall = progress.add_task("pictures", total=len(jobs))
        for source, target in jobs:
            task = progress.add_task(source.name, total=None)

            def on_tile(done: int, total: int, task: TaskID = task) -> None:
                progress.update(task, completed=done, total=total)

            try:
                _sharpen_one(source, target, sharpener, strength, overwrite, on_tile)
                if console.is_terminal:
                    _note(f"{source} -> {target}")
            except ImageFileError as error:
                failed += 1
                _note(str(error))
            except (OSError, ValueError, MemoryError, RuntimeError) as error:
                failed += 1
                _note(f"{source}: {(str(error) or type(error).__name__).splitlines()[0]}")
            progress.remove_task(task)
            progress.advance(overall)
    return failed


def _sharpen_one(
    source: Path,
    target: Path,
    sharpener: Sharpener,
    strength: float,
    overwrite: bool,
    on_tile: Callable[[int, int], None],
) -> None:
    from sharpkd.inference.files import sharpened
    from sharpkd.inference.image_io import ImageFileError, read_image, write_image

    if target.exists() and not overwrite:
        same = source.exists() and target.samefile(source)
        raise ImageFileError(
            source, ("would overwrite itself" if same else f"{target} exists") + "; --overwrite replaces it"
        )
    file = read_image(source)
    result = sharpened(file, sharpener, strength, on_tile)
    for note in (*file.notes, *write_image(target, result)):
        _note(f"{source}: note: {note}")


def _console() -> Console:
    from rich.console import Console

    return Console(stderr=True, soft_wrap=True)


def _note(line: str) -> None:
    _console().print(line, markup=False, highlight=False)


def _stop(line: str) -> NoReturn:
    _note(line)
    raise typer.Exit(USAGE)


if __name__ == "__main__":
    main()
