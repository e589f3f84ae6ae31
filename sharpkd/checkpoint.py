"""Weights on disk: safetensors with the net's constructor arguments inside; nothing is unpickled."""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import re
import textwrap
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, safe_open, save_file
from torch import Tensor, nn

from sharpkd.estimation.estimator import BlurEstimator
from sharpkd.functional.state_file import CheckpointError as CheckpointError
from sharpkd.nets.base import RestorationNet
from sharpkd.nets.hostile_weights import is_plain, no_larger_than, reason_to_doubt, reason_to_refuse

NET_PREFIX = "net."
OWN_NETS = "sharpkd.nets"
OWN_ESTIMATORS = "sharpkd.estimation"
OTHER_PROJECTS = (".pth", ".pt")
SHOWN = 500
"""Characters of a file's arguments in an error message."""
# the comment of a checkpoint's zip archive: this, then the SHA-256 of the file as it was without the comment
SEAL = b"sharpkd.sha256:"
SEAL_BYTES = len(SEAL) + 64
# key in a safetensors file's metadata, of the SHA-256 of its tensors and of the net's description
TENSORS_SHA256 = "sharpkd.sha256"


@dataclass(frozen=True)
class LoadedNet:
    """A net as it was trained.

    Attributes:
        net: in eval mode, on the CPU, float32.
        config: ``_target_`` (class) and its constructor arguments.
        metadata: what the training run wrote beside the weights (strings).
        sha256: of the file's bytes.
        path: where it was read from.
    """

    net: nn.Module
    config: dict[str, Any]
    metadata: dict[str, str]
    sha256: str
    path: Path


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, as hexadecimal digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sealed(archive: bytes | memoryview) -> list[bytes | memoryview]:
    """A zip archive without comment, as ``torch.save`` writes it, with its own SHA-256 as comment: in parts.

    torch and every zip program read the result as they read the archive; torch checks no checksum by itself.
    """
    digest = hashlib.sha256(archive).hexdigest().encode()
    return [archive[:-2], SEAL_BYTES.to_bytes(2, "little"), SEAL + digest]


def _refuse_damage(path: Path) -> None:
    """Compare a checkpoint with its seal; one without (written before there were any) is not judged.

    Raises:
        CheckpointError: the file is not what was written.
    """
    size = path.stat().st_size
    with path.open("rb") as stream:
        stream.seek(max(0, size - SEAL_BYTES))
        tail = stream.read()
        if not tail.startswith(SEAL):
            return
        stream.seek(0)
        digest, left = hashlib.sha256(), size - SEAL_BYTES - 2
        while left > 0 and (part := stream.read(min(left, 1 << 20))):
            digest.update(part)
            left -= len(part)
    digest.update(b"\0\0")
    if digest.hexdigest().encode() != tail[len(SEAL) :]:
        raise CheckpointError(
            f"{path}: damaged (its SHA-256 is not the one that it was written with); expected a checkpoint "
            "of python -m sharpkd.train"
        )


def _refuse_bad_checksums(path: Path) -> None:
    """Compare what ``torch.save`` stored with its CRC-32s, which ``torch.load`` does not look at.

    Raises:
        CheckpointError: some part of the file is not what was written.
    """
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        for part in archive.infolist():
            if part.compress_type != zipfile.ZIP_STORED:
                continue
            try:
                with archive.open(part) as stream:
                    while stream.read(1 << 20):
                        pass
            except (zipfile.BadZipFile, EOFError) as error:
                raise CheckpointError(f"{path}: damaged ({error}); put a good copy in its place") from error


def _tensors_sha256(described: str, state: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256(described.encode())
    for key, value in sorted(state.items()):
        digest.update(f"{key} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def net_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The net's own tensors out of a LightningModule's state dict."""
    return {key[len(NET_PREFIX) :]: value for key, value in state.items() if key.startswith(NET_PREFIX)}


def save_weights(
    path: Path, net_config: Mapping[str, Any], state: Mapping[str, Tensor], metadata: Mapping[str, str]
) -> None:
    """Write a ``.safetensors`` file that :func:`load_net` can rebuild the net from.

    Args:
        path: written through a temporary file beside it, then renamed.
        net_config: ``_target_`` and plain constructor arguments.
        state: the net's state dict.
        metadata: further strings to keep (training run, scale, ...).

    Raises:
        TypeError: ``net_config`` or ``metadata`` holds what a file cannot carry.
        OSError: it cannot be written, as on a full disk; an older file of this name stays.
    """
    described = json.dumps(dict(net_config), sort_keys=True)
    tensors = {key: value.detach().cpu().contiguous().clone() for key, value in state.items()}
    header = {**metadata, "sharpkd.net": described, TENSORS_SHA256: _tensors_sha256(described, tensors)}
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        temporary.touch()
        usual_mode = temporary.stat().st_mode
        save_file(tensors, temporary, metadata=header)
        # safetensors lets nobody else read what it writes
        temporary.chmod(usual_mode)
        temporary.replace(path)
    except (SafetensorError, OSError) as error:
        reason = getattr(error, "strerror", None) or error
        raise OSError(f"{path} cannot be written ({reason}); make room") from error
    finally:
        temporary.unlink(missing_ok=True)


def build_net(
    config: Mapping[str, Any],
    trusted: Sequence[str] = (),
    origin: str = "the configuration",
    state: Mapping[str, Tensor] | None = None,
) -> nn.Module:
    """Construct the net that a weight file names, if its class lies in a trusted package.

    Args:
        config: ``_target_`` and constructor arguments. These are handed over as they are: a ``_target_``
            inside them is built by nobody.
        trusted: packages beside ``sharpkd.nets`` whose classes may be constructed.
        origin: named in errors.
        state: the tensors that will be loaded, or as many as are known: see ``RestorationNet.of_state``.

    Raises:
        CheckpointError: the class is not trusted, does not exist, or refuses the arguments.
    """
    arguments = {key: value for key, value in config.items() if not key.startswith("_")}
    target = str(config.get("_target_", ""))
    packages = (OWN_NETS, *trusted)
    if not any(target.startswith(f"{package}.") for package in packages):
        raise CheckpointError(
            f"{origin}: the net is {target!r}, which lies outside the trusted packages {list(packages)}; "
            "if it is yours, add its package to runtime.trusted_packages"
        )
    module_name, _, class_name = target.rpartition(".")
    try:
        cls = getattr(importlib.import_module(module_name), class_name)
    except (ImportError, AttributeError) as error:
        raise CheckpointError(f"{origin}: the net's class {target!r} cannot be imported: {error}") from error
    if not (isinstance(cls, type) and issubclass(cls, nn.Module)):
        raise CheckpointError(f"{origin}: {target!r} is not a torch.nn.Module class")
    try:
        if state is None:
            return cls(**arguments)
        with no_larger_than(state.values()):
            return cls.of_state(state, arguments) if issubclass(cls, RestorationNet) else cls(**arguments)
    except Exception as error:  # a file's arguments can be wrong in any way
        shown = textwrap.shorten(str(arguments), SHOWN)
        raise CheckpointError(f"{origin}: {target} refuses its arguments {shown}: {error}") from error


def read_lightning(path: Path) -> dict[str, Any]:
    """A Lightning checkpoint's content, read without executing anything from the file.

    Raises:
        CheckpointError: the file is damaged, holds pickled code, or was not written by SharpKD.
    """
    if not zipfile.is_zipfile(path):  # torch would fall back to older formats
        raise CheckpointError(
            f"{path}: damaged or incomplete; expected a checkpoint of python -m sharpkd.train"
        )
    reason = reason_to_refuse(path)
    if reason is not None:
        raise CheckpointError(f"{path}: {reason}; expected a checkpoint of python -m sharpkd.train")
    _refuse_damage(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # torch raises a dozen types; all mean that this file is no checkpoint of ours
        foreign = re.search(r"GLOBAL (\S+)", str(error))
        found = f"holds pickled code ({foreign.group(1)}), which was not run" if foreign else "damaged"
        raise CheckpointError(f"{path}: {found}; expected a checkpoint of python -m sharpkd.train") from error
    described = content.get("sharpkd") if isinstance(content, dict) else None
    if not isinstance(described, dict) or not isinstance(described.get("net"), dict):
        raise CheckpointError(
            f"{path}: a checkpoint of another program; expected one of python -m sharpkd.train"
        )
    state = content.get("state_dict")
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise CheckpointError(f"{path}: its state_dict holds more than tensors")
    doubt = reason_to_doubt(state.values(), path)
    if doubt is not None:
        raise CheckpointError(f"{path}: {doubt}; expected a checkpoint of python -m sharpkd.train")
    if not is_plain(described["net"]):
        raise CheckpointError(f"{path}: its net's description is no short list of plain values")
    return content


def _read_safetensors(path: Path) -> tuple[dict[str, Any], dict[str, str], dict[str, Tensor]]:
    try:
        with safe_open(path, framework="pt") as stream:
            metadata = dict(stream.metadata() or {})
        state = load_file(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: not a readable safetensors file ({error})") from error
    described = metadata.pop("sharpkd.net", None)
    if described is None:
        raise CheckpointError(
            f"{path}: no net is described in its metadata (key 'sharpkd.net'); expected a file written by "
            "python -m sharpkd.train"
        )
    try:
        config = json.loads(described)
    except (ValueError, RecursionError) as error:  # a number of 5,000 digits, a list of 5,000 lists
        raise CheckpointError(f"{path}: the net's description is not JSON ({error})") from error
    if not isinstance(config, dict):
        raise CheckpointError(f"{path}: the net's description is {type(config).__name__}, expected an object")
    written = metadata.pop(TENSORS_SHA256, None)
    if written is not None and written != _tensors_sha256(described, state):
        raise CheckpointError(
            f"{path}: damaged (the SHA-256 of its tensors is not the one that it was written with); put a "
            "good copy in its place"
        )
    return config, metadata, state


def load_net(path: str | os.PathLike[str], trusted: Sequence[str] = ()) -> LoadedNet:
    """Rebuild a trained net from a ``.safetensors`` or Lightning ``.ckpt`` file.

    From a ``.ckpt`` the averaged (EMA) weights are taken, which are those that validation measured.

    Args:
        path: the weight file.
        trusted: packages beside ``sharpkd.nets`` whose classes may be constructed.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: it is damaged or of another program, names an untrusted class, or its tensors do
            not fit.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"no weight file at {path}")
    if path.suffix == ".safetensors":
        config, metadata, state = _read_safetensors(path)
    elif path.suffix == ".ckpt":
        content = read_lightning(path)
        config = content["sharpkd"]["net"]
        metadata = {"step": str(content.get("global_step", ""))}
        state = net_state(content["state_dict"])
    else:
        raise CheckpointError(f"{path}: unknown kind of weight file; expected .safetensors or .ckpt")
    net = build_net(config, trusted, str(path), state)
    try:
        net.load_state_dict(state)
    except RuntimeError as error:
        raise CheckpointError(f"{path}: its tensors do not fit {config['_target_']}: {error}") from error
    return LoadedNet(net.eval(), dict(config), metadata, file_sha256(path), path)


def shipped_estimator() -> Path:
    """The file of the estimator that comes with the package."""
    return Path(__file__).with_name("weights") / "estimator.safetensors"


def load_estimator(path: str | os.PathLike[str] | None = None) -> BlurEstimator:
    """The estimator of blur and noise that comes with the package, or the one in another file.

    Args:
        path: ``.safetensors`` as ``python -m sharpkd.benchmark what=fit_estimator`` writes it; None for the
            package's own.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: it is damaged, of another program or version, or holds something else.
    """
    path = shipped_estimator() if path is None else path
    net = load_net(path, (OWN_ESTIMATORS,)).net
    if not isinstance(net, BlurEstimator):
        raise CheckpointError(
            f"{path}: holds a {type(net).__name__}, expected a BlurEstimator as "
            "python -m sharpkd.benchmark what=fit_estimator writes it"
        )
    return net


def written_by_sharpkd(path: Path) -> bool:
    """Whether a ``.safetensors`` file says how to build its net.

    Raises:
        CheckpointError: it is no safetensors file.
    """
    try:
        with safe_open(path, framework="pt") as stream:
            return "sharpkd.net" in (stream.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: not a readable safetensors file ({error})") from error


def load_any_net(path: str | os.PathLike[str], trusted: Sequence[str] = ()) -> LoadedNet:
    """As :func:`load_net`, and also another project's ``.pth``, ``.pt`` or ``.safetensors``, for spandrel.

    Raises:
        FileNotFoundError, CheckpointError: see :func:`load_net` and
            :class:`sharpkd.nets.pretrained.PretrainedNet`.
    """
    path = Path(path).expanduser()
    suffix = path.suffix.lower()
    theirs = suffix == ".safetensors" and path.is_file() and not written_by_sharpkd(path)
    if suffix not in OTHER_PROJECTS and not theirs:
        return load_net(path, trusted)
    if path.is_file():
        _refuse_bad_checksums(path)
    # spandrel is imported where it is needed
    from sharpkd.nets.pretrained import PretrainedNet

    config = {"_target_": f"{PretrainedNet.__module__}.{PretrainedNet.__qualname__}", "path": str(path)}
    return LoadedNet(PretrainedNet(str(path)), config, {}, file_sha256(path), path)
