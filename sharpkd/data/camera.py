"""What a camera does to a picture, in its order: optics blur, the sensor adds noise, the file is a JPEG."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from sharpkd.data import degradation_maths as maths
from sharpkd.data.degradation import Noisy, Setting


def compression_of(quality: int) -> float:
    """How coarse a JPEG of a quality within 1…100 is: libjpeg's factor on the standard's quantisation tables.

    0 at 100, 0.5 at 75, 1 at 50 (the standard's own tables), 50 / quality below (libjpeg's
    ``jpeg_quality_scaling``, as a fraction instead of per cent).
    """
    return 50 / quality if quality < 50 else 2 - quality / 50


def equal_blur(scale: float) -> float:
    """Sigma of the Gaussian blur that looks like having been enlarged from ``scale`` times fewer pixels.

    It is what an estimator that has only ever seen Gaussian blur finds in such images: 0.66, 1.03, 1.32 and
    1.75 pixels (medians over photographs) for scales of 1.5, 2, 3 and 4.
    """
    return 0.44 * scale


class Camera(Noisy):
    """Gaussian blur, or enlarged from fewer pixels, then noise for a share of the images, then JPEG.

    Unlike :class:`sharpkd.data.realworld.RealWorld`, whose order is random, so that noise may be blurred
    afterwards: here the condition says what is in the image that is seen. An image that is enlarged is not
    blurred beside it, so that each of the two is what limits its detail.

    Args:
        sigma: blur in pixels, a number or ``[low, high]``.
        sigma_p: share of the images not enlarged that are blurred.
        noise: standard deviation in 8-bit levels, a number or ``[low, high]``.
        noise_p: share of images that get noise.
        quality: of JPEG with 4:2:0 chroma, a whole number or ``[low, high]`` within 1…100.
        quality_p: share of images that are compressed.
        scale: reduced so many times and enlarged back, both bicubic, at least 1, a number or ``[low, high]``.
        scale_p: share of images that are.
        whole_p: share of those whose scale is a whole number of the range, from 2: people enlarge by 2 and by
            4, not by 2.37, and what is interpolated looks different there.
        p: share of images that are degraded at all.

    Condition: ``[sigma, noise, compression, reduction]``, with compression as :func:`compression_of` gives it
    and reduction the scale less 1, so that zeros are an untouched image. Of an image that was enlarged, sigma
    is that of :func:`equal_blur`: what takes as much detail is told as the same number, whichever it was.
    """

    condition_names: tuple[str, ...] = ("sigma", "noise", "compression", "reduction")

    def __init__(
        self,
        sigma: Setting = (0.0, 4.0),
        sigma_p: float = 0.9,
        noise: Setting = (0.0, 5.0),
        noise_p: float = 0.5,
        quality: Setting = (40, 95),
        quality_p: float = 0.6,
        scale: Setting = (1.0, 4.0),
        scale_p: float = 0.0,
        whole_p: float = 0.0,
        p: float = 1.0,
    ) -> None:
        super().__init__(sigma=sigma, noise=noise, p=p)
        self.sigma_p = self._share("sigma_p", sigma_p)
        self.noise_p = self._share("noise_p", noise_p)
        self.quality = self._whole_range("quality", quality, 1, 100)
        self.quality_p = self._share("quality_p", quality_p)
        self.scale = self._range("scale", scale, 1.0)
        self.scale_p = self._share("scale_p", scale_p)
        self.whole_p = self._share("whole_p", whole_p)
        self.whole = (max(2, math.ceil(self.scale[0])), math.floor(self.scale[1]))
        if self.whole_p and self.whole[0] > self.whole[1]:
            raise ValueError(
                f"Camera: whole_p must be 0 where scale has no whole number from 2; found {whole_p:g}"
            )

    def get_params(self) -> dict[str, Any]:
        """Draw blur, noise with its seed, quality and scale."""
        params = super().get_params() | {"quality": self._draw_whole(self.quality), "scale": 1.0}
        blurred, noisy, compressed = self.random_generator.random(3)
        params["sigma"] *= blurred < self.sigma_p
        params["noise"] *= noisy < self.noise_p
        if compressed >= self.quality_p:
            params["quality"] = None
        if self.scale_p and self.random_generator.random() < self.scale_p:
            params |= {"scale": self._draw(self.scale), "sigma": 0.0}
            if self.whole_p and self.random_generator.random() < self.whole_p:
                params["scale"] = float(self._draw_whole(self.whole))
        return params

    def apply(
        self,
        img: np.ndarray,
        sigma: float = 0.0,
        noise: float = 0.0,
        noise_seed: int = 0,
        quality: int | None = None,
        scale: float = 1.0,
        **params: Any,
    ) -> np.ndarray:
        """Degrade one uint8 image ``(H, W, 3)``."""
        image = maths.low_res(img, scale) if scale > 1 else img
        image = super().apply(image, sigma=sigma, noise=noise, noise_seed=noise_seed)
        return image if quality is None else maths.jpeg(image, quality)

    def condition(self, params: dict[str, Any]) -> list[float]:
        """``[sigma, noise, compression, reduction]``."""
        compression = compression_of(params.get("quality") or 100)
        scale = params.get("scale", 1.0)
        sigma, noise = super().condition(params)
        return [equal_blur(scale) if scale > 1 else sigma, noise, compression, scale - 1]
