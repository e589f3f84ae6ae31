from __future__ import annotations

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import DictConfig

from sharpkd.distillation.transfer import KnowledgeTransfer

CONF = Path(__file__).resolve().parents[2] / "conf"


def composed(*overrides: str) -> DictConfig:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose(overrides=list(overrides))


@pytest.mark.parametrize(
    ("name", "terms"),
    [
        ("default", {"output", "feature", "attention"}),
        ("output", {"output"}),
        ("feature", {"feature"}),
        ("attention", {"attention"}),
        ("gated_output", {"gated_output"}),
        ("affinity", {"affinity"}),
        ("consistency", {"consistency"}),
        ("contrastive", {"contrastive"}),
    ],
)
def test_each_config_builds_its_terms(name: str, terms: set[str]) -> None:
    transfer = instantiate(composed(f"+distillation={name}", "+seed=3").distillation, _convert_="all")
    assert isinstance(transfer, KnowledgeTransfer)
    assert set(transfer.weights) == terms == set(transfer.terms)


def test_weights_are_overridable_and_zero_switches_off() -> None:
    terms = "distillation.terms"
    config = composed("+distillation=default", f"{terms}.feature.weight=0.5", f"{terms}.attention.weight=0")
    transfer = instantiate(config.distillation, _convert_="all")
    assert transfer.weights["feature"] == 0.5
    assert set(transfer.terms) == {"output", "feature"}


def test_pairs_are_overridable_without_convert() -> None:
    config = composed("+distillation=feature", "distillation.terms.feature.term.pairs=[[body.3,late]]")
    transfer = instantiate(config.distillation)
    assert transfer.student_taps == ["body.3"]
    assert transfer.teacher_taps == ["late"]


@pytest.mark.parametrize("name", ["consistency", "contrastive"])
def test_what_is_drawn_at_random_follows_the_run(name: str) -> None:
    transfer = instantiate(composed(f"+distillation={name}", "+seed=3").distillation)
    assert transfer.terms[name].seed == 3


def test_none_is_null() -> None:
    assert composed("+distillation=none").distillation is None
