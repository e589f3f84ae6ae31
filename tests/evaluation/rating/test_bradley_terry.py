"""Scores from choices, against published figures, an independent optimiser and simulated preferences."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import minimize

from sharpkd.evaluation.rating.bradley_terry import bradley_terry, connected_groups

Choice = tuple[str, str, float]

TEAMS = ("Milwaukee", "Detroit", "Toronto", "New York", "Boston", "Cleveland", "Baltimore")
# Wins of the row over the column, American League East 1987: Agresti, Categorical Data Analysis, 2nd edition,
# table 10.10.
SEASON = (
    (0, 7, 9, 7, 7, 9, 11),
    (6, 0, 7, 5, 11, 9, 9),
    (4, 6, 0, 7, 7, 8, 12),
    (6, 8, 6, 0, 6, 7, 10),
    (6, 2, 6, 7, 0, 7, 12),
    (4, 4, 5, 6, 6, 0, 6),
    (2, 4, 1, 3, 1, 7, 0),
)
# Coefficient and standard error against Baltimore: Turner and Firth, "Bradley-Terry models in R: the
# BradleyTerry2 package", Journal of Statistical Software 48 (2012), baseballModel1.
PUBLISHED = {
    "Boston": (1.1077, 0.3339),
    "Cleveland": (0.6839, 0.3319),
    "Detroit": (1.4364, 0.3396),
    "Milwaukee": (1.5814, 0.3433),
    "New York": (1.2476, 0.3359),
    "Toronto": (1.2945, 0.3367),
}


def season() -> list[Choice]:
    return [
        (TEAMS[row], TEAMS[column], 1.0)
        for row, wins in enumerate(SEASON)
        for column, count in enumerate(wins)
        for _ in range(count)
    ]


def simulated(strengths: dict[str, float], each: int, seed: int, ties: float = 0.0) -> list[Choice]:
    generator = np.random.default_rng(seed)
    choices: list[Choice] = []
    for first, second in combinations(strengths, 2):
        share = 1 / (1 + math.exp(strengths[second] - strengths[first]))
        for _ in range(each):
            tie = generator.random() < ties
            choices.append((first, second, 0.5 if tie else float(generator.random() < share)))
    return choices


def test_published_scores_and_standard_errors_of_a_season() -> None:
    fit = bradley_terry(season())
    names = list(fit.scores)
    assert fit.pairs == 21 * 13
    assert names == ["Milwaukee", "Detroit", "Toronto", "New York", "Boston", "Cleveland", "Baltimore"]
    last = names.index("Baltimore")
    for name, (coefficient, error) in PUBLISHED.items():
        at = names.index(name)
        covariance = fit.covariance
        found = math.sqrt(covariance[at, at] + covariance[last, last] - 2 * covariance[at, last])
        assert fit.scores[name][0] - fit.scores["Baltimore"][0] == pytest.approx(coefficient, abs=5e-5)
        assert found == pytest.approx(error, abs=5e-5)


def test_scores_are_the_maximum_of_the_likelihood() -> None:
    choices = simulated({"a": 0.0, "b": 0.8, "c": -1.0, "d": 0.3}, 30, seed=4, ties=0.2)
    names = sorted({choice[0] for choice in choices} | {choice[1] for choice in choices})

    def loss(scores: NDArray[np.float64]) -> float:
        gaps = np.array([scores[names.index(one)] - scores[names.index(two)] for one, two, _ in choices])
        outcomes = np.array([outcome for _, _, outcome in choices])
        return float((np.log1p(np.exp(-gaps)) * outcomes + np.log1p(np.exp(gaps)) * (1 - outcomes)).sum())

    best = minimize(loss, np.zeros(4), method="BFGS", options={"gtol": 1e-8}).x
    best -= best.mean()
    fit = bradley_terry(choices)
    assert [fit.scores[name][0] for name in names] == pytest.approx(best.tolist(), abs=1e-4)
    assert fit.ties == sum(outcome == 0.5 for *_, outcome in choices) > 0
    assert not fit.regularised


def test_intervals_hold_known_strengths_as_often_as_they_say() -> None:
    strengths = {"a": 1.5, "b": 0.5, "c": -0.5, "d": -1.5}
    inside = [
        low <= strengths[name] <= high
        for seed in range(100)
        for name, (_, low, high) in bradley_terry(simulated(strengths, 40, seed), 0.8).scores.items()
    ]
    assert np.mean(inside) == pytest.approx(0.8, abs=0.05)


def test_more_answers_narrow_the_interval_by_the_root_of_their_number() -> None:
    widths = []
    for copies in (1, 4):
        _, low, high = bradley_terry(season() * copies).scores["Boston"]
        widths.append(high - low)
    assert widths[0] / widths[1] == pytest.approx(2, rel=1e-6)


def test_two_models_by_hand() -> None:
    fit = bradley_terry([("new", "old", 1)] * 3 + [("old", "new", 1)])
    assert fit.scores["new"][0] == pytest.approx(math.log(3) / 2)
    assert fit.scores["old"][0] == pytest.approx(-math.log(3) / 2)
    share, low, high = fit.preference("new", "old")
    # the standard error of a log-odds is sqrt(1/3 + 1/1)
    margin = 1.959964 * math.sqrt(1 / 3 + 1)
    assert share == pytest.approx(0.75)
    assert low == pytest.approx(1 / (1 + math.exp(margin - math.log(3))), abs=1e-6)
    assert high == pytest.approx(1 / (1 + math.exp(-margin - math.log(3))), abs=1e-6)
    assert fit.preference("old", "new") == pytest.approx((1 - share, 1 - high, 1 - low))


def test_a_tie_is_half_a_win_for_each() -> None:
    tied = bradley_terry([("a", "b", 0.5)] * 2 + [("b", "a", 1)])
    assert tied.scores["b"][0] - tied.scores["a"][0] == pytest.approx(math.log(2))
    assert (tied.pairs, tied.ties) == (3, 2)


@pytest.mark.parametrize("each", [1, 20, 1000])
def test_a_model_that_always_loses_gets_a_finite_score_and_is_told(each: int) -> None:
    fit = bradley_terry([("a", "b", 1), ("b", "a", 1)] * each + [("a", "worst", 1), ("b", "worst", 1)] * each)
    assert fit.regularised
    assert list(fit.scores)[-1] == "worst"
    assert fit.scores["a"][0] == pytest.approx(fit.scores["b"][0])
    assert all(math.isfinite(value) for score in fit.scores.values() for value in score)
    assert sum(score for score, _, _ in fit.scores.values()) == pytest.approx(0, abs=1e-9)


def test_a_long_chain_of_near_certain_wins_converges() -> None:
    chain = [(one, two, float(k > 0)) for one, two in ("ab", "bc", "cd") for k in range(501)]
    fit = bradley_terry(chain)
    assert not fit.regularised
    scores = [fit.scores[name][0] for name in "abcd"]
    assert -np.diff(scores) == pytest.approx([math.log(500)] * 3, abs=1e-6)


def test_groups_that_never_met_are_named() -> None:
    choices: list[Choice] = [("a", "b", 1), ("b", "c", 0), ("x", "y", 0.5)]
    message = (
        r"^these groups of models were never compared with each other: a, b, c \| x, y; score them apart"
    )
    with pytest.raises(ValueError, match=message):
        bradley_terry(choices)
    assert connected_groups([("x", "y"), ("b", "c"), ("a", "b"), ("z", "z")]) == [
        ["a", "b", "c"],
        ["x", "y"],
        ["z"],
    ]


@pytest.mark.parametrize(
    ("choices", "confidence", "message"),
    [
        ([], 0.95, "there is no comparison to fit; expected at least one"),
        ([("a", "a", 1)], 0.95, "'a' is compared with itself; expected two models"),
        ([("a", "b", 2)], 0.95, "the outcome of 'a' against 'b' is 2; expected 0, 0.5 or 1"),
        ([("a", "b", 1)], 95, "confidence is 95, expected a number between 0 and 1"),
    ],
)
def test_bad_input(choices: list[Choice], confidence: float, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        bradley_terry(choices, confidence)


def test_an_unknown_model_is_named() -> None:
    with pytest.raises(KeyError, match="'z' was not compared; those compared are a, b"):
        bradley_terry([("a", "b", 1), ("a", "b", 0.5)]).preference("a", "z")
