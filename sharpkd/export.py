"""``python -m sharpkd.export checkpoint=PATH``: a trained net as ONNX, kept only if it computes the same."""

from __future__ import annotations

from sharpkd.requires import require_extra

require_extra("train")

import json
import os
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
import torch
from omegaconf import DictConfig
from torch import nn

from sharpkd.checkpoint import LoadedNet, load_net
from sharpkd.config import ConfigError, entry
from sharpkd.inference.engine import ModelInfo, OnnxEngine, info_of, metadata_of
from sharpkd.nets.aware_student import AwareStudent
from sharpkd.nets.base import RestorationNet
from sharpkd.nets.pixel_student import PixelStudent

DEFAULT_SIZES = ((1, 1), (17, 31), (63, 97), (129, 65), (101, 203))


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        path: the file.
        max_error: largest absolute difference from PyTorch's output over all sizes, on images in [0, 1].
    """

    path: Path
    max_error: float


def export_onnx(
    checkpoint: Path,
    output: Path | None = None,
    *,
    condition: Sequence[float] | None = None,
    overwrite: bool = False,
    opset: int = 20,
    sizes: Sequence[Sequence[int]] = DEFAULT_SIZES,
    max_error: float = 1e-3,
    trusted_packages: Sequence[str] = (),
) -> Exported:
    """Write the net of ``checkpoint`` as ONNX: float32 ``(1, 3, H, W)`` in and out, any H and W >= 1.

    Padding to the net's stride is part of the graph. The metadata holds what `sharpkd.inference` needs: net,
    args, sha256 of the checkpoint, receptive_field, stride, scale. Net and args are those of the deployed
    form (see ``RestorationNet.deployed``) and, of a net that is told what was done to the image, of the plain
    net that it is for one condition, which the metadata then holds too. The file appears under its name only
    after ``onnx.checker`` and the comparison with PyTorch under ONNX Runtime have passed.

    Args:
        checkpoint: a ``.safetensors`` or ``.ckpt`` file.
        output: the ``.onnx`` file; by default beside the checkpoint.
        condition: what was done to the images that the file is for, as the net was told it in training
            (blur sigma in pixels first); of nets that are told it, and of no other.
        overwrite: replace the output if it exists.
        opset: ONNX operator set.
        sizes: (height, width) at which the outputs are compared.
        max_error: largest absolute difference with which the file is kept.
        trusted_packages: packages beside sharpkd whose nets the checkpoint may name.

    Raises:
        FileNotFoundError: no checkpoint.
        FileExistsError: the output exists and ``overwrite`` is false.
        ValueError: a condition is missing, too short, or given to a blind net; the checkpoint is broken, the
            output's suffix is not ``.onnx``, no size to compare at, or the outputs differ by more than
            ``max_error``; no file is then left behind.
    """
    target = output or checkpoint.with_suffix(".onnx")
    if target.suffix != ".onnx":
        raise ValueError(f"output: found {target}, expected a name that ends in .onnx")
    if target.exists() and not overwrite:
        raise FileExistsError(f"{target} exists; pass overwrite=true or another output=PATH")
    if not sizes:
        raise ValueError("sizes: found none, expected at least one [height, width] to compare at")
    loaded = _plain(load_net(checkpoint, trusted_packages), condition)
    net = loaded.net.eval()
    info = info_of(loaded, target)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".export-") as folder:
        draft = Path(folder) / target.name
        onnx.save(_traced(net, info, opset), draft)
        onnx.checker.check_model(str(draft), full_check=True)
        worst = _largest_difference(net, draft, sizes)
        if not worst <= max_error:
            raise ValueError(
                f"{target.name}: the exported net differs from the trained one by {worst:.2e}, more than "
                f"max_error={max_error:g}; the file was not kept"
            )
        os.replace(draft, target)
    return Exported(target, worst)


def _plain(loaded: LoadedNet, condition: Sequence[float] | None) -> LoadedNet:
    """What is exported of a net: its deployed form, and the plain one for a condition that it is told."""
    net, config, metadata = loaded.net, loaded.config, loaded.metadata
    if isinstance(net, RestorationNet):
        net, changed = net.deployed()
        config = config | changed
    name = type(net).__name__
    if isinstance(net, AwareStudent):
        if condition is None:
            raise ValueError(
                f"condition: {name} is told what was done to an image, and an ONNX file serves one such "
                "condition; name it, such as condition=[1.6] for a blur of sigma 1.6"
            )
        net = net.fold(torch.tensor([float(number) for number in condition]))
        config = {"_target_": f"{PixelStudent.__module__}.{PixelStudent.__qualname__}", **net.arguments()}
        metadata = metadata | {"condition": json.dumps([float(number) for number in condition])}
    elif condition is not None:
        raise ValueError(f"condition: found {list(condition)}, but {name} is blind; leave it out")
    return replace(loaded, net=net, config=config, metadata=metadata)


def _traced(net: nn.Module, info: ModelInfo, opset: int) -> onnx.ModelProto:
    side = 16 * info.stride
    size = torch.export.Dim.DYNAMIC
    with warnings.catch_warnings():
        # Raised inside torch's own exporter; nothing here can avoid them.
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            net,
            (torch.rand(1, 3, side, side + info.stride),),
            dynamo=True,
            input_names=["degraded"],
            output_names=["sharp"],
            dynamic_shapes=({2: size, 3: size},),
            opset_version=opset,
            external_data=False,
            verbose=False,
        )
    if program is None:
        raise ValueError(f"{info.net}: PyTorch's ONNX exporter returned nothing")
    model = program.model_proto
    _strip_traces(model.graph)
    for key, value in metadata_of(info).items():
        model.metadata_props.add(key=key, value=value)
    return model


def _strip_traces(graph: onnx.GraphProto) -> None:
    """Remove what the exporter notes for debugging: stack traces with the paths of this machine."""
    for described in (graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        del described.metadata_props[:]


def _largest_difference(net: nn.Module, model: Path, sizes: Sequence[Sequence[int]]) -> float:
    """NaN where either output is not finite, so that no comparison with a limit can pass."""
    engine = OnnxEngine(model, threads=torch.get_num_threads())
    generator = torch.Generator().manual_seed(0)
    worst = 0.0
    for height, width in sizes:
        image = torch.rand(1, 3, height, width, generator=generator)
        with torch.inference_mode():
            expected = net(image).numpy()
        found = engine.run(image.numpy())
        if found.shape != expected.shape:
            raise ValueError(
                f"{model.name}: {height}x{width} gives {found.shape}, PyTorch gives {expected.shape}"
            )
        worst = float(np.maximum(worst, np.abs(found - expected).max()))
    return worst


@entry("export")
def main(cfg: DictConfig) -> float:
    """Export one checkpoint; returns the largest absolute difference from PyTorch."""
    if cfg.checkpoint is None:
        raise ConfigError("checkpoint: none given, expected checkpoint=PATH of a .safetensors or .ckpt file")
    exported = export_onnx(
        Path(cfg.checkpoint).expanduser(),
        Path(cfg.output).expanduser() if cfg.output else None,
        condition=None if cfg.condition is None else list(cfg.condition),
        overwrite=cfg.overwrite,
        opset=cfg.opset,
        sizes=[tuple(size) for size in cfg.sizes],
        max_error=cfg.max_error,
        trusted_packages=list(cfg.trusted_packages),
    )
    print(f"wrote {exported.path}, max abs error {exported.max_error:.1e} against PyTorch")
    return exported.max_error


if __name__ == "__main__":
    main()
