from __future__ import annotations

import pytest

from sharpkd.exporting.float_parts import Operator, kept_in_float


def layer(name: str, *inputs: str, **ends: bool) -> Operator:
    return Operator(name, list(inputs), is_layer=True, **ends)


def other(name: str, *inputs: str, **ends: bool) -> Operator:
    return Operator(name, list(inputs), **ends)


def test_a_residual_net() -> None:
    graph = [
        other("pad", from_image=True),
        layer("first", "pad"),
        other("relu", "first"),
        layer("second", "relu"),
        other("inner add", "second", "relu"),
        layer("third", "inner add"),
        other("prelu", "third"),
        layer("last", "prelu"),
        other("shuffle", "last"),
        other("add", "pad", "shuffle"),
        other("slice", "add", to_output=True),
    ]
    assert kept_in_float(graph) == ["pad", "first", "last", "shuffle", "add", "slice"]


def test_filters_and_the_layer_that_sees_the_image_beside_them_are_first() -> None:
    graph = [
        layer("filter", from_image=True),
        other("less", "filter", from_image=True),
        other("shown", "less", from_image=True),
        layer("body", "shown"),
        layer("middle", "body"),
        layer("tail", "middle"),
        other("restored", "less", from_image=True),
        other("add", "restored", "tail", to_output=True),
    ]
    expected = ["filter", "less", "shown", "body", "tail", "restored", "add"]
    assert kept_in_float(graph) == expected


def test_two_last_layers() -> None:
    graph = [
        layer("first", from_image=True),
        layer("left", "first"),
        layer("right", "first"),
        layer("behind right", "right"),
        other("both", "left", "behind right", to_output=True),
    ]
    assert kept_in_float(graph) == ["first", "left", "behind right", "both"]


def test_nothing_between() -> None:
    with pytest.raises(
        ValueError, match=r"^precision=int8: no convolution lies between the first and the last"
    ):
        kept_in_float([layer("first", from_image=True), layer("last", "first", to_output=True)])
