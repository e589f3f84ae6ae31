"""A rank, the agent above it or the command that started all dies: the others end soon, with one line."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from torch.distributed import DistNetworkError
from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

from sharpkd.checkpoint import read_lightning
from sharpkd.runs import rank as rank_module
from sharpkd.runs.agent import first_cause
from sharpkd.runs.folder import RunFolder
from sharpkd.runs.rank import lost_rank

STEPS = 5000


def _running(word: str, folder: Path) -> list[int]:
    """Process ids of this machine whose command line has both."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().decode().split("\0")
        except (FileNotFoundError, ProcessLookupError):
            continue
        # a process that has ended and that nobody has asked about yet has no words any more
        if word in words and any(str(folder) in one for one in words):
            found.append(int(entry.name))
    return found


def _parent(number: int) -> int:
    """Process id of who started this process."""
    # the name before it may hold anything but ends with the last bracket
    return int(Path("/proc", str(number), "stat").read_text().rpartition(")")[2].split()[1])


def _wait(condition: Callable[[], bool], seconds: float, what: str) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, f"{what} within {seconds} s"
        time.sleep(0.05)


@dataclass
class Ranks:
    """A training of two ranks, with as many workers as by default, that has saved a checkpoint."""

    process: subprocess.Popen[str]
    folder: RunFolder

    def ids(self) -> list[int]:
        """Of the ranks, without the workers that load their batches."""
        all_of_them = self.all_ids()
        return [number for number in all_of_them if _parent(number) not in all_of_them]

    def all_ids(self) -> list[int]:
        return _running("sharpkd.runs.rank", self.folder.path)

    def agents(self) -> list[int]:
        return _running("sharpkd.runs.agent", self.folder.path)


@pytest.fixture
def ranks(
    command: Callable[..., list[str]], tiny: list[str], tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Ranks]:
    """Its parameter: the steps between two checkpoints."""
    every = getattr(request, "param", 4)
    settings = [setting for setting in tiny if setting != "data.workers=0"]
    settings += ["trainer=ddp_spawn_cpu", "data.batch_size=2", f"trainer.max_steps={STEPS}"]
    settings += ["trainer.val_check_interval=5000", f"callbacks.last.every_n_train_steps={every}", "run=two"]
    folder = RunFolder(tmp_path / "outputs" / "scratch" / "two")
    process = subprocess.Popen(
        command("experiment=scratch", *settings),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    running = Ranks(process, folder)
    try:
        _wait(lambda: folder.last_checkpoint.is_file() or process.poll() is not None, 240, "a checkpoint")
        assert process.poll() is None, process.communicate()
        assert len(running.ids()) == 2
        # each has one that loads
        assert len(running.all_ids()) == 4
        yield running
    finally:
        process.kill()
        for number in [*running.agents(), *running.all_ids()]:
            os.kill(number, signal.SIGKILL)


@pytest.mark.torture
def test_a_killed_rank_ends_the_others_with_one_line(ranks: Ranks) -> None:
    victim = max(ranks.ids())
    began = time.monotonic()
    os.kill(victim, signal.SIGKILL)
    out, err = ranks.process.communicate(timeout=240)
    assert time.monotonic() - began < 60
    assert ranks.process.returncode == 1
    (line,) = [line for line in (out + err).splitlines() if line.startswith("error: ")]
    reason = f"(process {victim}) was killed by SIGKILL; the other ranks were stopped. resume=auto continues"
    assert reason in line
    assert "Traceback" not in out + err
    assert "lost" not in out + err
    assert reason in ranks.folder.status()["error"]
    assert ranks.all_ids() == ranks.agents() == []
    assert read_lightning(ranks.folder.last_checkpoint)["global_step"] >= 4


@pytest.mark.torture
@pytest.mark.parametrize("ranks", [200], indirect=True)
def test_sigterm_has_the_ranks_save_their_state(ranks: Ranks) -> None:
    """The agent passes it on to all processes of a rank, those that load too."""
    ranks.process.send_signal(signal.SIGTERM)
    out, err = ranks.process.communicate(timeout=240)
    assert ranks.process.returncode == 143, err
    assert "Traceback" not in out + err
    assert read_lightning(ranks.folder.last_checkpoint)["global_step"] % 200 != 0
    assert ranks.folder.status()["error"] == "ended by SIGTERM; resume=auto continues it"
    assert ranks.all_ids() == ranks.agents() == []


@pytest.mark.torture
@pytest.mark.parametrize("who", ["command", "agent"])
def test_nobody_outlives_who_started_it(who: str, ranks: Ranks) -> None:
    """kill -9 of the command leaves no ranks behind; they save their state before they end."""
    before = read_lightning(ranks.folder.last_checkpoint)["global_step"]
    os.kill(ranks.process.pid if who == "command" else ranks.agents()[0], signal.SIGKILL)
    _, err = ranks.process.communicate(timeout=240)
    _wait(lambda: not ranks.all_ids() and not ranks.agents(), 60, "no rank and no agent")
    after = read_lightning(ranks.folder.last_checkpoint)["global_step"]
    assert before <= after < STEPS
    if who == "agent":
        assert "error: the process that starts the ranks ended with exit code -9" in err


# what the agent starts in place of a training: rank 1 does what it is told, rank 0 works on and deafly
STAND_IN = """
import json, os, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
if os.environ["RANK"] == "1":
    if sys.argv[1] == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if sys.argv[1] == "failed":
        with open(os.environ["TORCHELASTIC_ERROR_FILE"], "w") as file:
            json.dump({"message": "the loss is nan at step 3; images: a, b"}, file)
        sys.exit(1)
open(f"{sys.argv[1]}.{os.environ['RANK']}.{os.getpid()}", "w").close()
time.sleep(200)
"""
AGENT = "import sys; from sharpkd.runs import agent; agent.RANK = 'stand_in'; sys.exit(agent.main({}))"


def _agent(fate: str, folder: Path, parent: int) -> subprocess.Popen[str]:
    (folder / "stand_in.py").write_text(STAND_IN)
    code = AGENT.format(f"{fate!r}, 2, {parent}, 'error.txt'")
    environment = {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    return subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.parametrize(
    ("fate", "reason"),
    [
        ("killed", r"rank 1 \(process \d+\) was killed by SIGKILL"),
        ("failed", "rank 1: the loss is nan at step 3; images: a, b"),
    ],
)
def test_the_agent_stops_the_others_and_writes_one_line(fate: str, reason: str, tmp_path: Path) -> None:
    agent = _agent(fate, tmp_path, os.getpid())
    said, _ = agent.communicate(timeout=240)
    assert (agent.returncode, said) == (1, "")
    assert re.fullmatch(reason, (tmp_path / "error.txt").read_text())
    for survivor in tmp_path.glob(f"{fate}.0.*"):
        assert not Path("/proc", survivor.suffix[1:]).exists()


def test_an_agent_without_its_launcher_ends_its_ranks(tmp_path: Path) -> None:
    """The launcher is gone: its process id is nobody's any more."""
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    agent = _agent("working", tmp_path, gone.pid)
    agent.communicate(timeout=240)
    assert agent.returncode in (143, -signal.SIGTERM)
    for started in tmp_path.glob("working.*"):
        assert not Path("/proc", started.suffix[1:]).exists()


@pytest.mark.parametrize(
    ("error", "recorded", "traced"),
    [
        (FloatingPointError("the loss is nan;\n images: a"), "the loss is nan; images: a", False),
        (
            RuntimeError("[gloo/pair.cc:547] Connection closed"),
            "lost another rank ([gloo/pair.cc:547]",
            False,
        ),
        (KeyError("weights"), "'weights'", True),
    ],
)
def test_a_rank_leaves_its_error_to_the_agent(
    error: Exception,
    recorded: str,
    traced: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    """Only what nobody but a programmer can mend is told by the rank itself."""

    def fails(*_: object) -> None:
        raise error

    def leave(code: int) -> None:
        raise SystemExit(code)

    monkeypatch.setattr(rank_module, "run_training", fails)
    monkeypatch.setattr(rank_module, "end_with", lambda parent: None)
    monkeypatch.setattr("os._exit", leave)
    monkeypatch.setenv("SHARPKD_AGENT", "1")
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(tmp_path / "error.json"))
    (tmp_path / "launch.yaml").write_text("config: {}\ncheckpoint: null\n")
    with pytest.raises(SystemExit) as ended:
        rank_module.main(str(tmp_path / "launch.yaml"))
    assert ended.value.code == 1
    assert json.loads((tmp_path / "error.json").read_text())["message"].startswith(recorded)
    assert ("Traceback" in capsys.readouterr().err) == traced


def _failure(rank: int, code: int) -> ProcessFailure:
    return ProcessFailure(local_rank=rank, pid=100 + rank, exitcode=code, error_file="none")


def test_the_first_cause_is_told() -> None:
    """Ranks that lost another one know less than that one, and one that was killed can say nothing."""
    failed = {0: _failure(0, 1), 1: _failure(1, -9)}
    lost = "lost another rank (Connection closed by peer)"
    assert first_cause(failed, {0: lost}) == "rank 1 (process 101) was killed by SIGKILL"
    both = {0: _failure(0, 1)}
    assert first_cause(both, {0: lost, 1: "the loss is nan at step 3; images: a, b"}) == (
        "rank 1: the loss is nan at step 3; images: a, b"
    )
    assert first_cause(both, {0: lost}) == f"rank 0: {lost}"
    assert first_cause({1: _failure(1, 7)}, {}) == "rank 1 (process 101) ended with exit code 7"


def test_what_a_lost_rank_looks_like() -> None:
    gloo = "[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:547] Connection closed by peer [::1]:42"
    for lost in (RuntimeError(gloo), DistNetworkError("Connection reset by peer")):
        assert lost_rank(lost) is lost
    assert lost_rank(RuntimeError("size mismatch")) is None
    assert lost_rank(ValueError("gloo")) is None


def test_what_follows_from_a_lost_rank() -> None:
    gloo = RuntimeError("[gloo/pair.cc:537] Connection reset by peer")
    during, caused, hidden = RuntimeError("a worker is killed"), OSError("closed"), KeyError("weights")
    during.__context__ = gloo
    caused.__cause__ = during
    hidden.__context__, hidden.__suppress_context__ = gloo, True
    assert lost_rank(during) is gloo
    assert lost_rank(caused) is gloo
    assert lost_rank(hidden) is None
