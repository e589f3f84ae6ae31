"""A net as a function on images: blur, tiles, strength, alpha, grey and bit depth around an engine."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sharpkd.functional.tiles import GLOBAL_HALO, halo_of, round_up
from sharpkd.inference.blur import Estimate, Estimator
from sharpkd.inference.cells import Run
from sharpkd.inference.engine import CPU, Engine, EngineName, ModelInfo, PrecisionName, Task, open_engine
from sharpkd.inference.errors import ModelError
from sharpkd.inference.image_io import Picture
from sharpkd.inference.models import model_path
from sharpkd.inference.scene import Scenes
from sharpkd.inference.student import PixelFormat
from sharpkd.inference.tiling import run_tiled

DEFAULT_TILE = 1024
MAX_STRENGTH = 2.0
MOST_PREPARED = 2
"""So many nets, each for one condition, strength and pixel format, are kept ready, with their memory."""
CAUTIOUS = "cautious"
"""Key of a weight file's metadata: how many standard deviations are taken off the measured sigma."""

ImageLike = TypeVar("ImageLike", NDArray[Any], Image.Image)
OnTile = Callable[[int, int], None]


class Sharpener:
    """Sharpens images with one model; several threads may share it.

    A student that is told the blur is told what `measure` finds, once for every image, and becomes a plain
    net for it. All of an image's tiles are told the same, so they are exact.

    Args:
        model: "fast", "balanced" or "quality", for the weights of the package, or an ``.onnx``, ``.xml``,
            ``.safetensors`` or ``.ckpt`` file; see `sharpkd.inference.engine.open_engine`.
        engine: "auto", "openvino", "onnxruntime" or "torch".
        tile: side of a tile in pixels; 0 means the whole image at once. None means 1024 for a net with a
            known receptive field, whose tiles are exact, and whole images for any other: there, tiles that
            are asked for change the result (they are read with a halo of 64 pixels).
        threads: CPU threads of the engine; None leaves the choice to it.
        precision: "auto", "bf16", "fp16", "fp32" or "int8"; see `open_engine`.
        device: "cpu", or one of torch's such as "cuda"; see `open_engine`.
        cautious: standard deviations that are taken off the measured sigma: more of them do less where
            the blur is uncertain. None takes what the weight file says, which is 0 where it says nothing.
        estimator: another estimator's ``.safetensors`` than the package's own.

    Example:
        >>> import numpy as np
        >>> from PIL import Image
        >>> from sharpkd import Sharpener
        >>> sharpen = Sharpener("balanced")
        >>> photo = np.zeros((90, 120, 3), np.uint8)
        >>> print(sharpen.measure(photo))  # all black: there is no blur to be seen
        sigma 0.00 ± 2.00, noise 0.00 ± 2.50, compression 0.00 ± 1.00, reduction 0.00 ± 1.50
        >>> sharpen(photo, strength=0.8).shape
        (90, 120, 3)
        >>> sharpen(Image.fromarray(photo), sigma=1.6).size
        (120, 90)

    Raises:
        ModelError: the model cannot be opened.
        ValueError: a negative tile, a negative ``cautious``, or an unknown engine or precision.
    """

    def __init__(
        self,
        model: Path | str = "balanced",
        engine: EngineName = "auto",
        tile: int | None = None,
        threads: int | None = None,
        *,
        precision: PrecisionName = "auto",
        cautious: float | None = None,
        estimator: Path | str | None = None,
        device: str = CPU,
    ) -> None:
        if tile is not None and tile < 0:
            raise ValueError(f"tile must be 0 (the whole image) or a number of pixels, got {tile}")
        self._engine: Engine = open_engine(model_path(model), engine, threads, precision, device)
        field = self.info.receptive_field
        stride = self.info.stride
        self._halo = round_up(GLOBAL_HALO, stride) if field is None else halo_of(field, stride)
        self.tile = (DEFAULT_TILE if field is not None else 0) if tile is None else tile
        self.cautious = _cautious(self.info) if cautious is None else cautious
        if not self.cautious >= 0:
            raise ValueError(f"cautious must be at least 0 (standard deviations), got {self.cautious}")
        self._estimator_path, self._estimator = estimator, None if estimator is None else Estimator(estimator)
        self._prepared: OrderedDict[Task, Run] = OrderedDict()
        self._lock = threading.Lock()

    @classmethod
    def from_checkpoint(cls, path: Path | str, **settings: Any) -> Self:
        """A sharpener with the weights of a file; ``settings`` are those of the constructor.

        Raises:
            ModelError, ValueError: as of the constructor.
        """
        return cls(Path(path), **settings)

    @property
    def info(self) -> ModelInfo:
        """What the model file says about itself."""
        return self._engine.info

    @property
    def engine(self) -> str:
        """Name of the engine that runs it; small pictures may go through another (`MACS_ONCE`)."""
        return self._engine.name

    @property
    def precision(self) -> str:
        """In which images of 8 bits are computed, but for small ones that go through another engine."""
        return self._engine.precision

    @property
    def is_aware(self) -> bool:
        """Whether the net is told what was done to an image; else it is blind, and nothing is measured."""
        return self._engine.condition_size > 0

    @property
    def tiles_are_exact(self) -> bool:
        """Whether a tiled result equals the whole-image one."""
        return self.tile == 0 or self.info.receptive_field is not None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.info.path.name}, {self.engine})"

    def measure(self, image: NDArray[Any] | Image.Image) -> Estimate:
        """What was done to an image, with uncertainties, whatever the model: the package's estimator.

        Args:
            image: as of calling the sharpener.

        Raises:
            ValueError: another shape, dtype or mode.
        """
        return self._measured(_as_pixels(image), None)

    def measure_plane(
        self, plane: NDArray[Any], *, bits: int | None = None, studio: bool = False
    ) -> Estimate:
        """As `measure`, for luma alone; arguments as of `plane`."""
        pixels, form = _as_plane(plane, bits, studio)
        return self._measured(pixels, form)

    def __call__(
        self,
        image: ImageLike,
        strength: float = 1.0,
        sigma: float | None = None,
        estimate: Estimate | None = None,
    ) -> ImageLike:
        """The sharpened image, of the type and mode that came in.

        Args:
            image: ``(H, W, 3)`` RGB or ``(H, W)`` grey array, uint8 or uint16, or a PIL RGB or L image.
            strength: 0 keeps the image, 1 is the net's output, in between mixes, up to 2 exaggerates.
            sigma: the blur in pixels, where it is known better than by measuring; nothing is taken off it.
            estimate: what `measure` gave, of this image or of the scene that it is from; None measures. A
                small image of which a student is told what is measured here goes through ONNX Runtime, which
                may differ by one level (`sharpkd.inference.engine.MACS_ONCE`).

        Raises:
            ValueError: another shape, dtype or mode, a strength outside [0, 2], a sigma below 0, or a sigma
                for a net that is blind.
        """
        result = self._any_array(_as_array(image), strength, sigma, estimate)
        return Image.fromarray(result) if isinstance(image, Image.Image) else result

    def for_scene(self, strength: float = 1.0) -> Scenes:
        """A function that sharpens a video's frames: those of a scene alike, by what its first one shows.

        Args:
            strength: as of calling the sharpener.

        Returns:
            A function of a frame: an array, as of calling the sharpener; for one thread.
        """
        return Scenes(self, strength)

    def picture(
        self,
        picture: Picture,
        strength: float = 1.0,
        on_tile: OnTile | None = None,
        sigma: float | None = None,
        estimate: Estimate | None = None,
    ) -> Picture:
        """A sharpened copy; alpha (resized where the net enlarges) and metadata stay.

        A small picture goes through ONNX Runtime, whatever a student is told of it.
        """
        if picture.grey:
            grey = self._any_array(picture.pixels[..., 0], strength, sigma, estimate, on_tile, once=True)
            pixels = np.repeat(grey[..., None], 3, axis=2)
        else:
            pixels = self._any_array(picture.pixels, strength, sigma, estimate, on_tile, once=True)
        alpha = picture.alpha
        if alpha is not None and self.info.scale != 1:
            alpha = np.array(Image.fromarray(alpha).resize(pixels.shape[1::-1], Image.Resampling.BICUBIC))
        return replace(picture, pixels=pixels, alpha=alpha)

    def pixels(
        self,
        pixels: NDArray[Any],
        strength: float = 1.0,
        on_tile: OnTile | None = None,
        sigma: float | None = None,
        estimate: Estimate | None = None,
    ) -> NDArray[Any]:
        """``(H, W, 3)`` uint8 or uint16 RGB -> the same dtype, each side times the net's scale."""
        return self._colours(pixels, strength, sigma, estimate, on_tile)

    def plane(
        self,
        plane: NDArray[Any],
        strength: float = 1.0,
        sigma: float | None = None,
        estimate: Estimate | None = None,
        *,
        bits: int | None = None,
        studio: bool = False,
    ) -> NDArray[Any]:
        """Luma alone, as video holds it; of students with ``luma_only``.

        Args:
            plane: ``(H, W)`` or ``(H, W, 1)``, uint8 or uint16; the result has its shape and dtype.
            strength, sigma, estimate: as of calling the sharpener.
            bits: of the numbers in a uint16 plane, 9 to 16 (10-bit video: 10); None for all of the dtype's.
            studio: studio swing, 16 to 235 of 8 bits are black and white; else all numbers are used.

        Raises:
            ValueError: a net of RGB, another shape or dtype, or as of calling the sharpener.
        """
        if not self._engine.luma_only:
            raise ValueError(
                f"{self.info.path.name} is a net of RGB: luma alone needs a student with luma_only"
            )
        pixels, form = _as_plane(plane, bits, studio)
        return self._run(pixels, form, strength, sigma, estimate).reshape(plane.shape)

    def _any_array(
        self,
        image: NDArray[Any],
        strength: float,
        sigma: float | None,
        estimate: Estimate | None,
        on_tile: OnTile | None = None,
        once: bool = False,
    ) -> NDArray[Any]:
        if image.ndim != 2:
            return self._colours(image, strength, sigma, estimate, on_tile, once)
        if self._engine.luma_only and 0 not in image.shape:
            pixels, form = _as_plane(image, None, False)
            return self._run(pixels, form, strength, sigma, estimate, on_tile, once)[..., 0]
        colour = self._colours(
            np.repeat(image[..., None], 3, axis=2), strength, sigma, estimate, on_tile, once
        )
        return np.rint(colour.mean(axis=2)).astype(colour.dtype)

    def _colours(
        self,
        pixels: NDArray[Any],
        strength: float,
        sigma: float | None,
        estimate: Estimate | None,
        on_tile: OnTile | None = None,
        once: bool = False,
    ) -> NDArray[Any]:
        _check(pixels, 3)
        return self._run(pixels, PixelFormat(3, _bits(pixels)), strength, sigma, estimate, on_tile, once)

    def _run(
        self,
        pixels: NDArray[Any],
        form: PixelFormat,
        strength: float,
        sigma: float | None,
        estimate: Estimate | None,
        on_tile: OnTile | None = None,
        once: bool = False,
    ) -> NDArray[Any]:
        if not 0 <= strength <= MAX_STRENGTH:
            raise ValueError(f"strength must be in [0, {MAX_STRENGTH:g}], got {strength}")
        if strength != 1 and self.info.scale != 1:
            raise ValueError(
                f"strength must be 1 for a net that enlarges (x{self.info.scale}), got {strength}"
            )
        condition = self._condition(pixels, form, sigma, estimate)
        # what is measured is of this picture alone; a blind net, or what is told, may serve more of them
        once = self.is_aware and (once or (sigma is None and estimate is None))
        pixels_once = pixels.shape[0] * pixels.shape[1] if once else 0
        return run_tiled(
            self._prepare(Task(form, condition, float(strength), pixels_once)),
            pixels,
            tile=self.tile,
            halo=self._halo,
            stride=self.info.stride,
            scale=self.info.scale,
            on_tile=on_tile,
        )

    def _condition(
        self, pixels: NDArray[Any], form: PixelFormat, sigma: float | None, estimate: Estimate | None
    ) -> tuple[float, ...]:
        """What the net is told."""
        if sigma is not None and not 0 <= sigma < float("inf"):
            raise ValueError(f"sigma must be a number of pixels, at least 0, got {sigma}")
        told = self._engine.condition_size
        if told == 0:
            if sigma is not None:
                raise ValueError(f"sigma: {self.info.path.name} is a blind net, it cannot be told {sigma}")
            return ()
        if sigma is not None and told == 1:
            return (float(sigma),)
        found = self._measured(pixels, form) if estimate is None else estimate
        if len(found.values) < told:
            names = ", ".join(found.names)
            raise ModelError(f"{self.info.path.name} is told {told} numbers, but the estimate has {names}")
        found = found.cautious(self.cautious) if sigma is None else found.with_sigma(sigma)
        return tuple(float(value) for value in found.values[:told])

    def _measured(self, pixels: NDArray[Any], form: PixelFormat | None) -> Estimate:
        if self._estimator is None:
            self._estimator = Estimator(self._estimator_path)
        black, white = (0, None) if form is None else (form.black, form.white)
        return self._estimator(pixels, black, white)

    def _prepare(self, task: Task) -> Run:
        """The net for one task: kept, because video and batches ask for the same again."""
        with self._lock:
            if task in self._prepared:
                self._prepared.move_to_end(task)
                return self._prepared[task]
        run = self._engine.prepare(task)
        with self._lock:
            self._prepared[task] = run
            while len(self._prepared) > MOST_PREPARED:
                self._prepared.popitem(last=False)
        return run


def _cautious(info: ModelInfo) -> float:
    given = info.metadata.get(CAUTIOUS, 0)
    try:
        return float(given)
    except (TypeError, ValueError) as error:
        raise ModelError(f"{info.path}: its metadata says {CAUTIOUS}={given!r}, expected a number") from error


def _as_array(image: NDArray[Any] | Image.Image) -> NDArray[Any]:
    if isinstance(image, np.ndarray):
        return image
    if not isinstance(image, Image.Image):
        raise TypeError(f"an image is a NumPy array or a PIL image, got {type(image).__name__}")
    if image.mode not in ("RGB", "L"):
        raise ValueError(f"a PIL image must be RGB or L, got {image.mode}: use image.convert('RGB')")
    return np.asarray(image)


def _as_pixels(image: NDArray[Any] | Image.Image) -> NDArray[Any]:
    """``(H, W, 3)``, or ``(H, W, 1)`` of a grey image."""
    array = _as_array(image)
    if array.ndim == 2:
        array = array[..., None]
    _check(array, 1 if array.shape[-1] == 1 else 3)
    return array


def _as_plane(plane: NDArray[Any], bits: int | None, studio: bool) -> tuple[NDArray[Any], PixelFormat]:
    pixels = plane[..., None] if plane.ndim == 2 else plane
    _check(pixels, 1)
    most = _bits(pixels)
    given = most if bits is None else bits
    if not (given == most or 9 <= given <= most):
        expected = "8" if most == 8 else "9 to 16"
        raise ValueError(f"bits of a {pixels.dtype} plane must be {expected}, got {given}")
    return pixels, PixelFormat(1, given, studio)


def _check(pixels: NDArray[Any], channels: int) -> None:
    if pixels.ndim != 3 or pixels.shape[2] != channels or 0 in pixels.shape:
        raise ValueError(f"image must have shape (H, W, {channels}) with H, W >= 1, got {pixels.shape}")
    if pixels.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"image must be uint8 or uint16, got {pixels.dtype}")


def _bits(pixels: NDArray[Any]) -> int:
    return 8 * pixels.dtype.itemsize
