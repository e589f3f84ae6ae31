"""A student's weights as arrays: folded for one condition and written for one kind of pixels, without torch.

`PixelStudent`, `AwareStudent`, `FilteredStudent` and `WienerStudent` in `sharpkd.nets` say what is computed;
tests hold this form equal to theirs. What is left here are plain 3x3 convolutions with PReLU between them,
and before them a few linear filters, whatever runs them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sharpkd.inference.errors import ModelError
from sharpkd.inference.weight_file import WeightFile, read_weights
from sharpkd.inference.wiener import GRID, Details, details_of, kernels_of, weights_of_details

Floats = NDArray[np.float32]

PLAIN = "sharpkd.nets.pixel_student.PixelStudent"
AWARE = "sharpkd.nets.aware_student.AwareStudent"
FILTERED = "sharpkd.nets.filtered_student.FilteredStudent"
WIENER = "sharpkd.nets.wiener_student.WienerStudent"
LUMA = (0.299, 0.587, 0.114)
DEFAULTS: dict[str, Any] = {
    "unshuffle": 2,
    "width": 32,
    "depth": 6,
    "scale": 1,
    "luma_only": False,
    "rep": False,
}
AWARE_DEFAULTS: dict[str, Any] = {"condition_limits": None, "hidden": 32}
FILTER_DEFAULTS: dict[str, Any] = {"candidates": 3, "taps": 31, "filter_chroma": False}
KNOWN: dict[str, dict[str, Any]] = {
    PLAIN: DEFAULTS,
    AWARE: DEFAULTS | AWARE_DEFAULTS,
    FILTERED: DEFAULTS | FILTER_DEFAULTS,
    WIENER: DEFAULTS | AWARE_DEFAULTS | FILTER_DEFAULTS,
}
"""The nets that run here -> their arguments."""
DEFAULT_LIMITS = (4.0,)


@dataclass(frozen=True)
class PixelFormat:
    """What the integers of a picture mean.

    Attributes:
        channels: 3 for RGB, 1 for luma alone.
        bits: of each number: 8 in uint8, 9 to 16 in uint16.
        studio: luma in studio swing (16 to 235 of 8 bits), as video has it; else 0 and the largest number
            are black and white.
    """

    channels: int = 3
    bits: int = 8
    studio: bool = False

    @property
    def top(self) -> int:
        """The largest number."""
        return (1 << self.bits) - 1

    @property
    def black(self) -> int:
        """What stands for 0."""
        return 16 << (self.bits - 8) if self.studio else 0

    @property
    def white(self) -> int:
        """What stands for 1."""
        return 235 << (self.bits - 8) if self.studio else self.top

    @property
    def dtype(self) -> type[np.uint8] | type[np.uint16]:
        """Of the pixels."""
        return np.uint8 if self.bits == 8 else np.uint16


@dataclass(frozen=True)
class Layers:
    """Plain convolutions, each 3x3 with a border of zeros, with PReLU after all but the last.

    Attributes:
        weights: ``(out, in, 3, 3)`` each.
        biases: ``(out,)`` each.
        slopes: ``(out,)`` each, of the PReLU; one fewer.
        unshuffle: side of the square of pixels that is a cell.
        luma_only: the first convolution sees luma alone, and the last one's result is added to every channel.
        kernels: ``(K, taps, taps)`` of linear filters, or None. What they would add to the image is given to
            the first convolution behind the image, and what the first of them would add is added.
        filter_chroma: with ``luma_only``, the first filter is of all colours, not of luma alone.
        details: the filters for one kind of pixels, from `for_pixels`; None before.
    """

    weights: tuple[Floats, ...]
    biases: tuple[Floats, ...]
    slopes: tuple[Floats, ...]
    unshuffle: int
    luma_only: bool
    kernels: Floats | None = None
    filter_chroma: bool = False
    details: Details | None = None

    @property
    def macs_per_pixel(self) -> float:
        """Multiply-accumulates for each pixel; filters count once `for_pixels` has made them."""
        numbers = sum(weight.size for weight in self.weights)
        if self.details is not None:
            numbers += self.details.size
        return numbers / self.unshuffle**2

    def for_pixels(self, pixels: PixelFormat, strength: float = 1.0) -> Layers:
        """The layers that take integers less ``black`` and give what is to be added to the integers.

        Channels of a cell are then as they lie in memory: down, across, colour. Range, luma and strength are
        part of the first and the last convolution: none of them costs a pass over the picture.

        Raises:
            ValueError: luma alone for a net that needs RGB.
        """
        if pixels.channels == 1 and not self.luma_only:
            raise ValueError("a net of RGB cannot run on luma alone; use a student with luma_only")
        peak = float(pixels.white - pixels.black)
        inside = len(self.biases[-1])
        first, last, bias = self.weights[0][:, :inside], self.weights[-1], self.biases[-1]
        if self.luma_only and pixels.channels == 3:
            shares = np.array(LUMA, np.float32)[None, None, :, None, None]
            first = (first[:, :, None] * shares).reshape(len(first), -1, 3, 3)
            last, bias = np.repeat(last, 3, axis=0), np.repeat(bias, 3)
        elif not self.luma_only:
            order = np.arange(3 * self.unshuffle**2).reshape(3, -1).T.ravel()
            first, last, bias = first[:, order], last[order], bias[order]
        details = None
        if self.kernels is not None:
            details = details_of(
                self.kernels, self.unshuffle, pixels.channels, self.luma_only, self.filter_chroma, strength
            )
            rest = weights_of_details(self.weights[0][:, inside:], details, self.luma_only, self.unshuffle)
            first = np.concatenate([first, rest], axis=1)
        gain = np.float32(peak * strength)
        return replace(
            self,
            details=details,
            weights=(first / np.float32(peak), *self.weights[1:-1], last * gain),
            biases=(*self.biases[:-1], bias * gain),
        )


class Student:
    """The weights of a student, as its file holds them.

    Args:
        file: read by `sharpkd.inference.weight_file.read_weights`.

    Raises:
        ModelError: it holds another net, or its tensors do not fit the arguments.
    """

    def __init__(self, file: WeightFile) -> None:
        if not can_run(file):
            raise ModelError(f"{file.path} holds a {file.net} that needs torch")
        unknown = set(file.arguments) - set(KNOWN[file.net])
        if unknown:
            raise ModelError(f"{file.path}: {file.net} has no argument {', '.join(sorted(unknown))}")
        self.file = file
        given: dict[str, Any] = KNOWN[file.net] | file.arguments
        for name, value in given.items():
            if isinstance(KNOWN[file.net][name], int) and not (isinstance(value, int) and value >= 0):
                raise ModelError(f"{file.path}: {name}: found {value!r}, expected a whole number from 0 on")
        self.unshuffle, self.width = int(given["unshuffle"]), int(given["width"])
        self.depth, self.luma_only = int(given["depth"]), bool(given["luma_only"])
        if min(self.unshuffle, self.width) < 1 or not 2 <= self.depth <= 1 + len(file.arrays):
            raise ModelError(
                f"{file.path}: unshuffle, width and depth are {self.unshuffle}, {self.width} and "
                f"{self.depth}; {len(file.arrays)} tensors are no such net"
            )
        aware = "hidden" in given
        try:
            self.limits = tuple(map(float, given["condition_limits"] or DEFAULT_LIMITS)) if aware else ()
        except (TypeError, ValueError) as error:
            raise ModelError(f"{file.path}: condition_limits: {error}") from error
        if not all(0 < limit < float("inf") for limit in self.limits):
            raise ModelError(f"{file.path}: condition_limits: expected finite numbers above 0")
        self.candidates, self.taps = int(given.get("candidates", 0)), int(given.get("taps", 1))
        self.filter_chroma = bool(given.get("filter_chroma", False))
        if self.candidates and not (3 <= self.taps < GRID and self.taps % 2):
            raise ModelError(
                f"{file.path}: taps: found {self.taps}, expected an odd number from 3 to {GRID - 1}"
            )
        self._check_shapes(int(given.get("hidden", 0)))

    @classmethod
    def read(cls, path: Path) -> Student:
        """From a ``.safetensors`` file; errors as of the constructor and of `read_weights`."""
        return cls(read_weights(path))

    @property
    def receptive_field(self) -> int:
        """Side in pixels of the window that can influence an output pixel."""
        return 2 * (self.unshuffle * self.depth + self.unshuffle - 1) + self.taps

    @property
    def condition_size(self) -> int:
        """How many numbers it is told, blur sigma first; 0 for a blind one."""
        return len(self.limits)

    def fold(self, condition: Sequence[float] | Floats = ()) -> Layers:
        """The plain net for images of one condition; see `AwareStudent.fold`.

        Args:
            condition: as many numbers as it is told, or more; of a blind net none is looked at.

        Raises:
            ValueError: fewer numbers than the net is told.
        """
        if len(condition) < self.condition_size:
            raise ValueError(
                f"condition: expected at least {self.condition_size} numbers, found {len(condition)}"
            )
        arrays, hidden = self.file.arrays, range(self.depth - 1)
        names = [f"body.{2 * i}" for i in hidden]
        weights = [arrays[f"{name}.weight"] for name in names]
        biases = [arrays[f"{name}.bias"] for name in names]
        if self.condition_size:
            scales, shifts = self._modulation(np.asarray(condition, np.float32)[: self.condition_size])
            weights = [
                weight * scale[:, None, None, None] for weight, scale in zip(weights, scales, strict=True)
            ]
            biases = [b * scale + shift for b, scale, shift in zip(biases, scales, shifts, strict=True)]
        return Layers(
            (*weights, arrays["tail.weight"]),
            (*biases, arrays["tail.bias"]),
            tuple(arrays[f"body.{2 * i + 1}.weight"] for i in hidden),
            self.unshuffle,
            self.luma_only,
            self.kernels(condition),
            self.filter_chroma,
        )

    def kernels(self, condition: Sequence[float] | Floats = ()) -> Floats | None:
        """The filters for images of one condition, ``(K, taps, taps)``; None of a net without.

        Args:
            condition: see `fold`.
        """
        if self.file.net != WIENER:
            return self.file.arrays.get("filters")
        told = np.asarray(condition, np.float32)[: self.condition_size]
        return kernels_of(float(told[0]), told[1:].tolist(), self._read("ratio.", told), self.taps)

    def _modulation(self, condition: Floats) -> tuple[Floats, Floats]:
        """Scales and shifts, both ``(depth - 1, width)``; see `sharpkd.nets.aware_student.Modulation`."""
        told = self._read("modulation.body.", condition)
        scale, shift = told.reshape(self.depth - 1, 2, self.width).transpose(1, 0, 2)
        return 1 + scale, shift

    def _read(self, name: str, condition: Floats) -> Floats:
        """What a small network, whose tensors begin with ``name``, makes of the condition."""
        arrays = self.file.arrays
        share = np.clip(condition / np.array(self.limits, np.float32), 0, 1)
        read = arrays[f"{name}0.weight"] @ (2 * share - 1) + arrays[f"{name}0.bias"]
        units = read * (1 + np.tanh(read / 2)) / 2  # SiLU, without its overflow
        return arrays[f"{name}2.weight"] @ units + arrays[f"{name}2.bias"]

    def _check_shapes(self, hidden: int) -> None:
        inside = (1 if self.luma_only else 3) * self.unshuffle**2
        shapes: dict[str, tuple[int, ...]] = {
            "tail.weight": (inside, self.width, 3, 3),
            "tail.bias": (inside,),
        }
        for i in range(self.depth - 1):
            seen = self.width if i else inside * (1 + self.candidates)
            shapes[f"body.{2 * i}.weight"] = (self.width, seen, 3, 3)
            shapes[f"body.{2 * i}.bias"] = shapes[f"body.{2 * i + 1}.weight"] = (self.width,)
        readers = {"modulation.body.": (self.depth - 1) * 2 * self.width} if self.limits else {}
        if self.file.net == WIENER:
            readers["ratio."] = self.candidates
        for name, out in readers.items():
            shapes[f"{name}0.weight"], shapes[f"{name}0.bias"] = (hidden, len(self.limits)), (hidden,)
            shapes[f"{name}2.weight"], shapes[f"{name}2.bias"] = (out, hidden), (out,)
        if self.file.net == FILTERED:
            shapes["filters"] = (self.candidates, self.taps, self.taps)
        odd_kind = next((name for name, array in self.file.arrays.items() if array.dtype.kind != "f"), None)
        if odd_kind is not None:
            raise ModelError(
                f"{self.file.path}: {odd_kind} holds {self.file.arrays[odd_kind].dtype}, no floats"
            )
        found = {name: array.shape for name, array in self.file.arrays.items()}
        if found != shapes:
            odd = sorted(name for name in shapes.keys() | found if shapes.get(name) != found.get(name))[0]
            raise ModelError(
                f"{self.file.path}: its tensors do not fit {self.file.net}: {odd} is {found.get(odd)}, "
                f"expected {shapes.get(odd)}"
            )


def can_run(file: WeightFile) -> bool:
    """Whether a file holds a net that is made of what stands here: a student in its deployed form."""
    given = DEFAULTS | file.arguments
    return file.net in KNOWN and given["scale"] == 1 and not given["rep"]
