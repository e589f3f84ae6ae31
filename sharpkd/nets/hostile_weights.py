"""What a weight file could do beside holding weights, found before torch reads it and before a net is built.

torch's restricted loader (``weights_only=True``) runs no code, but it believes sizes: a compressed archive
of 200 KB becomes 200 MB of zeros, a pickle of 60 bytes asks for a ``bytearray`` of any length, a tensor of
one number claims a million rows. What torch writes is never larger in memory than in its file, and so
nothing else is read.
"""

from __future__ import annotations

import itertools
import pickletools
import re
import threading
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as hooks

DESCRIPTION_BYTES = 1 << 26
"""The most that the pickle of one file may take: it names the tensors, their numbers lie beside it."""
LEGACY_PICKLES = 5
"""Of a file from before torch 1.6: magic number, protocol, machine, the object, names of the storages."""
SHARED = 4
"""Tensors that share their numbers may make a state larger than its file, but not more than so many times."""
PLAIN = re.compile(
    r"collections\.(OrderedDict|Counter)|(builtins|__builtin__)\.(set|complex)|_codecs\.encode|"
    r"torch\._utils\._rebuild_(tensor|tensor_v2|parameter)|torch\.(cuda\.)?\w+Storage|"
    r"torch\.storage\.(Untyped|Typed)Storage|torch\.(Size|device)|torch\.serialization\._get_layout|"
    r"torch\.(b?float|u?int|complex|bool)[0-9]*|torch\.nn\.parameter\.Parameter"
)
"""What the pickle of a state names: containers, storages, and functions that put tensors together."""
SPARE_NUMBERS = 1 << 26
SPARE_TENSORS = 4096
"""What a net may hold beside the tensors of its file: masks, or weights that its file replaces."""


class TooLargeError(ValueError):
    """A net is larger than the file that describes it."""


def reason_to_refuse(path: Path) -> str | None:
    """Why torch must not be asked to read a ``.pth``, ``.pt`` or ``.ckpt``; None where it may be.

    Damage is not looked for: torch says so itself.

    Raises:
        OSError: it cannot be read.
    """
    if not zipfile.is_zipfile(path):
        with path.open("rb") as file:
            for _ in range(LEGACY_PICKLES):
                reason = _reason_in(file)
                if reason is not None:
                    return reason
        return None
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            if any(entry.filename.endswith("/constants.pkl") for entry in entries):
                return "a TorchScript archive, which holds code"
            total, size = sum(entry.file_size for entry in entries), path.stat().st_size
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries) or total > size:
                return f"an archive of {size:,} bytes that unpacks to {total:,}, which torch never writes"
            for entry in entries:
                if entry.filename.endswith(".pkl"):
                    if entry.file_size > DESCRIPTION_BYTES:
                        return f"describes its tensors in {entry.file_size:,} bytes, more than any net needs"
                    with archive.open(entry) as file:
                        reason = _reason_in(file)
                    if reason is not None:
                        return reason
    except (zipfile.BadZipFile, NotImplementedError, EOFError, RuntimeError):
        return "damaged, or no file of PyTorch's"
    return None


def _reason_in(file: IO[bytes]) -> str | None:
    """Why the next pickle of a file is refused; the file then stands behind it."""
    try:
        for opcode, argument, _ in pickletools.genops(file):
            if opcode.name in ("NEWOBJ", "NEWOBJ_EX", "STACK_GLOBAL") or (
                opcode.name == "GLOBAL" and not PLAIN.fullmatch(str(argument).replace(" ", "."))
            ):
                name = str(argument).replace(" ", ".") if argument else opcode.name
                return f"holds pickled code ({name}), which was not run"
    except (ValueError, IndexError, UnicodeDecodeError, OverflowError):
        return None  # damaged: torch says so
    return None


def reason_to_doubt(tensors: Iterable[Tensor], path: Path) -> str | None:
    """Why tensors that were read from a file cannot be weights; None where they can.

    A tensor may claim rows that all lie at the same place, or none that can be read at all.
    """
    size, total = path.stat().st_size, 0
    for tensor in tensors:
        number = tensor.numel() * tensor.element_size()
        total += number
        if tensor.layout != torch.strided or tensor.device.type != "cpu":
            return f"holds a tensor that is {tensor.layout} on {tensor.device.type}, expected plain numbers"
        if number > size or total > SHARED * size:
            return f"its {size:,} bytes claim to hold tensors of {max(number, total):,}"
    return None


def is_plain(config: Any, most: int = 10_000) -> bool:
    """Whether a net's description is numbers, strings, lists and mappings, at most so many of them.

    A list that holds another one twice, and that another one twice, and so on, is short in a file only.
    """
    waiting, seen = [config], 0
    while waiting:
        seen += 1
        value = waiting.pop()
        if isinstance(value, dict):
            waiting += itertools.chain(value.keys(), value.values())
        elif isinstance(value, list | tuple):
            waiting += value
        elif not isinstance(value, str | int | float | bool | None):
            return False
        if seen + len(waiting) > most:
            return False
    return True


@contextmanager
def no_larger_than(state: Iterable[Tensor]) -> Iterator[None]:
    """Nets that are built here, by this thread, hold little more than these tensors.

    Raises:
        TooLargeError: one would; its numbers are not filled in, so that they take no memory.
    """
    given = list(state)
    numbers = SHARED * sum(tensor.numel() for tensor in given) + SPARE_NUMBERS
    tensors = SHARED * len(given) + SPARE_TENSORS
    thread, taken, count = threading.get_ident(), 0, 0

    def registered(_module: nn.Module, name: str, tensor: Tensor | None) -> None:
        nonlocal taken, count
        if tensor is None or threading.get_ident() != thread:
            return
        taken, count = taken + tensor.numel(), count + 1
        if taken > numbers or count > tensors:
            raise TooLargeError(f"its net is larger than its file: {name!r} would be one tensor too many")

    handles = [
        hooks.register_module_parameter_registration_hook(registered),
        hooks.register_module_buffer_registration_hook(registered),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
