"""Ask people: a blind comparison of the models' outputs, two at a time, on one page that works offline."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import cv2
import numpy as np

from sharpkd.evaluation.pages.examples import Example
from sharpkd.evaluation.pages.page import asset, data_uri, fill, replace_file, script_json
from sharpkd.evaluation.rating.bradley_terry import connected_groups

TOKEN = 10
MOST_BYTES = 200_000_000


@dataclass(frozen=True)
class RatingPage:
    """What was written: the page for the raters, and the key that must not reach them.

    Attributes:
        page: the HTML file.
        key: JSON file that says which token is which model's output.
        pairs: number of questions on the page.
    """

    page: Path
    key: Path
    pairs: int


def make_rating_page(
    examples: Sequence[Example],
    out: Path,
    seed: int = 0,
    pairs_per_image: int | None = 6,
    crop: int | None = 448,
) -> RatingPage:
    """Write a page of blind questions, and beside it its key (``rating_STUDY_key.json`` for ``rating.html``).

    A page takes the place of an earlier one, but keys stay: what people answered to that one still counts.

    Each output has a random token of its own, so nothing in the page or in the answers tells which outputs
    are one model's. Each rater gets an order and sides of their own. Pictures are stored without loss, and
    each of their pixels is shown as a whole number of screen pixels. The pairs of models asked about least
    often come first, and every model is connected to all others, as the scores need.

    Args:
        examples: what is shown; the true images are not.
        out: the page; its folder is created.
        seed: of the choice of pairs. Beside its key, a page is written anew as it was.
        pairs_per_image: at most so many questions on one example; None asks about every pair of models.
        crop: side in pixels of the square shown, placed where the outputs differ most; None shows all.

    Raises:
        ValueError: an example with fewer than two outputs or given twice, a page beyond 200 MB, or as
            :func:`plan_questions`.
    """
    _check(examples, crop)
    pairs = plan_questions([list(example.outputs) for example in examples], seed, pairs_per_image)
    study = _study(examples, seed, pairs_per_image, crop)
    windows = {index: _window(examples[index], crop) for index in {pair[0] for pair in pairs}}
    shown = sorted({(index, name) for index, *names in pairs for name in names})
    key_file = out.with_name(f"{out.stem}_{study}_key.json")
    secret = _secret(key_file, study)
    tokens = {
        (i, name): _token(secret, study, examples[i].image, examples[i].condition, name) for i, name in shown
    }
    pictures = {tokens[i, name]: data_uri(examples[i].outputs[name][windows[i]]) for i, name in shown}
    trials = {
        _token(study, tokens[i, first], tokens[i, second]): sorted((tokens[i, first], tokens[i, second]))
        for i, first, second in pairs
    }
    page = fill(
        "rating/page/page.html",
        {
            "css": asset("rating/page/style.css"),
            "js": asset("rating/page/script.js"),
            "study": script_json(
                {"study": study, "trials": trials, "images": dict(sorted(pictures.items()))}
            ),
        },
    )
    if len(page) > MOST_BYTES:
        raise ValueError(
            f"the rating page would be {len(page) / 1e6:.0f} MB, and browsers want less than "
            f"{MOST_BYTES / 1e6:.0f}; give fewer examples or models, or a smaller crop"
        )
    key = {
        "study": study,
        "secret": secret,
        "seed": seed,
        "trials": trials,
        "images": {
            tokens[i, name]: {"image": examples[i].image, "condition": examples[i].condition, "model": name}
            for i, name in shown
        },
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    # a page without its key would be answered in vain
    replace_file(key_file, json.dumps(key, indent=1) + "\n")
    replace_file(out, page)
    return RatingPage(out, key_file, len(pairs))


def plan_questions(
    offers: Sequence[Sequence[str]], seed: int = 0, pairs_per_image: int | None = 6
) -> list[tuple[int, str, str]]:
    """Which two models a page asks about on which example; no picture is needed to tell.

    Args:
        offers: the models that each example is to have an output of.
        seed: as for :func:`make_rating_page`.
        pairs_per_image: likewise.

    Returns:
        The number of the example and two models, for each question.

    Raises:
        ValueError: there is no example, models never meet (their groups are named), or there are too few
            questions to connect all of them.
    """
    _check_limit("pairs_per_image", pairs_per_image)
    if not offers:
        raise ValueError("there is no example to rate; expected at least one")
    apart = _groups(offers, [pair for names in offers for pair in combinations(names, 2)])
    if len(apart) > 1:
        raise ValueError(f"these groups of models share no example: {_listed(apart)}; write a page for each")
    pairs = _choose(offers, np.random.default_rng(seed), pairs_per_image)
    apart = _groups(offers, [(first, second) for _, first, second in pairs])
    if len(apart) > 1:
        raise ValueError(
            f"{len(pairs)} questions cannot connect all models, which leaves {_listed(apart)}; "
            f"raise pairs_per_image (it is {pairs_per_image}) or give more examples"
        )
    return pairs


def _check_limit(name: str, value: int | None) -> None:
    if value is not None and value < 1:
        raise ValueError(f"{name} is {value}; expected at least 1, or null for no limit")


def _check(examples: Sequence[Example], crop: int | None) -> None:
    _check_limit("crop", crop)
    seen = Counter((example.image, example.condition) for example in examples)
    for example in examples:
        if len(example.outputs) < 2:
            raise ValueError(
                f"{example.image}, {example.condition} has the outputs {list(example.outputs)}; "
                "a comparison needs at least two models"
            )
        if seen[example.image, example.condition] > 1:
            raise ValueError(f"{example.image}, {example.condition} is given twice")


def _groups(offers: Sequence[Sequence[str]], pairs: Sequence[tuple[str, str]]) -> list[list[str]]:
    """The models that the pairs connect; a model in none of them is a group of its own."""
    return connected_groups([*pairs, *((name, name) for names in offers for name in names)])


def _listed(groups: Sequence[Sequence[str]]) -> str:
    return " | ".join(", ".join(group) for group in groups)


def _study(examples: Sequence[Example], seed: int, pairs_per_image: int | None, crop: int | None) -> str:
    """Name of the page: other pictures or settings make another study, so that keys never mix."""
    digest = hashlib.sha256(repr((seed, pairs_per_image, crop)).encode())
    for example in examples:
        digest.update(repr((example.image, example.condition, example.sharp.shape)).encode())
        for name, pixels in example.outputs.items():
            digest.update(repr(name).encode())
            digest.update(np.ascontiguousarray(pixels).tobytes())
    return _short(digest.hexdigest())


def _secret(key_file: Path, study: str) -> str:
    """Keeps the tokens from being worked out of public names. A study that is there keeps its own."""
    if key_file.is_file():
        try:
            known = json.loads(key_file.read_text(encoding="utf-8"))
        except json.JSONDecodeError:
            known = {}  # it is written anew
        if known.get("study") == study and isinstance(known.get("secret"), str):
            return str(known["secret"])
    return secrets.token_hex(16)


def _token(*parts: str) -> str:
    return _short(hashlib.sha256("\n".join(parts).encode()).hexdigest())


def _short(digest: str) -> str:
    # the letter keeps spreadsheets from reading 12e4567890 as a number
    return "x" + digest[:TOKEN]


def _choose(
    offers: Sequence[Sequence[str]], generator: np.random.Generator, limit: int | None
) -> list[tuple[int, str, str]]:
    asked: Counter[tuple[str, str]] = Counter()
    appeared: Counter[str] = Counter()
    group = {name: name for names in offers for name in names}
    left = {index: list(combinations(sorted(names), 2)) for index, names in enumerate(offers)}
    chosen = []
    for _ in range(max(map(len, left.values())) if limit is None else limit):
        for index in generator.permutation(len(offers)).tolist():
            if not left[index]:
                continue
            generator.shuffle(left[index])
            pair = min(
                left[index],
                key=lambda two: (
                    group[two[0]] == group[two[1]],
                    asked[two],
                    sum(appeared[name] for name in two),
                ),
            )
            left[index].remove(pair)
            asked[pair] += 1
            appeared.update(pair)
            joined = group[pair[1]]
            group = {name: group[pair[0]] if of == joined else of for name, of in group.items()}
            chosen.append((index, *pair))
    return chosen


def _window(example: Example, crop: int | None) -> tuple[slice, slice]:
    """Where the outputs differ most, so that the choice treats all models alike."""
    height, width = example.sharp.shape[:2]
    rows, columns = (side if crop is None else min(crop, side) for side in (height, width))
    lights = np.stack([cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY) for pixels in example.outputs.values()])
    sums = cv2.integral(lights.astype(np.float32).std(0), sdepth=cv2.CV_64F)
    inside = sums[rows:, columns:] - sums[:-rows, columns:] - sums[rows:, :-columns] + sums[:-rows, :-columns]
    top, left = np.unravel_index(int(inside.argmax()), inside.shape)
    return slice(int(top), int(top) + rows), slice(int(left), int(left) + columns)
