"""Which model, and how strongly: chosen for each input from what it is, or the same for all.

A picture that is already sharp is left alone. Otherwise the best of the package's students is taken that is
meant for so large a picture, or, where a budget is given, that is fast enough for it on this machine.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sharpkd.inference.blur import Estimate
from sharpkd.inference.engine import CPU, EngineName, PrecisionName
from sharpkd.inference.errors import ModelError
from sharpkd.inference.models import packaged_models
from sharpkd.inference.picture import ImageFile, Picture
from sharpkd.inference.sharpener import OnTile, Sharpener
from sharpkd.inference.transparency import with_hidden_filled

AUTO = "auto"
SHARP, BLURRED = 0.3, 0.5
"""Pixels. Below the first nothing is done: in nine of ten sharp photographs of Kodak24 and BSD100 the
estimator finds less. From the second on all is done; between them in proportion, so that nothing jumps."""
LARGEST = {"quality": 26e6, "balanced": 64e6, "fast": float("inf")}
"""Pixels of a picture that a model is taken for; best first. On two cores
`quality` needs some ten seconds for as many, by what 12 megapixels take (``what=speed``)."""
LARGEST_FRAME = {"balanced": 1e6, "fast": float("inf")}
"""Pixels of a video's frame, likewise: the models that restore luma, which is what video is sharpened in."""
NOISY = 1.0
"""8-bit levels. In noise the better models gain most: a noisy picture may be twice as large for them."""
TRIAL = 512
"""Side in pixels of what a model is timed on where there is a budget."""

Frame = NDArray[Any]


@dataclass(frozen=True)
class Choice:
    """What is done to one input.

    Attributes:
        model: name of a student, or of a file.
        strength: 0 leaves the input as it is, 1 does all.
        reason: why, in a few words; empty where nothing was chosen.
    """

    model: str
    strength: float = 1.0
    reason: str = ""

    def __str__(self) -> str:
        if not self.reason:
            return self.model
        what = "left alone" if self.strength == 0 else f"{self.model} at strength {self.strength:.2f}"
        return f"{what}: {self.reason}"


OnChoice = Callable[[Choice], None]


@dataclass(frozen=True)
class Chosen:
    """A model for one file, and what was found of its first picture.

    Attributes:
        choice: what is done.
        sharpener: does it.
        estimate: what was measured, or None where nothing has been.
        only: the file has one picture, and the estimate is that picture's.
    """

    choice: Choice
    sharpener: Sharpener
    estimate: Estimate | None
    only: bool

    def picture(self, picture: Picture, strength: float = 1.0, on_tile: OnTile | None = None) -> Picture:
        """A sharpened copy, or the picture itself where it is left alone."""
        if self.choice.strength == 0:
            return picture
        known = self.estimate if self.only and self.sharpener.is_aware else None
        return self.sharpener.picture(picture, strength * self.choice.strength, on_tile, estimate=known)

    def __str__(self) -> str:
        blind = "" if self.sharpener.is_aware else ", the net is blind"
        measured = "" if self.estimate is None else f"; {self.estimate}{blind}"
        return f"{self.choice}{measured}"


class Chooser(Protocol):
    """Has a model for every input."""

    def chosen_for(self, file: ImageFile, measured: bool = False) -> Chosen:
        """For all pictures of a file alike, by its first; ``measured`` asks for an estimate in any case."""
        ...

    def for_scene(self, strength: float = 1.0, on_choice: OnChoice | None = None) -> Callable[[Frame], Frame]:
        """As `Sharpener.for_scene`; ``on_choice`` is told once, at the first frame at the latest."""
        ...


class OneModel:
    """The same model for every input.

    Args:
        sharpener: it.
    """

    def __init__(self, sharpener: Sharpener) -> None:
        self.sharpener = sharpener

    def chosen_for(self, file: ImageFile, measured: bool = False) -> Chosen:
        """See `Chooser`; measures only if asked."""
        first = with_hidden_filled(file.pictures[0])
        estimate = self.sharpener.measure(first.pixels) if measured else None
        choice = Choice(self.sharpener.info.path.stem)
        return Chosen(choice, self.sharpener, estimate, only=False)

    def for_scene(self, strength: float = 1.0, on_choice: OnChoice | None = None) -> Callable[[Frame], Frame]:
        """See `Chooser`."""
        if on_choice is not None:
            on_choice(Choice(self.sharpener.info.path.stem))
        return self.sharpener.for_scene(strength)


class AutoSharpener:
    """One of the package's students for each input, and how strongly; several threads may share it.

    Args:
        engine, tile, precision, threads, device: as of `Sharpener`.
        budget_ms: milliseconds that a picture, or a video's frame, may take. Each model is timed once on a
            small picture, and the best is taken that needs no more by that, else the fastest. None: by size
            alone, so that the result does not depend on the machine.

    Raises:
        ValueError: the budget is not above 0.
        ModelError: the package has no students, or the engine cannot run them.
    """

    def __init__(
        self,
        engine: EngineName = "auto",
        tile: int | None = None,
        precision: PrecisionName = "auto",
        threads: int | None = None,
        *,
        budget_ms: float | None = None,
        folder: Path | None = None,
        device: str = CPU,
    ) -> None:
        if budget_ms is not None and not budget_ms > 0:
            raise ValueError(f"budget_ms must be above 0, got {budget_ms}")
        there = {one.name: one.path for one in packaged_models(folder)}
        if not there:
            raise ModelError("no student comes with this package: give a file with --model")
        self.budget_ms = budget_ms
        self._open = lambda path: Sharpener(path, engine, tile, threads, precision=precision, device=device)
        self._paths, self._opened = there, dict[str, Sharpener]()
        self._speed: dict[str, float] = {}
        self._lock = threading.RLock()
        self._measuring = self.sharpener(next(iter(there)))

    def sharpener(self, name: str) -> Sharpener:
        """The open model of that name."""
        with self._lock:
            if name not in self._opened:
                self._opened[name] = self._open(self._paths[name])
            return self._opened[name]

    def chosen_for(self, file: ImageFile, measured: bool = False) -> Chosen:
        """See `Chooser`."""
        first = with_hidden_filled(file.pictures[0])
        estimate = self._measuring.measure(first.pixels[..., :1] if first.grey else first.pixels)
        height, width = first.pixels.shape[:2]
        choice = self.choose(height, width, estimate)
        # models of RGB see a grey picture as one, and measure that
        only = len(file.pictures) == 1 and not first.grey
        return Chosen(choice, self.sharpener(choice.model), estimate, only)

    def for_scene(self, strength: float = 1.0, on_choice: OnChoice | None = None) -> Callable[[Frame], Frame]:
        """See `Chooser`: chosen by the first frame's size; a scene that is sharp is not left alone."""
        restore: list[Callable[[Frame], Frame]] = []

        def on_frame(frame: Frame) -> Frame:
            if not restore:
                choice = self.choose_for_frames(*frame.shape[:2])
                if on_choice is not None:
                    on_choice(choice)
                restore.append(self.sharpener(choice.model).for_scene(strength))
            return restore[0](frame)

        return on_frame

    def choose(self, height: int, width: int, estimate: Estimate) -> Choice:
        """What is done to a picture of ``height`` x ``width`` pixels of which ``estimate`` was found."""
        strength = round(min(1.0, max(0.0, (estimate.sigma - SHARP) / (BLURRED - SHARP))), 2)
        noisy = estimate["noise"] >= NOISY
        name, reason = self._model(height * width, LARGEST, noisy)
        if strength == 0:
            return Choice(name, 0.0, f"it is sharp (sigma {estimate.sigma:.2f})")
        return Choice(name, strength, reason + (", noisy" if noisy else ""))

    def choose_for_frames(self, height: int, width: int) -> Choice:
        """What is done to a video of ``height`` x ``width`` pixels."""
        name, reason = self._model(height * width, LARGEST_FRAME, noisy=False)
        return Choice(name, 1.0, reason)

    def _model(self, pixels: int, largest: dict[str, float], noisy: bool) -> tuple[str, str]:
        """The model for so many pixels, and why."""
        names = [name for name in largest if name in self._paths] or list(self._paths)
        size = f"{pixels / 1e6:.3g} megapixels"
        if self.budget_ms is None:
            room = 2 if noisy else 1
            for name in names:
                if pixels <= room * largest.get(name, float("inf")):
                    return name, size
            return names[-1], size
        for name in names:
            expected = self._milliseconds(name) * pixels / TRIAL**2
            if expected <= self.budget_ms:
                break
        return name, f"{size}, about {expected:.0f} ms of {self.budget_ms:g}"

    def _milliseconds(self, name: str) -> float:
        """What a picture of TRIAL x TRIAL pixels takes, warm, its blur known."""
        with self._lock:
            if name not in self._speed:
                sharpener, picture = self.sharpener(name), np.full((TRIAL, TRIAL, 3), 128, np.uint8)
                known = sharpener.measure(picture).with_sigma(1.0)
                times = []
                for _ in range(3):
                    began = time.perf_counter()
                    sharpener(picture, estimate=known)
                    times.append(time.perf_counter() - began)
                self._speed[name] = 1000 * min(times)
            return self._speed[name]
