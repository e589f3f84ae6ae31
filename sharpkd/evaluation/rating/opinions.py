"""What people say: the page on which they choose, and their answers as scores beside the metrics."""

from __future__ import annotations

import csv
import json
import logging
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sharpkd.config import ConfigError
from sharpkd.evaluation.benchmark.report import add_opinions
from sharpkd.evaluation.model_names import as_list
from sharpkd.evaluation.pages.examples import Example
from sharpkd.evaluation.rating.answers import score_answers
from sharpkd.evaluation.rating.ballot import make_rating_page
from sharpkd.evaluation.rating.bradley_terry import BradleyTerry
from sharpkd.evaluation.rows import INPUT, META
from sharpkd.runs.folder import write_json

log = logging.getLogger(__name__)

PAGE = "rating.html"
TABLE = "rating.csv"
COLUMNS = ("model", "score", "low", "high", "comparisons", "regularised")


@dataclass(frozen=True)
class RatingSettings:
    """The group ``rating`` of ``evaluate.yaml``.

    Attributes:
        page: write the page.
        images: shown to people.
        pairs_per_image: None for all pairs of models.
        answers: CSV files that people saved.

    Raises:
        ConfigError: a count is no whole number above 0.
    """

    page: bool = False
    images: int = 12
    pairs_per_image: int | None = 6
    answers: Sequence[str] = ()

    def __post_init__(self) -> None:
        counts = {"images": self.images}
        if self.pairs_per_image is not None:
            counts["pairs_per_image"] = self.pairs_per_image
        for name, count in counts.items():
            if not isinstance(count, int) or isinstance(count, bool) or count < 1:
                raise ConfigError(f"rating.{name}: expected a whole number of at least 1, found {count!r}")

    @classmethod
    def of(cls, setting: Any) -> RatingSettings:
        """Read the setting, where ``true`` alone asks for the page."""
        if isinstance(setting, bool):
            return cls(page=setting)
        if not isinstance(setting, Mapping):
            raise ConfigError(f"rating: expected true, false or rating.page=…, found {setting}")
        return cls(**setting)


def write_page(examples: Sequence[Example], folder: Path, seed: int, settings: RatingSettings) -> None:
    """Write ``rating.html`` and its key into ``folder``, and say what to do with both."""
    written = make_rating_page(examples, folder / PAGE, seed, settings.pairs_per_image)
    log.info("%d pairs to choose between: %s", written.pairs, written.page)
    log.info("keep %s to yourself: it says which output is whose", written.key.name)


def score(folder: Path, settings: RatingSettings) -> BradleyTerry:
    """Score the answers with the keys in ``folder`` (else those beside the answers); write ``rating.csv``.

    Where ``folder`` holds an evaluation on SharpBench, the scores also go into its ``metrics.json``, as
    ``opinions`` (see :func:`opinions_of`), and into its ``report.html``.

    Raises:
        FileNotFoundError, ValueError: as :func:`sharpkd.evaluation.rating.answers.score_answers`.
    """
    answers = [Path(path).expanduser() for path in as_list(settings.answers)]
    found = score_answers(answers, sorted(folder.glob("*_key.json")))
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / TABLE).open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(
            (model, *scores, found.comparisons[model], found.regularised)
            for model, scores in found.scores.items()
        )
    _put_beside_metrics(folder, opinions_of(found))
    return found


def opinions_of(found: BradleyTerry) -> dict[str, Any]:
    """The scores, ready for JSON.

    Returns:
        ``scores`` (model -> ``score``, ``low``, ``high``, ``comparisons`` and ``preferred_to_input``: share,
        low and high, or None), best first; ``choices``, ``ties``, ``confidence`` and ``regularised``, as in
        :class:`~sharpkd.evaluation.rating.bradley_terry.BradleyTerry`.
    """
    return {
        "scores": {
            model: {
                "score": score,
                "low": low,
                "high": high,
                "comparisons": found.comparisons[model],
                "preferred_to_input": list(found.preference(model, INPUT))
                if INPUT in found.scores and model != INPUT
                else None,
            }
            for model, (score, low, high) in found.scores.items()
        },
        "choices": found.pairs,
        "ties": found.ties,
        "confidence": found.confidence,
        "regularised": found.regularised,
    }


def tell_of_earlier_scores(folder: Path) -> None:
    """Say that a new evaluation holds no opinions, where people's answers to an earlier one were scored."""
    if (folder / TABLE).is_file():
        plain = re.fullmatch(r"[\w.-]+", folder.name)
        name = f"name={folder.name}" if plain else f"\"name='{folder.name}'\""
        log.warning(
            "%s has people's scores of an earlier evaluation; the new metrics and report have none. "
            "Where the models are still the same, score the answers again: "
            "python -m sharpkd.evaluate rating.answers=[FILES] %s",
            folder / TABLE,
            name,
        )


def _put_beside_metrics(folder: Path, opinions: dict[str, Any]) -> None:
    metrics, report = folder / "metrics.json", folder / "report.html"
    if not metrics.is_file():
        return
    results = json.loads(metrics.read_text(encoding="utf-8"))
    if results.get(META, {}).get("benchmark") != "SharpBench":
        log.info("%s is no evaluation on SharpBench: the scores are in %s alone", folder, TABLE)
        return
    if report.is_file():
        add_opinions(report, opinions)
    write_json(metrics, results | {"opinions": opinions})


def spread(count: int, limit: int) -> list[int]:
    """Up to ``limit`` of the indices below ``count``, evenly spread."""
    limit = min(limit, count)
    return [index * count // limit for index in range(limit)]


def take_turns(offers: Sequence[Sequence[str]], count: int) -> list[int]:
    """``count`` indices of offers: the next is one whose rarest name was least often among those before.

    Of such offers, the one that was taken least often; of those, the first.
    """
    taken: Counter[int] = Counter()
    seen: Counter[str] = Counter()
    turns = []
    for _ in range(count):
        turn = min(
            range(len(offers)), key=lambda index: (min(seen[name] for name in offers[index]), taken[index])
        )
        taken[turn] += 1
        seen.update(offers[turn])
        turns.append(turn)
    return turns
