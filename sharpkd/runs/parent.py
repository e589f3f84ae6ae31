"""Processes that start others: what they agree on, and that none outlives the one that started it."""

from __future__ import annotations

import os
import signal
import threading
import time

LOOKS_EVERY_SECONDS = 1.0
GRACE_SECONDS = 30.0
# exit code after SIGTERM, as shells have it
TERMINATED = 143
# variable in which ranks find the process id of the agent that started them
AGENT = "SHARPKD_AGENT"
# how the message of a rank begins that failed because another one had gone
LOST_RANK = "lost another rank"


def end_with(parent: int) -> None:
    """Watch the process that has started this one; when it is gone, ask this one to end, as SIGTERM does.

    What kill -9 took cannot tell its children, and ranks that nobody waits for would train on. After half a
    minute the process ends, whatever it is doing: a rank may be waiting for another one that is no more.

    Args:
        parent: its process id, as it said it itself, so that one that is gone already counts as gone.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(LOOKS_EVERY_SECONDS)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(GRACE_SECONDS)
        os._exit(TERMINATED)

    threading.Thread(target=watch, name="parent", daemon=True).start()
