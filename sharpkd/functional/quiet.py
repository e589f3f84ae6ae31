"""Pillow's remarks on files that are large or damaged, kept from people's screens."""

from __future__ import annotations

import threading
import warnings


class _Quiet:
    """Warnings ignored while at least one thread is inside.

    Filters belong to the process: were each thread to save and restore them, one could restore what another
    had set, and later warnings would be lost for good.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._filters = warnings.catch_warnings()

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._filters = warnings.catch_warnings()
                self._filters.__enter__()
                warnings.simplefilter("ignore")
            self._inside += 1

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._filters.__exit__(None, None, None)


_QUIET = _Quiet()


def quiet() -> _Quiet:
    """Without Pillow's remarks on large images (`MAX_PIXELS` decides) and on damaged files."""
    return _QUIET
