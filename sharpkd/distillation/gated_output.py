"""Output distillation behind a gate: the teacher is imitated only where it is nearer to the truth.

    e_X = mean over the window and the channels of |X(x) - y|      X: student S or teacher T; y: the truth
    g = 1 where e_T < e_S, else 0
    L_gated = mean over pixels and channels of g |S(x) - T(x)|     (criterion "mse": g (S(x) - T(x))^2)

Chen, Choi, Yu, Han and Chandraker, "Learning Efficient Object Detection Models with Knowledge Distillation",
NeurIPS 2017, lets a teacher's regression count only as long as the student's is farther from the truth. Here
each pixel decides for itself, on error maps that are smoothed so that it is not noise that decides. With
``levels`` the images are taken apart into Haar wavelet bands first, and each coefficient of each band
decides, so that a teacher may be right about the edges and wrong about the brightness of one place.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from sharpkd.distillation.base import Observed, TransferTerm, distance
from sharpkd.distillation.haar import haar_bands

__all__ = ["GatedOutputDistillation"]


class GatedOutputDistillation(TransferTerm):
    """Mean distance between the two outputs (N, 3, H, W) where the teacher is nearer to the truth, else 0.

    The mean is over all places, those behind the closed gate too: what passes weighs as much as it does in
    ``OutputDistillation``. Where both are equally far the gate is closed. Inputs without ground truth have
    nobody to judge: they pass whole. No gradient goes through the gate.

    ``window``: side of the square over which errors are averaged, odd, in pixels (with ``levels``, in
    coefficients of a band); at the border, over what of it lies inside. ``levels``: of the wavelet
    transform; 0 compares pixels.

    ``reports``: ``share``, of the places of the inputs with ground truth that passed, in [0, 1].

    Raises:
        ValueError: unknown ``criterion``, ``window`` not odd and at least 1, ``levels`` below 0, outputs of
            different shapes, or a student's ``Observed`` without a question (where the truth stands).
    """

    def __init__(self, criterion: str = "l1", window: int = 7, levels: int = 0) -> None:
        super().__init__()
        self.distance = distance(criterion, "none")
        if window < 1 or window % 2 == 0:
            raise ValueError(f"GatedOutputDistillation.window is {window}, expected an odd number >= 1")
        if levels < 0:
            raise ValueError(f"GatedOutputDistillation.levels is {levels}, expected a number >= 0")
        self.window = window
        self.levels = levels
        self._reports: dict[str, Tensor] = {}

    def reports(self) -> dict[str, Tensor]:
        """The ``share`` of the last batch; nothing where it had no ground truth."""
        return self._reports

    def forward(self, student: Observed, teacher: Observed) -> Tensor:
        """Return the gated distance as a float32 scalar >= 0."""
        sharp = student.asked(self).sharp
        ours, theirs = student.output, teacher.output.detach()
        if ours.shape != theirs.shape:
            raise ValueError(f"student {tuple(ours.shape)} and teacher {tuple(theirs.shape)} differ in shape")
        split = [haar_bands(image.float(), self.levels) for image in (ours, theirs, sharp)]
        total = passed = ours.new_zeros((), dtype=torch.float32)
        places = judged = 0
        for our_band, their_band, true_band in zip(*split, strict=True):
            gate = self._gate(our_band, their_band, true_band)
            total = total + (gate * self.distance(our_band, their_band)).sum()
            places += our_band.numel()
            passed = passed + gate[: len(sharp)].sum()
            judged += gate[: len(sharp)].numel()
        self._reports = {"share": passed / judged} if judged else {}
        return total / places

    @torch.no_grad()
    def _gate(self, ours: Tensor, theirs: Tensor, truth: Tensor) -> Tensor:
        """(N, 1, h, w) of 0 and 1."""
        gate = ours.new_ones(len(ours), 1, *ours.shape[-2:])
        known = len(truth)
        if known:
            our_error, their_error = (self._smoothed(band[:known] - truth) for band in (ours, theirs))
            gate[:known] = (their_error < our_error).to(gate.dtype)
        return gate

    def _smoothed(self, difference: Tensor) -> Tensor:
        error = difference.abs().mean(dim=1, keepdim=True)
        return F.avg_pool2d(error, self.window, stride=1, padding=self.window // 2, count_include_pad=False)
