"""A checkpoint as files that run without torch, each kept only if it computes the same and looks as good."""

from __future__ import annotations

import json
import math
import os
import tempfile
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, get_args

import onnx
import torch
from torch import nn

import sharpkd
from sharpkd.checkpoint import LoadedNet, load_net
from sharpkd.exporting import onnx_forms, openvino_forms
from sharpkd.exporting.checks import (
    HALF_A_LEVEL,
    Quality,
    largest_difference,
    noise_of,
    pictures_of,
    quality_of,
)
from sharpkd.exporting.examples import Examples, examples_of, usual_degradation
from sharpkd.exporting.placing import place
from sharpkd.exporting.quantising import check_installed, quantised
from sharpkd.exporting.tracing import traced
from sharpkd.inference.errors import ModelError
from sharpkd.inference.exported import ExportedNet, OnnxEngine, OpenVinoEngine
from sharpkd.inference.model_info import ModelInfo, info_of, metadata_of
from sharpkd.nets.aware_student import AwareStudent
from sharpkd.nets.base import RestorationNet

FormatName = Literal["onnx", "openvino", "all"]
PrecisionName = Literal["fp32", "fp16", "int8"]
PixelsName = Literal["float32", "uint8"]

SUFFIXES = {"onnx": (".onnx",), "openvino": (".xml",), "all": (".onnx", ".xml")}
MAX_ERROR = {"fp32": 1e-3, "fp16": 2e-2, "int8": 0.25}
"""Largest absolute difference from PyTorch's output; images are in [0, 1]."""
DEFAULT_SIZES = ((1, 1), (17, 31), (63, 97), (129, 65), (101, 203))


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        path: the ``.onnx`` or ``.xml`` file; the ``.bin`` of the second lies beside it.
        max_error: largest absolute difference from PyTorch's output over all sizes, on images in [0, 1].
        quality: PSNR beside that of PyTorch.
    """

    path: Path
    max_error: float
    quality: Quality


def export_net(
    checkpoint: Path,
    output: Path | None = None,
    *,
    format: FormatName = "onnx",
    precision: PrecisionName = "fp32",
    pixels: PixelsName = "float32",
    condition: Sequence[float] | float | None = None,
    overwrite: bool = False,
    opset: int = 20,
    sizes: Sequence[Sequence[int]] = DEFAULT_SIZES,
    max_error: float | None = None,
    max_loss_db: float = 0.1,
    images: Path | None = None,
    degradation: Any = None,
    calibration_crops: int = 64,
    measurement_crops: int = 12,
    crop_size: int = 160,
    trusted_packages: Sequence[str] = (),
) -> list[Exported]:
    """Write the net of ``checkpoint`` as ONNX, as OpenVINO's IR, or as both.

    A file takes one image of any H and W >= 1 and gives one: float32 ``(1, 3, H, W)`` in [0, 1], not clamped,
    or uint8 ``(1, H, W, 3)``. Padding to the net's stride is part of the graph. It says what
    `sharpkd.inference` needs: net, args, sha256 of the checkpoint, receptive_field, stride, scale, precision
    and the checkpoint's own metadata (the training run) with a licence. Net and args are those of the
    deployed form (see ``RestorationNet.deployed``) and, of a net that is told what was done to the image, of
    the plain net that it is for one condition, which the metadata then holds too.

    Files appear under their names only after ``onnx.checker``, the comparison with PyTorch under ONNX Runtime
    or OpenVINO (in fp32 on random numbers; in fp16 and int8, which are made for images, on degraded
    photographs) and that of PSNR have passed, all of them or none.

    Args:
        checkpoint: a ``.safetensors`` or ``.ckpt`` file.
        output: the ``.onnx`` or ``.xml`` file, for format "all" either; by default beside the checkpoint,
            with its name and, but for fp32 and float32, the precision and pixels.
        format: "onnx", "openvino" (``.xml`` and ``.bin``) or "all".
        precision: "fp32"; "fp16", which is how the weights are held, not how anything is computed; or "int8"
            for all layers but the first and the last: held so, and computed so by OpenVINO (what ONNX
            Runtime does with such a file is said at `sharpkd.inference.exported.OnnxEngine`).
        pixels: "uint8" has conversion, clamp and rounding in the graph.
        condition: what was done to the images that the file is for, as the net was told it in training
            (blur sigma in pixels first; one number is that alone); of nets that are told it, and of no other.
        overwrite: replace files that exist.
        opset: ONNX operator set.
        sizes: (height, width) at which the outputs are compared.
        max_error: largest absolute difference with which a file is kept; None takes that of `MAX_ERROR`. Half
            a level of 255 is added for uint8.
        max_loss_db: largest loss of mean PSNR with which a file is kept, dB.
        images: see `sharpkd.exporting.examples.examples_of`.
        degradation: what is done to the images; None is `sharpkd.exporting.examples.usual_degradation`.
        calibration_crops, measurement_crops, crop_size: how many crops int8 is calibrated on, how many PSNR
            is measured on, and their side in pixels.
        trusted_packages: packages beside sharpkd whose nets the checkpoint may name.

    Raises:
        FileNotFoundError: no checkpoint, or no folder of images.
        FileExistsError: a file exists and ``overwrite`` is false.
        ModuleNotFoundError: int8 is asked for and NNCF is not installed.
        ValueError: a setting is none of the above; a condition is missing, too short, not of finite numbers,
            or given to a blind net; the checkpoint is broken; the output's suffix does not fit; no size to
            compare at; the images are too few or of the benchmark; int8 has nothing to quantise; the operator
            set cannot be written; or a runtime cannot compute a file, or it is not as good as it has to be,
            and none is then left behind.
    """
    for given, known, what in (
        (format, FormatName, "format"),
        (precision, PrecisionName, "precision"),
        (pixels, PixelsName, "pixels"),
    ):
        if given not in get_args(known):
            raise ValueError(f"{what} must be one of {', '.join(get_args(known))}, got {given!r}")
    for name, number in (
        ("calibration_crops", calibration_crops),
        ("measurement_crops", measurement_crops),
        ("crop_size", crop_size),
    ):
        if number < 1:
            raise ValueError(f"{name}: found {number}, expected at least 1")
    targets = _targets(checkpoint, output, format, precision, pixels)
    for file in [file for target in targets for file in _files(target)]:
        if file.exists() and not overwrite:
            raise FileExistsError(f"{file} exists; pass overwrite=true or another output=PATH")
    if not sizes:
        raise ValueError("sizes: found none, expected at least one [height, width] to compare at")
    if precision == "int8":
        check_installed()
    told = None if condition is None else _numbers(condition)
    loaded = _plain(load_net(checkpoint, trusted_packages), told)
    net = loaded.net.eval()
    info = replace(info_of(loaded, targets[0]), precision=precision)
    info = replace(info, metadata={"licence": _licence(), **info.metadata})
    examples = examples_of(
        images,
        usual_degradation(told, info.scale) if degradation is None else degradation,
        scale=info.scale,
        calibration=calibration_crops if precision == "int8" else 0,
        measurement=measurement_crops,
        side=crop_size,
    )
    seen = noise_of(sizes) if precision == "fp32" else pictures_of(sizes, examples.measurement)
    limits = (MAX_ERROR[precision] if max_error is None else max_error, max_loss_db)
    done = []
    targets[0].parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=targets[0].parent, prefix=".export-") as folder:
        model = traced(net, info.net, info.stride, opset)
        drafts, spare = Path(folder) / "new", Path(folder) / "old"
        drafts.mkdir()
        spare.mkdir()
        for target in targets:
            draft = drafts / target.name
            try:
                engine = _write(draft, model, replace(info, path=target), pixels, examples)
                difference = largest_difference(net, engine, seen)
                found = Exported(target, difference, quality_of(net, engine, examples.measurement))
            except ModelError as error:
                said = str(error).replace(f"{drafts}{os.sep}", "")
                raise ValueError(f"{said}; the file was not kept") from error
            _refuse_worse(found, info, pixels, *limits)
            done.append(found)
        files = [file for target in targets for file in _files(target)]
        place([drafts / file.name for file in files], files, spare)
    return done


def _targets(
    checkpoint: Path, output: Path | None, format: FormatName, precision: PrecisionName, pixels: PixelsName
) -> list[Path]:
    suffixes = SUFFIXES[format]
    if output is None:
        behind = ("" if precision == "fp32" else f"_{precision}") + ("" if pixels == "float32" else "_uint8")
        output = checkpoint.with_name(f"{checkpoint.stem}{behind}{suffixes[0]}")
    if output.suffix not in suffixes:
        raise ValueError(f"output: found {output}, expected a name that ends in {' or '.join(suffixes)}")
    return [output.with_suffix(suffix) for suffix in suffixes]


def _files(target: Path) -> list[Path]:
    return [target, target.with_suffix(".bin")] if target.suffix == ".xml" else [target]


def _write(
    draft: Path, traced_net: onnx.ModelProto, info: ModelInfo, pixels: PixelsName, examples: Examples
) -> ExportedNet:
    """The file in the wanted form, and what runs it."""
    threads = torch.get_num_threads()
    calibration = [example.as_input() for example in examples.calibration]
    if draft.suffix == ".xml":
        graph = openvino_forms.converted(traced_net)
        if info.precision == "int8":
            graph = quantised(graph, calibration)
        if pixels == "uint8":
            graph = openvino_forms.take_pixels(graph)
        openvino_forms.describe(graph, metadata_of(info))
        openvino_forms.save(graph, draft, halve_weights=info.precision == "fp16")
        return OpenVinoEngine(draft, threads, "fp32")
    model = onnx.ModelProto()
    model.CopyFrom(traced_net)
    if info.precision == "int8":
        model = quantised(model, calibration)
    if info.precision == "fp16":
        onnx_forms.halve_weights(model)
    if pixels == "uint8":
        onnx_forms.take_pixels(model)
    onnx_forms.describe(model, metadata_of(info))
    onnx.save(model, draft)
    onnx.checker.check_model(str(draft), full_check=True)
    return OnnxEngine(draft, threads)


def _refuse_worse(
    found: Exported, info: ModelInfo, pixels: PixelsName, max_error: float, max_loss_db: float
) -> None:
    rounding, also = (HALF_A_LEVEL, " and half a level") if pixels == "uint8" else (0.0, "")
    if not found.max_error <= max_error + rounding:
        raise ValueError(
            f"{found.path.name}: the exported net differs from the trained one by {found.max_error:.2e}, "
            f"more than max_error={max_error:g}{also}; the file was not kept"
        )
    quality = found.quality
    if not quality.loss <= max_loss_db:
        raise ValueError(
            f"{found.path.name}: {info.precision} costs {quality.loss:.3f} dB ({quality.exported:.2f} "
            f"instead of {quality.trained:.2f} dB on {quality.images} degraded crops), more than "
            f"max_loss_db={max_loss_db:g}; the file was not kept"
        )


def _numbers(condition: Any) -> list[float]:
    """One number is a list of one."""
    given = (
        list(condition) if isinstance(condition, Sequence) and not isinstance(condition, str) else [condition]
    )
    for one in given:
        if isinstance(one, bool) or not isinstance(one, (int, float)) or not math.isfinite(one):
            raise ValueError(f"condition: found {one!r}, expected finite numbers such as condition=[1.6]")
    return [float(one) for one in given]


def _plain(loaded: LoadedNet, condition: list[float] | None) -> LoadedNet:
    """What is exported of a net: its deployed form, and the plain one for a condition that it is told."""
    net: nn.Module = loaded.net
    config, notes = loaded.config, loaded.metadata
    if isinstance(net, RestorationNet):
        net, changed = net.deployed()
        config = config | changed
    name = type(net).__name__
    if isinstance(net, AwareStudent):
        if condition is None:
            raise ValueError(
                f"condition: {name} is told what was done to an image, and an exported file serves one such "
                "condition; name it, such as condition=[1.6] for a blur of sigma 1.6"
            )
        told = net.fold(torch.tensor(condition))
        config = {"_target_": f"{type(told).__module__}.{type(told).__qualname__}", **told.arguments()}
        notes = notes | {"condition": json.dumps(condition)}
        net = told
    elif condition is not None:
        raise ValueError(f"condition: found {condition}, but {name} is blind; leave it out")
    return replace(loaded, net=net, config=config, metadata=notes)


def _licence() -> str:
    """Of this project: what its pyproject.toml says, which an installed package carries as metadata."""
    project = Path(sharpkd.__file__).resolve().parents[1] / "pyproject.toml"
    if project.is_file():
        return str(tomllib.loads(project.read_text(encoding="utf-8"))["project"]["license"])
    return str(metadata.metadata("sharpkd")["License-Expression"])
