"""A callback that writes down what a rank sends and holds; trainings of test_hosts.py name it by _target_."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.distributed import GradBucket
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.futures import Future
from torch.nn.parallel import DistributedDataParallel


class RanksProbe(pl.Callback):
    """Writes ``rank<N>.json`` and ``rank<N>.pt`` into ``folder`` at the end of a training.

    The first holds ``sent`` (numbers that DDP averaged among ranks, one entry a step), ``buffers`` (names of
    those that it broadcasts), and ``validated`` (names of the images that this rank validated on, a list for
    each validation). The second holds ``first`` (the gradients before the first step, as averaged) and
    ``weights`` (those after the last).
    """

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)
        self.sent: list[int] = []
        self.buffers: list[str] = []
        self.validated: list[list[str]] = []
        self.first: dict[str, Tensor] = {}
        self._waiting = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        wrapper = trainer.strategy.model
        if not isinstance(wrapper, DistributedDataParallel):
            return
        held = {id(buffer) for buffer in wrapper.modules_buffers}
        self.buffers = sorted(name for name, buffer in wrapper.named_buffers() if id(buffer) in held)
        # a lambda: torch compares a function's annotations with its own classes, and here they are strings
        wrapper.register_comm_hook(None, lambda state, bucket: self._average(bucket))

    def _average(self, bucket: GradBucket) -> Future[Tensor]:
        """What DDP does by itself, counted."""
        self._waiting += bucket.buffer().numel()
        if bucket.is_last():
            self.sent.append(self._waiting)
            self._waiting = 0
        return allreduce_hook(None, bucket)  # type: ignore[arg-type]  # None is the default group

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        if trainer.global_step == 0:
            self.first = {
                name: p.grad.clone() for name, p in pl_module.named_parameters() if p.grad is not None
            }

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.validated.append([])

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self.validated[-1] += batch.name

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        net = pl_module.net
        assert isinstance(net, nn.Module)
        self.folder.mkdir(parents=True, exist_ok=True)
        name = f"rank{trainer.global_rank}"
        torch.save({"first": self.first, "weights": net.state_dict()}, self.folder / f"{name}.pt")
        seen = {"sent": self.sent, "buffers": self.buffers, "validated": self.validated}
        (self.folder / f"{name}.json").write_text(json.dumps(seen))
