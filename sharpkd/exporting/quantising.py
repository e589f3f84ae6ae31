"""Post-training quantisation by NNCF, which is imported only here, and only when it is asked for."""

from __future__ import annotations

import contextlib
import io
import logging
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from sharpkd.exporting.float_parts import kept_in_float, operators_of_onnx, operators_of_openvino
from sharpkd.exporting.tracing import INPUT
from sharpkd.requires import missing_modules


def check_installed() -> None:
    """Find out before anything is computed.

    Raises:
        ModuleNotFoundError: NNCF is not installed.
    """
    if missing_modules("int8"):
        raise ModuleNotFoundError("precision=int8 needs NNCF: install it with  pip install 'sharpkd[int8]'")


def quantised(model: Any, images: Sequence[NDArray[np.float32]]) -> Any:
    """A copy in which all layers but the first and the last compute in int8.

    Weights are quantised channel by channel, what lies between the layers by the range that it has on
    ``images``: with a zero point of its own, since PReLU makes that lopsided. NNCF corrects the biases by
    what rounding the weights moves.

    Args:
        model: ``onnx.ModelProto`` or ``openvino.Model``, on float32 ``(1, 3, H, W)``.
        images: ``(1, 3, H, W)`` float32 in [0, 1], like those that the net is for.

    Raises:
        ValueError: see `sharpkd.exporting.float_parts.kept_in_float`.
    """
    is_onnx = isinstance(model, onnx.ModelProto)
    names = kept_in_float(operators_of_onnx(model) if is_onnx else operators_of_openvino(model))
    # NNCF reports over the network that it is used, unless it believes itself in a CI: nobody was asked.
    os.environ.setdefault("NNCF_CI", "1")
    import nncf

    # It tells which of the nodes above it leaves alone, in many lines.
    logging.getLogger("nncf").setLevel(logging.ERROR)
    dataset = nncf.Dataset(list(images), (lambda image: {INPUT: image}) if is_onnx else None)
    # Its progress bars go to standard output, where the command's own result goes.
    with contextlib.redirect_stdout(io.StringIO()):
        return nncf.quantize(
            model,
            dataset,
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=len(images),
            ignored_scope=nncf.IgnoredScope(names=names),
        )
