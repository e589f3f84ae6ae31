"""Which images people get to see: those where the models do worst."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sharpkd.evaluation.rows import INPUT, Row


@dataclass(frozen=True)
class Case:
    """One image under one condition, and the lowest gain over the input that a shown model has there, dB."""

    set: str
    image: str
    condition: str
    gain: float


def worst_cases(rows: Sequence[Row], models: Sequence[str], count: int) -> list[Case]:
    """Up to ``count`` cases, worst first; the last of two or more is the median one, for a fair impression.

    Every model and track gives its worst case before any of them gives a second one. On ``sharp`` the gain is
    below 0 for every change, so the worst case there is the image that is harmed most. On ``sr`` the gain is
    over the input enlarged by bicubic.

    Args:
        rows: with those of ``input``.
        models: whose failures count.
        count: how many cases are wanted.
    """
    before = {(row.set, row.image, row.condition): row.psnr for row in rows if row.model == INPUT}
    found: dict[tuple[str, str], list[Case]] = {}
    for row in rows:
        place = (row.set, row.image, row.condition)
        if row.model in models and row.model != INPUT and place in before:
            found.setdefault((row.model, row.track), []).append(Case(*place, row.psnr - before[place]))
    ranked = [sorted(cases, key=lambda case: case.gain) for cases in found.values()]
    chosen: dict[tuple[str, str, str], Case] = {}
    for rank in range(max(map(len, ranked), default=0)):
        for cases in sorted((cases for cases in ranked if rank < len(cases)), key=lambda c: c[rank].gain):
            case = cases[rank]
            chosen.setdefault((case.set, case.image, case.condition), case)
    everything = sorted(chosen.values(), key=lambda case: case.gain)
    in_turn = list(chosen.values())
    if count < 2 or count >= len(in_turn):
        return sorted(in_turn[:count], key=lambda case: case.gain)
    worst = sorted(in_turn[: count - 1], key=lambda case: case.gain)
    median = everything[len(everything) // 2]
    return [*worst, in_turn[count - 1] if median in worst else median]
