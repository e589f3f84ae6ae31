"""A net that is told what was done to an image, where nobody tells: estimate, then restore."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sharpkd.checkpoint import CheckpointError, file_sha256, load_estimator, shipped_estimator
from sharpkd.estimation.estimator import BlurEstimator
from sharpkd.nets.base import RestorationNet, is_told


class BlindNet(nn.Module):
    """The net with the packaged estimator before it.

    Attributes:
        net: what is told.
        scale: of the net.

    Args:
        net: see :func:`~sharpkd.nets.base.is_told`.
        estimator: gives at least as many numbers as the net is told, in the same order.

    Raises:
        CheckpointError: the estimator gives fewer.
    """

    def __init__(self, net: RestorationNet, estimator: BlurEstimator) -> None:
        super().__init__()
        if len(estimator.conditions) < net.condition_size:
            raise CheckpointError(
                f"{type(net).__name__} is told {net.condition_size} numbers, and the estimator finds "
                f"{', '.join(estimator.conditions)}; tell the net the truth with use_condition=true"
            )
        self.net, self.scale = net, net.scale
        self.estimator = estimator

    def forward(self, degraded: Tensor, condition: Tensor | None = None) -> Tensor:
        """``(N, 3, h, w)`` in [0, 1]; where there is no condition, it is estimated from each image."""
        if condition is None:
            with torch.no_grad():
                condition = self.estimator(degraded.contiguous()).condition
        return self.net(degraded, condition)


def blind(net: nn.Module) -> nn.Module:
    """The net itself, or with the packaged estimator before it where it is told what was done to an image."""
    if not is_told(net):
        return net
    assert isinstance(net, RestorationNet)
    return BlindNet(net, load_estimator()).eval()


def estimator_behind(net: nn.Module) -> str:
    """SHA-256 of the estimator's file where :func:`blind` would bring one; else empty."""
    return file_sha256(shipped_estimator()) if is_told(net) else ""
