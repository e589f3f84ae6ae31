"""A student and its control without a teacher start from the same weights."""

from __future__ import annotations

from pathlib import Path

from sharpkd.config import compose
from sharpkd.runs.training import build_module, set_process_defaults


def test_twins_start_from_the_same_weights(teacher: Path, tiny: list[str]) -> None:
    states = []
    for how in (
        ["experiment=scratch"],
        ["experiment=distill", f"teacher.path={teacher}"],
        ["experiment=distill", "loss.delta=0"],
    ):
        cfg = compose("train", [*tiny, *how])
        set_process_defaults(cfg)
        states.append(build_module(cfg).net.state_dict())
    for other in states[1:]:
        assert all(value.equal(other[key]) for key, value in states[0].items())
