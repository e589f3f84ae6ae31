"""Trainings of a net that is told sigma, with an estimator's errors, in the form that collapses."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from sharpkd.checkpoint import load_net
from sharpkd.data.batch import Batch
from sharpkd.modules.restoration import RestorationModule
from sharpkd.nets.aware_student import AwareStudent
from sharpkd.nets.stats import count_parameters

Train = Callable[..., Path]
TOLD = ["experiment=scratch", "net=aware_student", "module.use_condition=true"]


def weights(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "net.safetensors")


def same(first: Path, second: Path) -> bool:
    one, two = weights(first), weights(second)
    return one.keys() == two.keys() and all(one[key].equal(two[key]) for key in one)


def test_errors_and_the_richer_form_survive_a_resume_bit_for_bit(
    train_here: Train, tiny: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Broken off at step 5 of 8, inside an epoch of 10, with a checkpoint at step 3."""
    settings = [
        *tiny,
        *TOLD,
        "net.rep=true",
        "module.condition_noise=0.3",
        "trainer.max_steps=8",
        "callbacks.last.every_n_train_steps=3",
    ]
    whole = train_here("whole", *settings)
    step = RestorationModule.training_step

    def interrupted(module: RestorationModule, batch: Batch, index: int) -> Tensor:
        if module.global_step == 5:
            raise RuntimeError("the power went")
        return step(module, batch, index)

    with monkeypatch.context() as patch:
        patch.setattr(RestorationModule, "training_step", interrupted)
        with pytest.raises(RuntimeError, match="the power went"):
            train_here("broken", *settings)
    assert same(train_here("broken", *settings, "resume=auto"), whole)
    assert not same(train_here("exact", *settings, "module.condition_noise=0"), whole)

    # what is left behind is the plain net that was trained
    loaded = load_net(whole / "net.safetensors")
    assert isinstance(loaded.net, AwareStudent)
    assert loaded.config["rep"] is False
    trained = load_net(whole / "checkpoints" / "best.ckpt").net
    assert isinstance(trained, AwareStudent)
    assert trained.rep
    # to rounding: in training the weights lie in memory in another order
    torch.testing.assert_close(dict(trained.deployed()[0].state_dict()), weights(whole), rtol=0, atol=1e-6)
    metrics = json.loads((whole / "metrics.json").read_text())
    assert metrics["parameters"] == count_parameters(loaded.net) < count_parameters(trained)


def test_untold_it_is_refused_as_student_and_as_teacher(train_here: Train, tiny: list[str]) -> None:
    untold = (
        "AwareStudent is told what was done to its input, and module.use_condition=false keeps it from it"
    )
    with pytest.raises(ValueError, match=re.escape(f"net: {untold}")):
        train_here("untold", *tiny, "experiment=scratch", "net=aware_student")
    aware = train_here("aware", *tiny, *TOLD) / "net.safetensors"
    taught = [*tiny, "experiment=distill", "distillation=output", f"teacher.path={aware}"]
    with pytest.raises(ValueError, match=re.escape(f"teacher AwareStudent: {untold}")):
        train_here("taught", *taught)
    # a blind student may have a teacher that is told
    student = train_here("taught", *taught, "module.use_condition=true", "overwrite=true")
    assert not isinstance(load_net(student / "net.safetensors").net, AwareStudent)
