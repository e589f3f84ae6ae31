"""Files that appear together or not at all."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path


def place(drafts: Sequence[Path], targets: Sequence[Path], spare: Path) -> None:
    """Rename each draft to its target; where one cannot be, what was there before is put back.

    Old files are set aside first, so that a program that is killed in between may leave none, but never an
    old file beside a new one: an IR's two belong together.

    Args:
        drafts: complete files on the targets' file system.
        targets: as many; existing ones are replaced.
        spare: an empty folder on the same file system, which the caller removes.

    Raises:
        OSError: a target cannot be replaced.
    """
    aside: list[tuple[Path, Path]] = []
    placed: list[Path] = []
    try:
        for target in targets:
            if target.exists():
                old = spare / target.name
                os.replace(target, old)
                aside.append((old, target))
        for draft, target in zip(drafts, targets, strict=True):
            os.replace(draft, target)
            placed.append(target)
    except BaseException:
        for target in placed:
            target.unlink(missing_ok=True)
        for old, target in aside:
            os.replace(old, target)
        raise
