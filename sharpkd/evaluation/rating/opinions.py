"""What people say: the page on which they choose, and their answers as scores beside the metrics."""

from __future__ import annotations

import csv
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sharpkd.evaluation.model_names import as_list
from sharpkd.evaluation.pages.examples import Example
from sharpkd.evaluation.rating.answers import score_answers
from sharpkd.evaluation.rating.ballot import make_rating_page
from sharpkd.evaluation.rating.bradley_terry import BradleyTerry

log = logging.getLogger(__name__)

PAGE = "rating.html"
TABLE = "rating.csv"
COLUMNS = ("model", "score", "low", "high")


@dataclass(frozen=True)
class RatingSettings:
    """The group ``rating`` of ``evaluate.yaml``.

    Attributes:
        page: write the page.
        images: shown to people.
        pairs_per_image: None for all pairs of models.
        answers: CSV files that people saved.
    """

    page: bool = False
    images: int = 12
    pairs_per_image: int | None = 6
    answers: Sequence[str] = ()

    @classmethod
    def of(cls, setting: Any) -> RatingSettings:
        """Read the setting, where ``true`` alone asks for the page."""
        return cls(page=setting) if isinstance(setting, bool) else cls(**setting)


def write_page(examples: Sequence[Example], folder: Path, seed: int, settings: RatingSettings) -> None:
    """Write ``rating.html`` and its key into ``folder``, and say what to do with both."""
    written = make_rating_page(examples, folder / PAGE, seed, settings.pairs_per_image)
    log.info("%d pairs to choose between: %s", written.pairs, written.page)
    log.info("keep %s to yourself: it says which output is whose", written.key.name)


def score(folder: Path, settings: RatingSettings) -> BradleyTerry:
    """Score the answers with the key in ``folder`` (else those beside the answers); write ``rating.csv``."""
    key = (folder / PAGE).with_name("rating_key.json")
    answers = [Path(path).expanduser() for path in as_list(settings.answers)]
    found = score_answers(answers, [key] if key.is_file() else [])
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / TABLE).open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows((model, *scores) for model, scores in found.scores.items())
    return found


def spread(count: int, limit: int) -> list[int]:
    """Up to ``limit`` of the indices below ``count``, evenly spread."""
    limit = min(limit, count)
    return [index * count // limit for index in range(limit)]
