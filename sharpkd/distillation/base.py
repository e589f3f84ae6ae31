"""What every knowledge-transfer term shares: its interface, tap pairs, and bringing two maps to one size."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["Observed", "PairedTransferTerm", "Question", "TransferTerm", "distance", "match_size"]

DISTANCES: dict[str, Callable[..., Tensor]] = {"l1": F.l1_loss, "mse": F.mse_loss}


@dataclass
class Question:
    """What the student was asked, for terms that need more than the two answers.

    ``degraded``: its input (N, 3, h, w), in [0, 1]. ``sharp``: the truth (n, 3, H, W), in [0, 1], about the
    first n <= N inputs; the others have none. ``ask``: the student's answer (N, 3, H, W), with gradients,
    to other inputs (N, 3, h, w) in place of these. ``turn``: whole numbers that differ from step to step
    and from rank to rank, and are the same when an interrupted training comes there again; who draws at
    random draws from them.
    """

    degraded: Tensor
    sharp: Tensor
    ask: Callable[[Tensor], Tensor]
    turn: tuple[int, ...] = ()


@dataclass
class Observed:
    """What was seen of one net in one forward pass.

    ``output``: the sharp estimate (N, 3, H, W), unclamped. ``features``: tap name -> map (N, C, h, w).
    ``question``: of the student, what it answered; None where nobody told.
    """

    output: Tensor
    features: dict[str, Tensor] = field(default_factory=dict)
    question: Question | None = None

    def asked(self, term: TransferTerm) -> Question:
        """The question, which ``term`` needs.

        Raises:
            ValueError: it is not there.
        """
        if self.question is None:
            raise ValueError(
                f"{type(term).__name__} needs what the student was asked: give its Observed a question"
            )
        return self.question


class TransferTerm(nn.Module, ABC):
    """One way of pulling a student towards its teacher: (student, teacher) -> scalar >= 0.

    A term names the taps that it wants to see of either net, is told their channels once by ``build`` (where
    it may create trainable adapters), and then compares. No gradient ever reaches the teacher.
    """

    @property
    def student_taps(self) -> list[str]:
        """Names of the student's feature maps that ``forward`` reads."""
        return []

    @property
    def teacher_taps(self) -> list[str]:
        """Names of the teacher's feature maps that ``forward`` reads."""
        return []

    def build(self, student_channels: dict[str, int], teacher_channels: dict[str, int]) -> None:
        """Create what depends on the channels (tap name -> C) of the two nets; by default nothing."""
        return None

    def reports(self) -> dict[str, Tensor]:
        """Scalars about the last call of ``forward`` for the log, by name; by default none."""
        return {}

    @abstractmethod
    def forward(self, student: Observed, teacher: Observed) -> Tensor:
        """Return the unweighted term, a float32 scalar with gradients to the student alone."""


class PairedTransferTerm(TransferTerm):
    """A term over pairs of feature maps, each ``[student tap, teacher tap]``, averaged over the pairs.

    The average, not the sum, so that a term's weight means the same for one pair as for three.
    """

    def __init__(self, pairs: Sequence[Sequence[str]]) -> None:
        super().__init__()
        given = [(pair,) if isinstance(pair, str) else tuple(pair) for pair in pairs]
        if not given or any([type(tap) for tap in pair] != [str, str] for pair in given):
            raise ValueError(
                f"{type(self).__name__}.pairs is {[list(pair) for pair in given]}, expected at least one "
                "[student tap, teacher tap], such as [[middle, middle], [late, late]]"
            )
        self.pairs: list[tuple[str, str]] = [(pair[0], pair[1]) for pair in given]

    @property
    def student_taps(self) -> list[str]:
        """The student's side of the pairs, each name once."""
        return list(dict.fromkeys(student for student, _ in self.pairs))

    @property
    def teacher_taps(self) -> list[str]:
        """The teacher's side of the pairs, each name once."""
        return list(dict.fromkeys(teacher for _, teacher in self.pairs))

    def observed_pairs(self, student: Observed, teacher: Observed) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (student map, detached teacher map) for each pair, in order.

        Raises:
            ValueError: a tap was not captured, or the two maps are of different batches.
        """
        for student_tap, teacher_tap in self.pairs:
            seen = _feature(student.features, student_tap, "student")
            target = _feature(teacher.features, teacher_tap, "teacher").detach()
            if seen.shape[0] != target.shape[0]:
                raise ValueError(
                    f"tap pair [{student_tap}, {teacher_tap}]: student map {tuple(seen.shape)} and teacher "
                    f"map {tuple(target.shape)} differ in batch size; observe both on the same images"
                )
            yield seen, target


def _feature(features: Mapping[str, Tensor], tap: str, side: str) -> Tensor:
    if tap not in features:
        raise ValueError(
            f"the {side}'s tap {tap!r} was not captured; got {sorted(features) or 'none'}. "
            "Run its forward pass inside capture(net, names)"
        )
    return features[tap]


def distance(criterion: str, reduction: str = "mean") -> Callable[[Tensor, Tensor], Tensor]:
    """Return the mean elementwise distance "l1" (mean |x - y|) or "mse" (mean (x - y)^2), in float32.

    With ``reduction="none"`` the distance of each element. Half precision is lifted first: in bf16 the
    difference of two close features would keep hardly a digit.

    Raises:
        ValueError: ``criterion`` is neither, or (when called) the two shapes differ.
    """
    if criterion not in DISTANCES:
        raise ValueError(f"criterion is {criterion!r}, expected one of {', '.join(DISTANCES)}")
    function = partial(DISTANCES[criterion], reduction=reduction)

    def measured(x: Tensor, y: Tensor) -> Tensor:
        if x.shape != y.shape:
            raise ValueError(f"student {tuple(x.shape)} and teacher {tuple(y.shape)} differ in shape")
        return function(x.float(), y.float())

    return measured


def match_size(x: Tensor, y: Tensor, at_most: int | None = None) -> tuple[Tensor, Tensor]:
    """Average-pool two maps (N, C, h, w) down to the smaller height and width of the two; never enlarges.

    With ``at_most`` neither side is longer than that either.
    """
    height, width = (min(x.shape[side], y.shape[side], at_most or x.shape[side]) for side in (-2, -1))
    return _pool(x, (height, width)), _pool(y, (height, width))


def _pool(x: Tensor, size: tuple[int, int]) -> Tensor:
    height, width = x.shape[-2:]
    if (height, width) == size:
        return x
    if height % size[0] == 0 and width % size[1] == 0:
        # The same average, but CUDA has no deterministic backward for the adaptive one.
        return F.avg_pool2d(x, (height // size[0], width // size[1]))
    return F.adaptive_avg_pool2d(x, size)
