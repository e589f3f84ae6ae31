"""Pretrained weights of third-party backbones: read safely, fetched once, matched strictly."""

from __future__ import annotations

import pickle
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

CONNECT_SECONDS = 8
"""How long a download server may take to answer before we give up."""


class CheckpointError(ValueError):
    """A weight file that cannot be used; the message names the file, what is wrong and what to do."""


def read_state(path: str | Path) -> dict[str, Tensor]:
    """Tensors by name from a ``.pth``, ``.pt`` or ``.safetensors`` file, on the CPU. Nothing is unpickled.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is damaged, or holds something else than tensors by name.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no weight file at {path}")
    try:
        if path.suffix == ".safetensors":
            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ValueError(f"{path} is damaged or is no plain weight file ({reason})") from error
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"{path} holds a {type(state).__name__}, expected a mapping from names to tensors")
    return dict(state)


def load_state(module: nn.Module, state: Mapping[str, Tensor], source: str | Path) -> None:
    """Fill a module from a state that names every one of its tensors; further entries are ignored.

    A state with other names is taken tensor by tensor where both sides have the same kinds (``weight``,
    ``running_mean``, ...) and shapes in the same order: the same net under another library's module names.

    Args:
        module: changed in place.
        state: as ``read_state`` returns it; 16-bit values are widened.
        source: the file's name, for the message.

    Raises:
        ValueError: tensors are missing or have other shapes.
    """
    wanted = module.state_dict()
    if not wanted.keys() <= state.keys() and _signature(wanted) == _signature(state)[: len(wanted)]:
        state = dict(zip(wanted, state.values(), strict=False))
    missing = [name for name in wanted if name not in state]
    if missing:
        raise ValueError(
            f"{source} does not fit {type(module).__name__}: {len(missing)} of {len(wanted)} tensors are "
            f"missing, the first is {missing[0]!r}; the file's first is {next(iter(state), None)!r}"
        )
    for name, tensor in wanted.items():
        if state[name].shape != tensor.shape:
            raise ValueError(
                f"{source} does not fit {type(module).__name__}: {name!r} has shape "
                f"{tuple(state[name].shape)}, expected {tuple(tensor.shape)}"
            )
    module.load_state_dict({name: state[name] for name in wanted})


def _signature(state: Mapping[str, Tensor]) -> list[tuple[str, torch.Size]]:
    return [(name.rpartition(".")[2], tensor.shape) for name, tensor in state.items()]


def fetch(url: str) -> Path:
    """The file of this URL in torch's hub cache (``$TORCH_HOME/hub/checkpoints``), downloaded on first use.

    Fails within seconds where the server cannot be reached. The download is atomic, and checked against the
    hash in its name (``vgg19-dcbb9e9d.pth``).

    Raises:
        FileNotFoundError: it is not in the cache and cannot be downloaded; names the place to put it.
    """
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
    if path.is_file():
        return path
    hash_prefix = path.stem.rpartition("-")[2]
    try:
        with urllib.request.urlopen(url, timeout=CONNECT_SECONDS):
            path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(path), hash_prefix)
    except (OSError, RuntimeError) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        raise FileNotFoundError(f"cannot download {url} ({reason}); it belongs at {path}") from error
    return path
