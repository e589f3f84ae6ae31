"""What there is to tell about a video before anything is done to it."""

from __future__ import annotations

from pathlib import Path

from sharpkd.inference.automatic import AutoSharpener
from sharpkd.inference.video.facts import facts_of

ORDERS = {True: "interlaced", False: "progressive"}


def video_rows(path: Path, sharpener: AutoSharpener) -> dict[str, str]:
    """Name -> text, in the order to show them.

    Args:
        path: of the video; its first frame is decoded.
        sharpener: would choose.

    Raises:
        VideoError: it cannot be read.
    """
    facts = facts_of(path)
    span = "full" if facts.full_range else "limited"
    return {
        "video": f"{facts.width}x{facts.height}, {facts.bits} bits, {facts.pixel_format}",
        "range": f"{span}, matrix {facts.known_matrix}" + ("" if facts.matrix != 2 else " (not named)"),
        "fields": ORDERS[facts.interlaced],
        "pixel aspect": str(facts.aspect),
        "auto": str(sharpener.choose_for_frames(facts.height, facts.width)),
    }
