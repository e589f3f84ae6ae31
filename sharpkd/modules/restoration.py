"""The training step every experiment shares: a net, a loss, what is logged."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torchmetrics import MeanMetric, Metric

from sharpkd.data.batch import Batch
from sharpkd.losses.combined import CombinedLoss, LossResult
from sharpkd.modules.condition_error import check_spread, estimated
from sharpkd.modules.estimated_condition import ConditionEstimator
from sharpkd.modules.finite_steps import FiniteSteps, refuse_weights
from sharpkd.nets.base import is_told


class RestorationModule(pl.LightningModule):
    """Trains a net to turn ``degraded`` into ``sharp``, without a teacher.

    Args:
        net: ``forward(degraded, condition=None) -> estimate``.
        net_config: ``_target_`` and arguments of the net; written into every checkpoint.
        loss: the weighted terms; its ``delta`` must be 0 here.
        optimizer: called with the trainable parameters.
        scheduler: called with the optimizer and ``total_steps``; stepped once per optimizer step.
        metrics: validation metrics by name, each updated with (output, sharp).
        run_config: the resolved configuration, kept in checkpoints to check a resume against.
        use_condition: hand the batch's condition to the net.
        condition_noise: in training, tell the net a condition with errors such as an estimator makes: every
            number is multiplied by the exponential of a normal number of this standard deviation (0.1: about
            a tenth wrong); a list has one for each number. See
            :func:`~sharpkd.modules.condition_error.estimated`. Validation tells the truth.
        estimator: tell the net what this finds in the degraded images instead: in training mixed with the
            truth, in validation alone. See :class:`~sharpkd.modules.estimated_condition.ConditionEstimator`.
        channels_last: memory format of net and images (faster convolutions on CPUs and tensor cores).
        when_not_finite: ``stop``, or ``skip`` the step, where the loss or the gradients are NaN or infinite;
            see :class:`~sharpkd.modules.finite_steps.FiniteSteps`.

    Raises:
        ValueError: ``loss.delta > 0`` in a module that has no teacher; a net that is told the condition
            without ``use_condition``; errors in what is told to nobody, or that are no numbers >= 0; another
            ``when_not_finite``.
    """

    def __init__(
        self,
        net: nn.Module,
        net_config: Mapping[str, Any],
        loss: CombinedLoss,
        optimizer: Callable[..., Optimizer],
        scheduler: Callable[..., Any] | None = None,
        metrics: Mapping[str, Metric] | None = None,
        run_config: Mapping[str, Any] | None = None,
        use_condition: bool = False,
        channels_last: bool = True,
        condition_noise: float | Sequence[float] = 0.0,
        estimator: ConditionEstimator | None = None,
        when_not_finite: str = "stop",
    ) -> None:
        super().__init__()
        self.steps = FiniteSteps(when_not_finite)
        self._refuse_delta(loss)
        self.condition_noise = check_spread(condition_noise)
        if any(self.condition_noise) and not use_condition:
            raise ValueError(
                f"module.condition_noise={condition_noise} but module.use_condition=false: nothing is told "
                "that could be wrong; use module.use_condition=true, or module.condition_noise=0"
            )
        if estimator is not None and (any(self.condition_noise) or not use_condition):
            raise ValueError(
                f"estimator is set with module.use_condition={str(use_condition).lower()} and "
                f"module.condition_noise={condition_noise}; it needs true and 0: it brings errors of its own"
            )
        refuse_untold(net, use_condition, "net", "another net, such as net=pixel_student")
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.net = net.to(memory_format=self.memory_format)  # type: ignore[call-overload]  # torch's stub lacks it
        self.loss = loss
        self.metrics = nn.ModuleDict(dict(metrics or {}))
        # Lightning's own mean over processes rounds the number of images that each of them has
        self.pixel_mean = MeanMetric(nan_strategy="disable")
        self.use_condition = use_condition
        self.estimator = estimator
        self.teacher: nn.Module | None = None
        self._net_config = dict(net_config)
        self._run_config = dict(run_config or {})
        self._make_optimizer = optimizer
        self._make_scheduler = scheduler

    def _refuse_delta(self, loss: CombinedLoss) -> None:
        if loss.weights["delta"] > 0:
            raise ValueError(
                f"loss.delta={loss.weights['delta']} but {type(self).__name__} has no teacher; "
                "use experiment=distill teacher.path=FILE, or loss.delta=0"
            )

    def trainable_parameters(self) -> Iterator[nn.Parameter]:
        """What the optimizer gets: the net's parameters, nothing else."""
        return self.net.parameters()

    def condition_of(self, batch: Batch) -> Tensor | None:
        """What was done to the degraded images, ``(N, k)``; None where nets are not to be told.

        Raises:
            ValueError: the net is told it, and the degradation does not say.
        """
        if not self.use_condition:
            return None
        if batch.condition is None and is_told(self.net):
            raise ValueError(
                f"{type(self.net).__name__} is told what was done to its input, and this degradation does "
                "not say; use one of sharpkd.data.degradation, such as degradation=gaussian, or a blind net"
            )
        return batch.condition

    def estimated(self, batch: Batch) -> Batch:
        """A training batch with its conditions as the net is told them: with the errors of an estimator."""
        if self.estimator is not None:
            return self.estimator.told(batch)
        return estimated(batch, self.condition_noise)

    def forward(self, degraded: Tensor, condition: Tensor | None = None) -> Tensor:
        """The net's estimate for ``(N, 3, h, w)`` in [0, 1]; unclamped."""
        return self.net(degraded.contiguous(memory_format=self.memory_format), condition)

    def compute_loss(self, batch: Batch) -> LossResult:
        """The weighted sum and its terms for one batch.

        Raises:
            ValueError: the batch holds inputs without ground truth, which nobody here can label.
        """
        if batch.extra is not None:
            raise ValueError(
                f"data.unlabelled_dir needs a teacher: {type(self).__name__} has none to label its images; "
                "use experiment=distill teacher.path=FILE, or data.unlabelled_dir=null"
            )
        told = self.condition_of(self.estimated(batch))
        return self.loss(self(batch.degraded, told), batch.sharp)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        result = self.compute_loss(batch)
        self.steps.see_loss(result, batch.name, self.global_step)
        scalars = {"train/loss": result.total.detach()}
        scalars |= {f"train/{name}": value for name, value in result.terms.items()}
        for name, value in scalars.items():
            # sync_dist: the mean over ranks, which is the loss of the global batch
            self.log(name, value, prog_bar=name == "train/loss", batch_size=len(batch), sync_dist=True)
        return result.total

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        gradients = [p.grad for p in self.net.parameters() if p.grad is not None]
        self.log("train/grad_norm", torch.nn.utils.get_total_norm(gradients))
        self.log("train/lr", optimizer.param_groups[0]["lr"])
        self._conclude_step()

    def _conclude_step(self) -> None:
        trained = list(self.trainable_parameters())
        # in fp16 infinite gradients are usual: the scaler leaves their steps out
        scaled = getattr(self.trainer.precision_plugin, "scaler", None) is not None
        gradients = [p.grad for p in trained if p.grad is not None]
        norm = torch.zeros(()) if scaled else torch.nn.utils.get_total_norm(gradients)
        wrong = self.steps.see_gradients(norm, self.global_step)
        if self.steps.when_not_finite == "skip" and self.trainer.world_size > 1:
            wrong = self.trainer.strategy.reduce_boolean_decision(wrong, all=False)
        self.steps.end(wrong, trained, self.global_step)

    def validation_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        told = self.condition_of(batch)
        if self.estimator is not None:
            told = self.estimator.estimate(batch.degraded)
        output = self(batch.degraded, told).float().clamp(0.0, 1.0)
        for name, metric in self.metrics.items():
            assert isinstance(metric, Metric)
            metric.update(output, batch.sharp)
            self.log(f"val/{name}", metric, prog_bar=name == "psnr", batch_size=len(batch))
        self.pixel_mean.update(self.loss.pixel(output, batch.sharp), weight=len(batch))
        self.log("val/pixel", self.pixel_mean, batch_size=len(batch))
        return {"output": output, "batch": batch}

    def configure_optimizers(self) -> Any:
        optimizer = self._make_optimizer(list(self.trainable_parameters()))
        if self._make_scheduler is None:
            return optimizer
        scheduler = self._make_scheduler(optimizer, total_steps=int(self.trainer.estimated_stepping_batches))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        refuse_weights(self.net.parameters(), self.global_step)
        checkpoint["sharpkd"] = {"net": self._net_config, "config": self._run_config, "teacher_sha256": ""}


def refuse_untold(net: nn.Module, use_condition: bool, what: str, instead: str) -> None:
    """Raise ValueError for a net that looks at the condition where nets are not told it."""
    if is_told(net) and not use_condition:
        raise ValueError(
            f"{what}: {type(net).__name__} is told what was done to its input, and "
            f"module.use_condition=false keeps it from it; use module.use_condition=true, or {instead}"
        )
