"""Losses and gradients that are no numbers: which images they come from, and that they reach no weight."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from sharpkd.losses.combined import LossResult

log = logging.getLogger(__name__)

CHOICES = ("stop", "skip")
MOST_SKIPPED = 20


class FiniteSteps:
    """Watches the batches of each optimizer step (several, where gradients are accumulated).

    Args:
        when_not_finite: ``stop`` raises, before anything has changed; ``skip`` leaves the step out: its
            gradients are dropped, so that neither weights nor the optimizer's state change. A skipped step
            counts as one, and the schedule of the learning rate goes on. After 20 in a row it raises too.

    Attributes:
        skipped: number of the last step that was skipped, from 0; -1 where none was.

    Raises:
        ValueError: another choice.
    """

    def __init__(self, when_not_finite: str = "stop") -> None:
        if when_not_finite not in CHOICES:
            raise ValueError(
                f"module.when_not_finite is {when_not_finite!r}; expected {' or '.join(CHOICES)}"
            )
        self.when_not_finite = when_not_finite
        self.skipped = -1
        self._in_a_row = 0
        self._names: list[str] = []
        self._fault = ""

    def see_loss(self, result: LossResult, names: Sequence[str], step: int) -> None:
        """Look at the loss of one batch.

        Args:
            result: of the batch.
            names: of its images.
            step: number of the optimizer step that it belongs to, from 0.

        Raises:
            FloatingPointError: it is NaN or infinite, and ``when_not_finite`` is ``stop``.
        """
        self._names += names
        if torch.isfinite(result.total):
            return
        terms = ", ".join(f"{name} {float(value):.4g}" for name, value in result.terms.items())
        self._found(
            f"the loss is {result.total.item()} at step {step}; images: {', '.join(names)}; terms: {terms}"
        )

    def see_gradients(self, norm: Tensor, step: int) -> bool:
        """Look at the gradients of a step, before the optimizer does.

        Args:
            norm: of all of them together.
            step: its number, from 0.

        Returns:
            Whether something was wrong with the step, or with one of its batches.

        Raises:
            FloatingPointError: they are not finite, and ``when_not_finite`` is ``stop``.
        """
        if not self._fault and not torch.isfinite(norm):
            self._found(
                f"the gradients' norm is {norm.item()} at step {step}, though the loss is finite; images: "
                f"{', '.join(self._names)}"
            )
        return bool(self._fault)

    def end(self, wrong: bool, parameters: Iterable[nn.Parameter], step: int) -> None:
        """Conclude a step, before the optimizer makes it.

        Args:
            wrong: something was wrong with it, here or on another rank: leave it out.
            parameters: those that are trained; their gradients are dropped.
            step: its number, from 0.

        Raises:
            FloatingPointError: 20 steps in a row were wrong.
        """
        fault, self._fault, self._names = self._fault, "", []
        if not wrong:
            self._in_a_row = 0
            return
        for parameter in parameters:
            # an optimizer passes over what has no gradient, and its state stays as it is
            parameter.grad = None
        self.skipped = step
        self._in_a_row += 1
        if fault:
            log.warning("step %d is skipped: %s", step, fault)
        if self._in_a_row >= MOST_SKIPPED:
            raise FloatingPointError(
                f"{MOST_SKIPPED} steps in a row had to be skipped; {fault or 'see what another rank said'}"
            )

    def _found(self, fault: str) -> None:
        if self.when_not_finite == "stop":
            raise FloatingPointError(fault)
        self._fault = self._fault or fault


def refuse_weights(parameters: Iterable[nn.Parameter], step: int) -> None:
    """Keep weights that are no numbers out of checkpoints.

    Args:
        parameters: what is about to be saved.
        step: how many steps have been made.

    Raises:
        FloatingPointError: some are NaN or infinite.
    """
    if not torch.isfinite(torch.nn.utils.get_total_norm([p.detach() for p in parameters])):
        raise FloatingPointError(
            f"the weights are not finite after {step} steps, so they are not saved; the checkpoint before "
            "stays: continue from it with another optimizer.lr or trainer.gradient_clip_val"
        )
