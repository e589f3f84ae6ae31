"""A loader's worker processes: how they are started, and who may end them."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import cv2

# macOS and Windows do not tell; there a signal does what torch lets it do
SENDER_IS_TOLD = hasattr(signal, "sigwaitinfo")


def start_method(workers: int) -> str | None:
    """How a loader starts its workers: None is the way in which this process starts others anyway.

    In joblib's processes (``hydra/launcher=parallel``) that way is joblib's own, which cannot start torch's
    workers. There it is the platform's default: fork, or where Python does not, spawn or forkserver.

    Args:
        workers: how many; torch takes no way for none.
    """
    methods = multiprocessing.get_all_start_methods()
    if workers == 0 or multiprocessing.get_start_method(allow_none=True) in (None, *methods):
        return None
    return methods[0]


def begin_worker(worker: int) -> None:
    """To be called first in every worker.

    Workers are the parallelism; OpenCV's own threads would fight over the same cores.

    SIGTERM, Ctrl-C and SLURM's announcement of the end are sent to whole groups of processes, by torchrun,
    ``timeout`` and terminals. What follows from them is decided by the process that trains, and it needs its
    batches for that: a worker ends when that process sends SIGTERM, has no more work for it, or is gone.
    """
    cv2.setNumThreads(1)
    if SENDER_IS_TOLD:
        signal.pthread_sigmask(signal.SIG_BLOCK, _group_signals())
        threading.Thread(target=_hear, args=(os.getppid(),), name="signals", daemon=True).start()


@contextmanager
def starting_workers() -> Iterator[None]:
    """In this block workers can be started, whatever this process has done with OpenCV before.

    OpenCV's threads end for a while: a process forked beside them would wait for them for ever. Signals are
    held back until the block ends, so that a worker hears none before ``begin_worker``.
    """
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    heard = signal.pthread_sigmask(signal.SIG_BLOCK, _group_signals()) if SENDER_IS_TOLD else None
    try:
        yield
    finally:
        cv2.setNumThreads(threads)
        if heard is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, heard)


def _group_signals() -> set[signal.Signals]:
    return {signal.SIGTERM, signal.SIGINT, signal.SIGUSR1}


def _hear(parent: int) -> None:
    """End at SIGTERM from ``parent``: so torch ends workers that do not answer."""
    while True:
        heard = signal.sigwaitinfo(_group_signals())
        if heard.si_signo == signal.SIGTERM and heard.si_pid == parent:
            os._exit(0)
