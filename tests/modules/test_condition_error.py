"""Nets are told the condition as an estimator would have it: in training, and nowhere else."""

from __future__ import annotations

import re
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import kstest
from torch import Tensor, nn

from sharpkd.data.batch import Batch
from sharpkd.distillation.output import OutputDistillation
from sharpkd.distillation.transfer import KnowledgeTransfer
from sharpkd.losses.combined import CombinedLoss
from sharpkd.losses.pixel import L1Loss
from sharpkd.losses.ssim import SSIMLoss
from sharpkd.modules.condition_error import check_spread, estimated
from sharpkd.modules.distill import DistillModule
from sharpkd.modules.frozen_teacher import FrozenTeacher
from sharpkd.modules.restoration import RestorationModule
from sharpkd.nets.aware_student import AwareStudent


class Net(nn.Module):
    """Remembers what it was told."""

    def __init__(self) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(1))
        self.told: list[Tensor | None] = []

    def forward(self, degraded: Tensor, condition: Tensor | None = None) -> Tensor:
        self.told.append(condition)
        return degraded + self.shift


def batch(condition: Tensor | None, extras: int = 0, seed: int = 0) -> Batch:
    count = 4 if condition is None else len(condition)
    image = torch.rand(count, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    more: dict[str, Any] = {}
    if extras and condition is not None:
        more = {
            "extra": torch.rand(count * extras, 3, 16, 16),
            "extra_condition": torch.arange(1.0, count * extras + 1)[:, None].expand(-1, condition.shape[1]),
        }
    seeds = torch.arange(seed, seed + count)
    return Batch(image, image, [str(i) for i in range(count)], condition=condition, seed=seeds, **more)


def logarithms(told: Batch, truth: Batch) -> np.ndarray:
    assert told.condition is not None
    assert truth.condition is not None
    return (told.condition.double() / truth.condition.double()).log().numpy()


def arguments(**settings: Any) -> dict[str, Any]:
    def no_perceptual() -> nn.Module:
        raise AssertionError("beta is 0: nothing may be built")

    delta = settings.pop("delta", 0.0)
    return {
        "net": Net(),
        "net_config": {},
        "loss": CombinedLoss(1.0, 0.0, 0.0, delta, L1Loss(), no_perceptual, SSIMLoss()),
        "optimizer": partial(torch.optim.SGD, lr=0.1),
        **settings,
    }


def test_errors_are_log_normal_and_independent() -> None:
    truth = batch(torch.tensor([[1.6, 3.0]]).repeat(2000, 1))
    found = logarithms(estimated(truth, [0.1]), truth)
    # a level that one of a thousand right draws would miss, by seeds that are fixed
    for column in range(2):
        assert kstest(found[:, column], "norm", (0, 0.1)).pvalue > 1e-3
    assert abs(np.corrcoef(found.T)[0, 1]) < 0.08
    assert truth.condition is not None
    assert truth.condition[0].tolist() == pytest.approx([1.6, 3.0])


def test_each_number_may_have_its_own_spread() -> None:
    truth = batch(torch.tensor([[2.0, 5.0]]).repeat(2000, 1))
    told = estimated(truth, [0.2, 0.0])
    found = logarithms(told, truth)
    assert found[:, 0].std() == pytest.approx(0.2, rel=0.05)
    assert told.condition is not None
    assert (told.condition[:, 1] == 5.0).all()


def test_nothing_done_stays_nothing_and_no_spread_changes_nothing() -> None:
    truth = batch(torch.tensor([[0.0], [1.0]]))
    told = estimated(truth, [0.5])
    assert told.condition is not None
    assert told.condition[0].item() == 0
    assert told.condition[1].item() not in (0, 1)
    assert told.degraded is truth.degraded
    assert estimated(truth, [0.0]) is truth
    blind = batch(None)
    assert estimated(blind, [0.0]) is blind


def test_an_image_s_error_follows_from_its_own_seed() -> None:
    condition = torch.full((6, 1), 2.0)
    whole = estimated(batch(condition), [0.1]).condition
    later = estimated(batch(condition[:2], seed=3), [0.1]).condition
    assert whole is not None
    assert later is not None
    assert later.equal(whole[3:5])
    assert len(set(whole.flatten().tolist())) == 6


def test_extra_inputs_have_errors_of_their_own() -> None:
    condition = torch.full((3, 1), 2.0)
    alone, two, three = (estimated(batch(condition, extras), [0.1]) for extras in (0, 2, 3))
    assert alone.condition is not None
    for told, extras in ((two, 2), (three, 3)):
        assert told.condition is not None
        assert told.extra_condition is not None
        assert told.condition.equal(alone.condition)
        factors = told.extra_condition.flatten() / torch.arange(1.0, 3 * extras + 1)
        every = [*factors.tolist(), *(told.condition / 2).flatten().tolist()]
        assert len({round(one, 6) for one in every}) == 3 * extras + 3
    assert two.extra_condition is not None
    assert three.extra_condition is not None
    first = two.extra_condition.view(3, 2) / torch.arange(1.0, 7).view(3, 2)
    again = three.extra_condition.view(3, 3) / torch.arange(1.0, 10).view(3, 3)
    torch.testing.assert_close(again[:, :2], first)


@pytest.mark.parametrize("spread", [-0.1, [], [0.1, -1], float("nan"), float("inf"), True])
def test_a_bad_spread_is_named(spread: Any) -> None:
    message = f"module.condition_noise must be a number >= 0, or a list of them; found {spread!r}"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        check_spread(spread)


def test_what_is_missing_is_named() -> None:
    truth = batch(torch.ones(2, 1))
    truth.seed = None
    for one, lacking in ((truth, "seed"), (batch(None), "condition")):
        message = f"module.condition_noise=[0.1] needs batches with a {lacking}, found none"
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            estimated(one, [0.1])
    message = "module.condition_noise has 3 numbers, and the condition 2; give one for all, or as many"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        estimated(batch(torch.ones(2, 2)), [0.1, 0.1, 0.1])


def test_training_errs_and_validation_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    module = RestorationModule(**arguments(use_condition=True, condition_noise=0.1))
    monkeypatch.setattr(module, "log", lambda *values, **settings: None)
    truth = batch(torch.full((4, 1), 1.6))
    module.compute_loss(truth)
    module.validation_step(truth, 0)
    net = module.net
    assert isinstance(net, Net)
    trained, validated = net.told
    expected = estimated(truth, [0.1]).condition
    assert trained is not None
    assert expected is not None
    assert validated is not None
    assert trained.equal(expected)
    assert not trained.allclose(torch.tensor(1.6), rtol=1e-3)
    assert validated.equal(torch.full((4, 1), 1.6))


@pytest.mark.parametrize("extras", [0, 2])
def test_the_teacher_is_told_the_truth(extras: int) -> None:
    transfer = KnowledgeTransfer({"output": {"weight": 1.0, "term": OutputDistillation()}})
    teacher = FrozenTeacher(Net())
    module = DistillModule(
        teacher=teacher,
        transfer=transfer,
        **arguments(delta=1.0, use_condition=True, condition_noise=[0.1]),
    )
    truth = batch(torch.full((3, 1), 1.6), extras)
    nets = [module.net, teacher.module]
    for net in nets:
        assert isinstance(net, Net)
        net.told.clear()
    module.compute_loss(truth)
    told, known = (net.told[0] for net in nets if isinstance(net, Net))
    assert truth.condition is not None
    everything = [truth.condition]
    if truth.extra_condition is not None:
        everything.append(truth.extra_condition)
    assert told is not None
    assert known is not None
    assert known.equal(torch.cat(everything))
    assert told.shape == known.shape
    assert not (told == known).any()


def test_errors_about_nothing_are_refused() -> None:
    message = (
        "module.condition_noise=0.1 but module.use_condition=false: nothing is told that could be wrong; use "
        "module.use_condition=true, or module.condition_noise=0"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        RestorationModule(**arguments(condition_noise=0.1))


def test_a_net_that_is_told_the_condition_is_not_trained_without() -> None:
    net = AwareStudent(width=4, depth=2)
    message = (
        "net: AwareStudent is told what was done to its input, and module.use_condition=false keeps it from "
        "it; use module.use_condition=true, or another net, such as net=pixel_student"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        RestorationModule(**arguments(net=net))
    module = RestorationModule(**arguments(net=net, use_condition=True))
    message = (
        "AwareStudent is told what was done to its input, and this degradation does not say; use one of "
        "sharpkd.data.degradation, such as degradation=gaussian, or a blind net"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        module.compute_loss(batch(None))
    RestorationModule(**arguments(use_condition=True)).compute_loss(batch(None))
