"""Contrastive distillation: nearer to the teacher's picture than to what the student makes of a worse input.

    d(a, b) = sum over the bands of Haar's wavelet transform of mean |band(a) - band(b)|
    L_contrastive = mean over images of d(S(x), T(x)) / (d(S(x), S(x')) + 0.001)

with x' the input blurred once more and S(x') taken as it is, without a gradient.

After Zhou et al., "Dynamic Contrastive Knowledge Distillation for Efficient Image Restoration", AAAI 2025
(arXiv 2412.08939), whose negatives also are a student's answers to worse inputs, so that they follow its
progress. Simpler here: the negative's student is the present one instead of a moving average of its past;
inputs are made worse by blur alone; pictures are compared by wavelet bands, so that no pretrained network has
to be downloaded; their second term, on the codes of a pretrained VQGAN, is left out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sharpkd.distillation.base import Observed, TransferTerm
from sharpkd.distillation.haar import haar_bands
from sharpkd.functional.ssim import gaussian_window

__all__ = ["ContrastiveDistillation", "blurred"]

SMALLEST_DISTANCE = 1e-3


def blurred(image: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of (3, h, w) with ``sigma`` pixels, cut off at 3 sigma; edges are continued."""
    radius = math.ceil(3 * sigma)
    kernel = gaussian_window(2 * radius + 1, sigma).to(image).view(1, 1, -1)
    padded = F.pad(image[None], (radius, radius, radius, radius), mode="replicate")[0]
    rows = F.conv2d(padded[:, None], kernel[:, :, None])
    return F.conv2d(rows, kernel[:, :, :, None])[:, 0]


class ContrastiveDistillation(TransferTerm):
    """Distance to the teacher's output as a share of the distance to a worse answer, a mean over the images.

    Outputs are (N, 3, H, W); inputs without ground truth count like the others. It costs a second forward
    pass of the student, which batch normalisation would count in its statistics, and none of the teacher;
    with several teachers, one more for each of them, for the log.

    ``sigma``: least and most pixels of the further blur, drawn evenly for each image. ``levels``: of the
    wavelet transform; 0 compares pixels. ``seed``: with the question's ``turn`` it decides what is drawn;
    micro-batches of one optimizer step share it.

    Raises:
        ValueError: ``sigma`` is not two ascending numbers above 0, ``levels`` below 0, outputs of different
            shapes, or a student's ``Observed`` without a question.
    """

    def __init__(self, sigma: Sequence[float] = (0.5, 1.5), levels: int = 2, seed: int = 0) -> None:
        super().__init__()
        if len(sigma) != 2 or not 0 < sigma[0] <= sigma[1] < math.inf:
            raise ValueError(
                f"ContrastiveDistillation.sigma is {list(sigma)}, expected [least, most] in pixels, above 0"
            )
        if levels < 0:
            raise ValueError(f"ContrastiveDistillation.levels is {levels}, expected a number >= 0")
        self.sigma = (float(sigma[0]), float(sigma[1]))
        self.levels = levels
        self.seed = seed

    def forward(self, student: Observed, teacher: Observed) -> Tensor:
        """Return the mean share as a float32 scalar >= 0."""
        question = student.asked(self)
        ours, theirs = student.output, teacher.output.detach()
        if ours.shape != theirs.shape:
            raise ValueError(f"student {tuple(ours.shape)} and teacher {tuple(theirs.shape)} differ in shape")
        random = np.random.default_rng((self.seed, *question.turn))
        sigmas = random.uniform(*self.sigma, size=len(ours)).tolist()
        with torch.no_grad():
            worse = [blurred(image, sigma) for image, sigma in zip(question.degraded, sigmas, strict=True)]
            negative = question.ask(torch.stack(worse))
        near, far = (self._distances(ours, other) for other in (theirs, negative))
        return (near / (far + SMALLEST_DISTANCE)).mean()

    def _distances(self, ours: Tensor, other: Tensor) -> Tensor:
        """(N,), float32."""
        bands = haar_bands(ours.float() - other.float(), self.levels)
        return torch.stack([band.abs().flatten(1).mean(dim=1) for band in bands]).sum(dim=0)
