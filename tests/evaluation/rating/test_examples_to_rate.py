"""Which pictures people are asked about."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torch import Tensor, nn

from sharpkd.evaluation.benchmark import run
from sharpkd.evaluation.benchmark.run import SharpBench
from sharpkd.evaluation.models import Model, ModelSpec, NetModel


def enlarge(scale: int) -> NetModel:
    def net(image: Tensor) -> Tensor:
        return nn.functional.interpolate(image, scale_factor=scale)

    return NetModel(f"x{scale}", net, scale)


@pytest.fixture
def benchmark(tmp_path: Path) -> SharpBench:
    (tmp_path / "Set5").mkdir()
    for index in range(4):
        pixels = np.random.default_rng(index).integers(0, 256, (24, 24, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "Set5" / f"{index}.png")
    return SharpBench(str(tmp_path), ["Set5"], tracks=["gaussian", "noisy", "sharp", "sr"])


def specs(*names: str) -> list[ModelSpec]:
    return [
        ModelSpec(name, "torch", Path(name)) if name.startswith("x") else ModelSpec(name, "baseline")
        for name in names
    ]


@pytest.fixture(autouse=True)
def opened(monkeypatch: pytest.MonkeyPatch) -> None:
    def open_model(spec: ModelSpec) -> Model:
        return spec.open() if spec.kind == "baseline" else enlarge(int(spec.name[1:]))

    monkeypatch.setattr(run, "open_model", open_model)


def test_every_example_holds_a_model_of_the_users(benchmark: SharpBench) -> None:
    found = benchmark.rating_examples(specs("input", "unsharp", "x4"), 4)
    assert len(found) == 4
    assert {example.condition for example in found} == {"sr/4"}
    assert all("x4" in example.outputs for example in found)
    several = benchmark.rating_examples(specs("input", "unsharp", "x2", "x4"), 4)
    assert [example.condition for example in several] == ["sr/2", "sr/4"] * 2
    assert all({"x2", "x4"} & set(example.outputs) for example in several)


def test_a_model_of_few_conditions_is_asked_about_as_often_as_one_of_many(benchmark: SharpBench) -> None:
    # of the seven conditions that one of the two is made for, sr/4 is the last
    found = benchmark.rating_examples(specs("input", "unsharp", "x1", "x4"), 4)
    assert [example.condition for example in found] == ["gaussian/0.8", "sr/4", "gaussian/1.2", "sr/4"]


def test_baselines_alone_are_asked_about_everywhere(benchmark: SharpBench) -> None:
    found = benchmark.rating_examples(specs("input", "unsharp"), 4)
    assert [example.condition for example in found] == [f"gaussian/{s}" for s in (0.8, 1.2, 1.6, 2.4)]


def test_with_nothing_beside_the_users_model_there_is_nothing_to_rate(benchmark: SharpBench) -> None:
    with pytest.raises(ValueError, match="there is nothing to rate: x4, wiener-oracle share no condition"):
        benchmark.rating_examples(specs("x4", "wiener-oracle"), 4)
