"""Degradations: how a sharp photograph becomes the blurred one that a net has to restore.

Each is an albumentations transform (``transform(image=image)["image"]``), so albumentations' own transforms
and ``A.Compose`` can stand in their place. All randomness comes from the transform's generator, which
:func:`degrade` seeds: same transform, image and seed, same bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from sharpkd.data import degradation_maths as maths
from sharpkd.data.albumentations_guard import A

Setting = float | Sequence[float]
"""A fixed number, or ``[low, high]`` from which a value is drawn uniformly for every image."""

CODECS = {"jpeg": maths.jpeg, "webp": maths.webp}


def as_range(owner: str, field: str, value: Setting, low: float, high: float = np.inf) -> tuple[float, float]:
    """Read a setting (a number or ``[low, high]``) as a pair within ``low…high``.

    Raises:
        ValueError: not one or two finite numbers, reversed, or outside the limits.
    """
    parts = [value] if isinstance(value, (int, float)) else value
    numbers = list(parts) if isinstance(parts, Sequence) and not isinstance(parts, str) else []
    if len(numbers) == 1:
        numbers = numbers * 2
    if (
        len(numbers) != 2
        or any(isinstance(n, bool) or not isinstance(n, (int, float)) for n in numbers)
        or not low <= numbers[0] <= numbers[1] <= high
        or not np.isfinite(numbers[1])
    ):
        found = list(value) if isinstance(value, Sequence) and not isinstance(value, str) else value
        bounds = f"{low:g} <= low <= high" + (f" <= {high:g}" if np.isfinite(high) else "")
        raise ValueError(f"{owner}: {field} must be a number or [low, high] with {bounds}; found {found!r}")
    return float(numbers[0]), float(numbers[1])


class Degradation(A.ImageOnlyTransform):
    """Base of the degradations here: applied always (``p=1``) unless told otherwise, and says what it did.

    A subclass draws all its random values in ``get_params`` (from ``self.random_generator``) and gives
    ``condition_names`` and :meth:`condition`.
    """

    condition_names: tuple[str, ...] = ("sigma",)
    """What the numbers of the condition vector are; blur sigma in pixels always comes first."""
    carried_scale: int | None = None
    """How many times smaller the image is that :meth:`carried` makes; None where it makes none."""

    def __init__(self, p: float = 1.0) -> None:
        super().__init__(p=self._share("p", p))

    def condition(self, params: dict[str, Any]) -> list[float]:
        """The condition vector for what ``get_params`` returned, or for an empty dict: nothing was done."""
        return [float(params.get("sigma", 0.0))]

    def carried(self, img: np.ndarray) -> np.ndarray | None:
        """The low-resolution image that ``img`` goes through on its way, for ``Batch.low_res``; or None."""
        return None

    def _range(self, field: str, value: Setting, low: float, high: float = np.inf) -> tuple[float, float]:
        return as_range(type(self).__name__, field, value, low, high)

    def _share(self, field: str, value: float) -> float:
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not number or not 0 <= value <= 1:
            raise ValueError(f"{type(self).__name__}: {field} must be a number in 0…1; found {value!r}")
        return float(value)

    def _whole_range(self, field: str, value: Setting, low: int, high: int) -> tuple[int, int]:
        bounds = self._range(field, value, low, high)
        if any(not bound.is_integer() for bound in bounds):
            raise ValueError(f"{type(self).__name__}: {field} must be whole numbers; found {value!r}")
        return int(bounds[0]), int(bounds[1])

    def _draw(self, bounds: tuple[float, float]) -> float:
        return float(self.random_generator.uniform(*bounds))

    def _draw_whole(self, bounds: tuple[int, int]) -> int:
        return int(self.random_generator.integers(*bounds, endpoint=True))

    def _draw_seed(self) -> int:
        # Noise depends on the image's size, so its generator travels in the parameters instead of its values.
        return self._draw_whole((0, 2**63 - 1))


class GaussianBlur(Degradation):
    """Isotropic Gaussian blur, SharpBench's `gaussian` track.

    Args:
        sigma: standard deviation in pixels, a number or ``[low, high]``; 0 leaves the image as it is.
        p: share of images that are blurred.

    Condition: ``[sigma]``.
    """

    def __init__(self, sigma: Setting = (0.3, 3.2), p: float = 1.0) -> None:
        super().__init__(p=p)
        self.sigma = self._range("sigma", sigma, 0.0)

    def get_params(self) -> dict[str, Any]:
        """Draw sigma."""
        return {"sigma": self._draw(self.sigma)}

    def apply(self, img: np.ndarray, sigma: float = 0.0, **params: Any) -> np.ndarray:
        """Blur one uint8 image ``(H, W, 3)``."""
        return maths.gaussian_blur(img, sigma)


class Noisy(Degradation):
    """Gaussian blur, then Gaussian noise, rounded once: SharpBench's `noisy` track is ``Noisy(1.6, 2.0)``.

    Args:
        sigma: blur in pixels, a number or ``[low, high]``.
        noise: standard deviation in 8-bit levels, a number or ``[low, high]``; independent in every channel.
        p: share of images that are degraded.

    Condition: ``[sigma, noise]``.
    """

    condition_names: tuple[str, ...] = ("sigma", "noise")

    def __init__(self, sigma: Setting = (0.3, 3.2), noise: Setting = (0.0, 5.0), p: float = 1.0) -> None:
        super().__init__(p=p)
        self.sigma = self._range("sigma", sigma, 0.0)
        self.noise = self._range("noise", noise, 0.0)

    def get_params(self) -> dict[str, Any]:
        """Draw blur, noise level and the noise's seed."""
        return {
            "sigma": self._draw(self.sigma),
            "noise": self._draw(self.noise),
            "noise_seed": self._draw_seed(),
        }

    def apply(
        self, img: np.ndarray, sigma: float = 0.0, noise: float = 0.0, noise_seed: int = 0, **params: Any
    ) -> np.ndarray:
        """Degrade one uint8 image ``(H, W, 3)``."""
        generator = np.random.default_rng(noise_seed)
        return maths.to_uint8(
            maths.gaussian_noise_float(maths.gaussian_blur_float(img, sigma), noise, generator)
        )

    def condition(self, params: dict[str, Any]) -> list[float]:
        """``[sigma, noise]``; zeros where nothing was done."""
        return [params.get("sigma", 0.0), params.get("noise", 0.0)]


class LowRes(Degradation):
    """Reduced by Pillow's antialiased bicubic, then enlarged to the old size: SharpBench's `lowres` track.

    Args:
        scale: by how much, a number or ``[low, high]``, at least 1 (1 changes nothing); need not be whole.
        p: share of images that are degraded.
        carry_low_res: hand on the reduced image too, for a teacher that enlarges it by itself. All images
            have to be reduced by one whole number then.

    Condition: ``[sigma, scale]`` with sigma 0, for no Gaussian is involved; ``[0, 1]`` is an untouched image.
    """

    condition_names: tuple[str, ...] = ("sigma", "scale")

    def __init__(self, scale: Setting = (1.5, 4.0), p: float = 1.0, carry_low_res: bool = False) -> None:
        super().__init__(p=p)
        self.scale = self._range("scale", scale, 1.0)
        self.carry_low_res = carry_low_res
        if carry_low_res:
            low, high = self.scale
            if low != high or not low.is_integer() or p != 1:
                raise ValueError(
                    f"LowRes: carry_low_res needs one whole scale and p=1, found scale {scale!r} and p={p:g}"
                )
            self.carried_scale = int(low)

    def get_params(self) -> dict[str, Any]:
        """Draw the scale."""
        return {"scale": self._draw(self.scale)}

    def apply(self, img: np.ndarray, scale: float = 1.0, **params: Any) -> np.ndarray:
        """Degrade one uint8 image ``(H, W, 3)``."""
        return maths.low_res(img, scale)

    def condition(self, params: dict[str, Any]) -> list[float]:
        """``[0, scale]``."""
        return [0.0, params.get("scale", 1.0)]

    def carried(self, img: np.ndarray) -> np.ndarray | None:
        """``(H / scale, W / scale, 3)`` uint8 where ``carry_low_res`` asks for it."""
        return None if self.carried_scale is None else maths.downscale(img, self.carried_scale)


class Bicubic(Degradation):
    """Reduced by Pillow's antialiased bicubic and left small: super-resolution, SharpBench's `sr` track.

    Args:
        scale: how many times smaller the result is, a whole number >= 1; both sides of an image have to be
            multiples of it.

    Condition: ``[sigma, scale]`` with sigma 0, as of :class:`LowRes`.
    """

    condition_names: tuple[str, ...] = ("sigma", "scale")

    def __init__(self, scale: int = 2) -> None:
        super().__init__()
        if isinstance(scale, bool) or not isinstance(scale, int) or scale < 1:
            raise ValueError(f"Bicubic: scale must be a whole number >= 1; found {scale!r}")
        self.scale = scale

    def apply(self, img: np.ndarray, **params: Any) -> np.ndarray:
        """``(H, W, 3)`` uint8 -> ``(H / scale, W / scale, 3)``."""
        if img.shape[0] % self.scale or img.shape[1] % self.scale:
            raise ValueError(
                f"Bicubic: both sides of an image must be multiples of scale {self.scale}; found {img.shape}"
            )
        return maths.downscale(img, self.scale)

    def condition(self, params: dict[str, Any]) -> list[float]:
        """``[0, scale]``."""
        return [0.0, float(self.scale)]


class Conference(LowRes):
    """A video call: low resolution, then lossy compression with 4:2:0 chroma (:class:`LowRes`, then a codec).

    SharpBench's `conference` track is ``Conference(scale=2, quality=q, formats=["jpeg"])``.

    Args:
        scale: see :class:`LowRes`.
        quality: of the codec, a whole number or ``[low, high]`` within 1…100.
        formats: codecs, any of ``jpeg`` and ``webp``, of which one is drawn for every image.
        p: share of images that are degraded.

    Condition: ``[sigma, scale, quality]`` with sigma 0; ``[0, 1, 100]`` is an untouched image.
    """

    condition_names: tuple[str, ...] = ("sigma", "scale", "quality")

    def __init__(
        self,
        scale: Setting = (1.5, 3.0),
        quality: Setting = (25, 85),
        formats: Sequence[str] = ("jpeg", "webp"),
        p: float = 1.0,
    ) -> None:
        super().__init__(scale=scale, p=p)
        self.quality = self._whole_range("quality", quality, 1, 100)
        self.formats = [formats] if isinstance(formats, str) else list(formats)
        if not self.formats or any(name not in CODECS for name in self.formats):
            raise ValueError(
                f"Conference: formats must be one or more of {', '.join(CODECS)}; found {self.formats}"
            )

    def get_params(self) -> dict[str, Any]:
        """Draw scale, quality and codec."""
        return super().get_params() | {
            "quality": self._draw_whole(self.quality),
            "codec": self.formats[self._draw_whole((0, len(self.formats) - 1))],
        }

    def apply(
        self, img: np.ndarray, scale: float = 1.0, quality: int = 100, codec: str = "jpeg", **params: Any
    ) -> np.ndarray:
        """Degrade one uint8 image ``(H, W, 3)``."""
        return CODECS[codec](maths.low_res(img, scale), quality)

    def condition(self, params: dict[str, Any]) -> list[float]:
        """``[0, scale, quality]``."""
        return [*super().condition(params), params.get("quality", 100)]


def degrade(transform: Any, image: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray | None]:
    """Degrade one image, repeatably.

    Args:
        transform: a :class:`Degradation`, any albumentations transform, or an ``A.Compose``.
        image: uint8 ``(H, W, 3)``, RGB; never written to.
        seed: non-negative; the transform's generators start from it.

    Returns:
        The degraded uint8 image, and the condition vector (float32, see ``condition_names``), or None where
        the transform is not a :class:`Degradation` and cannot tell what it did.

    Raises:
        TypeError: ``transform`` is not an albumentations transform.
        ValueError: the image, or what the transform made of it, is not uint8 ``(H, W, 3)``.
    """
    if not isinstance(transform, (A.BasicTransform, A.BaseCompose)):
        raise TypeError(
            f"degradation must be an albumentations transform or A.Compose, found {type(transform).__name__}"
        )
    _check_image("image", image)
    transform.set_random_seed(seed)
    result = transform(image=np.ascontiguousarray(image))["image"]
    _check_image(f"the result of {type(transform).__name__}", result)
    if np.may_share_memory(result, image):
        result = result.copy()
    if not isinstance(transform, Degradation):
        return result, None
    return result, np.asarray(transform.condition(transform.params), dtype=np.float32)


def _check_image(what: str, image: np.ndarray) -> None:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        found = f"{image.dtype} of shape {image.shape}"
        raise ValueError(f"{what} must be uint8 of shape (H, W, 3), found {found}")


def name_seed(name: str) -> int:
    """A seed in [0, 2**32) from an image's name (SHA-256): the same on every machine and in every run."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")
