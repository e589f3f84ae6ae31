"""From ONNX to OpenVINO's IR, with uint8 pixels where they are asked for; and what it says of itself."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import openvino as ov
from openvino import opset13 as op

from sharpkd.inference.errors import openvino_said
from sharpkd.inference.exported import RT_INFO


def converted(model: onnx.ModelProto) -> ov.Model:
    """The same graph as OpenVINO's; it says nothing about itself yet.

    Raises:
        ValueError: OpenVINO does not know an operator of it.
    """
    try:
        # convert_model would read the same bytes from a file, and note the file's name
        return ov.Core().read_model(model.SerializeToString())
    except RuntimeError as error:
        raise ValueError(f"OpenVINO cannot read the net's graph ({openvino_said(error)})") from error


def take_pixels(model: ov.Model) -> ov.Model:
    """As `sharpkd.exporting.onnx_forms.take_pixels`: uint8 ``(1, H, W, 3)`` in and out, any H and W >= 1."""
    (given,), (result,) = model.get_parameters(), model.get_results()
    inner = list(given.output(0).get_target_inputs())
    name, result_name = given.output(0).get_any_name(), result.input_value(0).get_any_name()
    pixels = op.parameter([1, -1, -1, 3], ov.Type.u8, name=name)
    unit = op.divide(op.convert(pixels, "f32"), op.constant(np.float32(255)))
    planes = op.transpose(unit, op.constant(np.array([0, 3, 1, 2])))
    for one in inner:
        one.replace_source_output(planes.output(0))
    levels = op.multiply(result.input_value(0), op.constant(np.float32(255)))
    levels = op.clamp(op.round(levels, "half_to_even"), 0.0, 255.0)
    levels = op.convert(op.transpose(levels, op.constant(np.array([0, 2, 3, 1]))), "u8")
    result.input_value(0).set_names(set())
    pixels.output(0).set_names({name})
    levels.output(0).set_names({result_name})
    return ov.Model([levels], [pixels], "student")


def describe(model: ov.Model, pairs: Mapping[str, str]) -> None:
    """Say these about the model, in its ``rt_info``."""
    for key, value in pairs.items():
        model.set_rt_info(value, [RT_INFO, key])


def save(model: Any, path: Path, *, halve_weights: bool) -> None:
    """Write ``path`` (``.xml``) and the ``.bin`` beside it.

    Args:
        halve_weights: hold the weights in float16, with a conversion to float32 in the graph behind each.
            That says nothing of how it is computed: in whatever precision OpenVINO is asked for when it
            compiles the graph. Numbers that float16 cannot hold stay float32.
    """
    ov.save_model(model, path, compress_to_fp16=halve_weights)
