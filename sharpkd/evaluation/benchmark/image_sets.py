"""SharpBench's images: which sets there are, where they lie, and what each picture shows."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

from sharpkd.data.images import EXTENSIONS

DOMAINS = ("text", "face", "nature", "building", "other")
"""What a picture mainly shows.

``text``: text or a screen. ``face``: a person whose face is seen, the head at least a tenth of the picture's
height. ``nature``: animals, plants or landscape. ``building``: architecture, from outside or inside.
``other``: objects, vehicles, sports, people from afar.
"""

LABELS = "domains.csv"
"""Label file: packaged (columns set, image, domain), or in a set's folder (image, domain), which wins."""

_SELF_EX_SR = "https://github.com/jbhuang0604/SelfExSR"


SETS: dict[str, str] = {
    "Set5": f"the originals (HR) of Set5 from {_SELF_EX_SR}",
    "Set14": f"the originals (HR) of Set14 from {_SELF_EX_SR}",
    "Kodak24": "the 24 photographs of https://r0k.us/graphics/kodak",
    "BSD100": "images/val of BSDS500 (https://github.com/BIDS/BSDS500)",
    "Urban100_25": f"every fourth original (HR) of Urban100 from {_SELF_EX_SR}",
}
"""Where to get each set, by its name, which is the name of its folder; in the order of every table."""


@dataclass(frozen=True)
class BenchmarkImage:
    """One image file of the benchmark.

    Attributes:
        set: its set.
        name: the file's name without extension, unique in the set; seeds the noise.
        path: the file.
        domain: one of :data:`DOMAINS`; empty where no label file names the image.
    """

    set: str
    name: str
    path: Path
    domain: str


@dataclass(frozen=True)
class MissingSet:
    """A set that is absent, not whole, or has images that SharpBench has not.

    ``message`` says what was found, where, and how to mend it.
    """

    name: str
    message: str


def find_images_of(
    root: str | Path, sets: Sequence[str] | None = None, limits: Mapping[str, int] | None = None
) -> tuple[list[BenchmarkImage], list[MissingSet]]:
    """List the benchmark's images: files directly in ``root/<set>``, sorted by name.

    Args:
        root: the folder that holds a folder for each set.
        sets: names from :data:`SETS`; all by default.
        limits: take only so many images of a set, evenly spread over it; more than there are means all.

    Returns:
        The images that were found, in the sets' order, and the sets that are not as they should be; the
        images of the latter are in the list nevertheless.

    Raises:
        FileNotFoundError: there is no folder ``root``.
        ValueError: unknown set, a limit below 1, two files of one name, or a label file with other columns,
            an unknown domain or an image that is not there.
    """
    root = Path(root)
    limits = limits or {}
    wanted = _known_sets([sets] if isinstance(sets, str) else list(SETS) if sets is None else sets)
    _known_sets(list(limits))
    if bad := [name for name, limit in limits.items() if limit < 1]:
        raise ValueError(f"the limit of {bad[0]} is {limits[bad[0]]}; expected at least 1 image")
    if not root.is_dir():
        raise FileNotFoundError(
            f"benchmark folder {root} does not exist; set benchmark.root to the folder that holds "
            f"{', '.join(SETS)}"
        )
    images: list[BenchmarkImage] = []
    missing: list[MissingSet] = []
    for name in wanted:
        found = _images_in(root / name)
        if found.keys() != _names_of(name):
            missing.append(_missing(root / name, found))
        labels = _labels(root / name, found)
        images += [
            BenchmarkImage(name, stem, found[stem], labels[stem]) for stem in _spread(found, limits.get(name))
        ]
    return images, missing


def _known_sets(names: Sequence[str]) -> list[str]:
    if unknown := [name for name in names if name not in SETS]:
        raise ValueError(f"unknown benchmark set {unknown[0]!r}; there are {', '.join(SETS)}")
    return [name for name in SETS if name in names]


def _images_in(folder: Path) -> dict[str, Path]:
    paths = folder.iterdir() if folder.is_dir() else ()
    found: dict[str, Path] = {}
    for path in sorted(paths):
        if path.suffix.lower() not in EXTENSIONS or path.name.startswith("."):
            continue
        if path.stem in found:
            raise ValueError(
                f"{folder} has both {found[path.stem].name} and {path.name}; take one of them out"
            )
        found[path.stem] = path
    return found


def _names_of(name: str) -> set[str]:
    return {image for set_name, image in packaged_domains() if set_name == name}


def _missing(folder: Path, found: Mapping[str, Path]) -> MissingSet:
    name, expected = folder.name, _names_of(folder.name)
    absent, foreign = sorted(expected - found.keys()), sorted(found.keys() - expected)
    if not found:
        message = f"no images in {folder}. Put there {SETS[name]}, named {_some(absent)}"
    elif not absent:
        message = f"{folder} also has {_some(foreign)}, not in SharpBench: its means are not comparable"
    else:
        message = f"{len(absent)} of {len(expected)} images are not in {folder}: {_some(absent)}"
        # The noise is seeded by the name, and the labels go by it.
        message += f". Rename {_some(foreign)} where they are the same" if foreign else ""
        message += f". The set is {SETS[name]}"
    return MissingSet(name, f"{name}: {message}.")


def _some(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= 5 else f"{', '.join(names[:3])}, … {names[-1]}"


def _spread(found: Mapping[str, Path], limit: int | None) -> list[str]:
    names = list(found)
    count = len(names) if limit is None else min(limit, len(names))
    return [names[index * len(names) // count] for index in range(count)]


@cache
def packaged_domains() -> dict[tuple[str, str], str]:
    """(set, image) -> domain for every image of the benchmark, labelled by looking at them."""
    lines = (files("sharpkd.evaluation.benchmark") / LABELS).read_text(encoding="utf-8").splitlines()
    return {(row["set"], row["image"]): row["domain"] for row in csv.DictReader(lines)}


def _labels(folder: Path, found: Mapping[str, Path]) -> dict[str, str]:
    labels = {name: packaged_domains().get((folder.name, name), "") for name in found}
    path = folder / LABELS
    if not path.is_file():
        return labels
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        if not {"image", "domain"} <= set(reader.fieldnames or ()):
            raise ValueError(f"{path} has the columns {reader.fieldnames}; expected image, domain")
        for row in reader:
            where = f"{path}, line {reader.line_num}"
            if row["domain"] not in DOMAINS:
                raise ValueError(
                    f"{where}: domain is {row['domain']!r}; expected one of {', '.join(DOMAINS)}"
                )
            image = row["image"] or ""
            name = image if image in found else Path(image).stem
            if name not in found:
                raise ValueError(f"{where}: there is no image {image!r} in {folder}")
            labels[name] = row["domain"]
    return labels
