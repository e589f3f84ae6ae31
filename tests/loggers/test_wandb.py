"""The W&B logger against wandb itself (offline), and against a wandb that fails."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import wandb

from sharpkd.loggers.wandb import WandbLogger


class RecordingRun:
    """What the logger uses of a W&B run."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.logged: list[dict[str, Any]] = []
        self.summary: dict[str, Any] = {}
        self.exit_codes: list[int] = []
        self.dir, self.url = "/runs/offline-run/files", "https://example.org/run"

    def define_metric(self, *args: Any, **kwargs: Any) -> None:
        self.axis = kwargs["step_metric"]

    def log(self, row: dict[str, Any]) -> None:
        if self.error:
            raise self.error
        self.logged.append(row)

    def finish(self, exit_code: int) -> None:
        self.exit_codes.append(exit_code)


class FakeWandb:
    """``wandb.init`` that records its arguments; online it may fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, logged_in: bool = False) -> None:
        self.run = RecordingRun()
        self.online_error: Exception | None = None
        self.calls: list[dict[str, Any]] = []
        self.torn_down = 0
        monkeypatch.delenv("WANDB_MODE", raising=False)
        monkeypatch.setattr(wandb, "init", self.init)
        monkeypatch.setattr(wandb, "setup", lambda settings: None)
        monkeypatch.setattr(wandb, "login", lambda prompt, verify: logged_in)
        monkeypatch.setattr(wandb, "teardown", self.teardown)

    def init(self, **arguments: Any) -> RecordingRun:
        self.calls.append(arguments)
        if arguments["mode"] == "online" and self.online_error:
            raise self.online_error
        return self.run

    def teardown(self) -> None:
        self.torn_down += 1


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeWandb:
    return FakeWandb(monkeypatch)


@pytest.fixture
def messages(caplog: pytest.LogCaptureFixture) -> Any:
    caplog.set_level(logging.INFO, logger="sharpkd.loggers.wandb")
    own = "sharpkd.loggers.wandb"
    return SimpleNamespace(all=lambda: [entry.message for entry in caplog.records if entry.name == own])


def test_offline_without_a_login_and_one_line_says_how_to_sync(
    fake: FakeWandb, messages: Any, tmp_path: Path
) -> None:
    (tmp_path / "config.yaml").write_text("loss:\n  beta: 0.01\n")
    logger = WandbLogger(tmp_path, name="job", group="sweep")
    logger.log_metrics({"train/loss": 0.5}, 3)
    logger.log_metrics({"train/loss": 0.4}, 4)
    logger.log_summary({"parameters": 12})
    call = fake.calls[0]
    assert len(fake.calls) == 1
    assert (call["mode"], call["name"], call["group"], call["project"]) == (
        "offline",
        "job",
        "sweep",
        "sharpkd",
    )
    assert call["config"] == {"loss": {"beta": 0.01}}
    assert fake.run.axis == "trainer/global_step"
    assert fake.run.logged[0] == {"train/loss": 0.5, "trainer/global_step": 3}
    assert fake.run.summary == {"parameters": 12}
    assert messages.all() == ["W&B records offline; send it with: wandb sync /runs/offline-run"]


def test_online_where_logged_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake = FakeWandb(monkeypatch, logged_in=True)
    WandbLogger(tmp_path).log_metrics({"a": 1.0}, 0)
    assert (fake.calls[0]["mode"], fake.calls[0]["resume"]) == ("online", "allow")


def test_the_environment_and_the_setting_come_before_the_login(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fake = FakeWandb(monkeypatch, logged_in=True)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    WandbLogger(tmp_path).log_metrics({"a": 1.0}, 0)
    WandbLogger(tmp_path, mode="offline").log_metrics({"a": 1.0}, 0)
    assert [call["mode"] for call in fake.calls] == ["disabled", "offline"]


def test_a_resumed_training_continues_the_same_run(fake: FakeWandb, tmp_path: Path) -> None:
    for _ in range(2):
        logger = WandbLogger(tmp_path)
        logger.log_metrics({"a": 1.0}, 0)
        logger.finish(1)
    first, second = (call["id"] for call in fake.calls)
    assert first == second == (tmp_path / "wandb_id.txt").read_text().strip()
    WandbLogger(tmp_path / "other").log_metrics({"a": 1.0}, 0)
    assert fake.calls[2]["id"] != first


def test_a_server_out_of_reach_becomes_an_offline_run(
    monkeypatch: pytest.MonkeyPatch, messages: Any, tmp_path: Path
) -> None:
    fake = FakeWandb(monkeypatch, logged_in=True)
    fake.online_error = wandb.errors.CommError("no route to host")
    logger = WandbLogger(tmp_path)
    logger.log_metrics({"a": 1.0}, 0)
    assert [call["mode"] for call in fake.calls] == ["online", "offline"]
    assert fake.torn_down == 1
    assert fake.run.logged == [{"a": 1.0, "trainer/global_step": 0}]
    assert messages.all()[0] == "W&B cannot be reached (CommError: no route to host)"


@pytest.mark.parametrize("error", [OSError("connection lost"), RuntimeError("run is in use")])
def test_trouble_while_training_is_one_warning(
    fake: FakeWandb, messages: Any, tmp_path: Path, error: Exception
) -> None:
    logger = WandbLogger(tmp_path, mode="offline")
    fake.run.error = error
    for step in range(3):
        logger.log_metrics({"a": 1.0}, step)
    logger.finish(0)
    expected = f"W&B did not take a message ({type(error).__name__}: {error}); the work goes on without it"
    assert [message for message in messages.all() if "did not take" in message] == [expected]
    assert fake.run.exit_codes == [0]


def test_finish_tells_failure_once_and_starts_nothing(fake: FakeWandb, tmp_path: Path) -> None:
    unused = WandbLogger(tmp_path)
    unused.finish(0)
    assert fake.calls == []
    logger = WandbLogger(tmp_path)
    logger.log_metrics({"a": 1.0}, 0)
    logger.finish(1)
    logger.finish(0)
    logger.log_metrics({"a": 1.0}, 1)
    assert fake.run.exit_codes == [1]
    assert len(fake.calls) == len(fake.run.logged) == 1


def test_unknown_mode(tmp_path: Path) -> None:
    expected = r"logger.wandb.mode is 'on'; expected one of online, offline, disabled, or null"
    with pytest.raises(ValueError, match=expected):
        WandbLogger(tmp_path, mode="on")  # type: ignore[arg-type]  # wrong on purpose


def test_wandb_itself_records_a_run_offline(
    monkeypatch: pytest.MonkeyPatch, messages: Any, tmp_path: Path
) -> None:
    monkeypatch.delenv("WANDB_MODE", raising=False)
    picture = tmp_path / "grid.png"
    from PIL import Image

    Image.new("RGB", (8, 8), "red").save(picture)
    logger = WandbLogger(tmp_path / "run", name="job-7", group="a-sweep", mode="offline")
    logger.log_metrics({"val/psnr": 31.25}, 10)
    logger.log_image("val/images", picture, 10)
    logger.log_summary({"parameters": 44108})
    logger.finish(0)
    (record,) = (tmp_path / "run" / "wandb").glob("offline-run-*/run-*.wandb")
    wanted = {b"val/psnr", b"31.25", b"trainer/global_step", b"44108", b"job-7", b"a-sweep", b"val/images"}
    # W&B's own process writes it, and on a busy machine not before finish has returned
    until = time.monotonic() + 60
    while (missing := {one for one in wanted if one not in record.read_bytes()}) and time.monotonic() < until:
        time.sleep(0.1)
    assert not missing
    assert messages.all() == [f"W&B records offline; send it with: wandb sync {record.parent}"]
    assert wandb.run is None
