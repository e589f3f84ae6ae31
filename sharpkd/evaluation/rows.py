"""One measured image: the row that every table, page and comparison is made from."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from sharpkd.functional.psnr import PSNR_CAP

INPUT = "input"
"""Name of the model whose output is the degraded image as it is (enlarged by bicubic where scale > 1)."""


META = "_meta"
"""Key of what ``metrics.json`` tells beside the models: versions, conditions, what is missing."""


@dataclass(frozen=True)
class Row:
    """One model's result on one image under one condition.

    Attributes:
        model: its name in the results; ``input`` is there for every image.
        set: benchmark set or folder.
        image: name, unique in its set.
        domain: what the image shows (text, face, nature, building, other); empty where nobody said.
        track: ``gaussian``, ``noisy``, ``lowres``, ``conference``, ``sharp``, ``sr`` or ``folder``.
        condition: track and setting, such as ``gaussian/1.6``; the track's name alone where it has but one.
        psnr: dB by the track's protocol (RGB; luma with the border cropped on ``sr``).
        ssim: by the track's protocol, on luma.
        psnr_y: dB on luma.
        lpips: None without the backbone's weights or on too small an image.
    """

    model: str
    set: str
    image: str
    domain: str
    track: str
    condition: str
    psnr: float
    ssim: float | None
    psnr_y: float
    lpips: float | None


COLUMNS = tuple(field.name for field in fields(Row))
TEXT = ("model", "set", "image", "domain", "track", "condition")


def lpips_name(measured: str | None) -> str:
    """What tables call LPIPS, such as ``lpips-squeeze``: values of different backbones do not compare.

    Args:
        measured: ``lpips`` of a ``metrics.json``'s ``_meta``, as any evaluation writes it: the backbone or
            this name; None where nobody knows.
    """
    return "lpips" if measured is None else f"lpips-{measured.removeprefix('lpips-')}"


def decibels(psnr: float, digits: int = 2, unit: str = "") -> str:
    """A PSNR as people read it: "identical" in place of ``PSNR_CAP``, which stands for infinity."""
    return "identical" if psnr >= PSNR_CAP else f"{psnr:,.{digits}f}{unit}"


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """Write ``per_image.csv``; a missing value is an empty cell."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)


def read_rows(path: Path) -> list[Row]:
    """Read what :func:`write_rows` wrote.

    Raises:
        ValueError: the columns are others, or a number cannot be read; names the file and the line.
    """
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        if tuple(reader.fieldnames or ()) != COLUMNS:
            raise ValueError(f"{path} has the columns {reader.fieldnames}; expected {list(COLUMNS)}")
        return [_row(cells, f"{path}, line {reader.line_num}") for cells in reader]


def _row(cells: dict[str, str], where: str) -> Row:
    values: dict[str, str | float | None] = {name: cells[name] for name in TEXT}
    for name in COLUMNS[len(TEXT) :]:
        try:
            values[name] = float(cells[name]) if cells[name] else None
        except (TypeError, ValueError) as error:
            raise ValueError(f"{where}: {name} is {cells[name]!r}; expected a number") from error
    return Row(**values)  # type: ignore[arg-type]  # each value has its column's type by now
