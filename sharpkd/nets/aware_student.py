"""A student that is told the blur, and becomes a plain net for one image's blur."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from sharpkd.nets.base import at_least
from sharpkd.nets.pixel_student import PixelStudent

MIN_CONDITION, MAX_CONDITION = -1.0, 1.0


class Modulation(nn.Module):
    """FiLM's generator: the condition -> a scale and a shift for every channel of every layer.

    Source: Perez et al., "FiLM: Visual Reasoning with a General Conditioning Layer", AAAI 2018, equations 1
    and 2, with the scale as 1 + what the network says (their section 3.1), so that it starts as the identity,
    to within what gradients need to reach the hidden layer.

    Args:
        limits: the largest value of each number of the condition that is told apart from larger ones.
        hidden: units of the hidden layer.
        layers: how many layers are modulated.
        width: channels of each.
    """

    limits: Tensor

    def __init__(self, limits: list[float], hidden: int, layers: int, width: int) -> None:
        super().__init__()
        self.layers, self.width = layers, width
        last = nn.Linear(hidden, layers * 2 * width)
        nn.init.normal_(last.weight, std=2e-3 / hidden**0.5)
        nn.init.zeros_(last.bias)
        self.body = nn.Sequential(nn.Linear(len(limits), hidden), nn.SiLU(), last)
        # a setting of the net, not a weight
        self.register_buffer("limits", torch.tensor(limits), persistent=False)

    def forward(self, condition: Tensor) -> tuple[Tensor, Tensor]:
        """(N, k), each number from 0 to its limit -> scales and shifts, both (layers, N, width)."""
        share = (condition / self.limits).clamp(0, 1)
        told = self.body(MIN_CONDITION + share * (MAX_CONDITION - MIN_CONDITION))
        scale, shift = told.view(-1, self.layers, 2, self.width).permute(2, 1, 0, 3)
        return 1 + scale, shift


class AwareStudent(PixelStudent):
    """:class:`PixelStudent` that is told what was done to the image, blur sigma first.

    Every convolution but the last is followed by FiLM, then by its PReLU. There FiLM is linear and lies
    before the next layer's zero padding, so :meth:`fold` can hide it in the convolution exactly.

    The condition is (N, k), as ``Batch.condition``; k is the number of ``condition_limits``, and numbers
    beyond the first k are not looked at (sigma comes first everywhere). Each is brought from [0, limit] to
    [-1, 1]; what lies outside counts as the nearer end.

    Without a condition (None) all its numbers are 0: an image to which nothing is known to have been done.
    The net then does the least that it has learnt to do, which spoils no sharp image; to be asked for sigma
    would break everything that times, counts, exports or tries a net without knowing one. Training it without
    a condition would be a mistake: the modules of sharpkd.modules refuse that, and ask for
    ``module.use_condition=true``.

    Args:
        unshuffle, width, depth, scale, luma_only, rep: as of :class:`PixelStudent`.
        condition_limits: the largest value of each number of the condition, in its own unit (sigma: pixels),
            above 0. Larger ones are treated as this.
        hidden: units of the hidden layer of the small network that reads the condition (>= 1).

    Raises ValueError naming the argument, what was found and what was expected.
    """

    def __init__(
        self,
        unshuffle: int = 2,
        width: int = 32,
        depth: int = 6,
        scale: int = 1,
        luma_only: bool = False,
        rep: bool = False,
        condition_limits: list[float] | None = None,
        hidden: int = 32,
    ) -> None:
        super().__init__(unshuffle, width, depth, scale, luma_only, rep)
        limits = [4.0] if condition_limits is None else [float(one) for one in condition_limits]
        if not limits or not all(0 < one < float("inf") for one in limits):
            raise ValueError(
                f"condition_limits: found {condition_limits}, expected at least one finite number above 0"
            )
        self.condition_limits, self.condition_size = limits, len(limits)
        self.hidden = at_least("hidden", hidden, 1)
        self.modulation = Modulation(limits, hidden, depth - 1, width)

    def arguments(self) -> dict[str, Any]:
        return {
            **super().arguments(),
            "condition_limits": list(self.condition_limits),
            "hidden": self.hidden,
        }

    def restore(self, image: Tensor) -> Tensor:
        return self.restore_told(image, None)

    def restore_told(self, image: Tensor, condition: Tensor | None) -> Tensor:
        scales, shifts = self.modulation(self._read(condition, image))
        features = self.cells(image)
        for i in range(self.depth - 1):
            features = self.body[2 * i](features) * scales[i, :, :, None, None] + shifts[i, :, :, None, None]
            features = self.body[2 * i + 1](features)
        return self.add_residual(image, features)

    def _read(self, condition: Tensor | None, image: Tensor) -> Tensor:
        """What the modulation reads: (N, condition_size)."""
        if condition is None:
            return image.new_zeros(image.shape[0], self.condition_size)
        shape = tuple(condition.shape)
        if condition.ndim != 2 or shape[0] != image.shape[0] or shape[1] < self.condition_size:
            raise ValueError(
                f"condition: expected ({image.shape[0]}, k) with k >= {self.condition_size}, one row for "
                f"each image and blur sigma first, found shape {shape}"
            )
        return condition[:, : self.condition_size].to(image)

    @torch.no_grad()
    def fold(self, condition: Tensor) -> PixelStudent:
        """The plain net that this one is for images of one condition: as fast as if nothing had been told.

        With s and t the scale and shift of a channel and W, b its convolution's: s(Wx + b) + t is the
        convolution of sW and sb + t.

        Args:
            condition: (k,), of one image.

        Returns:
            A net of its own, in the same mode, on the same device: a copy, not a view of these weights.

        Raises:
            ValueError: the condition is not (k,), or has fewer numbers than the net is told.
        """
        if condition.ndim != 1 or condition.shape[0] < self.condition_size:
            raise ValueError(
                f"condition: expected the one of a single image, (k,) with k >= {self.condition_size}, found "
                f"shape {tuple(condition.shape)}"
            )
        weight = self.tail.weight
        with torch.random.fork_rng(devices=[]):
            plain = self._plain().to(weight)
        told, _ = self.deployed()
        state = {key: value for key, value in told.state_dict().items() if key.startswith(("body.", "tail."))}
        scales, shifts = self.modulation(condition[None, : self.condition_size].to(weight))
        for i in range(self.depth - 1):
            name, scale = f"body.{2 * i}", scales[i, 0]
            state[f"{name}.weight"] = state[f"{name}.weight"] * scale[:, None, None, None]
            state[f"{name}.bias"] = state[f"{name}.bias"] * scale + shifts[i, 0]
        plain.load_state_dict(plain.state_dict() | state)
        return plain.train(self.training)

    def _plain(self) -> PixelStudent:
        """The net that :meth:`fold` fills."""
        return PixelStudent(**{**PixelStudent.arguments(self), "rep": False})
