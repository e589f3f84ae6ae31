import threading
import time

import pytest

from sharpkd.data import parallel
from sharpkd.data.parallel import MOST_THREADS, each_once


def test_results_come_in_the_order_of_the_items() -> None:
    def slowest_first(number: int) -> int:
        time.sleep((5 - number) / 100)
        return number * number

    assert list(each_once(slowest_first, range(6), "Squares")) == [0, 1, 4, 9, 16, 25]


def test_no_items_give_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(each_once(str, [], "Nothing")) == []
    assert capsys.readouterr().err == ""


def test_an_error_comes_at_its_item_and_the_rest_is_left_out() -> None:
    begun = []
    wait = threading.Event()

    def work(number: int) -> int:
        begun.append(number)
        if number == 1:
            raise OSError("disk full")
        if number > 1:
            wait.wait(5)
        return number

    results = each_once(work, range(1000), "Failing")
    assert next(results) == 0
    threading.Timer(0.2, wait.set).start()
    with pytest.raises(OSError, match="disk full"):
        next(results)
    assert len(begun) <= 2 + 2 * MOST_THREADS


def test_a_bar_appears_when_it_takes_long(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert list(each_once(str, [1, 2], "Quick work")) == ["1", "2"]
    assert "Quick work" not in capsys.readouterr().err
    monkeypatch.setattr(parallel, "SECONDS_BEFORE_PROGRESS", 0.0)
    assert list(each_once(str, [1, 2], "Slow work")) == ["1", "2"]
    assert "Slow work" in capsys.readouterr().err
