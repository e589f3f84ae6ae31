"""L_distill: a sum of named, weighted transfer terms.

L_distill = sum over terms of w_term * L_term
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from sharpkd.distillation.base import Observed, TransferTerm
from sharpkd.distillation.taps import capture, listed

__all__ = ["KnowledgeTransfer"]

TeacherInput = Literal["degraded", "low_res"]
HINT = "give a term a weight > 0, or train without a teacher: loss.delta=0 distillation=none"


class KnowledgeTransfer(nn.Module):
    """Weighted sum of the transfer terms that are switched on.

    ``terms``: name -> ``{"weight": float >= 0, "term": TransferTerm}``. A term of weight 0 (or a None entry)
    is dropped: not computed, its taps not captured, its adapters not built. ``weights`` keeps them all.

    ``teacher_input``: what the teacher is shown. ``degraded`` is what the student sees too; ``low_res`` is
    the small image that this was enlarged from, which a super-resolution net enlarges by itself.

    Raises:
        ValueError: no term is left, a weight is negative or not finite, an entry is malformed, or there is no
            such teacher input.
    """

    def __init__(
        self, terms: Mapping[str, Mapping[str, Any] | None], teacher_input: TeacherInput = "degraded"
    ) -> None:
        super().__init__()
        if teacher_input not in get_args(TeacherInput):
            raise ValueError(
                f"distillation.teacher_input is {teacher_input!r}, expected "
                f"{' or '.join(get_args(TeacherInput))}"
            )
        self.teacher_input: TeacherInput = teacher_input
        self.weights: dict[str, float] = {}
        self.terms = nn.ModuleDict()
        for name, entry in terms.items():
            if entry is None:
                continue
            weight, term = _checked(name, entry)
            self.weights[name] = weight
            if weight > 0:
                self.terms[name] = term
        if not self.terms:
            raise ValueError(f"distillation.terms switches nothing on (weights: {self.weights}): {HINT}")

    @property
    def student_taps(self) -> list[str]:
        """Every student tap that a switched-on term reads, each once: what to ``capture``."""
        return list(dict.fromkeys(tap for term in self._active().values() for tap in term.student_taps))

    @property
    def teacher_taps(self) -> list[str]:
        """Every teacher tap that a switched-on term reads, each once: what to ``capture``."""
        return list(dict.fromkeys(tap for term in self._active().values() for tap in term.teacher_taps))

    def prepare(
        self,
        student_net: nn.Module,
        teacher_net: nn.Module,
        student_input: Tensor | Sequence[Tensor],
        teacher_input: Tensor | Sequence[Tensor],
    ) -> None:
        """Probe both nets once without gradients, learn the taps' channels and build the adapters.

        Inputs are ``degraded`` (N, 3, h, w) or a sequence of the net's positional arguments. Adapters are
        made on the student input's device. Call it before the optimizer is created and before a checkpoint
        is loaded: adapters are part of the state. Both nets keep their mode, statistics and hooks.

        Raises:
            ValueError: a tap does not exist; the message lists those that do.
        """
        student_channels, device = _probe(student_net, self.student_taps, student_input)
        teacher_channels, _ = _probe(teacher_net, self.teacher_taps, teacher_input)
        for term in self._active().values():
            term.build(student_channels, teacher_channels)
        self.to(device)

    def forward(self, student: Observed, teacher: Observed) -> dict[str, Tensor]:
        """Return ``{"distill": weighted sum, "distill/<name>": unweighted term}``, float32 scalars.

        What a term reports beside its value stands there as ``distill/<name>/<what>``.

        Raises:
            ValueError: a term did not return a scalar.
        """
        values: dict[str, Tensor] = {}
        for name, term in self.terms.items():
            value = term(student, teacher)
            if value.ndim != 0:
                shape = tuple(value.shape)
                raise ValueError(f"distillation term {name!r} returned shape {shape}, expected a scalar")
            values[name] = value
        total = torch.stack([self.weights[name] * value for name, value in values.items()]).sum()
        found = {"distill": total, **{f"distill/{name}": value for name, value in values.items()}}
        for name, term in self._active().items():
            found |= {f"distill/{name}/{what}": value for what, value in term.reports().items()}
        return found

    def extra_repr(self) -> str:
        """Return the weights, for ``print``."""
        return ", ".join(f"{name}={weight:g}" for name, weight in self.weights.items())

    def _active(self) -> dict[str, TransferTerm]:
        return {name: term for name, term in self.terms.items() if isinstance(term, TransferTerm)}


def _checked(name: str, entry: Mapping[str, Any]) -> tuple[float, TransferTerm]:
    where = f"distillation.terms.{name}"
    if not name or "." in name:
        raise ValueError(f"{where}: a term's name must not be empty or hold a dot")
    if not isinstance(entry, Mapping) or set(entry) != {"weight", "term"}:
        found = sorted(entry) if isinstance(entry, Mapping) else repr(entry)
        raise ValueError(f"{where} has {found}, expected the keys weight and term")
    weight, term = entry["weight"], entry["term"]
    if type(weight) not in (int, float) or not math.isfinite(weight) or weight < 0:
        raise ValueError(f"{where}.weight is {weight!r}, expected a finite number >= 0 (0 switches it off)")
    if not isinstance(term, TransferTerm):
        raise ValueError(f"{where}.term is a {type(term).__name__}, expected a TransferTerm")
    return float(weight), term


@torch.no_grad()
def _probe(
    net: nn.Module, taps: list[str], inputs: Tensor | Sequence[Tensor]
) -> tuple[dict[str, int], torch.device]:
    arguments = (inputs,) if isinstance(inputs, Tensor) else tuple(inputs)
    if taps:
        with _evaluating(net), capture(net, taps) as features:
            net(*arguments)
    else:
        features = {}
    missing = [tap for tap in taps if tap not in features]
    if missing:
        raise ValueError(
            f"taps {missing} of {type(net).__name__} exist but do not run in its forward pass; choose "
            f"others. {listed(net)}"
        )
    return {tap: features[tap].shape[1] for tap in taps}, arguments[0].device


@contextmanager
def _evaluating(net: nn.Module) -> Iterator[None]:
    """Put every module in eval mode, so that a probe leaves no trace in batch-norm statistics."""
    modes = [(module, module.training) for module in net.modules()]
    try:
        for module, _ in modes:
            module.training = False
        yield
    finally:
        for module, training in modes:
            module.training = training
