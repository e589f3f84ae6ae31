"""What a scoreboard's settings mean, and that Hydra reads them back as they are."""

from __future__ import annotations

from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import QuotedString

from sharpkd.config import ConfigError
from sharpkd.evaluation.scoreboard.methods import literal, methods_of, seeds_of, student_overrides


def test_methods() -> None:
    assert methods_of(["output+feature", "scratch", {"late": ["distillation=feature", "loss.delta=2"]}]) == {
        "output+feature": ["experiment=distill", "distillation=[output,feature]"],
        "scratch": ["experiment=scratch"],
        "late": ["experiment=distill", "distillation=feature", "loss.delta=2"],
    }
    assert methods_of("scratch") == {"scratch": ["experiment=scratch"]}
    assert methods_of(["scratch", {"twice": "loss.delta=2"}])["twice"] == [
        "experiment=distill",
        "loss.delta=2",
    ]
    for given, message in (
        (["output"], "methods needs scratch"),
        (
            ["scratch", "output+featur"],
            r"no distillation=featur\. did you mean 'feature'\? Methods are scratch",
        ),
        (["none", "scratch"], "there is no distillation=none"),
        (["scratch", "scratch"], "'scratch' is there twice"),
        (["scratch", "../output"], r"'\.\./output' cannot be a method's name"),
        ([{"scratch": ["seed=1"]}], "'scratch' cannot be a method's name"),
    ):
        with pytest.raises(ConfigError, match=message):
            methods_of(given)


def test_seeds_and_student() -> None:
    assert seeds_of(3) == [0, 1, 2]
    assert seeds_of([4, 2]) == [4, 2]
    wrong: tuple[int | list[int], ...] = (0, [], [1, 1])
    for given in wrong:
        with pytest.raises(ConfigError, match="seeds must be a number of at least 1"):
            seeds_of(given)
    assert student_overrides("mobile_student") == ["net=mobile_student"]
    settings = student_overrides({"net": "pixel_student", "width": 16, "depth": 4})
    assert settings == ["net=pixel_student", "net.width=16", "net.depth=4"]
    with pytest.raises(ConfigError, match="student needs its net"):
        student_overrides({"width": 16})


@pytest.mark.parametrize(
    "value",
    [3, 0.5, -1e-7, True, None, "plain", "it's", "a b=c,d{e}[f]", ["/x y", "z'"], "null", "1"],
    ids=repr,
)
def test_literals_survive_the_command_line(value: object) -> None:
    (parsed,) = OverridesParser.create().parse_overrides([f"key={literal(value)}"])
    found = _convert(parsed.value())
    assert found == value
    assert type(found) is type(value)


def _convert(value: object) -> object:
    """Without Hydra's quotes."""
    if isinstance(value, list):
        return [_convert(item) for item in value]
    return value.text if isinstance(value, QuotedString) else value


def test_a_literal_is_plain(tmp_path: Path) -> None:
    assert literal([tmp_path]) == f"['{tmp_path}']"
    with pytest.raises(ConfigError, match=r"expected a number, a string or a list, found \{1\}"):
        literal({1})
