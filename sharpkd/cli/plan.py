"""What the command line asks for: which files, and where each result goes. Nothing is written here."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

RESULT_SUFFIX = "_sharp"
COMPARE_SUFFIX = "_compare"
STREAM = Path("-")
"""Standard input, or standard output."""
FORMATS = {
    **{"png": ".png", "jpg": ".jpg", "jpeg": ".jpg", "webp": ".webp", "tif": ".tif", "tiff": ".tif"},
    **{"avif": ".avif", "gif": ".gif", "bmp": ".bmp"},
}
MAGIC = "*?["
ENDING = re.compile(r"\.[A-Za-z0-9]{1,5}")
"""What looks like the ending of a file's name."""


class UsageError(ValueError):
    """The command line cannot be meant; the message is one line that says why."""


@dataclass(frozen=True)
class Job:
    """One input.

    Attributes:
        source: a file, or `STREAM`.
        target: where its result goes, a file or `STREAM`.
        compare: where input and result go side by side, if anywhere.
    """

    source: Path
    target: Path
    compare: Path | None = None


@dataclass(frozen=True)
class Naming:
    """How results are named.

    Attributes:
        suffix: put behind the name; None means `RESULT_SUFFIX` beside the input, nothing in another folder.
        format: one of `FORMATS`; None keeps the input's.
        compare: results also go beside their inputs into a further file.
    """

    suffix: str | None = None
    format: str | None = None
    compare: bool = False

    def of(self, source: Path, folder: Path | None) -> Path:
        """The result's path for ``source``, in ``folder`` or beside it."""
        behind = (RESULT_SUFFIX if folder is None else "") if self.suffix is None else self.suffix
        ending = source.suffix if self.format is None else FORMATS[self.format]
        return (source.parent if folder is None else folder) / f"{source.stem}{behind}{ending}"


def plan(
    inputs: Sequence[Path],
    output: Path | None,
    naming: Naming,
    suffixes: Sequence[str],
    *,
    folder: bool = False,
) -> list[Job]:
    """The jobs, in the order of the inputs.

    Args:
        inputs: files, folders (all pictures in them), patterns that no shell has expanded, or `STREAM` alone.
        output: a file for one input, a folder, `STREAM`, or None: beside the inputs.
        naming: how results are named.
        suffixes: of the files that are pictures.
        folder: ``output`` is one, whatever its name: it was given with a slash at its end.

    Raises:
        UsageError: nothing found, results that would collide, a folder without a place for its results, or
            options that contradict each other.
    """
    one_file = output not in (None, STREAM) and not folder and _is_one_file(output, suffixes)
    _check_format(output, naming, one_file)
    found = list({_same(path): path for pattern in inputs for path in _expanded(pattern)}.values())
    single = one_file or output == STREAM
    if single and (len(found) > 1 or _is_folder(found[0], suffixes)):
        raise UsageError(f"{output} is one file, but there are several inputs: give a folder with -o")
    if output is not None and not single and not folder:
        _check_ending(found, output, suffixes)
    if STREAM in found:
        return [_stream_job(found, output, single, naming)]
    jobs: list[Job] = []
    for source in found:
        if _is_folder(source, suffixes):
            jobs += _jobs_in(source, output, naming, suffixes)
        else:
            target = output if single and output is not None else naming.of(source, output)
            jobs.append(_job(source, target, naming))
    _check_collisions(jobs)
    return jobs


def _check_format(output: Path | None, naming: Naming, one_file: bool) -> None:
    if naming.format is not None and naming.format not in FORMATS:
        raise UsageError(f"--format {naming.format} is not one of {', '.join(FORMATS)}")
    if naming.suffix is not None and (os.sep in naming.suffix or "/" in naming.suffix):
        raise UsageError(f"--suffix {naming.suffix} is not part of a name: give folders with -o")
    if one_file and output is not None and naming.format is not None:
        ending = FORMATS[naming.format]
        if FORMATS.get(output.suffix.lower().lstrip(".")) != ending:
            raise UsageError(f"--format {naming.format} and -o {output} contradict each other")
    if naming.suffix is not None and (one_file or output == STREAM):
        raise UsageError(f"--suffix names no file where -o {output} does: leave one of them out")
    if naming.compare and output == STREAM:
        raise UsageError("--compare writes a second file, which does not fit into -o -")


def _is_folder(source: Path, suffixes: Sequence[str]) -> bool:
    """Not one that is named as a picture is: that fails alone, when it is read."""
    try:
        return source.is_dir() and source.suffix.lower() not in suffixes
    except OSError:  # what is wrong with it is said when it is read
        return False


def _is_one_file(output: Path | None, suffixes: Sequence[str]) -> bool:
    if output is None:
        return False
    try:
        return not output.is_dir() and output.suffix.lower() in suffixes
    except OSError as error:
        raise UsageError(f"{output} cannot be written ({error.strerror})") from None


def _check_ending(found: Sequence[Path], output: Path, suffixes: Sequence[str]) -> None:
    """A file of an unknown kind was meant, where one input would go into a new folder ``name.ending``."""
    one_input = len(found) == 1 and not _is_folder(found[0], suffixes)
    if one_input and ENDING.fullmatch(output.suffix) and not output.exists():
        raise UsageError(
            f"{output}: files that end in {output.suffix} are not written (but {', '.join(suffixes)}); "
            f"for a folder of that name, end it with a slash: -o {output}/"
        )


def _expanded(pattern: Path) -> list[Path]:
    text = str(pattern)
    if not any(sign in text for sign in MAGIC) or os.path.exists(pattern):
        return [pattern]
    found = [Path(name) for name in sorted(glob.glob(text, recursive=True))]
    if not found:
        raise UsageError(f"no file matches {text}")
    return found


def _stream_job(found: Sequence[Path], output: Path | None, single: bool, naming: Naming) -> Job:
    if len(found) > 1:
        raise UsageError("- (standard input) stands alone: sharpen the other files by another command")
    if output is not None and not single:
        raise UsageError(f"- (standard input) has no name: give a file, not the folder {output}, with -o")
    if output is None and naming.compare:
        raise UsageError("--compare writes a second file: give the first one's name with -o")
    return _job(STREAM, output or STREAM, naming)


def _jobs_in(source: Path, output: Path | None, naming: Naming, suffixes: Sequence[str]) -> list[Job]:
    if output is None:
        raise UsageError(f"{source} is a folder: say with -o where its sharpened pictures go")
    found = [
        path
        for path in sorted(source.rglob("*"))
        if path.suffix.lower() in suffixes and path.is_file() and not _inside(path, output, source)
    ]
    if not found:
        raise UsageError(f"no pictures in {source} (looked for {', '.join(suffixes)}, also in its folders)")
    return [_job(path, naming.of(path, output / path.relative_to(source).parent), naming) for path in found]


def _inside(path: Path, output: Path, source: Path) -> bool:
    """Whether ``path`` is an earlier result, in an output folder that lies within the input folder."""
    folder, top = output.resolve(), source.resolve()
    return folder != top and folder.is_relative_to(top) and path.resolve().is_relative_to(folder)


def _job(source: Path, target: Path, naming: Naming) -> Job:
    compare = target.with_name(f"{target.stem}{COMPARE_SUFFIX}{target.suffix}") if naming.compare else None
    return Job(source, target, compare)


def _check_collisions(jobs: Iterable[Job]) -> None:
    writers: dict[str, Path] = {}
    sources = {_same(job.source): job.source for job in jobs}
    for job in jobs:
        for target in (job.target, job.compare):
            if target is None or target == STREAM:
                continue
            other = writers.setdefault(_same(target), job.source)
            if other != job.source:
                raise UsageError(
                    f"{other} and {job.source} would both be written to {target}: sharpen them one by one"
                )
            if sources.get(_same(target), job.source) != job.source:
                raise UsageError(
                    f"{target} is an input and the result of {job.source}: leave one out, "
                    "or give a folder with -o"
                )


def _same(path: Path) -> str:
    """One text for all ways to write a path."""
    return os.path.normcase(os.path.abspath(path))
