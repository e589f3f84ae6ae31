"""The commands in this process, with a main function that only notes its configuration."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from omegaconf import DictConfig

from sharpkd.config import entry


@dataclass(frozen=True)
class Noted:
    """How a command ended, what it printed, and the configurations of its jobs."""

    code: int
    out: str
    err: str
    jobs: list[DictConfig]


@pytest.fixture
def command(call: Callable[..., Any]) -> Callable[..., Noted]:
    """``command(*arguments, main=…, name="train")``: a command whose ``main`` by default does nothing."""

    def run(
        *arguments: str, main: Callable[[DictConfig], float] = lambda cfg: 0.0, name: str = "train"
    ) -> Noted:
        jobs: list[DictConfig] = []

        def noted(cfg: DictConfig) -> float:
            jobs.append(cfg)
            return main(cfg)

        outcome = call(entry(name)(noted), *arguments)
        return Noted(outcome.code, outcome.out, outcome.err, jobs)

    return run
