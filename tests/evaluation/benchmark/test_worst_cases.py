"""Which images people get to see."""

from __future__ import annotations

from sharpkd.evaluation.benchmark.worst_cases import Case, worst_cases
from sharpkd.evaluation.rows import Row


def rows_of(model: str, track: str, psnr: dict[str, float]) -> list[Row]:
    return [
        Row(model, "Set5", image, "", track, f"{track}/1", value, 0.9, value, None)
        for image, value in psnr.items()
    ]


BEFORE = {"a": 20.0, "b": 20.0, "c": 20.0, "d": 20.0, "e": 20.0}
INPUT = rows_of("input", "gaussian", BEFORE) + rows_of("input", "lowres", BEFORE)
NET = rows_of("net", "gaussian", {"a": 25, "b": 19, "c": 21, "d": 22, "e": 23})
OTHER = rows_of("net", "lowres", {"a": 22, "b": 23, "c": 24, "d": 25, "e": 26})


def test_the_worst_come_first_and_every_track_has_its_turn() -> None:
    cases = worst_cases(INPUT + NET + OTHER, ["net"], 3)
    assert cases[:2] == [
        Case("Set5", "b", "gaussian/1", -1.0),
        Case("Set5", "a", "lowres/1", 2.0),
    ]
    assert cases[2].gain == 3.0  # the median of ten


def test_without_room_for_more_only_the_worst() -> None:
    assert worst_cases(INPUT + NET + OTHER, ["net"], 1) == [Case("Set5", "b", "gaussian/1", -1.0)]


def test_other_models_and_the_input_do_not_count() -> None:
    baseline = rows_of("unsharp", "gaussian", dict.fromkeys("abcde", 0.0))
    cases = worst_cases(INPUT + NET + baseline, ["net", "input"], 9)
    assert [case.image for case in cases] == ["b", "c", "d", "e", "a"]


def test_super_resolution_has_its_turn_too() -> None:
    enlarged = rows_of("input", "sr", BEFORE) + rows_of("net", "sr", dict.fromkeys("abcde", 20.5))
    cases = worst_cases(INPUT + NET + enlarged, ["net"], 3)
    assert cases[:2] == [Case("Set5", "b", "gaussian/1", -1.0), Case("Set5", "a", "sr/1", 0.5)]


def test_of_a_fair_number_none_is_shown_twice() -> None:
    second = rows_of("second", "gaussian", {"a": 21, "b": 18, "c": 22, "d": 23, "e": 24})
    cases = worst_cases(INPUT + NET + second, ["net", "second"], 4)
    assert len({case.image for case in cases}) == 4
    # of two models that fail on one image, the one that does worse
    assert cases[0] == Case("Set5", "b", "gaussian/1", -2.0)


def test_no_rows_no_cases() -> None:
    assert worst_cases([], ["net"], 3) == []
