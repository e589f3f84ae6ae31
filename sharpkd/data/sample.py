"""A few photographs that are on every machine: those inside scikit-image's wheel."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sharpkd.data.datamodule import ImageDataModule

# The two motorcycles are one scene, so they stay on one side.
MOTORCYCLES = ("motorcycle_left.png", "motorcycle_right.png")
TRAIN = ("astronaut.png", "coffee.png", "hubble_deep_field.jpg", *MOTORCYCLES)
VAL = ("chelsea.png", "rocket.jpg")


class SampleSource:
    """Scikit-image's colour photographs: five to train on, two to validate on, no download.

    Raises:
        ModuleNotFoundError: scikit-image is not installed.
        FileNotFoundError: its wheel lacks one of the photographs.
    """

    def __init__(self) -> None:
        package = find_spec("skimage")
        if package is None or package.origin is None:
            raise ModuleNotFoundError(
                "data=sample uses the photographs inside scikit-image, which is not installed: "
                "pip install scikit-image, or use data=folder data.train_dir=…"
            )
        self.folder = Path(package.origin).parent / "data"
        missing = [name for name in (*TRAIN, *VAL) if not (self.folder / name).is_file()]
        if missing:
            raise FileNotFoundError(
                f"data=sample: {self.folder} lacks {', '.join(missing)}; "
                "install scikit-image 0.25 or 0.26 from its wheel, or use data=folder data.train_dir=…"
            )

    def __str__(self) -> str:
        return str(self.folder)

    def prepare(self) -> None:
        """Nothing to get: the files came with scikit-image."""

    def train_files(self) -> list[Path]:
        """Five photographs, 0.2 to 0.9 megapixels."""
        return [self.folder / name for name in TRAIN]

    def val_files(self) -> list[Path]:
        """Two photographs of other things."""
        return [self.folder / name for name in VAL]


class SampleDataModule(ImageDataModule):
    """``data=sample``: see :class:`SampleSource` and :class:`ImageDataModule` for the settings."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(SampleSource(), **settings)
