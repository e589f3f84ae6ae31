"""A net as a function on images: tiles, strength, alpha, grey and bit depth around an engine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sharpkd.functional.tiles import GLOBAL_HALO, halo_of, round_up
from sharpkd.inference.engine import Engine, EngineName, ModelInfo, open_engine
from sharpkd.inference.image_io import Picture
from sharpkd.inference.tiling import run_tiled

DEFAULT_TILE = 512
MAX_STRENGTH = 2.0

ImageLike = TypeVar("ImageLike", NDArray[Any], Image.Image)


class Sharpener:
    """Sharpens images with one model.

    Args:
        model: an ``.onnx``, ``.safetensors`` or ``.ckpt`` file; see `sharpkd.inference.engine.open_engine`.
        engine: "auto", "onnxruntime" or "torch".
        tile: side of a tile in pixels; 0 means the whole image at once. None means 512 for a net with a known
            receptive field, whose tiles are exact, and whole images for any other: there, tiles that are
            asked for change the result (they are read with a halo of 64 pixels).
        threads: CPU threads for ONNX Runtime.

    Example:
        >>> sharpen = Sharpener("student.onnx")          # doctest: +SKIP
        >>> sharpen(Image.open("photo.jpg"), strength=0.8).save("sharp.jpg")  # doctest: +SKIP

    Raises:
        ModelError: the model cannot be opened.
        ValueError: a negative tile.
    """

    def __init__(
        self,
        model: Path | str,
        engine: EngineName = "auto",
        tile: int | None = None,
        threads: int | None = None,
    ) -> None:
        if tile is not None and tile < 0:
            raise ValueError(f"tile must be 0 (the whole image) or a number of pixels, got {tile}")
        self._engine: Engine = open_engine(model, engine, threads)
        field = self.info.receptive_field
        stride = self.info.stride
        self._halo = round_up(GLOBAL_HALO, stride) if field is None else halo_of(field, stride)
        self.tile = (DEFAULT_TILE if field is not None else 0) if tile is None else tile

    @property
    def info(self) -> ModelInfo:
        """What the model file says about itself."""
        return self._engine.info

    @property
    def engine(self) -> str:
        """Name of the engine that runs it."""
        return self._engine.name

    @property
    def tiles_are_exact(self) -> bool:
        """Whether a tiled result equals the whole-image one."""
        return self.tile == 0 or self.info.receptive_field is not None

    def __call__(self, image: ImageLike, strength: float = 1.0) -> ImageLike:
        """The sharpened image, of the type and mode that came in.

        Args:
            image: ``(H, W, 3)`` RGB or ``(H, W)`` grey array, uint8 or uint16, or a PIL RGB or L image.
            strength: 0 keeps the image, 1 is the net's output, in between mixes, up to 2 exaggerates.

        Raises:
            ValueError: another shape, dtype or mode, or a strength outside [0, 2].
        """
        if isinstance(image, Image.Image):
            if image.mode not in ("RGB", "L"):
                raise ValueError(f"a PIL image must be RGB or L, got {image.mode}: use image.convert('RGB')")
            return Image.fromarray(self._any_array(np.asarray(image), strength))
        return self._any_array(image, strength)

    def picture(
        self, picture: Picture, strength: float = 1.0, on_tile: Callable[[int, int], None] | None = None
    ) -> Picture:
        """A sharpened copy; alpha (resized where the net enlarges) and metadata stay."""
        pixels = self.pixels(picture.pixels, strength, on_tile)
        if picture.grey:
            pixels = np.repeat(_to_grey(pixels)[..., None], 3, axis=2)
        alpha = picture.alpha
        if alpha is not None and self.info.scale != 1:
            alpha = np.array(Image.fromarray(alpha).resize(pixels.shape[1::-1], Image.Resampling.BICUBIC))
        return replace(picture, pixels=pixels, alpha=alpha)

    def pixels(
        self, pixels: NDArray[Any], strength: float = 1.0, on_tile: Callable[[int, int], None] | None = None
    ) -> NDArray[Any]:
        """``(H, W, 3)`` uint8 or uint16 RGB -> the same dtype, each side times the net's scale."""
        if pixels.ndim != 3 or pixels.shape[2] != 3 or 0 in pixels.shape:
            raise ValueError(f"image must have shape (H, W, 3) with H, W >= 1, got {pixels.shape}")
        if pixels.dtype not in (np.uint8, np.uint16):
            raise ValueError(f"image must be uint8 or uint16, got {pixels.dtype}")
        if not 0 <= strength <= MAX_STRENGTH:
            raise ValueError(f"strength must be in [0, {MAX_STRENGTH:g}], got {strength}")
        if strength != 1 and self.info.scale != 1:
            raise ValueError(
                f"strength must be 1 for a net that enlarges (x{self.info.scale}), got {strength}"
            )
        return run_tiled(
            lambda window: self._window(window, strength),
            pixels,
            tile=self.tile,
            halo=self._halo,
            stride=self.info.stride,
            scale=self.info.scale,
            on_tile=on_tile,
        )

    def _any_array(self, image: NDArray[Any], strength: float) -> NDArray[Any]:
        if image.ndim == 2:
            return _to_grey(self.pixels(np.repeat(image[..., None], 3, axis=2), strength))
        return self.pixels(image, strength)

    def _window(self, window: NDArray[Any], strength: float) -> NDArray[Any]:
        top = np.iinfo(window.dtype).max
        image = np.ascontiguousarray(window.transpose(2, 0, 1)[None], dtype=np.float32)
        image /= np.float32(top)
        output = self._engine.run(image)
        if strength != 1:
            output = image + np.float32(strength) * (output - image)
        levels = np.rint(np.clip(output[0], 0, 1) * top)
        return np.ascontiguousarray(levels.transpose(1, 2, 0).astype(window.dtype))


def _to_grey(pixels: NDArray[Any]) -> NDArray[Any]:
    return np.rint(pixels.mean(axis=2)).astype(pixels.dtype)
