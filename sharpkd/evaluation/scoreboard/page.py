"""A scoreboard for people: what each method gains as dots and intervals, the numbers, the trainings."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sharpkd.evaluation.pages.page import fill, replace_file
from sharpkd.evaluation.scoreboard.methods import SCRATCH
from sharpkd.evaluation.scoreboard.table import (
    ALL,
    INPUT,
    TEACHER,
    WORTH_KEEPING_DB,
    Line,
    Trained,
    mean_score,
)
from sharpkd.evaluation.statistics import MeanInterval

MINUS = "−"
FEWEST_PAIRS = 3
NOTES = (
    "Every student has the same net, samples, order of samples and number of steps; students of one seed "
    "also start from the same weights. A gain is the PSNR of a student minus that of the student with the "
    "same seed that was trained from scratch; the interval is Student's 95 % over these differences, one a "
    "seed, not over images. An interval that holds zero shows neither help nor harm, and fewer than "
    f"{FEWEST_PAIRS} seeds show nothing. Of many methods that do nothing, one in twenty leaves zero out by "
    "chance.",
    "Gain kept is the student's gain over the input as a share of the teacher's. It is left blank unless the "
    f"teacher beats the students from scratch by at least {WORTH_KEEPING_DB:g} dB.",
    "Time is that of training alone, validation included, as a mean over seeds. Weights are selected on "
    "training images that are held out, never on the images measured here.",
)


@dataclass
class CellReport:
    """What became of one training: ``trained``, or why it failed, or neither yet."""

    method: str
    seed: int
    trained: Trained | None = None
    error: str = ""

    @property
    def state(self) -> str:
        """finished, failed or waiting."""
        return "finished" if self.trained else "failed" if self.error else "waiting"


def method_cells(line: Line) -> dict[str, str]:
    """A row's texts by the heading of their columns."""
    seconds = "" if line.seconds is None else f"{line.seconds:,.0f} s"
    return {
        "method": line.method,
        "seeds": _seeds(line),
        "PSNR (dB)": f"{line.psnr:.3f}",
        "gain (dB)": plus_minus(line.gain, 3),
        "SSIM": "" if line.ssim is None else f"{line.ssim:.4f}",
        "SSIM gain": plus_minus(line.ssim_gain, 4),
        "gain kept": "" if line.kept is None else _share(line.kept),
        "time": seconds,
        "times scratch": "" if line.cost is None else f"{line.cost:.2f}",
    }


def plus_minus(interval: MeanInterval | None, digits: int) -> str:
    """``+0.031 ± 0.012``; nothing behind the mean where one seed says nothing about the spread."""
    if interval is None:
        return ""
    half = interval.half_width
    sign = MINUS if interval.mean < 0 else "+"
    return f"{sign}{abs(interval.mean):.{digits}f}" + ("" if half is None else f" ± {half:.{digits}f}")


def write_page(
    path: Path,
    lines: Sequence[Line],
    reports: Sequence[CellReport],
    facts: Mapping[str, Any],
) -> None:
    """Write ``scoreboard.html``: one file, no network, no script.

    Args:
        path: the file; cells are linked relative to its folder.
        lines: rows of the table, set by set; the first set's are charted first.
        reports: of every training, in order.
        facts: what ``scoreboard.json`` holds.
    """
    sets = list(dict.fromkeys(line.set for line in lines))
    groups = {name: [line for line in lines if line.set == name] for name in sets}
    parts = {
        "title": html.escape(f"Does distillation help {facts['student']}?"),
        "lead": _lead(path.parent.name, reports, facts),
        "cards": _cards(groups[sets[0]]),
        "charts": "".join(
            f'<div class="panel">{_chart(name, group)}</div>' for name, group in groups.items()
        ),
        "table": "".join(_table(name, group) for name, group in groups.items()),
        "trainings": _trainings(reports),
        "notes": "".join(
            f"<p>{html.escape(note)}</p>" for note in [*NOTES, *_blank(lines), _made_with(facts)]
        ),
        "differences": _differences(facts["differs_from_scratch"]),
    }
    replace_file(path, fill("scoreboard/page.html", parts))


def _lead(name: str, reports: Sequence[CellReport], facts: Mapping[str, Any]) -> str:
    parameters = "" if facts["parameters"] is None else f" ({facts['parameters']:,} parameters)"
    done = sum(report.trained is not None for report in reports)
    images = ", ".join(f"{count} of {name}" for name, count in facts["images"].items())
    return html.escape(
        f"Scoreboard {name}. Student {facts['student']}{parameters}, teacher {facts['teacher_net']} "
        f"({facts['teacher_parameters']:,} parameters), {facts['steps']:,} steps a training, "
        f"{done} of {len(reports)} trainings finished. Images: {images}; {facts['degradation']}."
    )


def _cards(lines: Sequence[Line]) -> str:
    methods = [line for line in lines if line.gain]
    means = {line.method: line.psnr for line in lines}
    cards = []
    if methods:
        best = max(methods, key=lambda line: line.gain.mean if line.gain else 0.0)
        title = "Least loss" if best.gain and best.gain.mean < 0 else "Largest gain"
        cards.append((title, plus_minus(best.gain, 2) + " dB", f"{best.method}: {verdict_on(best.gain)}"))
    ahead = means[TEACHER] - means[INPUT]
    cards.append(("Teacher over input", _decibel(ahead), f"on {_heading(lines[0].set)}"))
    if SCRATCH in means:
        worth = "enough to speak of a share" if means[TEACHER] - means[SCRATCH] >= WORTH_KEEPING_DB else ""
        note = worth or f"below {WORTH_KEEPING_DB:g} dB a share of its gain says nothing"
        cards.append(("Teacher over scratch", _decibel(means[TEACHER] - means[SCRATCH]), note))
    return "".join(
        f'<div class="card"><span class="label">{title}</span><span class="figure">{figure}</span>'
        f'<span class="note">{html.escape(note)}</span></div>'
        for title, figure, note in cards
    )


def verdict_on(gain: MeanInterval | None) -> str:
    """What a gain shows, in words."""
    if gain is None or gain.n < FEWEST_PAIRS:
        return f"fewer than {FEWEST_PAIRS} seeds tell nothing about chance"
    if not gain.excludes_zero:
        return "no difference shown, the interval holds zero"
    return "better than scratch" if gain.mean > 0 else "worse than scratch"


def kind_of(gain: MeanInterval) -> str:
    """``better`` or ``worse`` where a gain shows that; otherwise empty."""
    if gain.n < FEWEST_PAIRS or not gain.excludes_zero:
        return ""
    return "better" if gain.mean > 0 else "worse"


def _seeds(line: Line) -> str:
    pairs = line.seeds if line.gain is None else line.gain.n
    return str(line.seeds or "") if pairs == line.seeds else f"{line.seeds}, {pairs} with a twin"


def _chart(name: str, lines: Sequence[Line]) -> str:
    """One row a method: the interval as a bar, the mean as a large dot, each seed as a small one."""
    head = f"<h3>{_heading(name)}</h3>"
    shown = [(line, line.gain) for line in lines if line.gain]
    if not shown:
        return f'{head}<p class="hint">No pair of finished students yet.</p>'
    ends = [0.0]
    for line, gain in shown:
        ends += [*line.gains.values(), *(end for end in (gain.low, gain.high) if end is not None)]
    low, high = min(ends), max(ends)
    room = 0.12 * (high - low) or 1.0

    def at(value: float) -> str:
        return f"{100 * (value - low + room) / (high - low + 2 * room):.2f}%"

    rows = ""
    for line, gain in shown:
        marks = f'<i class="zero" style="left:{at(0.0)}"></i>'
        if gain.low is not None and gain.high is not None:
            marks += f'<i class="bar" style="left:{at(gain.low)};right:calc(100% - {at(gain.high)})"></i>'
        marks += "".join(
            f'<i class="seed" style="left:{at(value)}" title="seed {seed}: {_decibel(value, 3)}"></i>'
            for seed, value in line.gains.items()
        )
        marks += f'<i class="mean" style="left:{at(gain.mean)}" title="{verdict_on(gain)}"></i>'
        rows += (
            f'<div class="row {kind_of(gain)}"><span class="name">{html.escape(line.method)}</span>'
            f'<span class="value">{plus_minus(gain, 3)} dB</span><span class="track">{marks}</span></div>'
        )
    ends = [value for value in (low, high) if abs(value) > 0.15 * (high - low)]
    ticks = "".join(
        f'<span style="left:{at(value)}">{_decibel(value) if value else "0"}</span>' for value in (0.0, *ends)
    )
    return f'{head}<div class="forest">{rows}<div class="ticks">{ticks}</div></div>'


def _table(name: str, lines: Sequence[Line]) -> str:
    cells = [method_cells(line) for line in lines]
    head = "".join(f'<th scope="col">{html.escape(column)}</th>' for column in cells[0])
    body = ""
    for line, row in zip(lines, cells, strict=True):
        body += f'<tr><th scope="row">{html.escape(row.pop("method"))}</th>'
        for column, text in row.items():
            kind = kind_of(line.gain) if column == "gain (dB)" and line.gain else ""
            title = f' title="{html.escape(line.note)}"' if column == "gain kept" and line.note else ""
            body += f'<td class="number {kind}"{title}>{html.escape(text)}</td>'
        body += "</tr>\n"
    return (
        f'<h3>{_heading(name)}</h3><div class="panel scroll"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _trainings(reports: Sequence[CellReport]) -> str:
    rows = ""
    for report in reports:
        link = quote(f"cells/{report.method}/seed{report.seed}/")
        trained = report.trained
        psnr = "" if trained is None else f"{mean_score(trained.scores, 'psnr'):.3f}"
        seconds = "" if trained is None else f"{trained.seconds:,.1f}"
        rows += (
            f'<tr><th scope="row"><a href="{link}">{html.escape(report.method)}, seed {report.seed}</a></th>'
            f'<td><span class="state {report.state}">{report.state}</span></td><td class="number">{psnr}</td>'
            f'<td class="number">{seconds}</td><td class="error">{html.escape(report.error)}</td></tr>\n'
        )
    head = "".join(
        f'<th scope="col">{title}</th>' for title in ("training", "state", "PSNR (dB)", "seconds", "")
    )
    return f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody>"


def _differences(changed: Mapping[str, Sequence[str]]) -> str:
    return "".join(
        f"<details><summary>{html.escape(method)}: {len(lines)} settings differ from {SCRATCH}</summary>"
        f"<pre>{html.escape(chr(10).join(lines))}</pre></details>"
        for method, lines in changed.items()
        if method != SCRATCH
    )


def _blank(lines: Sequence[Line]) -> list[str]:
    """Why shares are left blank, each reason once."""
    reasons = {line.set: line.note for line in lines if line.note}
    return [f"Gain kept is blank on {name}: {note}." for name, note in reasons.items()]


def _made_with(facts: Mapping[str, Any]) -> str:
    versions = ", ".join(f"{name} {number}" for name, number in facts["versions"].items())
    digest = facts["teacher_sha256"][:16]
    return (
        f"Teacher {facts['teacher']} (SHA-256 {digest}…). Settings of every training: "
        f"{' '.join(facts['settings'])}. Made with {versions}, {facts['cpu']}."
    )


def _heading(name: str) -> str:
    return "all images" if name == ALL else html.escape(name)


def _decibel(value: float, digits: int = 2) -> str:
    return f"{MINUS if value < 0 else '+'}{abs(value):.{digits}f} dB"


def _share(kept: MeanInterval) -> str:
    half = kept.half_width
    return f"{100 * kept.mean:.1f} %" if half is None else f"{100 * kept.mean:.1f} ± {100 * half:.1f} %"
