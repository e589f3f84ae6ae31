"""What a camera does to a picture, in its order: optics blur, the sensor adds noise, the file is a JPEG."""

from __future__ import annotations

from typing import Any

import numpy as np

from sharpkd.data import degradation_maths as maths
from sharpkd.data.degradation import Noisy, Setting


class Camera(Noisy):
    """Gaussian blur, then noise for a share of the images, then JPEG for a share of them.

    Unlike :class:`sharpkd.data.realworld.RealWorld`, whose order is random, so that noise may be blurred
    afterwards: here the condition says what is in the image that is seen.

    Args:
        sigma: blur in pixels, a number or ``[low, high]``.
        sigma_p: share of images that are blurred.
        noise: standard deviation in 8-bit levels, a number or ``[low, high]``.
        noise_p: share of images that get noise.
        quality: of JPEG with 4:2:0 chroma, a whole number or ``[low, high]`` within 1…100.
        quality_p: share of images that are compressed.
        p: share of images that are degraded at all.

    Condition: ``[sigma, noise, quality]``; ``[0, 0, 100]`` is an untouched image.
    """

    condition_names: tuple[str, ...] = ("sigma", "noise", "quality")

    def __init__(
        self,
        sigma: Setting = (0.0, 4.0),
        sigma_p: float = 0.9,
        noise: Setting = (0.0, 5.0),
        noise_p: float = 0.5,
        quality: Setting = (40, 95),
        quality_p: float = 0.6,
        p: float = 1.0,
    ) -> None:
        super().__init__(sigma=sigma, noise=noise, p=p)
        self.sigma_p = self._share("sigma_p", sigma_p)
        self.noise_p = self._share("noise_p", noise_p)
        self.quality = self._whole_range("quality", quality, 1, 100)
        self.quality_p = self._share("quality_p", quality_p)

    def get_params(self) -> dict[str, Any]:
        """Draw blur, noise with its seed, and quality."""
        params = super().get_params() | {"quality": self._draw_whole(self.quality)}
        blurred, noisy, compressed = self.random_generator.random(3)
        params["sigma"] *= blurred < self.sigma_p
        params["noise"] *= noisy < self.noise_p
        return params if compressed < self.quality_p else params | {"quality": None}

    def apply(
        self,
        img: np.ndarray,
        sigma: float = 0.0,
        noise: float = 0.0,
        noise_seed: int = 0,
        quality: int | None = None,
        **params: Any,
    ) -> np.ndarray:
        """Degrade one uint8 image ``(H, W, 3)``."""
        image = super().apply(img, sigma=sigma, noise=noise, noise_seed=noise_seed)
        return image if quality is None else maths.jpeg(image, quality)

    def condition(self, params: dict[str, Any]) -> list[float]:
        """``[sigma, noise, quality]``."""
        return [*super().condition(params), params.get("quality") or 100]
