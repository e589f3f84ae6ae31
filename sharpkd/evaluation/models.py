"""Whatever restores an image, under one roof: trained nets, exported ones, other projects', baselines."""

from __future__ import annotations

import hashlib
import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from sharpkd.checkpoint import CheckpointError, build_net, load_net, written_by_sharpkd
from sharpkd.config import ConfigError
from sharpkd.config.hints import nearest
from sharpkd.evaluation import baselines
from sharpkd.evaluation.baselines import BASELINES
from sharpkd.evaluation.blind import blind, estimator_behind
from sharpkd.evaluation.exported_net import ExportedNet
from sharpkd.evaluation.fingerprints import hash_of_code, hash_of_model
from sharpkd.evaluation.model_names import as_list, named_files
from sharpkd.evaluation.protocols import Condition, Image, Pair
from sharpkd.nets.base import RestorationNet
from sharpkd.nets.foreign import ForeignNet
from sharpkd.nets.pretrained import PretrainedNet
from sharpkd.nets.stats import count_parameters, describe, measured_macs_per_pixel

Kind = Literal["baseline", "torch", "exported", "spandrel"]
Facts = dict[str, Any]

CURVES = Path("logs", "metrics.csv")


class Model(ABC):
    """Restores 8-bit images.

    Attributes:
        name: in the results.
        scale: how many times larger its output is, along each axis.
        engine: what computes it.
        precision: in which number format.
        code: hash of a user's own code behind it and of the estimator before it; empty where there is none.
    """

    name: str
    scale: int = 1
    engine: str
    precision: str = "float32"
    code: str = ""

    def applies_to(self, condition: Condition) -> bool:
        """Whether this model does what the condition asks for: a net enlarges as many times as it does."""
        return self.scale == condition.scale

    @abstractmethod
    def restore(self, pair: Pair, condition: Condition) -> Image:
        """``(H, W, 3)`` uint8 RGB, of the size of ``pair.sharp``.

        Nets see ``pair.degraded`` alone. Baselines may be told more, and say so in their names and sources.

        Raises:
            ValueError: a net's output has another size, or values that are not finite.
        """

    @abstractmethod
    def facts(self) -> Facts:
        """What tables tell of it, ready for JSON; None where it is unknown or does not apply.

        Keys: ``kind``, ``engine``, ``precision``, ``scale``, ``parameters``, ``macs_per_pixel`` (per output
        pixel), ``receptive_field`` (pixels), ``path``, ``weights_sha256`` (:func:`hash_of_model`), ``run``
        (folder of the training that left the file there), ``net`` (its class or architecture) and, for a
        baseline, ``source``.
        """


@dataclass(frozen=True)
class ModelSpec:
    """A model that is not opened yet: cheap, comparable, and picklable for other processes.

    Attributes:
        name: in the results; for a baseline, its key in ``BASELINES``.
        kind: what opens it: this module's baselines, ``sharpkd.checkpoint``, an engine of exported files or
            spandrel.
        path: its file; None for a baseline.
        trusted: packages beside ``sharpkd.nets`` whose classes a weight file may name.
    """

    name: str
    kind: Kind
    path: Path | None = None
    trusted: tuple[str, ...] = ()

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the file, see :func:`hash_of_model`; a baseline's is of its name and all their code."""
        if self.path is not None:
            return hash_of_model(self.path)
        code = self.name + "\n" + inspect.getsource(baselines)
        return hashlib.sha256(code.encode()).hexdigest()

    def open(self) -> Model:
        """Load it, on the CPU; with as many threads as torch is set to use.

        Raises:
            FileNotFoundError: the file is gone.
            ValueError: the file is broken, of a net that does not fit, or no longer the one that
                ``fingerprint`` was taken of.
        """
        if self.path is None:
            return BaselineModel(self.name)
        opened = _OPENERS[self.kind](self)
        if self.fingerprint != hash_of_model(self.path):
            raise CheckpointError(f"{self.path} was replaced while it was evaluated; start again")
        return opened


class BaselineModel(Model):
    """A classical method of ``baselines.py``."""

    engine = "NumPy and OpenCV"
    precision = "mixed"

    def __init__(self, name: str) -> None:
        self.name = name
        self._baseline = BASELINES[name]

    def applies_to(self, condition: Condition) -> bool:
        """As the method says."""
        return self._baseline.applies_to(condition)

    def restore(self, pair: Pair, condition: Condition) -> Image:
        """See :meth:`Model.restore`."""
        return self._baseline.restore(pair, condition)

    def facts(self) -> Facts:
        """See :meth:`Model.facts`."""
        return _facts(self, "baseline") | {"source": self._baseline.source}


class NetModel(Model):
    """Any function ``(1, 3, H, W)`` float32 in [0, 1] -> ``(1, 3, H * scale, W * scale)`` as a model.

    Args:
        name: in the results.
        net: the function.
        scale: how many times it enlarges.
        engine: what computes it.
        facts: what is known of it; see :meth:`Model.facts`.
        kind: see :class:`ModelSpec`.
        channels_last: hand images over in torch's channels-last order, in which convolutions take about half
            the time on a CPU; nets that use ``view`` may not stand it.
    """

    def __init__(
        self,
        name: str,
        net: Callable[[Tensor], Tensor],
        scale: int = 1,
        engine: str = "torch eager",
        facts: Callable[[], Facts] = dict,
        kind: Kind = "torch",
        channels_last: bool = False,
        code: str = "",
    ) -> None:
        self.name, self.scale, self.engine, self.kind, self.code = name, scale, engine, kind, code
        self._order = torch.channels_last if channels_last else torch.contiguous_format
        self._net = net
        self._known = facts

    def restore(self, pair: Pair, condition: Condition) -> Image:
        """See :meth:`Model.restore`."""
        return self.run(pair.degraded)

    def run(self, image: Image) -> Image:
        """``(H, W, 3)`` uint8 RGB -> ``(H * scale, W * scale, 3)``; see :meth:`Model.restore`."""
        with torch.inference_mode():
            # a copy: the image may be read-only, and nets may write into what they are given
            pixels = torch.from_numpy(image.astype(np.float32, order="C")).permute(2, 0, 1)[None]
            output = self._net(pixels.contiguous(memory_format=self._order).div_(255))
            expected = (1, 3, image.shape[0] * self.scale, image.shape[1] * self.scale)
            if tuple(output.shape) != expected:
                raise ValueError(f"{self.name} returns the shape {tuple(output.shape)}, expected {expected}")
            # one pass over the frame, where isfinite takes three
            if not torch.isfinite(output.float().sum()):
                raise ValueError(f"{self.name} returns values that are not finite")
            levels = output[0].float().clamp(0, 1).mul_(255).round_().to(torch.uint8)
            return np.ascontiguousarray(levels.permute(1, 2, 0).numpy())

    def facts(self) -> Facts:
        """See :meth:`Model.facts`."""
        return _facts(self, self.kind) | self._known()


def specs_of(model: Any, trusted: Collection[str] = ()) -> list[ModelSpec]:
    """The models that a setting names, in its order; nothing is opened yet.

    Args:
        model: one, a list of, or a mapping from names to: a baseline's name; a ``.safetensors`` or ``.ckpt``
            written by ``sharpkd.train``; an ``.onnx`` or ``.xml`` file; another project's ``.pth``, ``.pt``
            or ``.safetensors``, for spandrel.
        trusted: packages beside ``sharpkd.nets`` whose classes a weight file may name.

    Raises:
        ConfigError: nothing is named, or something twice, or a file by a baseline's name.
        FileNotFoundError: there is no such file.
        CheckpointError: a kind of file that nothing here opens.
    """
    files = named_files(model, no_files=BASELINES)
    name_of = {path: name for name, path in files.items()}
    entries = list(model.items()) if isinstance(model, Mapping) else [(None, one) for one in as_list(model)]
    specs: dict[str, ModelSpec] = {}
    for alias, value in entries:
        if str(value) in BASELINES:
            spec = _baseline(str(value), alias)
        else:
            path = Path(value).expanduser()
            spec = _file(name_of[path] if alias is None else str(alias), path, tuple(trusted))
        if spec.name in specs:
            raise ConfigError(f"the model {spec.name!r} is given twice")
        specs[spec.name] = spec
    return list(specs.values())


def _baseline(name: str, alias: Any) -> ModelSpec:
    if alias not in (None, name):
        raise ConfigError(f"the baseline {name!r} cannot be called {alias!r}: baselines keep their names")
    return ModelSpec(name, "baseline")


def _file(name: str, path: Path, trusted: tuple[str, ...]) -> ModelSpec:
    if name in BASELINES:
        raise ConfigError(f"{path} cannot be called {name!r}, which is a baseline; use model={{NAME:FILE}}")
    if not path.is_file():
        hint = nearest(str(path), BASELINES)
        raise FileNotFoundError(f"model: there is no file {path.absolute()}; {hint}{WHAT_A_MODEL_MAY_BE}")
    return ModelSpec(name, _kind(path), path.absolute(), trusted)


def _kind(path: Path) -> Kind:
    suffix = path.suffix.lower()
    if suffix == ".safetensors":
        return "torch" if written_by_sharpkd(path) else "spandrel"
    if suffix not in _KINDS:
        raise CheckpointError(f"{path}: unknown kind of file; {WHAT_A_MODEL_MAY_BE}")
    return _KINDS[suffix]


def _open_torch(spec: ModelSpec) -> Model:
    assert spec.path is not None
    loaded = load_net(spec.path, spec.trusted)
    net = loaded.net
    return NetModel(
        spec.name,
        blind(net),
        getattr(net, "scale", 1),
        channels_last=isinstance(net, RestorationNet) and not isinstance(net, ForeignNet),
        code=hash_of_code(net, spec.trusted) + estimator_behind(net),
        facts=lambda: _facts_of_net(net) | {"net": loaded.config["_target_"]} | _origin(spec),
    )


def _open_spandrel(spec: ModelSpec) -> Model:
    assert spec.path is not None
    net = PretrainedNet(str(spec.path))
    return NetModel(
        spec.name,
        net,
        net.scale,
        facts=lambda: _facts_of_net(net) | {"net": net.architecture} | _origin(spec),
        kind="spandrel",
    )


def _open_exported(spec: ModelSpec) -> Model:
    assert spec.path is not None
    net = ExportedNet(spec.path)

    def facts() -> Facts:
        info = net.engine.info
        known: Facts = {"receptive_field": info.receptive_field}
        if net.is_ours:
            config = {"_target_": info.net, **info.args}
            known |= _facts_of_net(build_net(config, spec.trusted, str(info.path), {}))
            known |= {"net": info.net}
        return known | _origin(spec)

    return NetModel(spec.name, net, net.scale, net.engine_name, facts, "exported")


def _facts(model: Model, kind: Kind) -> Facts:
    blank = dict.fromkeys(("receptive_field", "macs_per_pixel", "path", "weights_sha256", "run", "net"))
    return {
        "kind": kind,
        "engine": model.engine,
        "precision": model.precision,
        "scale": model.scale,
        "parameters": 0 if kind == "baseline" else None,
        **blank,
    }


def _facts_of_net(net: nn.Module) -> Facts:
    if isinstance(net, RestorationNet):
        return {**describe(net)}
    return {"parameters": count_parameters(net), "macs_per_pixel": _counted_macs(net)}


def _counted_macs(net: nn.Module) -> float | None:
    try:
        return measured_macs_per_pixel(net, 192)
    except Exception:  # a net that cannot run on torch's meta device fails in any way; left blank
        return None


def _origin(spec: ModelSpec) -> Facts:
    run = next((str(folder) for folder in _folders_above(spec.path) if (folder / CURVES).is_file()), None)
    return {"path": str(spec.path), "weights_sha256": spec.fingerprint, "run": run}


def _folders_above(path: Path | None) -> tuple[Path, ...]:
    """A run keeps its net beside its logs, and its checkpoints in a folder beside them."""
    return (path.parent, path.parent.parent) if path is not None else ()


_OPENERS: dict[Kind, Callable[[ModelSpec], Model]] = {
    "torch": _open_torch,
    "exported": _open_exported,
    "spandrel": _open_spandrel,
}
_KINDS: dict[str, Kind] = {
    ".ckpt": "torch",
    ".onnx": "exported",
    ".xml": "exported",
    ".pth": "spandrel",
    ".pt": "spandrel",
}
WHAT_A_MODEL_MAY_BE = (
    f"a model is a baseline ({', '.join(BASELINES)}), a .safetensors or .ckpt written by "
    "python -m sharpkd.train, an .onnx or .xml file of python -m sharpkd.export, or a .pth, .pt or "
    ".safetensors file that spandrel knows"
)
