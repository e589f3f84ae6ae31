"""What a student has to beat: classical sharpeners and deconvolutions, each from its published source.

``input`` is the degraded image itself. ``unsharp`` and ``cas`` are blind and fixed, as in a photo editor or a
game. ``unsharp-oracle`` chooses its setting per image by looking at the sharp image. ``wiener-oracle`` and
``richardson-lucy`` are told the blur; the former also looks at the sharp image to choose its regulariser.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from sharpkd.data.degradation_maths import to_uint8
from sharpkd.evaluation import protocols
from sharpkd.evaluation.protocols import Condition, Image, Pair
from sharpkd.evaluation.rows import INPUT
from sharpkd.evaluation.scores import LUMA_WEIGHTS, crop_border, squared_error

UNSHARP_RADIUS, UNSHARP_AMOUNT = 1.5, 1.0
ORACLE_RADII = (0.6, 1.0, 1.5, 2.0, 3.0)
ORACLE_AMOUNTS = (0.3, 0.6, 1.0, 1.5, 2.0, 3.0, 4.0)
WIENER_LEVELS = (1e-6, 1e-5, 1e-4, 1e-3)
WIENER_LEVELS_NOISY = (*WIENER_LEVELS, 1e-2)
WIENER_PADDING = 32
LUCY_ITERATIONS = 50
"""scikit-image's default; better than 10, 20 or 30 on Set5 and Set14 at σ = 0.8, 1.6, 3.0 and on `noisy`."""

Float = NDArray[np.float32]
Restore = Callable[[Pair, Condition], Image]


@dataclass(frozen=True)
class Baseline:
    """One row of every table that nobody has to train.

    Attributes:
        name: in the results.
        source: paper or code that it follows.
        told_blur: needs ``condition.sigma``: the blur is Gaussian, and nothing but noise comes after it.
        function: see :meth:`restore`.
    """

    name: str
    source: str
    told_blur: bool
    function: Restore

    def applies_to(self, condition: Condition) -> bool:
        """Whether there is a result under this condition."""
        return not self.told_blur or (condition.sigma is not None and condition.scale == 1)

    def restore(self, pair: Pair, condition: Condition) -> Image:
        """The baseline's estimate of ``pair.sharp``.

        Args:
            pair: oracles look at ``pair.sharp``, the others at ``pair.degraded`` alone. On `sr` the input is
                enlarged by bicubic interpolation first.
            condition: what was done to it.

        Returns:
            ``(H, W, 3)`` uint8, the shape of ``pair.sharp``.

        Raises:
            ValueError: the baseline does not apply to the condition.
        """
        if not self.applies_to(condition):
            raise ValueError(
                f"baseline {self.name!r} needs to be told the blur, which {condition.name!r} does not have; "
                "leave it out there (Baseline.applies_to)"
            )
        return self.function(pair, condition)


def unsharp_mask(image: Image, radius: float, amount: float) -> Image:
    """Add what a blur takes away: ``image + amount · (image - blur(image))``, in OpenCV at 8 bit.

    As it is used everywhere; a blur in float would add 0.04 dB to the oracle (Set14, σ = 1.6).

    Args:
        image: ``(H, W, 3)`` uint8.
        radius: σ of the Gaussian blur, pixels (OpenCV chooses the kernel's size).
        amount: 0 changes nothing.

    Returns:
        The same shape, rounded and clipped.
    """
    return _add_detail(image, cv2.GaussianBlur(image, (0, 0), radius), amount)


def _add_detail(image: Image, blurred: NDArray[Any], amount: float) -> Image:
    return cv2.addWeighted(image, 1 + amount, blurred, -amount, 0).astype(np.uint8, copy=False)


def unsharp_settings(image: Image) -> Iterator[Image]:
    """:func:`unsharp_mask` with every radius and amount that the oracle chooses from, 35 outputs."""
    for radius in ORACLE_RADII:
        blurred = cv2.GaussianBlur(image, (0, 0), radius)
        for amount in ORACLE_AMOUNTS:
            yield _add_detail(image, blurred, amount)


def contrast_adaptive_sharpening(image: Image, sharpness: float = 0.0) -> Image:
    """AMD FidelityFX CAS (Lottes 2019, ffx_cas.h), sharpening without scaling, as the header is by default.

    Every channel is filtered with ``0 w 0 / w 1 w / 0 w 0``, normalised to sum 1, in linear light (the
    header: "does not function well on sRGB"). The lobe is ``w = -sqrt(min(lo, 1 - hi) / hi) / (8 - 3 s)``
    with the sharpness s and, in the green channel, the least and the greatest value of the centre and its
    four neighbours. Pixels outside are the nearest ones inside.

    Args:
        image: ``(H, W, 3)`` uint8 sRGB.
        sharpness: 0, the header's default, to 1.

    Returns:
        The same shape.
    """
    linear = _LINEAR[image]
    height, width = image.shape[:2]
    around = cv2.copyMakeBorder(linear, 1, 1, 1, 1, cv2.BORDER_REPLICATE)
    shifts = ((0, 1), (1, 0), (1, 2), (2, 1))
    neighbours = [around[y : y + height, x : x + width] for y, x in shifts]
    cross = [linear[..., 1], *(neighbour[..., 1] for neighbour in neighbours)]
    low, high = np.minimum.reduce(cross), np.maximum.reduce(cross)
    # Where everything is black there is nothing to sharpen, whatever the lobe.
    room = np.minimum(low, 1 - high) / np.maximum(high, np.finfo(np.float32).tiny)
    lobe = (-np.sqrt(np.clip(room, 0, 1)) / (8 - 3 * sharpness))[..., None].astype(np.float32)
    filtered = (linear + lobe * (neighbours[0] + neighbours[1] + neighbours[2] + neighbours[3])) / (
        1 + 4 * lobe
    )
    return to_uint8(255 * _to_srgb(np.clip(filtered, 0, 1)))


def _to_linear(srgb: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def _to_srgb(linear: Float) -> Float:
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** np.float32(1 / 2.4) - 0.055)


_LINEAR = _to_linear(np.arange(256) / 255).astype(np.float32)


def wiener_deconvolutions(image: Image, sigma: float, levels: Iterable[float]) -> Iterator[Image]:
    """Non-blind Wiener deconvolution of a Gaussian blur (Wiener 1949), one output for every level.

    The filter is ``H / (H² + n (1 + 200 f²))`` with the transfer function ``H = exp(-2 π² σ² f²)``, f in
    cycles per pixel: noise over signal grows with f² because pictures have falling spectra. 32 pixels are
    added on every side by reflection first.

    Args:
        image: ``(H, W, 3)`` uint8, blurred.
        sigma: of the blur, pixels.
        levels: values of n.

    Yields:
        uint8 images of the same shape, in the order of ``levels``.
    """
    height, width = image.shape[:2]
    pad = WIENER_PADDING
    padded = np.pad(image.transpose(2, 0, 1), ((0, 0), (pad, pad), (pad, pad)), mode="reflect")
    rows, columns = padded.shape[1:]
    f2 = np.fft.fftfreq(rows)[:, None] ** 2 + np.fft.rfftfreq(columns)[None] ** 2
    transfer = np.exp(-2 * np.pi**2 * sigma**2 * f2)
    spectrum = np.fft.rfft2(padded.astype(np.float64)) * transfer
    for level in levels:
        restored = np.fft.irfft2(spectrum / (transfer**2 + level * (1 + 200 * f2)), s=(rows, columns))
        inside = restored[:, pad : pad + height, pad : pad + width]
        yield to_uint8(np.ascontiguousarray(inside.transpose(1, 2, 0)))


def richardson_lucy(image: Image, sigma: float, iterations: int = LUCY_ITERATIONS) -> Image:
    """Richardson-Lucy deconvolution of a Gaussian blur (Richardson 1972, Lucy 1974).

    The iteration of scikit-image's ``restoration.richardson_lucy`` (start at 0.5, no regularisation), with
    the blur done separably in OpenCV and reflected at the border, where scikit-image assumes black.

    Args:
        image: ``(H, W, 3)`` uint8, blurred.
        sigma: of the blur, pixels.
        iterations: fixed; more would sharpen further and amplify noise.

    Returns:
        The same shape.
    """
    observed: Float = image.astype(np.float32) / np.float32(255)
    size = 2 * int(np.ceil(4 * sigma)) + 1
    estimate: Float = np.full_like(observed, 0.5)
    for _ in range(iterations):
        ratio = observed / (_blur(estimate, size, sigma) + np.float32(1e-12))
        estimate *= _blur(ratio, size, sigma)
    return to_uint8(255 * estimate)


def _blur(image: Float, size: int, sigma: float) -> Float:
    blurred = cv2.GaussianBlur(image, (size, size), sigma, borderType=cv2.BORDER_REFLECT_101)
    return blurred.astype(np.float32, copy=False)


def best(outputs: Iterable[Image], sharp: Image, condition: Condition) -> Image:
    """The output with the highest PSNR by the condition's protocol; the first of equals."""

    def error(output: Image) -> float:
        if condition.scale == 1:
            return squared_error(output, sharp)
        images = [crop_border(image, condition.scale).astype(np.float32) for image in (output, sharp)]
        luma = (images[0] - images[1]) @ LUMA_WEIGHTS.astype(np.float32)
        return float(np.square(luma, dtype=np.float64).sum())

    return min(outputs, key=error)


def _unsharp(pair: Pair, condition: Condition) -> Image:
    return unsharp_mask(protocols.enlarged(condition, pair), UNSHARP_RADIUS, UNSHARP_AMOUNT)


def _unsharp_oracle(pair: Pair, condition: Condition) -> Image:
    return best(unsharp_settings(protocols.enlarged(condition, pair)), pair.sharp, condition)


def _cas(pair: Pair, condition: Condition) -> Image:
    return contrast_adaptive_sharpening(protocols.enlarged(condition, pair))


def _wiener_oracle(pair: Pair, condition: Condition) -> Image:
    levels = WIENER_LEVELS_NOISY if condition.noise else WIENER_LEVELS
    outputs = wiener_deconvolutions(pair.degraded, condition.sigma or 0.0, levels)
    return best(outputs, pair.sharp, condition)


def _richardson_lucy(pair: Pair, condition: Condition) -> Image:
    return richardson_lucy(pair.degraded, condition.sigma or 0.0)


def _input(pair: Pair, condition: Condition) -> Image:
    return protocols.enlarged(condition, pair)


_ALL = (
    Baseline(INPUT, "the degraded image, enlarged by bicubic interpolation on `sr`", False, _input),
    Baseline("unsharp", "unsharp mask, radius 1.5, amount 1.0, with OpenCV", False, _unsharp),
    Baseline("unsharp-oracle", "unsharp mask, the best of 35 settings per image", False, _unsharp_oracle),
    Baseline("cas", "AMD FidelityFX CAS, ffx_cas.h, default strength (Lottes 2019)", False, _cas),
    Baseline("wiener-oracle", "Wiener 1949, told σ, the best regulariser per image", True, _wiener_oracle),
    Baseline(
        "richardson-lucy",
        f"Richardson 1972, Lucy 1974, told σ, {LUCY_ITERATIONS} iterations",
        True,
        _richardson_lucy,
    ),
)
BASELINES: dict[str, Baseline] = {baseline.name: baseline for baseline in _ALL}
"""Every baseline by its name."""


def looks_at_the_truth(name: str) -> bool:
    """Whether a model is a baseline that chooses its setting by looking at the sharp image."""
    return name in BASELINES and name.endswith("-oracle")
