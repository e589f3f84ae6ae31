"""Pillow's remarks on files that are large or damaged, kept from people's screens."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

# Python's warning filters are one for all threads.
_filters = threading.RLock()


@contextmanager
def quiet() -> Iterator[None]:
    """Without Pillow's remarks on large images (`MAX_PIXELS` decides) and on damaged metadata.

    One thread at a time: nothing that takes long belongs inside.
    """
    with _filters, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
