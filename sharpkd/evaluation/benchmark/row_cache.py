"""Scores that were measured before, on disk: what is measured once is never measured again.

One append-only file of JSON lines for each model. A line is written whole and flushed before the next is
measured, so an interrupted run keeps all but the image at hand; a torn last line is taken out of the file.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
from collections.abc import Iterable
from importlib.resources import files
from pathlib import Path

log = logging.getLogger(__name__)

Scores = dict[str, float | None]
"""``psnr``, ``ssim``, ``psnr_y`` and ``lpips`` of one output; see :class:`sharpkd.evaluation.rows.Row`."""


class RowCache:
    """The scores of one model, by key.

    Args:
        folder: created when the first score is kept.
        model: fingerprint of the model, part of the file's name.
    """

    def __init__(self, folder: Path, model: str) -> None:
        self.path = folder / f"{model[:24]}.jsonl"
        self._scores: dict[str, Scores] = {}
        if self.path.is_file():
            self._read()

    def __len__(self) -> int:
        return len(self._scores)

    def get(self, key: str) -> Scores | None:
        """What was kept under ``key``, or None."""
        return self._scores.get(key)

    def keep(self, key: str, scores: Scores) -> None:
        """Keep scores, on disk before this returns."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        line = json.dumps({"key": key, **scores}) + "\n"
        with self.path.open("a", encoding="utf-8") as file:
            file.write(line)
        self._scores[key] = scores

    def _read(self) -> None:
        text = self.path.read_text(encoding="utf-8", errors="replace")
        whole, dropped = [], 0
        for line in text.split("\n"):
            if not line:
                continue
            try:
                scores = json.loads(line)
                key = scores.pop("key")
            except (json.JSONDecodeError, KeyError, AttributeError, TypeError):
                dropped += 1
                continue
            whole.append(line)
            self._scores[key] = scores
        if dropped:
            log.warning("%s: %d broken line(s) left out; those images are measured again", self.path, dropped)
        if dropped or (text and not text.endswith("\n")):
            self._mend(whole)

    def _mend(self, lines: Iterable[str]) -> None:
        """Nobody is told of a broken line twice, and a torn one does not swallow the one that follows it."""
        draft = self.path.with_name(f"{self.path.name}.{os.getpid()}.part")
        # a folder that may only be read stays as it is
        with contextlib.suppress(OSError):
            draft.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
            draft.replace(self.path)


def key_of(*parts: str) -> str:
    """SHA-256 over parts that together decide a number."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(f"{len(part)}:{part}".encode())
    return digest.hexdigest()


def hash_of_sources(modules: Iterable[str]) -> str:
    """SHA-256 over the source of modules and packages of sharpkd, given as ``evaluation/scores`` or ``nets``.

    Raises:
        FileNotFoundError: there is no such module.
    """
    digest = hashlib.sha256()
    root = Path(str(files("sharpkd")))
    for module in modules:
        path = root / module
        sources = sorted(path.glob("*.py")) if path.is_dir() else [path.with_suffix(".py")]
        for source in sources:
            digest.update(source.name.encode() + b"\0" + source.read_bytes())
    return digest.hexdigest()
