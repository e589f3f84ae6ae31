"""One image that people get to see, as every model left it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Example:
    """The outputs of all models on one image under one condition.

    Attributes:
        image: its name, such as ``Kodak24/kodim05``.
        condition: name of the condition, such as ``gaussian/1.6``.
        sharp: the true image, ``(H, W, 3)`` uint8 RGB.
        outputs: model's name -> its output, of the shape and type of ``sharp``; ``input`` is the degraded
            image (enlarged where the condition makes it smaller).

    Raises:
        ValueError: an output has another shape or type than ``sharp``.
    """

    image: str
    condition: str
    sharp: Pixels
    outputs: Mapping[str, Pixels]

    def __post_init__(self) -> None:
        for name, pixels in {"the sharp image": self.sharp, **self.outputs}.items():
            if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape != (*self.sharp.shape[:2], 3):
                raise ValueError(
                    f"{self.image}, {self.condition}: {name} is {pixels.dtype} of shape {pixels.shape}; "
                    f"expected uint8 of shape ({self.sharp.shape[0]}, {self.sharp.shape[1]}, 3)"
                )
