"""Starts the ranks of a run through torchrun, watches over them, and says in one line why they ended.

Started by ``sharpkd.runs.launch``, never by hand.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from torch.distributed import run as torchrun
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

from sharpkd.runs.parent import AGENT, LOST_RANK, TERMINATED, end_with

RANK = "sharpkd.runs.rank"


def main(plan_file: str, ranks: int, parent: int, error_file: str) -> int:
    """Run the ranks to their end.

    Args:
        plan_file: what the launcher wrote for them.
        ranks: how many.
        parent: process id of the launcher; when it is gone, the ranks save their state and end.
        error_file: where the reason is written when they fail.

    Returns:
        The exit code: 0, 143 where they were asked to end, or 1.
    """
    end_with(parent)
    os.environ[AGENT] = str(os.getpid())
    # torchrun tells its own story of every failure, in a hundred lines
    logging.disable(logging.CRITICAL)
    with tempfile.TemporaryDirectory(prefix="sharpkd_ranks_") as folder:
        arguments = ["--standalone", f"--nproc-per-node={ranks}", f"--log-dir={folder}"]
        try:
            torchrun.run(torchrun.parse_args([*arguments, "-m", RANK, plan_file]))
        except ChildFailedError as error:
            if all(failure.exitcode == TERMINATED for failure in error.failures.values()):
                return TERMINATED
            Path(error_file).write_text(first_cause(error.failures, recorded(Path(folder))), encoding="utf-8")
            return 1
        except SignalException as stopped:
            return 128 + int(stopped.sigval)
    return 0


def recorded(folder: Path) -> dict[int, str]:
    """What each rank that failed by an exception wrote about it, by local rank."""
    found = {}
    for file in folder.rglob("error.json"):
        found[int(file.parent.name)] = str(json.loads(file.read_text(encoding="utf-8"))["message"])
    return found


def first_cause(failures: Mapping[int, ProcessFailure], messages: Mapping[int, str]) -> str:
    """One line about the failure that the others follow from.

    A rank that was killed comes first: it cannot say anything, but those that it left waiting do. Then come
    ranks with an error of their own.

    Args:
        failures: by rank, of those that ended first.
        messages: of every rank that recorded an exception.
    """
    for rank, failure in failures.items():
        if failure.exitcode < 0 and failure.exitcode != -signal.SIGTERM:
            return f"rank {rank} (process {failure.pid}) was killed by {failure.signal_name()}"
    own = {rank: text for rank, text in messages.items() if not text.startswith(LOST_RANK)}
    for rank, text in sorted((own or messages).items()):
        return f"rank {rank}: {text}"
    rank, failure = next(iter(failures.items()))
    return f"rank {rank} (process {failure.pid}) ended with exit code {failure.exitcode}"


if __name__ == "__main__":
    plan, number, launcher, reason = sys.argv[1:]
    sys.exit(main(plan, int(number), int(launcher), reason))
