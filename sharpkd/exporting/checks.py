"""Does a file compute what PyTorch computes, and are its pictures as good?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from sharpkd.exporting.examples import Example, as_input
from sharpkd.functional.psnr import psnr
from sharpkd.inference.exported import ExportedNet

HALF_A_LEVEL = 0.5 / 255


@dataclass(frozen=True)
class Quality:
    """PSNR on degraded photographs, the mean over them, in dB; outputs clamped and rounded to 8 bits.

    Attributes:
        trained: of the net in PyTorch, in float32.
        exported: of the file.
        images: how many.
    """

    trained: float
    exported: float
    images: int

    @property
    def loss(self) -> float:
        """How much worse the file is, in dB; below 0 where it is better."""
        return self.trained - self.exported


def noise_of(sizes: Sequence[Sequence[int]]) -> list[NDArray[np.float32]]:
    """``(1, 3, H, W)`` of independent numbers in [0, 1]: the severest test that a graph is the same."""
    generator = np.random.default_rng(0)
    return [generator.random((1, 3, height, width), dtype=np.float32) for height, width in sizes]


def pictures_of(sizes: Sequence[Sequence[int]], examples: Sequence[Example]) -> list[NDArray[np.float32]]:
    """``(1, 3, H, W)`` of degraded photographs, cut or continued by their mirror images to these sizes."""
    made = []
    for number, (height, width) in enumerate(sizes):
        pixels = examples[number % len(examples)].degraded
        missing = [max(0, wanted - own) for wanted, own in zip((height, width), pixels.shape, strict=False)]
        whole = np.pad(pixels, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="symmetric")
        made.append(as_input(whole[:height, :width]))
    return made


def largest_difference(net: nn.Module, engine: ExportedNet, images: Sequence[NDArray[np.float32]]) -> float:
    """The largest absolute difference of a file's output from PyTorch's; images are in [0, 1].

    Of a file that takes uint8, both see the image rounded to 8 bits, and PyTorch's output is clamped; half a
    level of the file's rounding is then to be expected.

    Returns:
        NaN where either output is not finite, so that no comparison with a limit can pass.

    Raises:
        ValueError: the two outputs have different shapes.
    """
    worst = 0.0
    for image in images:
        given = _rounded(image) if engine.takes_uint8 else image
        expected = _computed(net, given)
        if engine.takes_uint8:
            expected = np.clip(expected, 0, 1)
        found = engine.run(given)
        if found.shape != expected.shape:
            raise ValueError(
                f"{engine.info.path.name}: {image.shape[2]}x{image.shape[3]} gives {found.shape}, PyTorch "
                f"gives {expected.shape}"
            )
        worst = float(np.maximum(worst, np.abs(found - expected).max()))
    return worst


def quality_of(net: nn.Module, engine: ExportedNet, examples: Sequence[Example]) -> Quality:
    """PSNR against the sharp images, of PyTorch's output and of the file's."""
    trained: list[float] = []
    exported: list[float] = []
    for example in examples:
        image, sharp = example.as_input(), torch.from_numpy(as_input(example.sharp))
        for outputs, output in ((trained, _computed(net, image)), (exported, engine.run(image))):
            outputs.append(float(psnr(torch.from_numpy(_rounded(output)), sharp)))
    return Quality(float(np.mean(trained)), float(np.mean(exported)), len(examples))


def _computed(net: nn.Module, image: NDArray[np.float32]) -> NDArray[np.float32]:
    with torch.inference_mode():
        return net(torch.from_numpy(image)).numpy()


def _rounded(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """As a picture of 8 bits holds it."""
    return np.rint(np.clip(image, 0, 1) * np.float32(255)) / np.float32(255)
