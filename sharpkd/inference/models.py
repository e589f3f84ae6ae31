"""The students that come with the package."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sharpkd.inference.blur import weights_folder
from sharpkd.inference.errors import ModelError

if TYPE_CHECKING:
    from sharpkd.inference.sharpener import Sharpener

MADE_FOR = {
    "fast": "video: the least work a pixel, luma alone",
    "balanced": "photographs and smaller video: luma by the net, chroma by a filter",
    "quality": "photographs: the most work a pixel; luma by the net, chroma by a filter",
}
"""Name -> what it is for, fastest first."""


@dataclass(frozen=True)
class PackagedModel:
    """A student of the package.

    Attributes:
        name: as ``--model`` and `Sharpener` take it.
        path: of its weights.
        made_for: what it is for.
        bytes: size of the file.
        card: its model card (Markdown), or None where it has none.
    """

    name: str
    path: Path
    made_for: str
    bytes: int
    card: Path | None


def packaged_models(folder: Path | None = None) -> list[PackagedModel]:
    """The students that are there, fastest first.

    Args:
        folder: where to look; None for the package's own.
    """
    found = []
    for name, made_for in MADE_FOR.items():
        path = (weights_folder() if folder is None else folder) / f"{name}.safetensors"
        if path.is_file():
            card = path.with_suffix(".md")
            found.append(
                PackagedModel(name, path, made_for, path.stat().st_size, card if card.is_file() else None)
            )
    return found


def model_rows(sharpener: Sharpener) -> dict[str, str]:
    """What there is to tell about an open model: name -> text, in the order to show them."""
    about = sharpener.info
    arguments = ", ".join(f"{key}={value}" for key, value in about.args.items())
    field = about.receptive_field
    packaged = {one.path: one for one in packaged_models()}.get(about.path)
    rows = {
        "net": f"{about.net}({arguments})",
        "engine": sharpener.engine,
        "precision": sharpener.precision,
        **({} if about.precision == "fp32" else {"held in": about.precision}),
        "blur": "measured in each picture" if sharpener.is_aware else "not told (a blind net)",
        "sha256": about.sha256,
        "size": f"{about.path.stat().st_size:,} bytes",
        "receptive field": "the whole picture" if field is None else f"{field} px",
        "stride": f"{about.stride} px",
        "scale": f"x{about.scale}",
    }
    if packaged is not None:
        rows |= {"made for": packaged.made_for}
        rows |= {} if packaged.card is None else {"model card": str(packaged.card)}
    return rows | {key: str(value) for key, value in about.metadata.items()}


def model_path(model: Path | str, folder: Path | None = None) -> Path:
    """The file that "fast", "balanced" or "quality" stands for; any other name is a path already.

    Raises:
        ModelError: a name whose weights are not in the package.
    """
    if str(model) not in MADE_FOR:
        return Path(model)
    there = packaged_models(folder)
    for one in there:
        if one.name == str(model):
            return one.path
    names = ", ".join(one.name for one in there) or "none"
    raise ModelError(
        f"the weights {str(model)!r} are not in this package (packaged students: {names}); give the path of "
        "a model file"
    )
