"""One self-contained HTML page: a table, before/after sliders, curves, notes."""

from __future__ import annotations

import base64
import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sharpkd.evaluation.pages.page import data_uri, fill
from sharpkd.evaluation.pages.pictures import Pixels
from sharpkd.evaluation.rows import decibels

MIN_SLIDER = 500
DIGITS = {"PSNR": 2, "SSIM": 4, "lpips": 4, "ms": 1}


@dataclass(frozen=True)
class Comparison:
    """Two versions of one image for a slider: ``(H, W, 3)`` uint8 RGB each, of one shape."""

    title: str
    before: Pixels
    after: Pixels
    before_label: str = "before"
    after_label: str = "after"
    note: str = ""


def write_report(
    path: Path,
    title: str,
    table: Sequence[Mapping[str, Any]],
    pictures: Sequence[Comparison],
    curves: Sequence[tuple[str, Path]],
    notes: Sequence[str],
) -> None:
    """Write the page; everything is inside it, so it can be mailed.

    Args:
        path: of the HTML file; its folder is created.
        title: heading.
        table: rows, all with the same columns; None is shown as a blank.
        pictures: sliders, in this order; stored without loss.
        curves: caption and PNG file of each.
        notes: paragraphs of plain text below.

    Raises:
        ValueError: the rows differ in their columns, or the two images of a slider in their shape.
        FileNotFoundError: a curve's file does not exist.
    """
    parts = {
        "title": html.escape(title),
        "table": _table(table),
        "pictures": "\n".join(_slider(picture) for picture in pictures),
        "curves": "\n".join(_curve(caption, file) for caption, file in curves),
        "notes": "\n".join(f"<p>{html.escape(note)}</p>" for note in notes),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(fill("folder/page.html", parts), encoding="utf-8")


def format_value(column: str, value: Any) -> str:
    """A cell's text: digits by what the column holds, thousands separated, nothing for None.

    A PSNR of identical images is no number (see :func:`sharpkd.evaluation.rows.decibels`).
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    digits = next((count for word, count in DIGITS.items() if column.startswith(word)), None)
    if column.startswith("PSNR"):
        return decibels(value, DIGITS["PSNR"])
    if digits is not None:
        return f"{value:,.{digits}f}"
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    if not rows:
        return ""
    columns = list(rows[0])
    for row in rows:
        if list(row) != columns:
            raise ValueError(f"the report's rows differ in their columns: {columns} and {list(row)}")
    head = "".join(f'<th scope="col">{html.escape(column)}</th>' for column in columns)
    body = "\n".join(
        "<tr>"
        + "".join(_cell(column, row[column], first=column == columns[0]) for column in columns)
        + "</tr>"
        for row in rows
    )
    return (
        f'<div class="panel scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def _cell(column: str, value: Any, first: bool) -> str:
    text = html.escape(format_value(column, value))
    return f'<th scope="row">{text}</th>' if first else f"<td>{text}</td>"


def _slider(picture: Comparison) -> str:
    if picture.before.shape != picture.after.shape:
        raise ValueError(
            f"picture {picture.title!r}: before is {picture.before.shape} and after {picture.after.shape}; "
            "expected one shape"
        )
    height, width = picture.before.shape[:2]
    before, after, title, note = (
        html.escape(text) for text in (picture.before_label, picture.after_label, picture.title, picture.note)
    )
    size = f'width="{width}" height="{height}"'
    return f"""<figure>
<div class="compare" style="width:{max(width, MIN_SLIDER)}px">
<img src="{data_uri(picture.after)}" alt="{title}: {after}" {size}>
<img class="before" src="{data_uri(picture.before)}" alt="{title}: {before}" {size}>
<span class="tag left">{before}</span><span class="tag right">{after}</span><span class="line"></span>
<input type="range" min="0" max="100" step="0.1" value="50" aria-label="{title}: {before} to {after}">
</div>
<figcaption><b>{title}</b> {note}</figcaption>
</figure>"""


def _curve(caption: str, file: Path) -> str:
    if not file.is_file():
        raise FileNotFoundError(f"the report's curve {caption!r} is missing: {file}")
    data = base64.b64encode(file.read_bytes()).decode()
    text = html.escape(caption)
    return (
        f'<figure><img class="curve" src="data:image/png;base64,{data}" alt="{text}">'
        f"<figcaption>{text}</figcaption></figure>"
    )
