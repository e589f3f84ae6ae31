"""Consistency under invertible changes: the student is to see through them to the teacher's answer.

    L_consistency = mean | f^-1(S(f(x))) - T(x) |      (criterion "l1"; "mse": the difference squared)

with f drawn anew for each image of each batch among the changes that can be undone without loss: flips,
quarter turns, inverted colours (1 - x), exchanged channels. The student sees the changed input in a second
forward pass, the teacher the plain one in its only pass.

Zhang et al., "Data Upcycling Knowledge Distillation for Image Super-Resolution", 2023 (arXiv 2309.14162):
its label consistency regularisation. The other half of that paper, inputs that the teacher alone can label,
is ``data.unlabelled_dir``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sharpkd.distillation.base import Observed, TransferTerm, distance

__all__ = ["ConsistencyDistillation", "InvertibleChange", "drawn_change"]

CHANGES = ("flip", "turn", "invert", "exchange")


@dataclass(frozen=True)
class InvertibleChange:
    """A change of one image (3, h, w) in [0, 1] that its inverse undoes.

    ``flip``: left and right exchanged. ``turns``: quarter turns after that. ``invert``: 1 - x.
    ``channels``: which channel comes first, second and third.
    """

    flip: bool = False
    turns: int = 0
    invert: bool = False
    channels: tuple[int, int, int] = (0, 1, 2)

    def apply(self, image: Tensor) -> Tensor:
        """The changed image."""
        changed = image.flip(-1) if self.flip else image
        changed = changed.rot90(self.turns, (-2, -1))[list(self.channels)]
        return 1 - changed if self.invert else changed

    def undo(self, image: Tensor) -> Tensor:
        """What ``apply`` made this image from; of any size and range."""
        restored = 1 - image if self.invert else image
        inverse = [self.channels.index(channel) for channel in range(3)]
        restored = restored[inverse].rot90(-self.turns, (-2, -1))
        return restored.flip(-1) if self.flip else restored


def drawn_change(random: np.random.Generator, among: Sequence[str], square: bool) -> InvertibleChange:
    """One change, each setting of each kind in ``among`` equally likely.

    Images that are not ``square`` are turned by 0 or 2 quarters, so that a batch keeps its shape. Draws the
    same numbers whatever is asked for.
    """
    flip, turns, invert = (int(random.integers(n)) for n in (2, 4, 2))
    channels = random.permutation(3).tolist()
    return InvertibleChange(
        flip="flip" in among and bool(flip),
        turns=(turns if square else turns // 2 * 2) if "turn" in among else 0,
        invert="invert" in among and bool(invert),
        channels=(channels[0], channels[1], channels[2]) if "exchange" in among else (0, 1, 2),
    )


class ConsistencyDistillation(TransferTerm):
    """Mean distance between the student's undone answer to a changed input and the teacher's plain one.

    Both (N, 3, H, W), in units of the image range [0, 1]; inputs without ground truth count like the
    others. It costs a second forward and backward pass of the student, and none of the teacher; with several
    teachers, one forward pass more for each of them, for the log.

    ``among``: kinds of change, of flip, turn, invert and exchange. A condition that the student is told
    stays what it was, so it must not depend on direction or colour where such changes are drawn. ``seed``:
    with the question's ``turn`` it decides what is drawn; micro-batches of one optimizer step share it.

    Raises:
        ValueError: unknown ``criterion``, ``among`` empty or with an unknown kind, outputs of different
            shapes, or a student's ``Observed`` without a question.
    """

    def __init__(
        self, criterion: str = "l1", among: Sequence[str] = ("flip", "turn", "invert"), seed: int = 0
    ) -> None:
        super().__init__()
        self.distance = distance(criterion)
        if isinstance(among, str) or not among or not set(among) <= set(CHANGES):
            found = among if isinstance(among, str) else list(among)
            raise ValueError(
                f"ConsistencyDistillation.among is {found!r}, expected a list of {', '.join(CHANGES)}"
            )
        self.among = tuple(among)
        self.seed = seed

    def forward(self, student: Observed, teacher: Observed) -> Tensor:
        """Return the distance as a float32 scalar >= 0."""
        question = student.asked(self)
        degraded = question.degraded
        random = np.random.default_rng((self.seed, *question.turn))
        square = degraded.shape[-2] == degraded.shape[-1]
        changes = [drawn_change(random, self.among, square) for _ in degraded]
        changed = [change.apply(image) for change, image in zip(changes, degraded, strict=True)]
        answer = question.ask(torch.stack(changed))
        restored = [change.undo(image) for change, image in zip(changes, answer, strict=True)]
        return self.distance(torch.stack(restored), teacher.output.detach())
