"""A module of one convolution and six pictures: trainings that take a moment."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from sharpkd.functional.torchvision_guard import define_missing_operators

define_missing_operators()

import pytorch_lightning as pl  # noqa: E402  # after the guard above

from sharpkd.data.batch import Batch, collate  # noqa: E402  # after the guard above
from sharpkd.loggers.csv import CSVLogger  # noqa: E402  # after the guard above

IMAGES, SIDE = 6, 40

# Lightning's remarks on such a small training, and its own use of a name that torch is about to drop.
THIRD_PARTY = (
    "ignore:.*does not have many workers.*",
    "ignore:.*isinstance\\(treespec, LeafSpec\\).*",
    "ignore:Checkpoint directory .* exists and is not empty",
)


class Pictures(Dataset[Batch]):
    """Noise, and what a 3x3 mean leaves of it; the change is largest in a patch that moves with the index."""

    def __len__(self) -> int:
        return IMAGES

    def __getitem__(self, index: int) -> Batch:
        sharp = torch.full((1, 3, SIDE, SIDE), 0.5)
        noise = torch.rand(1, 3, 12, 12, generator=torch.Generator().manual_seed(index))
        sharp[..., 4 * index : 4 * index + 12, 10:22] = noise
        blurred = F.avg_pool2d(sharp, 3, stride=1, padding=1, count_include_pad=False)
        return Batch(blurred, sharp, [f"picture{index}"])


class Darker(nn.Module):
    """A teacher that is easy to recognise: 0.8 times its input. Counts its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, degraded: Tensor, condition: Tensor | None = None) -> Tensor:
        self.calls += 1
        return 0.8 * degraded


class TinyModule(pl.LightningModule):
    """Logs what the real modules log."""

    def __init__(self, teacher: nn.Module | None = None) -> None:
        super().__init__()
        self.net = nn.Conv2d(3, 3, 3, padding=1)
        self.teacher = teacher

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        loss = (self.net(batch.degraded) - batch.sharp).abs().mean()
        self.log("train/loss", loss, batch_size=len(batch))
        self.log("train/lr", 0.01, batch_size=len(batch))
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        output = self.net(batch.degraded)
        self.log("val/psnr", -10 * (output - batch.sharp).square().mean().log10(), batch_size=len(batch))
        return {"output": output, "batch": batch}

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=0.01)


@pytest.fixture
def tiny_module() -> type[TinyModule]:
    return TinyModule


@pytest.fixture
def darker_teacher() -> Darker:
    return Darker()


@pytest.fixture
def fit(tmp_path: Path) -> Callable[..., pl.Trainer]:
    """``fit(module, callbacks, epochs=2, **settings)`` trains in ``tmp_path`` and returns the trainer."""

    def run(
        module: pl.LightningModule, callbacks: list[pl.Callback], epochs: int = 2, **settings: Any
    ) -> pl.Trainer:
        torch.manual_seed(0)
        loader = DataLoader(Pictures(), batch_size=2, collate_fn=collate)
        checkpoint = settings.pop("checkpoint", None)
        trainer = pl.Trainer(
            max_epochs=epochs,
            accelerator="cpu",
            logger=[CSVLogger(tmp_path)],
            callbacks=callbacks,
            log_every_n_steps=1,
            enable_model_summary=False,
            enable_checkpointing=any(isinstance(c, pl.callbacks.ModelCheckpoint) for c in callbacks),
            **{"enable_progress_bar": False, **settings},
        )
        trainer.fit(module, loader, loader, ckpt_path=checkpoint)
        return trainer

    return run


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            for message in THIRD_PARTY:
                item.add_marker(pytest.mark.filterwarnings(message))
