"""NaN and Inf: named with their images before they reach a weight; a skipped step leaves no trace."""

from __future__ import annotations

import copy
import logging
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from sharpkd.callbacks.ema import EMA
from sharpkd.data.batch import Batch, collate
from sharpkd.losses.combined import CombinedLoss
from sharpkd.losses.pixel import L1Loss
from sharpkd.losses.ssim import SSIMLoss
from sharpkd.modules.finite_steps import FiniteSteps
from sharpkd.modules.restoration import RestorationModule
from sharpkd.nets.pixel_student import PixelStudent

BATCHES = 6
SIZE = 2


def _loader(bad: dict[int, float]) -> DataLoader[Batch]:
    """Six batches of two images; the first image of some is full of a bad number."""
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(BATCHES * SIZE, 1, 3, 16, 16, generator=generator)
    samples = []
    for index, sharp in enumerate(images):
        degraded = sharp * 0.8 + 0.1
        if index % SIZE == 0 and index // SIZE in bad:
            degraded = torch.full_like(degraded, bad[index // SIZE])
        samples.append(Batch(degraded, sharp, [f"photo{index}"]))
    return DataLoader(samples, batch_size=SIZE, collate_fn=collate)  # type: ignore[arg-type]  # a list serves as a data set


class _Cracked(nn.Module):
    """An L1 loss whose value is right and whose gradient is infinite, for one batch."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.at = at
        self.seen = -1

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        self.seen += 1
        if self.seen != self.at:
            return (output - target).abs().mean()
        # the root's slope at 0 is infinite
        return (output - target).abs().mean() + (output - output.detach()).square().mean().sqrt()


class _BadRank(RestorationModule):
    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        if self.global_rank == 1 and batch_idx == 1:
            batch.degraded = torch.full_like(batch.degraded, float("nan"))
        return super().training_step(batch, batch_idx)


def _module(
    when: str,
    pixel: nn.Module | None = None,
    optimizer: Any = None,
    kind: type[RestorationModule] = RestorationModule,
) -> RestorationModule:
    torch.manual_seed(0)

    def no_perceptual() -> nn.Module:
        raise AssertionError("beta is 0: nothing may be built")

    return kind(
        net=PixelStudent(unshuffle=2, width=4, depth=2),
        net_config={"_target_": "sharpkd.nets.pixel_student.PixelStudent"},
        loss=CombinedLoss(1.0, 0.0, 0.1, 0.0, pixel or L1Loss(), no_perceptual, SSIMLoss()),
        optimizer=optimizer or partial(torch.optim.AdamW, lr=1e-2, weight_decay=0.1),
        when_not_finite=when,
    )


class _Notes(pl.Callback):
    """What there is after every optimizer step: weights, the optimizer's state, the averaged weights."""

    def __init__(self, ema: EMA, folder: Path) -> None:
        self.ema = ema
        self.folder = folder
        self.after: dict[int, list[Any]] = {}

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        assert self.ema._average_model is not None
        parts = (
            pl_module.state_dict(),
            trainer.optimizers[0].state_dict(),
            self.ema._average_model.state_dict(),
        )
        self.after[trainer.global_step] = [copy.deepcopy(part) for part in parts]

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        torch.save(self.after, self.folder / f"rank{trainer.global_rank}.pt")


def _fit(
    module: RestorationModule, bad: dict[int, float], folder: Path, **settings: Any
) -> tuple[pl.Trainer, dict[int, list[Any]]]:
    ema = EMA(0.9)
    notes = _Notes(ema, folder)
    trainer = pl.Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        limit_val_batches=0,
        callbacks=[ema, notes],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        gradient_clip_val=1.0,
        default_root_dir=folder,
        **settings,
    )
    trainer.fit(module, _loader(bad), _loader({}))
    return trainer, notes.after


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor):
        return one.equal(other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_equal(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(_equal(a, b) for a, b in zip(one, other, strict=True))
    return bool(one == other)


pytestmark = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers.*", "ignore:.*isinstance\\(treespec, LeafSpec\\).*"
)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_stopping_changes_nothing_and_names_the_images(value: float, precision: Any, tmp_path: Path) -> None:
    module = _module("stop")
    with pytest.raises(FloatingPointError) as stopped:
        _fit(module, {3: value}, tmp_path, precision=precision)
    assert str(stopped.value).startswith(
        "the loss is nan at step 3; images: photo6, photo7; terms: pixel nan"
    )
    whole = _module("stop")
    fine = _fit(whole, {}, tmp_path, precision=precision)[1]
    assert _equal(module.state_dict(), fine[3][0])


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("kind", ["adamw", "momentum"])
def test_a_skipped_step_changes_nothing(
    kind: str, precision: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Weights, the optimizer's state and the averaged weights; and what follows is trained on."""
    optimizer = partial(torch.optim.SGD, lr=0.1, momentum=0.9) if kind == "momentum" else None
    module = _module("skip", optimizer=optimizer)
    with caplog.at_level(logging.WARNING):
        trainer, after = _fit(module, {3: float("nan")}, tmp_path, precision=precision)
    assert trainer.global_step == BATCHES
    assert _equal(after[4], after[3])
    assert not _equal(after[3][0], after[2][0])
    assert not _equal(after[5][0], after[4][0])
    assert not _equal(after[5][2], after[4][2])
    assert all(torch.isfinite(value).all() for value in module.state_dict().values())
    (told,) = (record.message for record in caplog.records if record.name.endswith("finite_steps"))
    assert told.startswith(
        "step 3 is skipped: the loss is nan at step 3; images: photo6, photo7; terms: pixel"
    )


@pytest.mark.parametrize("bad", [2, 3])
def test_with_accumulation_the_whole_step_is_skipped(bad: int, tmp_path: Path) -> None:
    """Batches 2 and 3 make step 1: whichever is bad, nothing of the other remains in the gradients."""
    module = _module("skip")
    trainer, after = _fit(module, {bad: float("nan")}, tmp_path, accumulate_grad_batches=2)
    assert trainer.global_step == 3
    assert _equal(after[2], after[1])
    # the step after it is what it is for a module that begins there
    assert not _equal(after[3][0], after[2][0])
    assert module.steps.skipped == 1


@pytest.mark.parametrize(("when", "step"), [("stop", 2), ("skip", 2)])
def test_gradients_that_are_not_finite_though_the_loss_is(
    when: str, step: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Clipping by their norm would make every weight NaN."""
    module = _module(when, _Cracked(step))
    expected = f"the gradients' norm is nan at step {step}, though the loss is finite; images: photo4, photo5"
    if when == "stop":
        with pytest.raises(FloatingPointError, match=expected):
            _fit(module, {}, tmp_path)
        return
    with caplog.at_level(logging.WARNING):
        _, after = _fit(module, {}, tmp_path)
    assert _equal(after[step + 1], after[step])
    assert f"step {step} is skipped: {expected}" in caplog.messages


@pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")
def test_all_ranks_skip_what_is_wrong_on_one(tmp_path: Path) -> None:
    """Two gloo processes; the second batch of rank 1 alone is bad."""
    module = _module("skip", kind=_BadRank)
    settings: dict[str, Any] = {"strategy": "ddp_fork", "devices": 2, "use_distributed_sampler": False}
    _fit(module, {}, tmp_path, **settings)
    ranks = [torch.load(tmp_path / f"rank{rank}.pt", weights_only=True) for rank in (0, 1)]
    for after in ranks:
        assert sorted(after) == list(range(1, BATCHES + 1))
        assert _equal(after[2], after[1])
        assert not _equal(after[3][0], after[2][0])
    assert _equal(ranks[0][BATCHES], ranks[1][BATCHES])


def test_skipping_for_ever_is_no_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sharpkd.modules.finite_steps.MOST_SKIPPED", 4)
    with pytest.raises(
        FloatingPointError, match=r"4 steps in a row had to be skipped; the loss is nan at step 4"
    ):
        _fit(_module("skip"), dict.fromkeys(range(1, BATCHES), float("nan")), tmp_path)
    _fit(_module("skip"), dict.fromkeys((0, 1, 2, 4, 5), float("nan")), tmp_path)


def test_weights_that_are_not_finite_are_not_saved(tmp_path: Path) -> None:
    module = _module("stop")
    trainer, _ = _fit(module, {}, tmp_path)
    good = tmp_path / "a.ckpt"
    trainer.save_checkpoint(good)
    before = good.read_bytes()
    with torch.no_grad():
        next(module.net.parameters()).fill_(float("inf"))
    with pytest.raises(FloatingPointError, match="the weights are not finite after 6 steps, so they are not"):
        trainer.save_checkpoint(good)
    assert good.read_bytes() == before


def test_another_choice_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^module\.when_not_finite is 'warn'; expected stop or skip$"):
        FiniteSteps("warn")
