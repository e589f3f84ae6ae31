"""SharpBench: the fixed conditions under which every model is measured.

The inputs are the same bytes on every machine: blur is float64 rounded once, Pillow's resampling is integer
arithmetic, its JPEG codec is exact, and noise comes from a generator whose stream NumPy has frozen.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from sharpkd.data import degradation_maths as maths
from sharpkd.data.degradation import name_seed

Image = NDArray[np.uint8]
"""``(H, W, 3)`` uint8 RGB."""


@dataclass(frozen=True)
class Pair:
    """One test: ``degraded`` goes in, the output is compared with ``sharp`` (``scale`` times larger)."""

    degraded: Image
    sharp: Image


@dataclass(frozen=True)
class Condition:
    """One way in which an input is made.

    Attributes:
        track: its group.
        name: such as ``gaussian/1.6``.
        scale: how many times smaller the input is; 1 but on ``sr``.
        sigma: of the Gaussian blur, pixels, where there is one: what a non-blind baseline is told.
        noise: standard deviation of the added noise, 8-bit levels.
    """

    track: str
    name: str
    scale: int = 1
    sigma: float | None = None
    noise: float = 0.0


def _gaussian(sharp: Image, name: str, sigma: float) -> Pair:
    return Pair(maths.gaussian_blur(sharp, sigma), sharp)


def _noisy(sharp: Image, name: str, sigma: float, noise: float) -> Pair:
    # RandomState, not default_rng: NumPy promises never to change its stream (NEP 19).
    values = np.random.RandomState(name_seed(name)).standard_normal(sharp.shape)
    return Pair(maths.to_uint8(maths.gaussian_blur_float(sharp, sigma) + noise * values), sharp)


def _lowres(sharp: Image, name: str, factor: int) -> Pair:
    sharp = _crop_to_multiple(sharp, name, factor)
    return Pair(maths.low_res(sharp, factor), sharp)


def _conference(sharp: Image, name: str, quality: int) -> Pair:
    half = _lowres(sharp, name, 2)
    return Pair(maths.jpeg(half.degraded, quality), half.sharp)


def _sharp(sharp: Image, name: str) -> Pair:
    return Pair(sharp, sharp)


def _sr(sharp: Image, name: str, scale: int) -> Pair:
    sharp = _crop_to_multiple(sharp, name, scale)
    return Pair(maths.downscale(sharp, scale), sharp)


Maker = Callable[[Image, str], Pair]

_MAKERS: dict[Condition, Maker] = {
    **{
        Condition("gaussian", f"gaussian/{sigma}", sigma=sigma): partial(_gaussian, sigma=sigma)
        for sigma in (0.8, 1.2, 1.6, 2.4, 3.0)
    },
    Condition("noisy", "noisy", sigma=1.6, noise=2.0): partial(_noisy, sigma=1.6, noise=2.0),
    **{Condition("lowres", f"lowres/{factor}"): partial(_lowres, factor=factor) for factor in (2, 3, 4)},
    **{
        Condition("conference", f"conference/q{quality}"): partial(_conference, quality=quality)
        for quality in (30, 50, 75)
    },
    Condition("sharp", "sharp"): _sharp,
    **{Condition("sr", f"sr/{scale}", scale=scale): partial(_sr, scale=scale) for scale in (2, 3, 4)},
}

TRACKS: tuple[str, ...] = tuple(dict.fromkeys(condition.track for condition in _MAKERS))
"""``gaussian``, ``noisy``, ``lowres``, ``conference``, ``sharp`` and ``sr``, in the order of every table."""


def conditions(tracks: Sequence[str] | None = None) -> list[Condition]:
    """The conditions of some tracks, or of all, in the benchmark's order.

    Raises:
        ValueError: there is no such track, or none is named.
    """
    if isinstance(tracks, str):
        tracks = [tracks]
    wanted = TRACKS if tracks is None else tracks
    if unknown := [track for track in wanted if track not in TRACKS]:
        raise ValueError(f"unknown benchmark track {unknown[0]!r}; there are {', '.join(TRACKS)}")
    if not wanted:
        raise ValueError(f"no benchmark track is named; choose from {', '.join(TRACKS)}, or null for all")
    return [condition for condition in _MAKERS if condition.track in wanted]


def make_pair(condition: Condition, sharp: Image, name: str) -> Pair:
    """Make the input of one test; the same bytes every time.

    On ``lowres``, ``conference`` and ``sr`` the sharp image is first cropped, on the right and below, to a
    multiple of the scale. Nothing in the result shares memory with ``sharp``.

    Args:
        condition: one of :func:`conditions`.
        sharp: ``(H, W, 3)`` uint8 RGB; never written to.
        name: of the image: the seed of the noise, and what errors call it.

    Raises:
        ValueError: the condition is none of the benchmark's, the image is not uint8 ``(H, W, 3)``, or it is
            smaller than the scale.
    """
    if condition not in _MAKERS:
        names = ", ".join(known.name for known in _MAKERS)
        raise ValueError(f"{condition} is no condition of SharpBench; take one from conditions(): {names}")
    if sharp.dtype != np.uint8 or sharp.ndim != 3 or sharp.shape[2] != 3 or 0 in sharp.shape:
        raise ValueError(
            f"image {name} must be uint8 of shape (H, W, 3), found {sharp.dtype} of shape {sharp.shape}"
        )
    pair = _MAKERS[condition](sharp, name)
    return Pair(pair.degraded.copy(), pair.sharp.copy())


def enlarged(condition: Condition, pair: Pair) -> Image:
    """The ``input`` row's picture: the degraded image, on ``sr`` enlarged to its target by Pillow's bicubic.

    Returns:
        uint8 of the shape of ``pair.sharp``; never ``pair.degraded`` itself.
    """
    if condition.scale == 1:
        return pair.degraded.copy()
    return maths.resize(pair.degraded, *pair.sharp.shape[:2]).copy()


def _crop_to_multiple(image: Image, name: str, factor: int) -> Image:
    height, width = (side - side % factor for side in image.shape[:2])
    if not height or not width:
        raise ValueError(
            f"image {name} is {image.shape[1]}×{image.shape[0]} pixels; "
            f"reducing it {factor} times needs at least {factor}×{factor}"
        )
    return np.ascontiguousarray(image[:height, :width])
