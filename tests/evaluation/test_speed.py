"""Times a frame, on a clock that the tests turn."""

from __future__ import annotations

import logging
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from sharpkd.evaluation import speed
from sharpkd.evaluation.models import BaselineModel, Facts, Model
from sharpkd.evaluation.protocols import Condition, Image, Pair
from sharpkd.evaluation.speed import frame_milliseconds, measure_speed, remarks_on

SIZES = [(8, 12), (16, 24)]


class Clock:
    """Goes by a millisecond whenever it is read, and by what models add."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        self.now += 1e-3
        return self.now


class Slow(Model):
    """Takes so many milliseconds a pixel; the first frame ten times as long."""

    engine = "patience"

    def __init__(self, name: str, clock: Clock, ms_per_pixel: float, scale: int = 1) -> None:
        self.name, self.clock, self.ms, self.scale = name, clock, ms_per_pixel, scale
        self.seen: list[tuple[Pair, Condition]] = []

    def restore(self, pair: Pair, condition: Condition) -> Image:
        cold = pair.degraded.shape not in [seen.degraded.shape for seen, _ in self.seen]
        self.seen.append((pair, condition))
        height, width = pair.sharp.shape[:2]
        self.clock.now += height * width * self.ms / 1000 * (10 if cold else 1)
        return pair.sharp

    def facts(self) -> Facts:
        return {}


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(speed, "time", SimpleNamespace(perf_counter=clock.perf_counter))
    return clock


def test_medians_and_ratios(clock: Clock) -> None:
    results = measure_speed([Slow("slow", clock, 0.5)], SIZES, repeats=5, seconds=100)
    assert results["sizes"] == ["12x8", "24x16"]
    slow = results["models"]["slow"]
    assert (slow["engine"], slow["precision"], slow["scale"]) == ("patience", "float32", 1)
    for size, ms in (("12x8", 48 + 1), ("24x16", 192 + 1)):
        timing = slow["sizes"][size]
        assert timing["ms"] == pytest.approx(ms)
        assert timing["repeats"] == 5
        # each reading of the clock takes a millisecond, and the references nothing else
        assert timing["vs_unsharp"] == pytest.approx(ms)
        assert timing["vs_enhanced_cnn"] == pytest.approx(ms)
        for reference in results["references"].values():
            assert reference["sizes"][size]["ms"] == pytest.approx(1)
    assert list(results["references"]) == ["unsharp", "enhanced_cnn"]
    assert results["references"]["unsharp"]["sizes"]["12x8"]["vs_unsharp"] == pytest.approx(1)
    assert results["threads"] == torch.get_num_threads()
    assert results["cpu"]
    assert results["versions"]["torch"] == torch.__version__


@pytest.mark.parametrize(("seconds", "repeats"), [(0.45, 10), (0.2, 5), (0.08, 3), (1000.0, 30)])
def test_time_runs_out_but_not_before_three_frames(clock: Clock, seconds: float, repeats: int) -> None:
    model = Slow("slow", clock, 0.5)
    timing = measure_speed([model], SIZES[:1], repeats=30, seconds=seconds)["models"]["slow"]["sizes"]["12x8"]
    assert timing["repeats"] == repeats
    assert timing["ms"] == pytest.approx(49)
    assert len(model.seen) == repeats + 1


def test_sizes_that_would_take_too_long(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    # a frame of 0.049 s, then one of 0.196 s: beyond a third of the time, the CNN's limit
    monkeypatch.setattr(speed, "_enhanced_cnn", lambda: Slow("enhanced_cnn", clock, 0.5))
    results = measure_speed([Slow("fits", clock, 0.5), Slow("huge", clock, 5)], SIZES, repeats=3, seconds=0.5)
    cnn = results["references"]["enhanced_cnn"]["sizes"]
    assert cnn["12x8"]["ms"] == pytest.approx(49)
    blank = dict.fromkeys(("ms", "unsharp_ms", "vs_unsharp", "vs_enhanced_cnn"))
    assert cnn["24x16"] == {**blank, "repeats": 0, "left_out": "a frame would take about 0.2 s"}
    assert cnn["12x8"]["left_out"] is None
    fits, huge = (results["models"][name]["sizes"] for name in ("fits", "huge"))
    assert fits["12x8"]["vs_enhanced_cnn"] == pytest.approx(1)
    assert fits["24x16"]["ms"] == pytest.approx(193)
    assert fits["24x16"]["vs_unsharp"] == pytest.approx(193)
    assert fits["24x16"]["vs_enhanced_cnn"] is None
    assert huge["12x8"]["repeats"] == 3
    assert huge["24x16"]["ms"] is None
    assert huge["24x16"]["left_out"] == "a frame would take about 1.9 s"


def test_however_much_time_there_is_a_frame_may_not_take_longer_than_a_minute(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speed, "_enhanced_cnn", lambda: Slow("enhanced_cnn", clock, 55))
    models = [Slow("fits", clock, 150), Slow("huge", clock, 160)]
    results = measure_speed(models, SIZES, repeats=1, seconds=1000)
    # 384 pixels: 57.6 s, 61.4 s, and 21.1 s, of which the CNN has a third of a minute
    timed = results["models"] | results["references"]
    assert [timed[name]["sizes"]["24x16"]["repeats"] for name in ("fits", "huge", "enhanced_cnn")] == [
        1,
        0,
        0,
    ]


def test_people_are_told_where_fewer_frames_were_timed_and_where_none(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speed, "_enhanced_cnn", lambda: Slow("enhanced_cnn", clock, 2))
    results = measure_speed(
        [Slow("quick", clock, 0.01), Slow("slow", clock, 1)], SIZES, repeats=30, seconds=2
    )
    assert remarks_on(results) == [
        "Medians of fewer than the protocol's 30 frames: enhanced_cnn at 12x8 11, slow at 12x8 21, "
        "slow at 24x16 6.",
        "Not timed: enhanced_cnn at 24x16 (a frame would take about 0.77 s).",
    ]
    assert remarks_on(measure_speed([Slow("quick", clock, 0.01)], SIZES[:1])) == []


def test_only_what_can_be_used_is_timed(clock: Clock) -> None:
    names = ("input", "unsharp", "unsharp-oracle", "cas", "wiener-oracle", "richardson-lucy")
    models = [*map(BaselineModel, names), Slow("my-oracle", clock, 0.1)]
    results = measure_speed(models, [(24, 24)], repeats=1, seconds=1)
    assert list(results["models"]) == ["unsharp", "cas", "richardson-lucy", "my-oracle"]
    assert all(entry["sizes"]["24x24"]["repeats"] == 1 for entry in results["models"].values())


def test_an_enlarging_net_reads_so_much_less(clock: Clock) -> None:
    model = Slow("sr", clock, 0.1, scale=3)
    results = measure_speed([model], [(8, 13)], repeats=1, seconds=1)
    (pair, condition), *_ = model.seen
    assert pair.degraded.shape == (3, 5, 3)
    assert condition == Condition("sr", "sr/3", scale=3)
    assert results["models"]["sr"]["sizes"]["13x8"]["ms"] == pytest.approx(1 + 0.1 * 8 * 13)


def test_a_model_that_fails_is_left_blank(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    class Hungry(Slow):
        def restore(self, pair: Pair, condition: Condition) -> Image:
            if pair.degraded.shape[0] == 16:
                raise RuntimeError("not enough memory")
            return super().restore(pair, condition)

    model = Hungry("hungry", clock, 0.1)
    with caplog.at_level(logging.WARNING):
        results = measure_speed([model], [*SIZES, (32, 48)], repeats=2, seconds=1)
    sizes = results["models"]["hungry"]["sizes"]
    assert [sizes[size]["ms"] is None for size in results["sizes"]] == [False, True, True]
    assert caplog.messages == ["hungry cannot be timed at 24x16: not enough memory"]
    left_out = [sizes[size]["left_out"] for size in results["sizes"]]
    assert left_out == [None, "not enough memory", "it failed on a smaller frame"]


def test_threads_are_set_and_given_back(clock: Clock) -> None:
    used: list[tuple[int, int]] = []

    class Watching(Slow):
        def restore(self, pair: Pair, condition: Condition) -> Image:
            used.append((torch.get_num_threads(), cv2.getNumThreads()))
            return super().restore(pair, condition)

    before = torch.get_num_threads(), cv2.getNumThreads()
    results = measure_speed([Watching("w", clock, 0.1)], SIZES[:1], repeats=1, seconds=1, threads=2)
    assert set(used) == {(2, 2)}
    assert results["threads"] == 2
    assert (torch.get_num_threads(), cv2.getNumThreads()) == before


def test_the_random_numbers_of_others_stay_as_they_were(clock: Clock) -> None:
    state = torch.get_rng_state()
    measure_speed([], SIZES[:1], repeats=1, seconds=1)
    np.testing.assert_array_equal(torch.get_rng_state(), state)


def test_a_real_clock() -> None:
    results = measure_speed([BaselineModel("cas")], [(32, 48)], repeats=5, seconds=5)
    cas = results["models"]["cas"]["sizes"]["48x32"]
    cnn = results["references"]["enhanced_cnn"]["sizes"]["48x32"]
    assert cas["vs_unsharp"] == pytest.approx(cas["ms"] / cas["unsharp_ms"])
    assert cas["vs_enhanced_cnn"] == pytest.approx(cas["ms"] / cnn["ms"])
    assert cnn["vs_unsharp"] > 10


def test_the_unsharp_mask_is_timed_beside_each_model(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    class Tiring(Slow):
        """The machine is four times slower after it has run."""

        def restore(self, pair: Pair, condition: Condition) -> Image:
            monkeypatch.setattr(BaselineModel, "restore", slower)
            return super().restore(pair, condition)

    def slower(self: BaselineModel, pair: Pair, condition: Condition) -> Image:
        clock.now += 3e-3
        return pair.sharp

    models = [Slow("a", clock, 0.5), Tiring("b", clock, 0.5), Slow("c", clock, 0.5)]
    entries = measure_speed(models, SIZES[:1], repeats=4, seconds=9)["models"]
    beside = [entries[name]["sizes"]["12x8"]["unsharp_ms"] for name in "abc"]
    assert beside == pytest.approx([1, (1 + 4) / 2, 4])
    assert entries["c"]["sizes"]["12x8"]["vs_unsharp"] == pytest.approx(49 / 4)


def test_one_size_of_one_model(clock: Clock) -> None:
    assert frame_milliseconds(Slow("slow", clock, 0.5), (8, 12)) == pytest.approx(49)
    assert frame_milliseconds(BaselineModel("input"), (8, 12)) is None
    assert frame_milliseconds(BaselineModel("unsharp-oracle"), (8, 12)) is None


def _bad(**changes: Any) -> Callable[[], Any]:
    return lambda: measure_speed([], **changes)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (_bad(sizes=[]), r"speed needs sizes as \(height, width\) in pixels, got \[\]"),
        (_bad(sizes=[(0, 5)]), r"speed needs sizes as \(height, width\) in pixels, got \[\(0, 5\)\]"),
        (
            _bad(repeats=0),
            "repeats >= 1, seconds > 0 and threads >= 1, got repeats=0, seconds=60.0, threads=None",
        ),
        (_bad(seconds=0), "got repeats=30, seconds=0, threads=None"),
        (_bad(threads=0), "got repeats=30, seconds=60.0, threads=0"),
    ],
)
def test_settings_that_make_no_sense(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
