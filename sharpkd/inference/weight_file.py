"""Weights on disk, read without torch: what `sharpkd.checkpoint.save_weights` wrote."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sharpkd.inference.errors import ModelError


@dataclass(frozen=True)
class WeightFile:
    """A ``.safetensors`` file that says whose weights it holds.

    Attributes:
        path: the file.
        net: dotted name of the net's class.
        arguments: the net's constructor arguments.
        arrays: the tensors by name; empty where only the description was read.
        metadata: what the training run wrote beside them.
    """

    path: Path
    net: str
    arguments: dict[str, Any]
    arrays: dict[str, NDArray[np.float32]]
    metadata: dict[str, str]

    def sha256(self) -> str:
        """Of the file's bytes, as hexadecimal digits."""
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()


def read_weights(path: Path, description_only: bool = False) -> WeightFile:
    """Read a ``.safetensors`` file that SharpKD wrote; nothing in it is executed.

    Raises:
        ModelError: there is no such file, it is damaged, or it does not describe its net.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise ModelError(f"no weight file at {path}")
    try:
        with safe_open(path, framework="np") as file:
            metadata = dict(file.metadata() or {})
            arrays = {} if description_only else {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  # no mapping
        described = json.loads(metadata.pop("sharpkd.net"))
        metadata.pop("sharpkd.sha256", None)  # of the tensors: `sharpkd.checkpoint` compares it
        net = described.pop("_target_")
    except (SafetensorError, OSError, TypeError) as error:
        raise ModelError(f"{path} holds no net that can be loaded: {error}") from error
    except KeyError as error:
        raise ModelError(f"{path} holds no net that can be loaded: its metadata lacks {error}") from error
    except (ValueError, RecursionError, AttributeError) as error:
        raise ModelError(f"{path} holds no net that can be loaded: its metadata is no JSON object") from error
    return WeightFile(path, str(net), described, arrays, metadata)
