"""Blur, resizing, noise and compression in random order, as pictures from the wild have been through.

The idea of a shuffled order with random settings is that of BSRGAN (Zhang et al., ICCV 2021), with weaker
settings: the picture keeps its size, and stays one that a sharpener can be asked to repair.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from sharpkd.data import degradation_maths as maths
from sharpkd.data.degradation import Degradation, Setting

Step = tuple[str, dict[str, Any]]


class RealWorld(Degradation):
    """A random choice of seven steps, in random order.

    Every step has a probability (``…_p``) and a range; ranges are numbers or ``[low, high]``.

    Args:
        sigma: isotropic Gaussian blur, pixels.
        anisotropic_sigma: each of the two widths of an anisotropic Gaussian at any angle, pixels, above 0.
        defocus_radius: radius of the defocus disk, pixels.
        motion_length: length of a straight motion at any angle, pixels.
        scale: reduced by this much and enlarged again (antialiased bicubic), at least 1.
        noise: standard deviation of Gaussian noise, 8-bit levels.
        quality: of JPEG with 4:2:0 chroma, whole numbers within 1…100.
        p: share of images that are degraded at all.

    Condition: ``[sigma, noise, quality, scale]``. Sigma is that of the Gaussian with the same variance as all
    blurs together (the mean of both axes; resizing is not counted), quality 100 and scale 1 mean not applied.
    """

    condition_names = ("sigma", "noise", "quality", "scale")

    def __init__(
        self,
        sigma: Setting = (0.3, 2.5),
        sigma_p: float = 0.7,
        anisotropic_sigma: Setting = (0.3, 3.0),
        anisotropic_p: float = 0.3,
        defocus_radius: Setting = (0.5, 3.0),
        defocus_p: float = 0.2,
        motion_length: Setting = (1.0, 6.0),
        motion_p: float = 0.15,
        scale: Setting = (1.0, 2.5),
        scale_p: float = 0.5,
        noise: Setting = (0.0, 5.0),
        noise_p: float = 0.5,
        quality: Setting = (40, 95),
        quality_p: float = 0.6,
        p: float = 1.0,
    ) -> None:
        super().__init__(p=p)
        self.sigma = self._range("sigma", sigma, 0.0)
        self.anisotropic_sigma = self._range("anisotropic_sigma", anisotropic_sigma, 0.1)
        self.defocus_radius = self._range("defocus_radius", defocus_radius, 0.0)
        self.motion_length = self._range("motion_length", motion_length, 0.0)
        self.scale = self._range("scale", scale, 1.0)
        self.noise = self._range("noise", noise, 0.0)
        self.quality = self._whole_range("quality", quality, 1, 100)
        self.sigma_p = self._share("sigma_p", sigma_p)
        self.anisotropic_p = self._share("anisotropic_p", anisotropic_p)
        self.defocus_p = self._share("defocus_p", defocus_p)
        self.motion_p = self._share("motion_p", motion_p)
        self.scale_p = self._share("scale_p", scale_p)
        self.noise_p = self._share("noise_p", noise_p)
        self.quality_p = self._share("quality_p", quality_p)

    def get_params(self) -> dict[str, Any]:
        """Draw the steps, their settings and their order: ``{"steps": [(name, settings), …]}``."""
        candidates: list[tuple[float, Callable[[], Step]]] = [
            (self.sigma_p, self._gaussian),
            (self.anisotropic_p, self._anisotropic),
            (self.defocus_p, self._defocus),
            (self.motion_p, self._motion),
            (self.scale_p, self._resize),
            (self.noise_p, self._noise),
            (self.quality_p, self._jpeg),
        ]
        chosen = self.random_generator.random(len(candidates)) < [share for share, _ in candidates]
        order = self.random_generator.permutation(len(candidates))
        return {"steps": [candidates[i][1]() for i in order if chosen[i]]}

    def apply(self, img: np.ndarray, steps: list[Step] | None = None, **params: Any) -> np.ndarray:
        """Degrade one uint8 image ``(H, W, 3)``."""
        image: np.ndarray = img
        for name, settings in steps or []:
            image = _take_step(image, name, settings)
        return maths.to_uint8(image)

    def condition(self, params: dict[str, Any]) -> list[float]:
        """``[sigma, noise, quality, scale]``, see the class."""
        variance, rest = 0.0, {"noise": 0.0, "quality": 100, "scale": 1.0}
        for name, settings in params.get("steps", []):
            if name == "gaussian":
                variance += settings["sigma"] ** 2
            elif name == "kernel":
                variance += maths.kernel_variance(settings["kernel"])
            else:
                rest |= {key: value for key, value in settings.items() if key in rest}
        return [math.sqrt(variance), rest["noise"], rest["quality"], rest["scale"]]

    def _gaussian(self) -> Step:
        return "gaussian", {"sigma": self._draw(self.sigma)}

    def _anisotropic(self) -> Step:
        widths = self._draw(self.anisotropic_sigma), self._draw(self.anisotropic_sigma)
        return "kernel", {"kernel": maths.anisotropic_kernel(*widths, self._draw((0.0, 180.0)))}

    def _defocus(self) -> Step:
        return "kernel", {"kernel": maths.disk_kernel(self._draw(self.defocus_radius))}

    def _motion(self) -> Step:
        length, angle = self._draw(self.motion_length), self._draw((0.0, 180.0))
        return "kernel", {"kernel": maths.motion_kernel(length, angle)}

    def _resize(self) -> Step:
        return "resize", {"scale": self._draw(self.scale)}

    def _noise(self) -> Step:
        return "noise", {"noise": self._draw(self.noise), "noise_seed": self._draw_seed()}

    def _jpeg(self) -> Step:
        return "jpeg", {"quality": self._draw_whole(self.quality)}


def _take_step(image: np.ndarray, name: str, settings: dict[str, Any]) -> np.ndarray:
    """One step on uint8 or float64 (0…255); codec and resizing round to uint8, as real software does."""
    if name == "gaussian":
        return maths.gaussian_blur_float(image, settings["sigma"])
    if name == "kernel":
        return maths.filter_float(image, settings["kernel"])
    if name == "noise":
        generator = np.random.default_rng(settings["noise_seed"])
        return maths.gaussian_noise_float(image, settings["noise"], generator)
    if name == "resize":
        return maths.low_res(maths.to_uint8(image), settings["scale"])
    return maths.jpeg(maths.to_uint8(image), settings["quality"])
