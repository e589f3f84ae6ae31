"""Scores from choices between two: the model of Bradley and Terry."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]

TOLERANCE = 1e-10
ROUNDS = 100
PRIOR = 1.0


@dataclass(frozen=True, eq=False)
class BradleyTerry:
    """What the choices say about each model.

    Attributes:
        scores: model -> (score, low, high), best first. A score is the logarithm of the model's strength, and
            the scores' mean is 0: of two models whose scores differ by d, people prefer the higher one in
            1 / (1 + exp(-d)) of the cases. Low and high bound the confidence interval.
        pairs: number of comparisons.
        comparisons: model -> how many of them it took part in.
        ties: those of them that had no winner.
        covariance: ``(M, M)`` of the scores, in the order of ``scores``.
        confidence: of the intervals.
        regularised: some models always won (or lost) against all the others, so that the likelihood has no
            maximum; a weak prior keeps their scores finite.
    """

    scores: dict[str, tuple[float, float, float]]
    pairs: int
    comparisons: dict[str, int]
    ties: int
    covariance: Matrix
    confidence: float
    regularised: bool

    def preference(self, first: str, second: str) -> tuple[float, float, float]:
        """Share of cases in which ``first`` is preferred to ``second``, and the interval of that share.

        Raises:
            KeyError: a model was not compared.
        """
        names = list(self.scores)
        for name in (first, second):
            if name not in self.scores:
                raise KeyError(f"{name!r} was not compared; those compared are {', '.join(names)}")
        one, two = names.index(first), names.index(second)
        gap = self.scores[first][0] - self.scores[second][0]
        c = self.covariance
        half = _quantile(self.confidence) * math.sqrt(max(c[one, one] + c[two, two] - 2 * c[one, two], 0.0))
        share, low, high = _logistic(np.array([gap, gap - half, gap + half])).tolist()
        return share, low, high


def bradley_terry(comparisons: Iterable[tuple[str, str, float]], confidence: float = 0.95) -> BradleyTerry:
    """Fit strengths p with P(i is preferred to j) = p_i / (p_i + p_j) by maximum likelihood.

    Bradley and Terry, "Rank analysis of incomplete block designs", Biometrika 39 (1952); fitted by the MM
    algorithm of Hunter, "MM algorithms for generalized Bradley-Terry models", Annals of Statistics 32 (2004),
    eq. (3): p_i <- W_i / sum_j n_ij / (p_i + p_j), ended by Newton's steps. The intervals are the score ± z
    standard errors, from the inverse of Fisher's information where the scores sum to 0. They take the
    comparisons as independent: many answers by few people, or on few images, are worth less than they say.

    Where the maximum does not exist (some models always won against all others; Hunter's assumption 1), every
    model also gets one virtual tie with an opponent of strength 1, and the result says so.

    Args:
        comparisons: (first model, second model, outcome): 1 where the first is preferred, 0 where the second
            is, 0.5 for a tie, which counts as half a win for each.
        confidence: of the intervals, in (0, 1).

    Raises:
        ValueError: no comparison, a model against itself, an unknown outcome, a confidence out of range, or
            groups of models that were never compared with each other (they are named).
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}, expected a number between 0 and 1")
    found = list(comparisons)
    names, wins = _count(found)
    groups = _groups(wins)
    if len(groups) > 1:
        listed = " | ".join(", ".join(names[index] for index in group) for group in groups)
        raise ValueError(
            f"these groups of models were never compared with each other: {listed}; "
            "score them apart, or collect answers that connect them"
        )
    regularised = not bool(_reach(wins > 0).all())
    prior = PRIOR if regularised else 0.0
    scores = _fit(wins, prior)
    covariance = _covariance(wins + wins.T, scores, prior)
    scores -= scores.mean()

    order = sorted(range(len(names)), key=lambda index: (-scores[index], names[index]))
    half = _quantile(confidence) * np.sqrt(np.diag(covariance))
    return BradleyTerry(
        scores={
            names[i]: (float(scores[i]), float(scores[i] - half[i]), float(scores[i] + half[i]))
            for i in order
        },
        pairs=len(found),
        comparisons={names[i]: sum(names[i] in pair[:2] for pair in found) for i in order},
        ties=sum(outcome == 0.5 for _, _, outcome in found),
        covariance=covariance[np.ix_(order, order)],
        confidence=confidence,
        regularised=regularised,
    )


def connected_groups(pairs: Iterable[tuple[str, str]]) -> list[list[str]]:
    """Names that the pairs connect, directly or through others; sorted, the largest group first."""
    found = list(pairs)
    names = sorted({name for pair in found for name in pair})
    met = np.zeros((len(names), len(names)))
    for first, second in found:
        met[names.index(first), names.index(second)] = 1
    return [[names[index] for index in group] for group in _groups(met)]


def _count(comparisons: list[tuple[str, str, float]]) -> tuple[list[str], Matrix]:
    if not comparisons:
        raise ValueError("there is no comparison to fit; expected at least one")
    names = sorted({name for first, second, _ in comparisons for name in (first, second)})
    place = {name: index for index, name in enumerate(names)}
    wins = np.zeros((len(names), len(names)))
    for first, second, outcome in comparisons:
        if first == second:
            raise ValueError(f"{first!r} is compared with itself; expected two models")
        if outcome not in (0, 0.5, 1):
            raise ValueError(
                f"the outcome of {first!r} against {second!r} is {outcome}; expected 0, 0.5 or 1"
            )
        wins[place[first], place[second]] += outcome
        wins[place[second], place[first]] += 1 - outcome
    return names, wins


def _reach(linked: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Whether a path of links leads from the row's model to the column's."""
    reached = linked | np.eye(len(linked), dtype=bool)
    for _ in range(len(linked).bit_length()):
        reached = (reached.astype(np.int64) @ reached) > 0
    return reached


def _groups(met: Matrix) -> list[list[int]]:
    reached = _reach((met + met.T) > 0)
    groups = {tuple(np.flatnonzero(row).tolist()) for row in reached}
    return [list(group) for group in sorted(groups, key=lambda group: (-len(group), group))]


def _fit(wins: Matrix, prior: float) -> Matrix:
    met, won = wins + wins.T, wins.sum(1) + prior / 2
    strength = np.ones(len(wins))
    for _ in range(ROUNDS):
        strength = won / ((met / (strength[:, None] + strength)).sum(1) + prior / (strength + 1))
        if not prior:
            strength /= np.exp(np.log(strength).mean())
    # MM never overshoots, but creeps where one model hardly ever loses; Newton's steps end what it began
    scores = np.log(strength)
    for _ in range(ROUNDS):
        expected = (met * _share(scores)).sum(1) + prior * _logistic(scores)
        step = np.linalg.solve(_information(met, scores, prior), won - expected)
        scores = scores + step / max(1.0, float(np.abs(step).max()))
        if np.abs(step).max() < TOLERANCE:
            return scores
    raise ArithmeticError(f"the scores still change by {np.abs(step).max():.1e} after {ROUNDS} Newton steps")


def _share(scores: Matrix) -> Matrix:
    """How often the row's model is preferred to the column's, by the model."""
    return _logistic(scores[:, None] - scores)


def _information(met: Matrix, scores: Matrix, prior: float) -> Matrix:
    """Fisher's, of the scores; without a prior it leaves their sum free, and that is fixed at 0."""
    share, alone = _share(scores), _logistic(scores)
    weights = met * share * (1 - share)
    fixed = 0.0 if prior else 1.0
    return np.asarray(np.diag(weights.sum(1) + prior * alone * (1 - alone)) - weights + fixed)


def _covariance(met: Matrix, scores: Matrix, prior: float) -> Matrix:
    centre = np.eye(len(met)) - 1 / len(met)
    return np.asarray(centre @ np.linalg.inv(_information(met, scores, prior)) @ centre)


def _quantile(confidence: float) -> float:
    return NormalDist().inv_cdf(0.5 + confidence / 2)


def _logistic(value: Matrix) -> Matrix:
    return np.asarray(0.5 * (1 + np.tanh(value / 2)))
