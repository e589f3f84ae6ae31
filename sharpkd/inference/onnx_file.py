"""An ONNX model as bytes, written directly.

The ``onnx`` package would do it, but it and its import cost everyone who sharpens more than all else that is
installed for it, and four message types of protobuf are all that a chain of operators takes. Field numbers
are those of ``onnx.proto`` (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

FLOAT, UINT8, INT64 = 1, 2, 7
"""TensorProto.DataType."""
_DATA_TYPES = {np.dtype(np.float32): FLOAT, np.dtype(np.int64): INT64}
_INT, _INTS = 2, 7
"""AttributeProto.AttributeType."""
IR_VERSION, OPSET = 8, 17
Value = tuple[Sequence[int | str], int]
"""Shape and element of an input."""


class Graph:
    """Operators between inputs and one output.

    Args:
        inputs: name -> shape, in which a string is a size that is free, and FLOAT or UINT8.
    """

    def __init__(self, inputs: Mapping[str, Value]) -> None:
        self._nodes: list[bytes] = []
        self._constants: list[bytes] = []
        self._inputs = [_value(name, *value) for name, value in inputs.items()]

    def constant(self, array: NDArray[Any]) -> str:
        """The name of a new constant: float32 or int64."""
        name = f"constant{len(self._constants)}"
        fields = [_number(1, size) for size in array.shape]
        fields += [_number(2, _DATA_TYPES[array.dtype]), _text(8, name)]
        fields.append(_bytes(9, np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<")).tobytes()))
        self._constants.append(b"".join(fields))
        return name

    def add(self, operator: str, inputs: Iterable[str], **attributes: int | Sequence[int]) -> str:
        """The name of what one operator computes."""
        name = f"value{len(self._nodes)}"
        fields = [_text(1, given) for given in inputs] + [_text(2, name), _text(4, operator)]
        fields += [_bytes(5, _attribute(key, value)) for key, value in attributes.items()]
        self._nodes.append(b"".join(fields))
        return name

    def model(self, result: str, shape: Sequence[int | str], element: int) -> bytes:
        """The model whose output is ``result``, of this shape and element; as the inputs'."""
        graph = [_bytes(1, node) for node in self._nodes]
        graph.append(_text(2, "student"))
        graph += [_bytes(5, constant) for constant in self._constants]
        graph += [_bytes(11, value) for value in self._inputs]
        graph.append(_bytes(12, _value(result, shape, element)))
        operators = _text(1, "") + _number(2, OPSET)
        return b"".join([_number(1, IR_VERSION), _bytes(7, b"".join(graph)), _bytes(8, operators)])


def _value(name: str, shape: Sequence[int | str], element: int) -> bytes:
    sizes = [_text(2, one) if isinstance(one, str) else _number(1, one) for one in shape]
    tensor = _number(1, element) + _bytes(2, b"".join(_bytes(1, size) for size in sizes))
    return _text(1, name) + _bytes(2, _bytes(1, tensor))


def _attribute(name: str, value: int | Sequence[int]) -> bytes:
    if isinstance(value, int):
        return _text(1, name) + _number(3, value) + _number(20, _INT)
    return _text(1, name) + b"".join(_number(8, one) for one in value) + _number(20, _INTS)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _bytes(field: int, content: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(content)) + content


def _text(field: int, content: str) -> bytes:
    return _bytes(field, content.encode())
