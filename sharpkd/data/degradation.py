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

    def __init__(self, p: float = 1.0) -> None:
        as_range(type(self).__name__, "p", p, 0.0, 1.0)
        super().__init__(p=p)

    def condition(self, params: dict[str, Any]) -> list[float]:
        """The condition vector for what ``get_params`` returned, or for an empty dict: nothing was done."""
        return [float(params.get("sigma", 0.0))]

    def _range(self, field: str, value: Setting, low: float, high: float = np.inf) -> tuple[float, float]:
        return as_range(type(self).__name__, field, value, low, high)

    def _draw(self, bounds: tuple[float, float]) -> float:
        return float(self.random_generator.uniform(*bounds))

    def _draw_whole(self, bounds: tuple[float, float]) -> int:
        return int(self.random_generator.integers(int(bounds[0]), int(bounds[1]), endpoint=True))


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


def name_seed(name: str) -> int:
    """A seed in 0…2⁶³−1 from an image's name, the same on every machine (evaluation degrades by name)."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") >> 1


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
