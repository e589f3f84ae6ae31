"""Other projects' weight files, as `spandrel <https://github.com/chaiNNer-org/spandrel>`_ recognises them."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from sharpkd.functional.state_file import CheckpointError
from sharpkd.functional.torchvision_guard import define_missing_operators
from sharpkd.nets.foreign import ForeignNet
from sharpkd.nets.hostile_weights import no_larger_than, reason_to_doubt, reason_to_refuse

if TYPE_CHECKING:
    from spandrel import ImageModelDescriptor

COLOURS = {1: "grey", 2: "two-channel", 3: "RGB", 4: "four-channel"}
PREFIX = "module."


class PretrainedNet(ForeignNet):
    """``net=pretrained net.path=FILE``: SwinIR, HAT, DAT, CRAFT, NAFNet, SCUNet, RCAN, SPAN, Compact, ….

    The architecture and its settings are guessed from the tensors. What comes out is what spandrel's own call
    returns, before it clamps. ``architecture`` is the name that spandrel gives it.

    Args:
        path: a ``.pth``, ``.pt`` or ``.safetensors`` file.
        tensors: the net's tensors by name, instead of the file's.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: it is damaged, holds code, is of an architecture that spandrel does not know, or of
            a net that does not turn one RGB image into another.
    """

    def __init__(self, path: str, tensors: Mapping[str, Tensor] | None = None) -> None:
        file = Path(path).expanduser()
        found = _described(file, read_tensors(file) if tensors is None else dict(tensors))
        needs = found.size_requirements
        super().__init__(
            found.model,
            found.scale,
            max(1, needs.minimum),
            needs.multiple_of,
            needs.square,
            _special_call(found),
        )
        self.architecture = found.architecture.name
        self.eval()

    @classmethod
    def of_state(cls, state: Mapping[str, Tensor], arguments: Mapping[str, Any]) -> PretrainedNet:
        """The net that a training from ``path`` left behind: the file itself may be gone."""
        own = {key.removeprefix(PREFIX): value for key, value in state.items() if key.startswith(PREFIX)}
        try:
            return cls(**arguments, tensors=own)
        except CheckpointError:
            # settings of a few architectures show in the names of the original file alone
            if not Path(arguments["path"]).expanduser().is_file():
                raise
            return cls(**arguments)


def _described(path: Path, state: dict[str, Tensor]) -> ImageModelDescriptor[nn.Module]:
    """Spandrel's account of an RGB net; float32, in eval mode, on the CPU."""
    descriptor = _recognise(path, state)
    if descriptor.purpose == "Inpainting":
        raise CheckpointError(
            f"{path}: {descriptor.architecture.name} fills masked holes; expected a net that restores or "
            "enlarges whole images"
        )
    channels = (descriptor.input_channels, descriptor.output_channels)
    if channels != (3, 3):
        found = " to ".join(dict.fromkeys(COLOURS.get(count, f"{count}-channel") for count in channels))
        raise CheckpointError(
            f"{path}: a {descriptor.architecture.name} net for {found} images; expected one for RGB images"
        )
    return descriptor.float().eval()


def _special_call(descriptor: ImageModelDescriptor[nn.Module]) -> Any:
    """What an architecture needs beside the image, or None; spandrel's public call records no gradients."""
    call = descriptor._call_fn
    return None if call.__module__ == type(descriptor).__module__ else call


def _recognise(path: Path, state: dict[str, Tensor]) -> Any:
    # several of spandrel's architectures import torchvision
    define_missing_operators()
    import spandrel

    known = len(list(spandrel.MAIN_REGISTRY))
    if not state:
        raise CheckpointError(f"{path}: no tensors to tell the net by")
    try:
        with warnings.catch_warnings():
            # deprecations inside other projects' nets
            warnings.simplefilter("ignore")
            with no_larger_than(state.values()):
                return spandrel.ModelLoader().load_from_state_dict(state)
    except spandrel.UnsupportedModelError as error:
        raise CheckpointError(
            f"{path}: its tensors are of none of the {known} architectures that spandrel "
            f"{spandrel.__version__} knows; the first is {next(iter(state))!r}"
        ) from error
    except Exception as error:  # a wrong guess of an architecture's arguments fails in any way
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise CheckpointError(f"{path}: spandrel cannot build its net ({reason})") from error


def read_tensors(path: Path) -> dict[str, Tensor]:
    """A net's tensors by name, out of whatever another project wraps them in.

    The file is read by torch's own restricted loader (``weights_only=True``): it can hold tensors and plain
    containers, and whatever else is pickled in it is refused, not run. TorchScript archives are refused too,
    and so is a file that would take more memory than it has bytes: see `sharpkd.nets.hostile_weights`.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: it is damaged, holds code, or holds more, or less, than one net.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no weight file at {path}")
    state = _read_safetensors(path) if path.suffix == ".safetensors" else _read_pickled(path)
    if not isinstance(state, dict):
        raise CheckpointError(f"{path}: holds a {type(state).__name__}; expected a net's tensors by name")
    define_missing_operators()
    import spandrel

    state = spandrel.canonicalize_state_dict(state)
    if not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise CheckpointError(f"{path}: holds more, or less, than one net's tensors")
    doubt = reason_to_doubt(state.values(), path)
    if doubt is not None:
        raise CheckpointError(f"{path}: {doubt}; expected a net's tensors by name")
    return state


def _read_pickled(path: Path) -> Any:
    reason = reason_to_refuse(path)
    if reason is not None:
        raise CheckpointError(f"{path}: {reason}; expected a net's tensors by name")
    try:
        with warnings.catch_warnings():
            # torch announces a TorchScript archive before it refuses it
            warnings.filterwarnings("ignore", ".*TorchScript", UserWarning)
            return torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # torch raises a dozen types; all mean that this file holds no plain tensors
        raise CheckpointError(f"{path}: {_why(str(error))}; expected a net's tensors by name") from error


def _why(message: str) -> str:
    if "TorchScript" in message:
        return "a TorchScript archive, which holds code"
    if foreign := re.search(r"GLOBAL (\S+)", message):
        return f"holds pickled code ({foreign.group(1)}), which was not run"
    return "damaged, or no file of PyTorch's"


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: not a readable safetensors file ({error})") from error
