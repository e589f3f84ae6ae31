"""What a model file says about itself, and how an exported one holds it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sharpkd.inference.errors import ModelError

if TYPE_CHECKING:
    from sharpkd.checkpoint import LoadedNet

LARGEST = 1 << 16
"""Pixels of a stride or a receptive field, and factor of an enlargement, that a file may claim."""


@dataclass(frozen=True)
class ModelInfo:
    """What a model file says about itself.

    Attributes:
        path: the file.
        net: dotted name of the net's class, or "unknown".
        args: the net's constructor arguments.
        sha256: of the weights that the file was made from.
        receptive_field: pixels, odd; None where an output pixel depends on the whole image.
        stride: pixels; tiles start at its multiples.
        scale: output pixels per input pixel along each axis.
        metadata: anything else that the file carries.
        precision: how the file holds its weights: "fp32", "fp16" or "int8" (but for what lies before the
            second and behind the last but one convolution).
    """

    path: Path
    net: str
    args: dict[str, Any] = field(default_factory=dict)
    sha256: str = ""
    receptive_field: int | None = None
    stride: int = 1
    scale: int = 1
    metadata: dict[str, Any] = field(default_factory=dict)
    precision: str = "fp32"


def info_of(loaded: LoadedNet, path: Path) -> ModelInfo:
    """What the model file ``path``, made from a loaded net, says about itself."""
    arguments = dict(loaded.config)
    net: Any = loaded.net
    return ModelInfo(
        path=path,
        net=str(arguments.pop("_target_")),
        args=arguments,
        sha256=loaded.sha256,
        receptive_field=getattr(net, "receptive_field", None),
        stride=getattr(net, "stride", 1),
        scale=getattr(net, "scale", 1),
        metadata=dict(loaded.metadata),
    )


def metadata_of(info: ModelInfo) -> dict[str, str]:
    """``info`` as the string pairs that an exported file holds; see `info_from_metadata`."""
    return {
        "net": info.net,
        "args": json.dumps(info.args),
        "sha256": info.sha256,
        "receptive_field": json.dumps(info.receptive_field),
        "stride": json.dumps(info.stride),
        "scale": json.dumps(info.scale),
        "metadata": json.dumps(info.metadata, default=str),
        "precision": info.precision,
    }


def info_from_metadata(path: Path, pairs: Mapping[str, str]) -> ModelInfo:
    """The inverse of `metadata_of`.

    A file from elsewhere carries none of the pairs: its receptive field is then unknown, so it is run on
    whole images, and its SHA-256 is that of the file itself.

    Raises:
        ModelError: a pair is there but cannot be read.
    """
    if "net" not in pairs:
        return ModelInfo(path=path, net="unknown", sha256=_sha256(path), metadata=dict(pairs))
    try:
        known = {key: json.loads(pairs[key]) for key in ("args", "receptive_field", "stride", "scale")}
        metadata = json.loads(pairs.get("metadata", "{}"))
        info = ModelInfo(
            path=path,
            net=pairs["net"],
            sha256=pairs["sha256"],
            metadata=metadata,
            precision=pairs.get("precision", "fp32"),
            **known,
        )
        _check(info)
        return info
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise ModelError(
            f"{path}: its metadata cannot be read ({type(error).__name__}: {error}); export it again"
        ) from error


def _check(info: ModelInfo) -> None:
    """Hold what stands in a file to what it has to be.

    Raises:
        TypeError, ValueError: it is of another type, or out of range.
    """
    for name, value, least in (("stride", info.stride, 1), ("scale", info.scale, 1)):
        if type(value) is not int or not least <= value <= LARGEST:
            raise ValueError(f"{name}: found {value!r}, expected {least} to {LARGEST}")
    field = info.receptive_field
    if field is not None and (type(field) is not int or not 1 <= field <= LARGEST):
        raise ValueError(f"receptive_field: found {field!r}, expected 1 to {LARGEST}, or null")
    for name, group in (("args", info.args), ("metadata", info.metadata)):
        if not isinstance(group, dict):
            raise TypeError(f"{name}: found {type(group).__name__}, expected an object")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
