"""Output distillation: the student imitates the teacher's picture.

    L_output = mean |S(x) - T(x)|        (criterion "l1"; "mse": mean (S(x) - T(x))^2)

Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network", 2015 (arXiv 1503.02531), matches
softened class scores. A restoration net's output is the picture itself, so it is matched as it is, without
a temperature.
"""

from __future__ import annotations

from torch import Tensor

from sharpkd.distillation.base import Observed, TransferTerm, distance

__all__ = ["OutputDistillation"]


class OutputDistillation(TransferTerm):
    """Mean distance between the two outputs (N, 3, H, W), in units of the image range [0, 1].

    Raises:
        ValueError: unknown ``criterion``, or outputs of different shapes.
    """

    def __init__(self, criterion: str = "l1") -> None:
        super().__init__()
        self.distance = distance(criterion)

    def forward(self, student: Observed, teacher: Observed) -> Tensor:
        """Return the distance as a float32 scalar >= 0."""
        return self.distance(student.output, teacher.output.detach())
