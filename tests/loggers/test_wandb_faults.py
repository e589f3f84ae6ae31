"""wandb itself against a server that is not there, one that never answers, and a full disk: work goes on."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import wandb

from sharpkd.loggers import wandb as module
from sharpkd.loggers.wandb import WandbLogger

from ..conftest import fill

ROWS = 500


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """W&B's own process reads the environment when it starts; half as patient as it is for people."""
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setattr(module, "START_SECONDS", 2)
    monkeypatch.setattr(module, "FINISH_SECONDS", 2)
    wandb.teardown()
    yield
    wandb.teardown()


def _log(logger: WandbLogger, first: int = 0) -> float:
    """Seconds that many rows and the end took."""
    began = time.monotonic()
    for step in range(first, first + ROWS):
        logger.log_metrics({"train/loss": 1.0 / (step + 1)}, step)
    logger.log_summary({"parameters": 3})
    logger.finish(0)
    return time.monotonic() - began


@pytest.mark.parametrize(
    "answers",
    [
        pytest.param(False, marks=pytest.mark.torture, id="nobody there"),
        pytest.param(True, id="never answers"),
    ],
)
def test_a_server_out_of_reach_costs_seconds_and_nothing_else(
    answers: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    with socket.socket() as server, caplog.at_level(logging.INFO, logger=module.__name__):
        server.bind(("127.0.0.1", 0))
        if answers:
            server.listen(100)
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{server.getsockname()[1]}")
        assert _log(WandbLogger(tmp_path, mode="online")) < 60
    messages = [record.message for record in caplog.records if record.name == module.__name__]
    assert len(messages) == 2
    assert messages[0].startswith("W&B cannot be reached (CommError: ")
    assert messages[1].startswith("W&B records offline; send it with: wandb sync ")
    (record,) = (tmp_path / "wandb").glob("offline-run-*/run-*.wandb")
    until = time.monotonic() + 60
    while b"train/loss" not in record.read_bytes() and time.monotonic() < until:
        time.sleep(0.1)
    assert b"train/loss" in record.read_bytes()


@pytest.mark.torture
def test_a_disk_that_fills_up_under_a_run_stops_nothing(
    small_disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    logger = WandbLogger(small_disk / "run", mode="offline")
    logger.log_metrics({"train/loss": 2.0}, 0)
    fill(small_disk)
    assert _log(logger, 1) < 60


@pytest.mark.torture
def test_a_disk_that_is_full_from_the_beginning_stops_nothing(
    small_disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fill(small_disk)
    assert _log(WandbLogger(small_disk / "run", mode="offline")) < 60
    messages = [record.message for record in caplog.records if record.name == module.__name__]
    assert len(messages) == 1
    assert messages[0].startswith("W&B cannot start (")
    assert messages[0].endswith("; the work goes on without it")
