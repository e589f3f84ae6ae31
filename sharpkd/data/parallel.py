"""Work that every file needs once, in threads, with a progress bar when it takes long."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

MOST_THREADS = 4
SECONDS_BEFORE_PROGRESS = 1.0

Item = TypeVar("Item")
Result = TypeVar("Result")


def each_once(work: Callable[[Item], Result], items: Sequence[Item], title: str) -> Iterator[Result]:
    """What ``work`` returns for each item, in their order.

    Args:
        work: called in at most four threads at once.
        items: what it is called with.
        title: stands before the bar, which appears on stderr after a second.

    Raises what ``work`` raises, at that item; those that have not begun are then left out.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    progress = Progress(*columns, console=Console(stderr=True))
    task = progress.add_task(title, total=len(items))
    began = time.monotonic()
    with ThreadPoolExecutor(min(MOST_THREADS, os.cpu_count() or 1)) as pool:
        try:
            for result in pool.map(work, items):
                if not progress.live.is_started and time.monotonic() - began > SECONDS_BEFORE_PROGRESS:
                    progress.start()
                progress.advance(task)
                yield result
        finally:
            pool.shutdown(cancel_futures=True)
            if progress.live.is_started:
                progress.stop()
