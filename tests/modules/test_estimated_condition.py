"""What an estimator finds in a training: mixed with the truth for the net, alone in validation."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from sharpkd.data.batch import Batch
from sharpkd.losses.combined import CombinedLoss
from sharpkd.losses.pixel import L1Loss
from sharpkd.losses.ssim import SSIMLoss
from sharpkd.modules.estimated_condition import LARGEST_ERROR, LEAST_LIMIT, ConditionEstimator
from sharpkd.modules.restoration import RestorationModule

NAMES = ("sigma", "noise")


@dataclass
class Finding:
    condition: Tensor


class MeanAndSpread(nn.Module):
    """Ten times an image's mean, and its standard deviation."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(10.0))

    def forward(self, image: Tensor) -> Finding:
        flat = image.flatten(1)
        return Finding(torch.stack([self.factor * flat.mean(1), flat.std(1)], 1))


class Net(nn.Module):
    """Remembers what it was told."""

    def __init__(self) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(1))
        self.told: list[Tensor | None] = []

    def forward(self, degraded: Tensor, condition: Tensor | None = None) -> Tensor:
        self.told.append(condition)
        return degraded + self.shift


def batch(count: int = 4, extras: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(count, 3, 16, 16, generator=generator)
    made = Batch(
        degraded=image,
        sharp=image,
        name=[str(number) for number in range(count)],
        condition=torch.rand(count, 2, generator=generator),
        seed=torch.arange(count),
    )
    if extras:
        made.extra = torch.rand(count * extras, 3, 16, 16, generator=generator)
        made.extra_condition = torch.rand(count * extras, 2, generator=generator)
    return made


def module(estimator: ConditionEstimator | None, **settings: object) -> RestorationModule:
    loss = CombinedLoss(1.0, 0.0, 0.0, 0.0, L1Loss(), nn.Identity, SSIMLoss())
    arguments = {"use_condition": True, "estimator": estimator, **settings}
    return RestorationModule(Net(), {}, loss, partial(torch.optim.SGD, lr=0.1), **arguments)  # type: ignore[arg-type]  # the settings vary


def test_what_is_told_lies_between_truth_and_estimate_and_moves_by_one_share_for_all_numbers() -> None:
    given = batch(count=300)
    # all closer to the truth than the limit
    given.condition = MeanAndSpread()(given.degraded).condition.detach() + 0.1
    told = ConditionEstimator(MeanAndSpread(), NAMES).told(given).condition
    assert told is not None
    assert given.condition is not None
    found = MeanAndSpread()(given.degraded).condition.detach()
    shares = (told - given.condition) / (found - given.condition)
    torch.testing.assert_close(shares[:, 0], shares[:, 1], rtol=1e-3, atol=1e-3)
    assert shares.min() >= -1e-5
    assert shares.max() <= 1 + 1e-5
    # the root of an even draw: mean 2/3, variance 1/18, each within four standard errors
    assert abs(float(shares[:, 0].mean()) - 2 / 3) < 4 * (1 / 18 / 300) ** 0.5
    assert abs(float(shares[:, 0].var()) - 1 / 18) < 4 * (1 / 135 / 18**0.5 / 300) ** 0.5


def test_sigma_is_told_no_further_from_the_truth_than_whole_images_are() -> None:
    given = batch(count=300)
    truth = MeanAndSpread()(given.degraded).condition.detach()
    for error, sigma, limit in ((3.0, 0.2, LEAST_LIMIT), (-2.0, 3.0, 3.0 * LARGEST_ERROR)):
        truth[:, 0] = sigma
        given.condition = truth
        estimator = ConditionEstimator(_Off(sigma + error), NAMES)
        told = estimator.told(given).condition
        assert told is not None
        moved = (told - truth) / torch.tensor([error, 1.0])
        assert moved[:, 0].min() >= 0
        torch.testing.assert_close(moved[:, 0].max(), torch.tensor(limit / abs(error)))
        # the other number moves by the same share
        torch.testing.assert_close(moved[:, 1], moved[:, 0] * (7 - truth[:, 1]), atol=1e-4, rtol=1e-3)


class _Off(nn.Module):
    """Always the same two numbers."""

    def __init__(self, sigma: float) -> None:
        super().__init__()
        self.sigma = sigma

    def forward(self, image: Tensor) -> Finding:
        return Finding(torch.tensor([[self.sigma, 7.0]]).expand(len(image), 2))


def test_an_images_share_is_its_own_whatever_lies_beside_it() -> None:
    estimator = ConditionEstimator(MeanAndSpread(), NAMES)
    whole, beside = estimator.told(batch()), estimator.told(batch(extras=2))
    assert whole.condition is not None
    assert beside.condition is not None
    torch.testing.assert_close(beside.condition, whole.condition)
    assert beside.extra_condition is not None
    given = batch(extras=2)
    assert given.extra is not None
    assert given.extra_condition is not None
    found = MeanAndSpread()(given.extra).condition.detach()
    shares = ((beside.extra_condition - given.extra_condition) / (found - given.extra_condition))[:, 0]
    assert len(set(shares.tolist())) == 8
    assert 0 <= shares.min() < shares.max() <= 1
    one = batch()
    assert one.condition is not None
    assert one.seed is not None
    last = Batch(one.degraded[3:], one.sharp[3:], ["3"], condition=one.condition[3:], seed=one.seed[3:])
    alone = estimator.told(last).condition
    assert alone is not None
    torch.testing.assert_close(alone, whole.condition[3:])


def test_the_net_is_told_the_mixture_in_training_and_the_estimate_in_validation() -> None:
    estimator = ConditionEstimator(MeanAndSpread(), NAMES)
    built = module(estimator)
    built.log = lambda *arguments, **settings: None  # type: ignore[method-assign]  # there is no trainer
    built.compute_loss(batch())
    with torch.autocast("cpu", torch.bfloat16):
        built.validation_step(batch(), 0)
    told = built.net.told
    assert isinstance(told, list)
    torch.testing.assert_close(told[0], estimator.told(batch()).condition)
    # in float32, whatever the net computes in
    torch.testing.assert_close(told[1], MeanAndSpread()(batch().degraded).condition.detach())
    # it is no part of what is trained, averaged and saved
    assert [name for name, _ in built.named_parameters()] == ["net.shift"]
    assert list(built.state_dict()) == ["net.shift"]


def test_what_does_not_fit_is_refused() -> None:
    estimator = ConditionEstimator(MeanAndSpread(), NAMES)
    given = batch()
    given.condition = torch.rand(4, 3)
    message = (
        "estimator: it finds sigma, noise, and the degradation says 3 numbers; use one that says the same, "
        "such as degradation=camera"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        estimator.told(given)
    given.condition = None
    with pytest.raises(ValueError, match=re.escape("the degradation says nothing")):
        estimator.told(given)
    given = batch()
    given.seed = None
    with pytest.raises(ValueError, match=r"^estimator needs batches with a seed, found none$"):
        estimator.told(given)
    for settings, found in (
        ({"use_condition": False}, "module.use_condition=false and module.condition_noise=0.0"),
        ({"condition_noise": 0.1}, "module.use_condition=true and module.condition_noise=0.1"),
    ):
        with pytest.raises(ValueError, match=re.escape(found)):
            module(estimator, **settings)
