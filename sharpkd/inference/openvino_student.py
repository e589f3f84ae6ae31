"""A student under OpenVINO: integer pixels in, integer pixels out, on the CPU.

Folding costs a compilation for every condition. In milliseconds of the processor (bf16, one thread, RGB of
512x512 pixels) for students without filters, of 4, 6 and 8 convolutions of 32, 48 and 64 channels, a graph of
constants compiles in 30, 44 and 42 and runs in 14.4, 27.4 and 150. With the weights as inputs of one graph,
compiled once, it runs in 17.6, 28.6 and 151; with scale and shift as inputs after every layer in 17.4, 30.4
and 189. The constants win where speed matters most, in video, where a compilation serves a whole scene; for a
single picture there is one compilation in any case.
``python benchmarks/inference/compilation.py`` repeats it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from queue import Empty, SimpleQueue
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sharpkd.inference.cells import Run, given_on_cells, on_cells
from sharpkd.inference.errors import ModelError
from sharpkd.inference.openvino_layers import Range, convolutions, ranges_on_leaves
from sharpkd.inference.openvino_luma import compile_luma, luma_graph, runs_here, to_cells
from sharpkd.inference.student import LUMA, Layers, PixelFormat
from sharpkd.inference.wiener import Details

PRECISIONS = {"bf16": ("BF16", "bf16"), "fp16": ("FP16", "f16"), "fp32": ("FP32", "f32")}
"""Our name -> what OpenVINO calls the capability, and the setting."""
INT8: Final = "int8"


@cache
def core() -> Any:
    """OpenVINO's one core of this process."""
    import openvino

    return openvino.Core()


def fast_precisions() -> list[str]:
    """The precisions that this CPU computes in, fastest first; fp32 always."""
    able = core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return [name for name, (capability, _) in PRECISIONS.items() if capability in able or name == "fp32"]


def compile_student(
    layers: Layers,
    pixels: PixelFormat,
    precision: str,
    threads: int | None = None,
    condition: Sequence[float] = (),
) -> Run:
    """What sharpens pixels with these layers, which `Layers.for_pixels` wrote for them.

    Args:
        layers: their weights become constants of the graph.
        pixels: 8 bits are converted, added and rounded in the graph; more in NumPy, around it.
        precision: "bf16", "fp16", "fp32", or "int8" for all convolutions but the first; what is not in 8 bits
            is then in the fastest of the others.
        threads: of the CPU; None leaves the choice to OpenVINO.
        condition: for which the layers were folded; "int8" looks at the blur and the noise.

    Returns:
        ``(H, W, C)`` -> the same shape and dtype, any H, W >= 1; several threads may call it at a time.

    Raises:
        ModelError: this CPU does not compute in that precision.
    """
    settings = settings_for(precision, threads)
    floats = fast_precisions()[0] if precision == INT8 else precision
    exact = settings_for("fp32", threads)
    ranges = None
    if runs_here(pixels, floats):
        if precision == INT8:
            watch, margin = luma_graph(layers, pixels, "fp32", watched=True)
            ranges = ranges_on_leaves(
                lambda leaves: _outputs(
                    watch, exact, to_cells(leaves[..., 0], layers.unshuffle, margin)[None]
                ),
                pixels,
                condition,
            )
        graph, margin = luma_graph(layers, pixels, floats, ranges)
        return compile_luma(graph, margin, layers.unshuffle, lambda sized: compiled(sized, settings))
    filters, reach = None, 0
    if layers.details is not None:
        # Rounded to 8 significant bits the kernels would no longer sum to 0.
        filters = compiled(_filters(layers.details, layers.unshuffle, pixels), exact)
        reach = layers.details.reach
    if precision == INT8:
        whole = _graph(layers, pixels, watched=True)
        ranges = ranges_on_leaves(
            lambda leaves: _outputs(
                whole, exact, *given_on_cells(leaves, layers.unshuffle, pixels, filters, reach)
            ),
            pixels,
            condition,
        )
    net = compiled(_graph(layers, pixels, ranges), settings)
    return on_cells(net, layers.unshuffle, pixels, filters, reach)


def settings_for(precision: str, threads: int | None = None) -> dict[str, Any]:
    """What a graph is compiled with.

    Raises:
        ModelError: this CPU does not compute in that precision.
    """
    able = fast_precisions()
    if precision not in (*able, INT8):
        raise ModelError(
            f"this CPU does not compute in {precision} under OpenVINO; it does in {', '.join(able)}"
        )
    settings: dict[str, Any] = {
        "INFERENCE_PRECISION_HINT": PRECISIONS[able[0] if precision == INT8 else precision][1],
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
    }
    if threads is not None:
        settings["INFERENCE_NUM_THREADS"] = threads
    return settings


def compiled(model: Any, settings: dict[str, Any]) -> Callable[..., NDArray[Any]]:
    """A graph as a function of its inputs that several threads may call at a time."""
    program = core().compile_model(model, "CPU", settings)
    idle: SimpleQueue[Any] = SimpleQueue()

    def run(*given: NDArray[Any]) -> NDArray[Any]:
        try:
            request = idle.get_nowait()
        except Empty:
            request = program.create_infer_request()
        try:
            return np.array(request.infer(list(given), share_inputs=True, share_outputs=True)[0])
        finally:
            idle.put(request)

    return run


def _outputs(model: Any, settings: dict[str, Any], *given: NDArray[Any]) -> list[NDArray[Any]]:
    """All that a graph gives, once."""
    return [np.array(one) for one in core().compile_model(model, "CPU", settings)(list(given)).values()]


def _graph(
    layers: Layers, pixels: PixelFormat, ranges: Sequence[Range] | None = None, watched: bool = False
) -> Any:
    """``(1, h, r, w, r·C)`` -> the same: uint8 sharpened, or float32 what is to be added.

    With filters it also takes what `_filters` gives. ``ranges`` and ``watched`` are as of
    `sharpkd.inference.openvino_luma.luma_graph`.
    """
    import openvino as ov
    from openvino import opset13 as op

    r, deep = layers.unshuffle, layers.unshuffle * pixels.channels
    in_graph = pixels.bits == 8
    given = op.parameter([1, -1, r, -1, deep], ov.Type.u8 if in_graph else ov.Type.f32, name="cells")
    swapped = op.constant(np.array([0, 1, 3, 2, 4]))
    node = op.reshape(op.transpose(given, swapped), op.constant(np.array([0, 0, 0, r * deep])), True)
    node = op.convert(op.transpose(node, op.constant(np.array([0, 3, 1, 2]))), "f32")
    picture = node
    if pixels.black:
        node = op.subtract(node, op.constant(np.float32(pixels.black)))
    inputs = [given]
    if layers.details is not None:
        inputs.append(op.parameter([1, layers.details.channels, -1, -1], ov.Type.f32, name="details"))
        node = op.concat([node, inputs[1]], 1)
    node, hidden = convolutions(node, layers, ranges)
    if watched:
        return ov.Model(hidden, inputs, "watched")
    if layers.details is not None:
        added = inputs[1]
        if not layers.details.adds_all:
            added = op.gather(added, op.constant(layers.details.added), op.constant(np.int64(1)))
        node = op.add(node, op.multiply(added, op.constant(np.float32(layers.details.strength))))
    if in_graph:
        node = op.clamp(op.round(op.add(node, picture), "half_to_even"), 0.0, float(pixels.top))
        node = op.convert(node, "u8")
    node = op.transpose(node, op.constant(np.array([0, 2, 3, 1])))
    node = op.reshape(node, op.constant(np.array([0, 0, 0, r, deep])), True)
    return ov.Model([op.transpose(node, swapped)], inputs, "student")


def _filters(details: Details, unshuffle: int, pixels: PixelFormat) -> Any:
    """``(1, H, W, C)`` pixels, their edges mirrored -> ``(1, n, h, w)`` of `Details`, float32."""
    import openvino as ov
    from openvino import opset13 as op

    kind = ov.Type.u8 if pixels.bits == 8 else ov.Type.f32
    given = op.parameter([1, -1, -1, pixels.channels], kind, name="picture")
    planes = op.convert(op.transpose(given, op.constant(np.array([3, 0, 1, 2]))), "f32")
    made = []
    for kernels, of_luma in ((details.colours, False), (details.luma, True)):
        if kernels is None:
            continue
        seen = planes
        if of_luma and pixels.channels == 3:
            shares = op.constant(np.array(LUMA, np.float32).reshape(3, 1, 1, 1))
            seen = op.reduce_sum(op.multiply(planes, shares), op.constant(np.array([0])), True)
        node = op.convolution(seen, op.constant(kernels), [unshuffle] * 2, [0, 0], [0, 0], [1, 1])
        if not of_luma:
            # (C, k·r·r, h, w) -> (1, C·k·r·r, h, w), with h and w unknown
            turned = op.constant(np.array([2, 3, 0, 1]))
            flat = op.reshape(op.transpose(node, turned), op.constant(np.array([0, 0, 1, -1])), True)
            node = op.transpose(flat, turned)
        made.append(node)
    return ov.Model([made[0] if len(made) == 1 else op.concat(made, 1)], [given], "filters")
